"""The program before the core: from the floats of a row to what the core takes.

Every step of scikit-learn that is compiled works on each column by itself. So each column of the
result is one column of the input, taken through a list of operations. Operations of the same name
at the same place in these lists are one step, computed for all their columns at once and in place:
the same 64-bit arithmetic in the same order as scikit-learn's, without its frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlnb.scorer.kinds import ScorerError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

FUNCTIONS = (
    *("absolute", "arcsinh", "arctan", "cbrt", "ceil", "cos", "deg2rad", "exp", "exp2", "expm1"),
    *("fabs", "floor", "log", "log10", "log1p", "log2", "negative", "positive", "rad2deg"),
    *("reciprocal", "rint", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc"),
)
"""Functions of numpy from one number to one number."""

_ARITHMETIC = ("add", "subtract", "multiply", "divide", "equal")
Operate = Callable[["Floats"], Any]
"""Changes floats [n, c] in place."""


@dataclass(frozen=True)
class Operation:
    """One operation on one column.

    Attributes:
        name: of a function above; ``add``, ``subtract``, ``multiply``, ``divide``, ``equal`` with
            one number; ``fill`` gaps with a number; ``replace`` one number by another; ``clip``
            between two; ``missing``, whether it is a gap; ``present``, refuse a gap; ``single``,
            round to 32 bits; ``lookup``, the number that belongs to a number; ``bin``, in which
            interval it lies; ``within`` and ``without``, whether it is among some; ``known``,
            refuse one that is not.
        by: its numbers.
    """

    name: str
    by: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Column:
    """One column of the result: which of the input it is, and what becomes of it."""

    source: int
    operations: tuple[Operation, ...] = ()

    def then(self, name: str, *by: Any) -> Column:
        """Return the column with one operation more."""
        return Column(self.source, (*self.operations, Operation(name, by)))


def written(columns: Sequence[Column]) -> dict[str, Any]:
    """Return the program of ``columns`` as data."""
    import numpy as np

    steps: list[dict[str, Any]] = []
    for depth in range(max((len(each.operations) for each in columns), default=0)):
        at: dict[str, list[int]] = {}
        for index, each in enumerate(columns):
            if depth < len(each.operations):
                at.setdefault(each.operations[depth].name, []).append(index)
        for name, places in at.items():
            by = [columns[place].operations[depth].by for place in places]
            steps.append({"name": name, "at": np.array(places, np.int32), "by": _by(name, by)})
    source = np.array([each.source for each in columns], np.int32)
    return {"source": source, "steps": steps}


def _by(name: str, by: list[tuple[Any, ...]]) -> list[Any]:
    """Return the numbers of one step: by column for lists, else by position."""
    import numpy as np

    if name in _LISTS:
        return [[np.array(part, np.float64) for part in each] for each in by]
    return [np.array(part, np.float64) for part in zip(*by, strict=True)]


def runner(told: Mapping[str, Any], width: int) -> Callable[[Floats], Floats]:
    """Return what makes the core's input [n, m] of encoded rows [n, ``width``]."""
    import numpy as np

    source = told["source"].astype(np.intp)
    steps = [_step(each["name"], each["at"], each["by"]) for each in told["steps"]]
    whole = np.array_equal(source, np.arange(width))

    def run(rows: Floats) -> Floats:
        found = rows if whole else rows.take(source, axis=1)
        for step in steps:
            step(found)
        return found

    return run


def _step(name: str, at: npt.NDArray[np.int32], by: list[Any]) -> Operate:
    import numpy as np

    if name in _LISTS:
        operate = _LISTS[name]
        each = [(int(column), numbers) for column, numbers in zip(at, by, strict=True)]

        def by_column(found: Floats) -> None:
            for column, numbers in each:
                found[:, column] = operate(found[:, column], *numbers)

        return by_column
    inner = _operation(name, by)
    first, last = int(at[0]), int(at[-1]) + 1
    if last - first == len(at):

        def on_slice(found: Floats) -> None:
            inner(found[:, first:last])

        return on_slice
    places = at.astype(np.intp)

    def on_places(found: Floats) -> None:
        taken = found[:, places]
        inner(taken)
        found[:, places] = taken

    return on_places


def _operation(name: str, by: list[Any]) -> Operate:
    """Return what changes columns in place by one number for each."""
    import numpy as np

    if name in FUNCTIONS:
        function = getattr(np, name)
        return lambda taken: function(taken, out=taken)
    if name in _ARITHMETIC:
        function, other = getattr(np, name), by[0]
        return lambda taken: function(taken, other, out=taken)
    if name == "fill":
        return lambda taken: np.copyto(taken, by[0], where=np.isnan(taken))
    if name == "replace":
        return lambda taken: np.copyto(taken, by[1], where=taken == by[0])
    if name == "clip":
        return lambda taken: np.clip(taken, by[0], by[1], out=taken)
    if name == "missing":
        return lambda taken: np.isnan(taken, out=taken)
    if name == "single":
        return lambda taken: np.copyto(taken, taken.astype(np.float32))
    if name == "present":
        return _present
    raise ScorerError(f"has an operation {name!r}, which this mlnb does not know")


def _present(taken: Floats) -> None:
    import numpy as np

    if np.isnan(taken).any():
        raise ScorerError("has a gap where the model takes none", where="request")


def _lookup(taken: Floats, keys: Floats, numbers: Floats, gap: Floats, unknown: Floats) -> Floats:
    """Return the numbers that belong to the sorted keys; empty ``unknown`` refuses others."""
    import numpy as np

    place = np.minimum(np.searchsorted(keys, taken), max(len(keys) - 1, 0))
    known = (keys[place] == taken) if len(keys) else np.zeros(len(taken), np.bool_)
    missing = np.isnan(taken)
    if len(gap):
        known |= missing
    if not len(unknown) and not known.all():
        raise _unknown()
    found = numbers[place] if len(keys) else np.zeros(len(taken))
    found = np.where(known, found, unknown[0] if len(unknown) else 0.0)
    return np.where(missing, gap[0], found) if len(gap) else found


def _bin(taken: Floats, edges: Floats) -> Floats:
    import numpy as np

    return np.searchsorted(edges, taken, side="right").astype(np.float64)


def _within(taken: Floats, numbers: Floats) -> Floats:
    import numpy as np

    found = np.isin(taken, numbers)
    if np.isnan(numbers).any():
        found |= np.isnan(taken)
    return found.astype(np.float64)


def _without(taken: Floats, numbers: Floats) -> Floats:
    return 1.0 - _within(taken, numbers)


def _known(taken: Floats, numbers: Floats) -> Floats:
    if not _within(taken, numbers).all():
        raise _unknown()
    return taken


def _unknown() -> ScorerError:
    return ScorerError("holds a value that training did not know", where="request")


_LISTS: dict[str, Callable[..., Floats]] = {
    "bin": _bin,
    "known": _known,
    "lookup": _lookup,
    "within": _within,
    "without": _without,
}
