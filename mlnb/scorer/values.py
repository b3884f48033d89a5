"""Rows of plain values become rows of 64-bit floats.

A number is itself and a truth value 0 or 1. A text is its position in the vocabulary of its column:
of all the texts that any step of the model knows; any other text is -1. A gap is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlnb.scorer.kinds import ScorerError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

UNKNOWN = -1.0
Encode = Callable[[Sequence[Sequence[Any]]], "Floats"]


def encoder(columns: Sequence[Mapping[str, Any]]) -> Encode:
    """Return what makes floats [n, c] of rows [n][c].

    Args:
        columns: for each its ``name``; for a text also ``codes``, its vocabulary in order; for a
            category ``known``, a pair of lists: all values that there are, and their numbers.
    """
    import numpy as np

    width = len(columns)
    lookups = [(at, found) for at, each in enumerate(columns) if (found := _lookup(each))]

    def encode(rows: Sequence[Sequence[Any]]) -> Floats:
        try:
            if lookups:
                rows = changed = [list(row) for row in rows]
                for row in changed:
                    for at, look in lookups:
                        row[at] = look(row[at])
            found = np.array(rows, np.float64)  # None becomes NaN
        except (IndexError, OverflowError, TypeError, ValueError) as error:
            raise ScorerError(f"holds a value of another kind: {error}", where="request") from error
        if found.shape != (len(rows), width):
            raise ScorerError(f"has not {width} values in each row", where="request")
        return found

    return encode


def _lookup(column: Mapping[str, Any]) -> Callable[[Any], float] | None:
    """Return what gives the number of a value; None where the value is a number itself."""
    gap = float("nan")
    if "codes" in column:
        codes: dict[Any, float] = {text: float(i) for i, text in enumerate(column["codes"])}
        codes[None] = gap
        return lambda value: codes.get(value, UNKNOWN)
    if "known" in column:
        known: dict[Any, float] = dict(zip(*column["known"], strict=True))
        known[None] = gap

        def look(value: Any) -> float:
            try:
                return known[value]
            except KeyError:
                raise ScorerError(
                    f"column {column['name']!r} holds {value!r}, which training did not know",
                    where="request",
                ) from None

        return look
    return None
