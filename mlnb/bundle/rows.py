"""The rows that a model is trained and judged on: a table, parts of it, and its groups."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.bundle.errors import BundleError
from mlnb.errors import did_you_mean
from mlnb.files import digest_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from mlnb.bundle.manifest import Selection


def read_rows(path: Path, *, where: str = "") -> pd.DataFrame:
    """Return the table in a parquet or CSV file; ``where`` is its name in messages.

    Raises:
        BundleError: no such file, another kind of file, or a damaged one.
    """
    try:
        return parse_rows(path.read_bytes(), path.suffix, where=where or str(path))
    except OSError as error:
        raise BundleError(
            f"cannot be read: {error.strerror}", where=where or str(path), remedy="Run `dvc repro`."
        ) from error


def parse_rows(data: bytes, suffix: str, *, where: str) -> pd.DataFrame:
    """Return the table in the bytes of a file whose name ends in ``suffix``."""
    import pandas as pd

    if suffix not in (".parquet", ".csv"):
        raise BundleError(
            f"tables are .parquet or .csv, not {suffix or 'without ending'!r}", where=where
        )
    try:
        buffer = io.BytesIO(data)
        table: pd.DataFrame = (
            pd.read_parquet(buffer) if suffix == ".parquet" else pd.read_csv(buffer)
        )
    except Exception as error:  # whatever a damaged file provokes in pyarrow or pandas
        raise BundleError(f"is not a table: {error}", where=where) from error
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise BundleError(f"has two columns named {twice[0]!r}", where=where)
    return table


def column(table: pd.DataFrame, name: str, *, where: str) -> pd.Series[Any]:
    """Return a column of ``table``.

    Raises:
        BundleError: there is none of that name.
    """
    if name not in table.columns:
        known = [str(each) for each in table.columns]
        raise BundleError(
            f"no column {name!r}.{did_you_mean(name, known)}",
            where=where,
            remedy=f"Columns: {', '.join(known)}.",
        )
    return table[name]


def chosen(table: pd.DataFrame, selection: Selection, *, where: str) -> npt.NDArray[np.bool_]:
    """Return whether each row [n] is selected: each named column has one of its values.

    Raises:
        BundleError: no such column, a value that no row has, or no row at all.
    """
    import numpy as np

    rows = np.ones(len(table), np.bool_)
    for name, values in selection.items():
        found = column(table, name, where=where)
        for value in values:
            if not found.eq(value).any():
                known = sorted(map(repr, found.dropna().unique().tolist()[:20]))
                raise BundleError(
                    f"no row has {value!r} in column {name!r}",
                    where=where,
                    remedy=f"It holds {', '.join(known)}.",
                )
        rows &= found.isin(values).to_numpy(np.bool_)
    if not rows.any():
        raise BundleError(f"no row is selected by {dict(selection)}", where=where)
    return rows


def group_digests(values: Iterable[Any], *, where: str = "") -> frozenset[str]:
    """Return the SHA-256 in hexadecimal of each distinct group, as text.

    A number that is whole has the same digest as an integer and as a float.

    Raises:
        BundleError: a value is missing.
    """
    import pandas as pd

    distinct = pd.Series(pd.unique(pd.Series(list(values), dtype=object)), dtype=object)
    if distinct.isna().any():
        raise BundleError("a group is missing: who the row belongs to is unknown", where=where)
    return frozenset(digest_bytes(_text(value).encode()) for value in distinct.tolist())


def _text(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value  # numpy's numbers as Python's
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
