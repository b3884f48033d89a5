"""Data frames: columns, rows and types first, then the values.

A column that differs is told by its first row and the number of the others. Rows count from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlnb.tolerance.records import DEFAULT, Difference, Tolerance, became, others, short
from mlnb.tolerance.text import compare_text
from mlnb.tolerance.values import compare_values

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Column = pd.Series[Any]
    Flags = np.ndarray[Any, np.dtype[np.bool_]]


def compare_frames(
    reference: pd.DataFrame, result: pd.DataFrame, tolerance: Tolerance = DEFAULT
) -> list[Difference]:
    """Return the differences of two typed data frames; NaN equals NaN."""
    found = list(_shape(reference, result))
    if found:
        return found
    found += _column("index", reference.index.to_series(), result.index.to_series(), tolerance)
    for i, name in enumerate(reference.columns):
        found += _column(f"column {name}", reference.iloc[:, i], result.iloc[:, i], tolerance)
    return found


def compare_written(
    reference: pd.DataFrame, result: pd.DataFrame, tolerance: Tolerance = DEFAULT
) -> list[Difference]:
    """Return the differences of two frames of texts, as a CSV file holds them."""
    found = list(_shape(reference, result))
    if found:
        return found
    for i, name in enumerate(reference.columns):
        old, new = reference.iloc[:, i], result.iloc[:, i]
        rows = [
            row
            for row, (a, b) in enumerate(zip(old, new, strict=True))
            if a != b and compare_text(a, b, tolerance)
        ]
        if rows:
            what = f"{old.iloc[rows[0]]} became {new.iloc[rows[0]]}{others(len(rows))}"
            found.append(Difference(f"column {name}, row {rows[0]}", what))
    return found


def _shape(reference: pd.DataFrame, result: pd.DataFrame) -> Iterator[Difference]:
    yield from _columns([str(c) for c in reference.columns], [str(c) for c in result.columns])
    if len(reference) != len(result):
        yield Difference("", f"{len(reference)} rows became {len(result)}")


def _columns(old: Sequence[str], new: Sequence[str]) -> Iterator[Difference]:
    for name in dict.fromkeys([*old, *new]):
        if old.count(name) > new.count(name):
            yield Difference(f"column {name}", "is gone")
        elif old.count(name) < new.count(name):
            yield Difference(f"column {name}", "is new")
    if sorted(old) == sorted(new) and old != new:
        yield Difference("order of columns", became(", ".join(old), ", ".join(new)))


def _column(name: str, old: Column, new: Column, tolerance: Tolerance) -> list[Difference]:
    import numpy as np

    if old.dtype != new.dtype:
        return [Difference(name, f"type {short(old.dtype)} became {short(new.dtype)}")]
    rows = np.flatnonzero(~_alike(old, new, tolerance))
    if not len(rows):
        return []
    row = int(rows[0])
    what = became(_plain(old.iloc[row]), _plain(new.iloc[row])) + others(len(rows))
    return [Difference(f"{name}, row {row}", what)]


def _alike(old: Column, new: Column, tolerance: Tolerance) -> Flags:
    """Return for each row whether the values agree."""
    import numpy as np
    import pandas as pd

    missing = old.isna().to_numpy(bool) & new.isna().to_numpy(bool)
    dtype = old.dtype
    if pd.api.types.is_float_dtype(dtype) or pd.api.types.is_complex_dtype(dtype):
        kind = complex if pd.api.types.is_complex_dtype(dtype) else float
        left, right = (column.to_numpy(kind, na_value=np.nan) for column in (old, new))
        near: Flags = np.isclose(right, left, tolerance.rtol, tolerance.atol) | missing
        return near
    rows = zip(missing, old.to_numpy(object), new.to_numpy(object), strict=True)
    return np.array([both or _same(a, b, tolerance) for both, a, b in rows], bool)


def _same(old: Any, new: Any, tolerance: Tolerance) -> bool:
    """Whether two cells agree; lists and mappings by what is in them."""
    old, new = _plain(old), _plain(new)
    if isinstance(old, list | dict | int | float):
        return not compare_values(old, new, tolerance)
    return bool(type(old) is type(new) and old == new)


def _plain(value: Any) -> Any:
    """Return a numpy scalar or array as Python's own."""
    return value.tolist() if hasattr(value, "tolist") else value
