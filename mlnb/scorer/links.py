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


def identity(margins: Floats) -> Floats:
    """Return margins as they are: [n] of [n, 1]."""
    return margins[:, 0] if margins.shape[1] == 1 else margins


def exponential(margins: Floats) -> Floats:
    """Return predictions [n] of a model of logarithms."""
    import numpy as np

    return np.exp(margins[:, 0])


def logistic(margins: Floats) -> Floats:
    """Return the probability of the positive class [n]."""
    import numpy as np

    found: Floats = 1.0 / (1.0 + np.exp(-margins[:, 0]))
    return found


def softmax(margins: Floats) -> Floats:
    """Return probabilities [n, k] that sum to 1."""
    import numpy as np

    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    found: Floats = powers / powers.sum(axis=1, keepdims=True)
    return found


def one_against_rest(margins: Floats) -> Floats:
    """Return probabilities [n, k] of one logistic model for each class, made to sum to 1."""
    import numpy as np

    return shared(1.0 / (1.0 + np.exp(-margins)))


def shared(found: Floats) -> Floats:
    """Return numbers [n, k] divided by their sum; equal shares where all are 0."""
    import numpy as np

    total = found.sum(axis=1, keepdims=True)
    equal = np.full_like(found, 1 / found.shape[1])
    divided: Floats = np.divide(found, total, out=equal, where=total != 0)
    return divided


LINKS: dict[str, Link] = {
    "exponential": exponential,
    "identity": identity,
    "logistic": logistic,
    "one against rest": one_against_rest,
    "softmax": softmax,
}
