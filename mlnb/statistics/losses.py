"""Metrics of scores: losses of each row, and functions of their sums."""

from __future__ import annotations

import numpy as np

from mlnb.statistics.confusion import over
from mlnb.statistics.sample import Floats, Sample, StatisticsError

_BINS = 10


def error(sample: Sample) -> Floats:
    """Return score minus target [n]: the mean is the calibration gap, or the mean error."""
    errors: Floats = sample.score - sample.target
    return errors


def squared(sample: Sample) -> Floats:
    """Return the squared error [n]: of probabilities the score of Brier 1950."""
    return error(sample) ** 2


def log_loss(sample: Sample) -> Floats:
    """Return minus the logarithm of the probability of what happened [n], clipped as sklearn's."""
    if sample.task == "binary":
        given = np.where(sample.target == 1, sample.score, 1 - sample.score)
    else:
        given = sample.score[np.arange(len(sample)), sample.target]
    edge = np.finfo(np.float64).eps
    loss: Floats = -np.log(np.clip(given, edge, 1 - edge))
    return loss


def poisson_deviance(sample: Sample) -> Floats:
    """Return the unit deviance of a Poisson variable [n] (McCullagh and Nelder 1989, 2.3).

    Raises:
        StatisticsError: a target below 0, or a prediction that is not above 0.
    """
    target, score = sample.target, sample.score
    if (target < 0).any() or (score <= 0).any():
        raise StatisticsError("poisson_deviance needs targets from 0 on and predictions above 0")
    ratio = np.where(target > 0, target, score) / score
    deviance: Floats = 2 * (target * np.log(ratio) - target + score)
    return deviance


def explained(sample: Sample) -> Floats:
    """Return what R squared is made of [n, 4]: 1, target, its square, squared error."""
    # The target from its mean: large numbers would cancel in the sum of squares.
    target = sample.target - sample.target.mean()
    return np.stack([np.ones(len(sample)), target, target**2, squared(sample)], axis=1)


def r2(sums: Floats) -> Floats:
    """Return 1 minus the squared error in shares of the target's squared distance from its mean."""
    spread = sums[..., 2] - sums[..., 1] ** 2 / np.maximum(sums[..., 0], 1)
    return 1 - over(sums[..., 3], spread)


def binned_gaps(sample: Sample) -> Floats:
    """Return 1 and each row's gap in the column of its bin [n, 11].

    The bins hold near-equal numbers of rows, equal scores in one bin, and are those of the whole
    sample in every resample.
    """
    edges = np.quantile(sample.score, np.arange(1, _BINS) / _BINS)
    columns = np.zeros((len(sample), _BINS + 1))
    columns[:, 0] = 1
    bins = np.searchsorted(edges, sample.score, side="right")
    columns[np.arange(len(sample)), bins + 1] = error(sample)
    return columns


def calibration_error(sums: Floats) -> Floats:
    """Return the mean absolute gap of the bins (Naeini, Cooper and Hauskrecht 2015)."""
    return over(np.abs(sums[..., 1:]).sum(axis=-1), sums[..., 0])
