"""Whether a compiled scorer answers as the pipeline that it was made of.

Both are asked for the golden rows, for rows of the test, for rows at the edges of each column
(gaps, texts that training did not know, zero, negative and very large numbers) and for random
rows. The random ones are drawn from the values of training, for it is on these that the thresholds
of trees lie, from between and from beyond them. Neither may answer a row that the other refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlnb.errors import MlnbError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mlnb.bundle.schema import Column, Schema

    Floats = npt.NDArray[np.float64]

TOLERANCE = 1e-6
"""Largest difference of a probability; of a prediction, relative to it or to their median size."""

_EDGES = 1000
_RANDOM = 400
"""Rows of each of three sorts: like training, with edges, and with gaps besides."""
_REFUSED = 10
"""How many of the rows that the compiled scorer refuses the pipeline is asked for, one by one."""
_UNKNOWN = ("", "unknown to training", "\u00e9\u4e2d")
_LARGEST = 2.0**53
_FAR = 1e150
"""Twice as far is a number, too."""

Row = list[Any]
Ask = Callable[[Sequence[Sequence[Any]]], "Floats"]


def difference(
    compiled: Ask, pipeline: Ask, rows: Sequence[Row], task: str, threshold: float
) -> str:
    """Return how the two differ on ``rows``, in words that complete "because"; empty if in nothing.

    Args:
        compiled, pipeline: give answers [n] or [n, k] for rows [n], or raise an MlnbError.
        rows: of plain values.
        task: ``binary``, ``multiclass`` or ``regression``.
        threshold: the probability from which a row counts as positive; for binary tasks.
    """
    import numpy as np

    answered = _answered(compiled, rows)
    kept = [row for row, flag in zip(rows, answered, strict=True) if flag]
    refused = [row for row, flag in zip(rows, answered, strict=True) if not flag]
    if not kept:
        return "its compiled form refuses every row"
    for row in refused[:: max(1, len(refused) // _REFUSED)]:
        if all(_answered(pipeline, [row])):
            return "its compiled form refuses a row that it answers"
    found = compiled(kept)
    try:
        expected = pipeline(kept)
    except MlnbError:
        return "its compiled form answers a row that it refuses"
    if found.shape != expected.shape or not np.isfinite(expected).all():
        return "its compiled form answers a row that it refuses"
    size: Any = 1.0
    if task == "regression":
        size = np.maximum(np.abs(expected), np.median(np.abs(expected)))
    # Not `>`: a difference that is no number must not pass.
    if not (np.abs(found - expected) <= TOLERANCE * size).all():
        largest = float(np.max(np.abs(found - expected) / np.where(size == 0, 1.0, size)))
        return f"its compiled form differs by {largest:.0e}"
    return "its compiled form decides otherwise" if _flips(found, expected, task, threshold) else ""


def _answered(ask: Ask, rows: Sequence[Row]) -> list[bool]:
    """Return for each row whether it is answered, by finite numbers."""
    import numpy as np

    try:
        if np.isfinite(ask(rows)).all():
            return [True] * len(rows)
    except MlnbError:
        pass
    if len(rows) == 1:
        return [False]
    middle = len(rows) // 2
    return _answered(ask, rows[:middle]) + _answered(ask, rows[middle:])


def _flips(found: Floats, expected: Floats, task: str, threshold: float) -> bool:
    if task == "binary":
        return bool(((found >= threshold) != (expected >= threshold)).any())
    if task == "multiclass":
        return bool((found.argmax(axis=1) != expected.argmax(axis=1)).any())
    return False


def rows_for(
    schema: Schema, seen: Sequence[Sequence[Any]], like: Sequence[Row], *, seed: int = 0
) -> list[Row]:
    """Return rows at the edges of each column and random rows, the same for the same arguments.

    Args:
        schema: of the rows that the model was trained on.
        seen: for each column, values that training saw; None for a gap.
        like: whole rows, at least one, in which one value is put at its edge.
        seed: of the random numbers.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    pools = [_Pool(column, values) for column, values in zip(schema.columns, seen, strict=True)]
    edges = [(at, value) for at, pool in enumerate(pools) for value in [*pool.edges, *pool.gaps]]
    found: list[Row] = []
    for index, (at, value) in enumerate(edges[:: max(1, -(-len(edges) // _EDGES))]):
        row = list(like[index % len(like)])
        row[at] = value
        found.append(row)
    for sort in range(3):
        columns = [pool.draw(random, _RANDOM, sort) for pool in pools]
        found += [list(row) for row in zip(*columns, strict=True)]
    return found


class _Pool:
    """The values that one column may hold.

    Attributes:
        known: those that training saw.
        edges: those at its edges, and beyond.
        gaps: None if the column may have gaps.
    """

    def __init__(self, column: Column, seen: Sequence[Any]) -> None:
        """Take the values that training saw."""
        self._column = column
        self.known = [value for value in seen if value is not None]
        self.gaps = [None] if _holds_gaps(column) else []
        self.edges: list[Any] = []
        self._limits = _limits(column)
        if column.kind in ("integer", "number"):
            self.edges = self._numbers()
        elif column.kind == "boolean":
            self.edges = [False, True]
        elif column.kind == "text":
            self.edges = [*(column.values or sorted(set(self.known))[:20]), *_UNKNOWN]
        elif column.kind == "category":
            self.edges = list(column.values or ())
        self.known = self.known or self.edges or [None]

    def _numbers(self) -> list[Any]:
        least, most = self._range
        span = max(most - least, 1.0)
        wanted = [least, most, 0, 1, -1, -most, 2 * most, least - span, most + span, 1e6, -1e6]
        wanted += [_LARGEST, -_LARGEST]
        if self._column.kind == "number":
            wanted += [least + span / 3, -0.5, 1e-9, 1e18, -1e18]
        if self._column.dtype.lower() == "float64":
            wanted += [1e39, -1e39]  # no number of 32 bits is as large
        return [self._fitted(value) for value in dict.fromkeys(wanted)]

    @property
    def _range(self) -> tuple[float, float]:
        least, most = self._column.minimum, self._column.maximum
        if least is None or most is None:
            return 0.0, 0.0
        return max(float(least), -_FAR), min(float(most), _FAR)

    def _fitted(self, value: float) -> Any:
        """Return a number that the type of the column holds."""
        if self._column.kind == "number":
            return float(value)
        return int(min(max(value, self._limits[0]), self._limits[1]))

    def draw(self, random: np.random.Generator, count: int, sort: int) -> list[Any]:
        """Return ``count`` values; ``sort`` 0 like training, 1 with edges, 2 with gaps besides."""
        places = random.integers(0, len(self.known), count)
        found = [self.known[place] for place in places.tolist()]
        chance = random.random(count)
        if self._column.kind in ("integer", "number"):
            least, most = self._range
            beyond = (most - least) * (0.5 if sort else 0.0)
            between = random.uniform(least - beyond, most + beyond, count)
            for index in _places(chance < 0.3):
                found[index] = self._fitted(float(between[index]))
        if sort and self.edges:
            for index in _places(chance > 0.85):
                found[index] = self.edges[int(random.integers(0, len(self.edges)))]
        if sort == 2 and self.gaps:
            for index in _places(random.random(count) < 0.1):
                found[index] = None
        return found


def _places(flags: npt.NDArray[np.bool_]) -> list[int]:
    """Return the places of the true ones."""
    found: list[int] = flags.nonzero()[0].tolist()
    return found


def _holds_gaps(column: Column) -> bool:
    """Whether a value of the column may be missing: not in numpy's integers and truth values."""
    if column.kind in ("integer", "boolean"):
        return column.dtype[:1].isupper() or column.dtype in ("boolean", "object")
    return True


def _limits(column: Column) -> tuple[float, float]:
    """Return the least and the largest integer of a column's type that a float holds exactly."""
    dtype = column.dtype.lower()
    digits = dtype.lstrip("uint")
    bits = min(int(digits), 54) if digits.isdigit() else 54
    if dtype.startswith("uint"):
        return 0.0, min(2.0**bits - 1, _LARGEST)
    return -(2.0 ** (bits - 1)), min(2.0 ** (bits - 1) - 1, _LARGEST)
