"""From the margins of a model to its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Link = Callable[["Floats"], "Floats"]
"""Gives answers, [n] or [n, k], of margins [n, k]."""


def link(name: str) -> Link:
    """Return the link ``name``.

    ``identity`` and ``exponential`` make predictions [n]; ``logistic`` the probability of the
    positive class [n]; ``softmax`` and ``one against rest`` the probabilities of k classes [n, k].
    ``identity`` leaves several columns as they are.

    Raises:
        KeyError: there is none of that name.
    """
    import numpy as np

    def identity(margins: Floats) -> Floats:
        return margins[:, 0] if margins.shape[1] == 1 else margins

    def exponential(margins: Floats) -> Floats:
        return np.exp(margins[:, 0])

    def logistic(margins: Floats) -> Floats:
        found: Floats = 1.0 / (1.0 + np.exp(-margins[:, 0]))
        return found

    def softmax(margins: Floats) -> Floats:
        powers = np.exp(margins - margins.max(axis=1, keepdims=True))
        found: Floats = powers / powers.sum(axis=1, keepdims=True)
        return found

    def one_against_rest(margins: Floats) -> Floats:
        return shared(1.0 / (1.0 + np.exp(-margins)))

    known: dict[str, Link] = {
        "exponential": exponential,
        "identity": identity,
        "logistic": logistic,
        "one against rest": one_against_rest,
        "softmax": softmax,
    }
    return known[name]


def shared(found: Floats) -> Floats:
    """Return numbers [n, k] divided by their sum; equal shares where all are 0."""
    import numpy as np

    total = found.sum(axis=1, keepdims=True)
    equal = np.full_like(found, 1 / found.shape[1])
    divided: Floats = np.divide(found, total, out=equal, where=total != 0)
    return divided


def is_finite(found: Floats) -> bool:
    """Whether all numbers are finite, by one look at their sum where that is enough."""
    import math

    import numpy as np

    return math.isfinite(np.add.reduce(found, axis=None)) or bool(np.isfinite(found).all())
