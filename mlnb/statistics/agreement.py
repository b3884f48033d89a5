"""Two models' decisions on the same rows, right or wrong."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from mlnb.statistics.sample import StatisticsError


class McNemar(NamedTuple):
    """Rows that only one of two models has right, and the chance of so uneven a split."""

    first_only: int
    second_only: int
    greater: float
    two_sided: float


def mcnemar_exact(first_right: npt.ArrayLike, second_right: npt.ArrayLike) -> McNemar:
    """Test whether two models are right equally often, on rows that were drawn one by one.

    Among the rows that only one model has right, each is a fair coin if they are equally good
    (McNemar 1947, Psychometrika 12; exact by the binomial distribution). ``greater`` is the chance
    of at least so many for the first, ``two_sided`` twice the smaller tail.

    Args:
        first_right: whether the first model is right in each row [n].
        second_right: whether the second is.

    Raises:
        StatisticsError: unequal lengths.
    """
    first, second = np.asarray(first_right, np.bool_), np.asarray(second_right, np.bool_)
    if first.shape != second.shape or first.ndim != 1:
        raise StatisticsError(f"rows of the shapes {first.shape} and {second.shape} are no pairs")
    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    both = one + other
    greater = float(special.bdtrc(one - 1, both, 0.5)) if one else 1.0
    less = float(special.bdtr(one, both, 0.5)) if both else 1.0
    return McNemar(one, other, greater, min(1.0, 2 * min(greater, less)))
