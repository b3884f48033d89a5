"""Trees as arrays, and their sums by numpy.

All trees share the arrays of their inner nodes: ``feature``, ``threshold``, ``left``, ``right`` and
``gap_left``. A row goes left where its value is at most the threshold, and where it is a gap and
``gap_left`` says so. A child below 0 is a leaf: -1 is leaf 0, -2 is leaf 1 and so on, in
``leaves`` [l, o]. ``roots`` are written as children. ``targets`` names for each tree the output
that its leaves [l, 1] add to; without it they add to all o outputs.

``single`` says that values, thresholds and sums are floats of 32 bits, as in XGBoost; scikit-learn
compares values of 32 bits (``narrow``), or of 64 with histograms, and adds in 64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlnb.scorer.kinds import ScorerError
from mlnb.scorer.links import is_finite, link

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Array = npt.NDArray[Any]

_CELLS = 1 << 18
"""Rows are taken so many at a time that rows times trees stay below this: it fits into a cache."""


@dataclass(frozen=True)
class Trees:
    """An ensemble of trees; the module says what its arrays mean.

    Attributes:
        base: what the sum begins with [o].
        divide: what the sum is divided by.
        takes: ``finite`` numbers, ``gaps`` besides, or ``all`` numbers, infinite ones too.
        link: name of the link.
    """

    feature: Array
    threshold: Array
    left: Array
    right: Array
    gap_left: Array
    leaves: Array
    roots: Array
    targets: Array | None
    base: Array
    single: bool
    narrow: bool
    takes: str
    divide: float
    link: str

    @property
    def outputs(self) -> int:
        """How many numbers the sum has."""
        return len(self.base)

    def written(self) -> dict[str, Any]:
        """Return the trees as data."""
        content = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {"kind": "trees", **content}


Sums = Callable[["Array"], "Array"]
"""Gives the sums of leaves [n, o] for the core's input [n, m], without base and division."""


class Core:
    """Trees that answer."""

    def __init__(self, trees: Trees, sums: Sums) -> None:
        """Answer by ``trees``, whose sums ``sums`` computes."""
        import numpy as np

        self._trees, self._sums = trees, sums
        self._link = link(trees.link)
        self._type = np.float32 if trees.single or trees.narrow else np.float64
        self._check = {"finite": _refuse_gaps, "gaps": _refuse_infinite}.get(trees.takes)

    def margins(self, inputs: Floats) -> Floats:
        """Return the sums [n, o] before the link."""
        taken = inputs.astype(self._type, order="C", copy=False)
        if self._check:
            self._check(taken)
        found = self._sums(taken)
        if self._trees.single:
            found = found.astype(float)
        return found / self._trees.divide if self._trees.divide != 1 else found

    def scores(self, inputs: Floats) -> Floats:
        """Return the answers [n] or [n, o]."""
        return self._link(self.margins(inputs))


def _refuse_gaps(taken: Array) -> None:
    if not is_finite(taken):
        raise ScorerError("has a gap or a number too large for the model", where="request")


def _refuse_infinite(taken: Array) -> None:
    import numpy as np

    if np.isinf(taken).any():
        raise ScorerError("has a number too large for the model", where="request")


def read(told: Mapping[str, Any]) -> Trees:
    """Return the trees in data."""
    return Trees(**{each.name: told[each.name] for each in dataclasses.fields(Trees)})


def plain_sums(trees: Trees) -> Sums:
    """Return the sums as numpy computes them."""
    import numpy as np

    inner, leaves = len(trees.feature), len(trees.leaves)
    # For the walk a leaf is a node whose children are itself.
    feature = np.concatenate([trees.feature, np.zeros(leaves, np.int32)]).astype(np.intp)
    threshold = np.concatenate([trees.threshold, np.zeros(leaves, trees.threshold.dtype)])
    gap_right = np.concatenate([trees.gap_left == 0, np.zeros(leaves, np.bool_)])
    itself = np.arange(inner, inner + leaves)
    children = np.empty((inner + leaves, 2), np.intp)
    for side, each in enumerate((trees.left, trees.right)):
        children[:, side] = np.concatenate([np.where(each < 0, inner - 1 - each, each), itself])
    child = children.ravel()
    roots = np.where(trees.roots < 0, inner - 1 - trees.roots, trees.roots).astype(np.intp)
    depth = _depth(children, roots, inner)
    at_once = max(1, _CELLS // max(1, len(roots)))
    add = _adder(trees)

    def leaf(rows: Array) -> Array:
        across = np.arange(len(rows))[:, None]
        gaps = bool(np.isnan(rows).any())
        node = np.broadcast_to(roots, (len(rows), len(roots)))
        for _ in range(depth):
            value = rows[across, feature[node]]
            right = value > threshold[node]
            if gaps:
                right = np.where(np.isnan(value), gap_right[node], right)
            node = child[2 * node + right]
        return node - inner

    def sums(rows: Array) -> Array:
        parts = [add(leaf(rows[first : first + at_once])) for first in range(0, len(rows), at_once)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return sums


def _depth(children: Array, roots: Array, inner: int) -> int:
    """Return how many steps the longest way from a root to a leaf has."""
    import numpy as np

    level, depth = roots, 0
    while True:
        level = level[level < inner]
        if not len(level):
            return depth
        level, depth = np.unique(children[level]), depth + 1
        if depth > inner:
            raise ScorerError("holds a tree that never ends")


def _adder(trees: Trees) -> Callable[[Array], Array]:
    """Return what adds the leaves of each tree [n, t] to sums [n, o]."""
    import numpy as np

    leaves, base, targets = trees.leaves, trees.base, trees.targets
    if targets is None:
        return lambda found: base + leaves[found].sum(axis=1)
    flat = np.ascontiguousarray(leaves[:, 0])
    places = [np.flatnonzero(targets == output) for output in range(trees.outputs)]
    whole = len(places) == 1

    def add(found: Array) -> Array:
        values = flat[found]
        sums = np.empty((len(found), len(places)), values.dtype)
        for output, trees_of in enumerate(places):
            of_output = values if whole else values[:, trees_of]
            # One after the other, as XGBoost and scikit-learn do: in 32 bits the order shows.
            start = np.full((len(found), 1), base[output], values.dtype)
            run = np.concatenate([start, of_output], axis=1)
            sums[:, output] = np.add.accumulate(run, axis=1, dtype=values.dtype)[:, -1]
        return sums

    return add
