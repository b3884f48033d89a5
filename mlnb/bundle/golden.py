"""Golden requests: rows with the answers that the model gave when it was packed.

Whoever loads the bundle, wherever, asks these again and must hear the same. The choice is fixed
by the rows and the answers alone: rows with gaps, rows with extremes, and rows that are spread over
all answers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mlnb.bundle.errors import BundleError
from mlnb.bundle.manifest import canonical

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from mlnb.bundle.schema import Schema

    Floats = npt.NDArray[np.float64]
    Positions = npt.NDArray[np.intp]

NAME = "golden.json"
FORMAT = 1
_SHARE = 4
"""Rows with gaps are at most one in so many; rows with extremes twice that."""


def choose(inputs: pd.DataFrame, scores: Floats, count: int) -> Positions:
    """Return the positions of ``count`` rows of ``inputs``, or of all if there are fewer, rising.

    Args:
        inputs: rows [n] as the model takes them.
        scores: its answers [n] or [n, k].
        count: how many; JSON cannot hold a row with an infinite number, which is left out.
    """
    import numpy as np

    usable = np.flatnonzero(~_is_infinite(inputs))
    if not len(usable):
        raise BundleError("every training row holds an infinite number")
    few = max(1, count // _SHARE)
    order = list(
        dict.fromkeys([*_gaps(inputs, usable)[:few], *_extremes(inputs, usable)[: 2 * few]])
    )
    order = order[:count]
    ranked = usable[np.argsort(_ranks(scores)[usable], kind="stable")]
    spread = np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(np.intp)
    for row in [*ranked[spread].tolist(), *ranked.tolist()]:
        if len(order) >= count:
            break
        if row not in order:
            order.append(row)
    return np.array(sorted(order), np.intp)


def to_bytes(requests: pd.DataFrame, answers: Floats) -> bytes:
    """Return the requests and their answers as the bytes of their file."""
    columns = [cells(requests[name]) for name in requests.columns]
    return canonical(
        {
            "format": FORMAT,
            "columns": list(requests.columns),
            "data": [list(row) for row in zip(*columns, strict=True)],
            "answers": answers.tolist(),
        }
    )


def parse_golden(data: bytes, schema: Schema, *, where: str) -> tuple[pd.DataFrame, Floats]:
    """Return the requests [n] in the model's columns and types, and the answers [n] or [n, k].

    Raises:
        BundleError: another format, or requests that do not fit the schema.
    """
    import numpy as np
    import pandas as pd

    try:
        content = json.loads(data)
        if content["format"] != FORMAT:
            raise BundleError(
                f"has format {content['format']!r}; this mlnb reads format {FORMAT}", where=where
            )
        # As objects, so that no whole number becomes a float because of a gap beside it.
        requests = pd.DataFrame(content["data"], columns=content["columns"], dtype=object)
        answers = np.array(content["answers"], np.float64)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError("holds no golden requests", where=where) from error
    return schema.conform(requests, where=where), answers


def cells(values: pd.Series[Any]) -> list[Any]:
    """Return what JSON holds of a column; None for a gap."""
    gaps = values.isna().tolist()
    return [
        None if gap else (value.isoformat() if hasattr(value, "isoformat") else value)
        for gap, value in zip(gaps, values.tolist(), strict=True)
    ]


def _is_infinite(inputs: pd.DataFrame) -> npt.NDArray[np.bool_]:
    import numpy as np

    found = np.zeros(len(inputs), np.bool_)
    for name in inputs.select_dtypes("float").columns:
        found |= np.isinf(inputs[name].to_numpy(np.float64, na_value=np.nan))
    return found


def _gaps(inputs: pd.DataFrame, usable: Positions) -> list[int]:
    """Return the first row of each pattern of gaps, the one with most gaps first."""
    import numpy as np

    patterns, first = np.unique(inputs.isna().to_numpy()[usable], axis=0, return_index=True)
    gaps = patterns.sum(axis=1)
    order = np.lexsort((first, -gaps))
    return [int(usable[first[i]]) for i in order if gaps[i]]


def _extremes(inputs: pd.DataFrame, usable: Positions) -> list[int]:
    """Return the rows that hold a column's least or largest number, those of most columns first."""
    import numpy as np

    times: dict[int, int] = {}
    for name in inputs.select_dtypes("number").columns:
        values = inputs[name].to_numpy(np.float64, na_value=np.nan)[usable]
        if not np.isnan(values).all():
            for row in (int(np.nanargmin(values)), int(np.nanargmax(values))):
                times[row] = times.get(row, 0) + 1
    return [int(usable[row]) for row in sorted(times, key=lambda row: (-times[row], row))]


def _ranks(scores: Floats) -> Floats:
    """Return one number for each answer; of several classes, the likeliest and how likely it is."""
    if scores.ndim == 1:
        return scores
    found: Floats = scores.argmax(axis=1) + scores.max(axis=1)
    return found
