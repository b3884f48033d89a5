"""Metrics of the order of the scores, and what each row contributes to them.

Such a metric is no function of sums, but its derivative by the weight of each row is cheap: one
sort. The sum of squares of these contributions is the variance of the metric (the infinitesimal
jackknife; Efron 1982), for the area under the ROC curve exactly that of DeLong.

Each function takes target [n] and score [n] and returns the value and the contributions [n], which
add up to 0.
"""

from __future__ import annotations

import numpy as np

from mlnb.statistics.sample import Floats, Ints, Sample, StatisticsError


def roc_auc(sample: Sample) -> tuple[float, Floats]:
    """Return the area under the ROC curve: how often a positive row scores above a negative one.

    DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44; the contributions are their structural
    components, by ranks as in Sun and Xu 2014, IEEE Signal Processing Letters 21.
    """
    return _area(sample.target.astype(np.int64), sample.score)


def roc_auc_ovr(sample: Sample) -> tuple[float, Floats]:
    """Return the mean over the classes of the area under the curve of each against the rest.

    Provost and Domingos 2003, with equal weights of the classes as in scikit-learn's
    ``roc_auc_score(multi_class="ovr", average="macro")``.
    """
    missing = sorted(set(range(sample.class_count)) - set(sample.target.tolist()))
    if missing:
        raise StatisticsError(f"roc_auc_ovr needs rows of every class; of {missing} there are none")
    areas = [
        _area((sample.target == number).astype(np.int64), sample.score[:, number])
        for number in range(sample.class_count)
    ]
    value = float(np.mean([area for area, _ in areas]))
    return value, np.mean([contribution for _, contribution in areas], axis=0)


def average_precision(sample: Sample) -> tuple[float, Floats]:
    """Return the mean precision over the positive rows, each at its own score as the threshold.

    The sum of Davis and Goadrich 2006 without interpolation, as scikit-learn's
    ``average_precision_score``. With A the weight of the positive and T that of all rows from a
    score on, it is the mean of A/T over the positive rows; the contributions are its derivative.
    """
    target = sample.target
    groups, members = _groups(sample.score)
    positive = np.bincount(members, target, minlength=groups)
    total = np.bincount(members, minlength=groups).astype(np.float64)
    found = positive[::-1].cumsum()[::-1]
    ranked = total[::-1].cumsum()[::-1]
    precision = found / ranked
    positives = positive.sum()
    value = float((positive * precision).sum() / positives)
    # A row raises A or T for every threshold up to its own score.
    raises = (positive / ranked).cumsum()[members]
    lowers = (positive * found / ranked**2).cumsum()[members]
    return value, (target * (precision[members] + raises - value) - lowers) / positives


def _area(target: Ints, score: Floats) -> tuple[float, Floats]:
    """Return the area under the ROC curve and the rows' contributions."""
    groups, members = _groups(score)
    positive = np.bincount(members, target, minlength=groups)
    negative = np.bincount(members, minlength=groups) - positive
    positives, negatives = positive.sum(), negative.sum()
    # The share of the other class that a row of this score wins against; a tie is half.
    above_negatives = (negative.cumsum() - negative / 2) / negatives
    below_positives = 1 - (positive.cumsum() - positive / 2) / positives
    value = float((positive * above_negatives).sum() / positives)
    wins = np.where(
        target == 1,
        (above_negatives[members] - value) / positives,
        (below_positives[members] - value) / negatives,
    )
    return value, wins


def _groups(score: Floats) -> tuple[int, Ints]:
    """Return how many distinct scores there are and the rank among them of each row [n]."""
    distinct, members = np.unique(score, return_inverse=True)
    return len(distinct), members.astype(np.int64)
