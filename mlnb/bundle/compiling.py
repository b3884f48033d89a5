"""The compiled scorer of a bundle: made of its model, and compared with it.

A bundle holds one only if it answers as the model does. Which it is depends on the model and the
rows alone: the comparison is computed by numpy, whatever else is installed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlnb import scorer
from mlnb.bundle import golden, scoring
from mlnb.bundle.manifest import Compilation, Task
from mlnb.scorer import agreement

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from mlnb.bundle.schema import Schema

    Floats = npt.NDArray[np.float64]

_MOST = 2000
"""Test rows that are compared, and training values of a column that random rows are drawn from."""


def compiled(
    model: Any,
    task: Task,
    schema: Schema,
    *,
    train: pd.DataFrame,
    test: pd.DataFrame,
    requests: pd.DataFrame,
    threshold: float,
) -> tuple[dict[str, bytes], Compilation]:
    """Return the files of the compiled form of ``model``, and how it was compared.

    Without files, the compilation says why there are none.

    Args:
        model: as it is kept, on one thread.
        task: what it does.
        schema: the columns that it takes.
        train, test, requests: rows of training and of the test, and golden requests, in these
            columns.
        threshold: the probability from which a row counts as positive; for binary tasks.
    """
    try:
        files = scorer.compiled(model, task, schema)
    except scorer.Untranslatable as reason:
        return {}, Compilation(why=str(reason), rows=0)
    except Exception as error:  # noqa: BLE001 - a library's model that is built in another way
        return {}, Compilation(why=f"its translation ended in {type(error).__name__}", rows=0)
    few, known = _spread(test), _spread(train)
    rows = [*_rows(requests), *_rows(few)]
    seen = [golden.cells(known[name]) for name in schema.names]
    rows += agreement.rows_for(schema, seen, rows)

    def pipeline(asked: Sequence[Sequence[Any]]) -> Floats:
        return scoring.score_plain(model, task, schema, asked)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rows far from any that training saw
        why = agreement.difference(
            scorer.load(files, fast=False).score, pipeline, rows, task, threshold
        )
    return {} if why else files, Compilation(why=why, rows=len(rows))


def _spread(table: pd.DataFrame) -> pd.DataFrame:
    """Return at most so many rows, spread over all."""
    return table.iloc[:: max(1, -(-len(table) // _MOST))]


def _rows(table: pd.DataFrame) -> list[list[Any]]:
    cells = [golden.cells(table[name]) for name in table.columns]
    return [list(row) for row in zip(*cells, strict=True)]
