"""Metrics of decisions: functions of confusion matrices [..., k, k].

Row i and column j count what is of class i and was given class j; of two classes, 1 is positive.
Definitions as in scikit-learn (van Rijsbergen 1979 for F1). A value that does not exist, a share of
nothing, is NaN.
"""

from __future__ import annotations

import numpy as np

from mlnb.statistics.sample import Floats


def over(numerator: Floats, denominator: Floats) -> Floats:
    """Return the quotient, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, np.nan, numerator / denominator)


def mean_known(values: Floats) -> Floats:
    """Return the mean over the last axis of what is not NaN; NaN where there is nothing."""
    known = ~np.isnan(values)
    return over(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))


def _right(table: Floats) -> Floats:
    """Return how many rows of each class are right [..., k]."""
    return np.diagonal(table, axis1=-2, axis2=-1)


def accuracy(table: Floats) -> Floats:
    """Return the share of rows that are right."""
    return over(_right(table).sum(axis=-1), table.sum(axis=(-2, -1)))


def balanced_accuracy(table: Floats) -> Floats:
    """Return the mean recall of the classes that there are."""
    return mean_known(over(_right(table), table.sum(axis=-1)))


def f1_each(table: Floats) -> Floats:
    """Return the harmonic mean of precision and recall of each class [..., k]."""
    return over(2 * _right(table), table.sum(axis=-1) + table.sum(axis=-2))


def recall(table: Floats) -> Floats:
    """Return the share of the positive rows that are selected."""
    return over(table[..., 1, 1], table[..., 1, :].sum(axis=-1))


def specificity(table: Floats) -> Floats:
    """Return the share of the negative rows that are not selected."""
    return over(table[..., 0, 0], table[..., 0, :].sum(axis=-1))


def precision(table: Floats) -> Floats:
    """Return the share of the selected rows that are positive."""
    return over(table[..., 1, 1], table[..., :, 1].sum(axis=-1))


def selection_rate(table: Floats) -> Floats:
    """Return the share of rows that are selected."""
    return over(table[..., :, 1].sum(axis=-1), table.sum(axis=(-2, -1)))


def f1(table: Floats) -> Floats:
    """Return the harmonic mean of precision and recall of the positive class."""
    return f1_each(table)[..., 1]


def f1_macro(table: Floats) -> Floats:
    """Return the mean over the classes, without those that no row has or is given."""
    return mean_known(f1_each(table))
