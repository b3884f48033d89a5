"""The metrics by name, each in the form that its uncertainty is quickest to compute from.

``Table``: a function of the confusion matrix. ``Sums``: a function of a few sums over rows.
``Contributions``: a value with what each row contributes (see ``ranks``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from mlnb.errors import did_you_mean
from mlnb.statistics import ranks
from mlnb.statistics.sample import Floats, Sample, StatisticsError, Task

Better = Literal["higher", "lower", "zero"]
Part = Literal["positives", "negatives"]


@dataclass(frozen=True)
class Table:
    """A function of confusion matrices [..., k, k] (rows: target, columns: decision) to [...]."""

    value: Callable[[Floats], Floats]


@dataclass(frozen=True)
class Sums:
    """A function of the sums [..., s] of ``columns`` [n, s] over rows to [...]."""

    columns: Callable[[Sample], Floats]
    value: Callable[[Floats], Floats]


@dataclass(frozen=True)
class Contributions:
    """A value and what each row contributes to it [n]; ``leverage``: corrected for large units."""

    value: Callable[[Sample], tuple[float, Floats]]
    leverage: bool = False


@dataclass(frozen=True)
class Metric:
    """A figure of merit.

    Attributes:
        name: as written in rules.
        label: as shown to people.
        tasks: the tasks it is defined for.
        better: which way is better; ``zero``: the nearer to zero, from either side.
        form: how it is computed.
        needs: the rows without which it does not exist, for a binary task.
        share: whether it lies between 0 and 1.
        uses_threshold: whether a binary task needs a threshold.
        probability: whether the scores must be probabilities.
        inflated: whether noise can only raise it (a mean of absolute values).
    """

    name: str
    label: str
    tasks: tuple[Task, ...]
    better: Better
    form: Table | Sums | Contributions = field(repr=False)
    needs: frozenset[Part] = frozenset()
    share: bool = False
    uses_threshold: bool = False
    probability: bool = False
    inflated: bool = False

    def check(self, sample: Sample) -> None:
        """Say why this metric does not exist for ``sample``.

        Raises:
            StatisticsError: another task, no threshold, scores that are no probabilities, or one
                class only.
        """
        if sample.task not in self.tasks:
            raise StatisticsError(
                f"{self.name} is no metric of a {sample.task} task",
                remedy=f"There are: {', '.join(metrics_of(sample.task))}.",
            )
        if self.uses_threshold and sample.task == "binary" and sample.threshold is None:
            raise StatisticsError(f"{self.name} needs a threshold")
        if self.probability and not _probabilities(sample):
            raise StatisticsError(f"{self.name} needs probabilities, between 0 and 1, as scores")
        for part in sorted(self.needs) if sample.task == "binary" else ():
            if not (sample.target == (part == "positives")).any():
                raise StatisticsError(
                    f"{self.name} needs {part}, and the {len(sample)} rows have none"
                )
        if self.name == "roc_auc_ovr":
            missing = sorted(set(range(sample.class_count)) - set(sample.target.tolist()))
            if missing:
                raise StatisticsError(f"{self.name} needs rows of every class, not of {missing}")
        if self.name == "poisson_deviance" and (
            (sample.target < 0).any() or (sample.score <= 0).any()
        ):
            raise StatisticsError(f"{self.name} needs targets from 0 on and predictions above 0")


def _probabilities(sample: Sample) -> bool:
    """Whether the scores can be probabilities."""
    inside = bool(((sample.score >= 0) & (sample.score <= 1)).all())
    if sample.task == "multiclass":
        return inside and bool((np.abs(sample.score.sum(axis=1) - 1) < 1e-4).all())
    return inside


# --------------------------------------------------------------- functions of the confusion matrix


def _over(numerator: Floats, denominator: Floats) -> Floats:
    """Return the quotient, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, np.nan, numerator / denominator)


def _mean_known(values: Floats) -> Floats:
    """Return the mean over the last axis of what is not NaN; NaN where there is nothing."""
    known = ~np.isnan(values)
    return _over(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1).astype(np.float64))


def _right(table: Floats) -> Floats:
    return np.diagonal(table, axis1=-2, axis2=-1)


def _accuracy(table: Floats) -> Floats:
    return _over(_right(table).sum(axis=-1), table.sum(axis=(-2, -1)))


def _balanced_accuracy(table: Floats) -> Floats:
    return _mean_known(_over(_right(table), table.sum(axis=-1)))


def _f1_each(table: Floats) -> Floats:
    return _over(2 * _right(table), table.sum(axis=-1) + table.sum(axis=-2))


def _recall(table: Floats) -> Floats:
    return _over(table[..., 1, 1], table[..., 1, :].sum(axis=-1))


def _specificity(table: Floats) -> Floats:
    return _over(table[..., 0, 0], table[..., 0, :].sum(axis=-1))


def _precision(table: Floats) -> Floats:
    return _over(table[..., 1, 1], table[..., :, 1].sum(axis=-1))


def _selection_rate(table: Floats) -> Floats:
    return _over(table[..., :, 1].sum(axis=-1), table.sum(axis=(-2, -1)))


# ------------------------------------------------------------------------------ functions of sums


def mean_of(loss: Callable[[Sample], Floats]) -> Sums:
    """Return the form of the mean of a ``loss`` of each row [n]."""
    return Sums(
        lambda sample: np.stack([np.ones(len(sample)), loss(sample)], axis=1),
        lambda sums: _over(sums[..., 1], sums[..., 0]),
    )


def _error(sample: Sample) -> Floats:
    errors: Floats = sample.score - sample.target
    return errors


def _squared(sample: Sample) -> Floats:
    return _error(sample) ** 2


def _log_loss(sample: Sample) -> Floats:
    """Return minus the logarithm of the probability of what happened [n], clipped as sklearn's."""
    if sample.task == "binary":
        given = np.where(sample.target == 1, sample.score, 1 - sample.score)
    else:
        given = sample.score[np.arange(len(sample)), sample.target]
    edge = np.finfo(np.float64).eps
    loss: Floats = -np.log(np.clip(given, edge, 1 - edge))
    return loss


def _poisson_deviance(sample: Sample) -> Floats:
    """Return the unit deviance of a Poisson variable [n] (McCullagh and Nelder 1989, 2.3)."""
    target, score = sample.target, sample.score
    ratio = np.where(target > 0, target, score) / score
    deviance: Floats = 2 * (target * np.log(ratio) - target + score)
    return deviance


def _explained(sample: Sample) -> Floats:
    # The target from its mean: large numbers would cancel in the sum of squares.
    target = sample.target - sample.target.mean()
    return np.stack([np.ones(len(sample)), target, target**2, _squared(sample)], axis=1)


def _r2(sums: Floats) -> Floats:
    spread = sums[..., 2] - sums[..., 1] ** 2 / np.maximum(sums[..., 0], 1)
    return 1 - _over(sums[..., 3], spread)


_BINS = 10


def _binned_gaps(sample: Sample) -> Floats:
    """Return 1 and each row's gap in the column of its bin [n, 11].

    The bins hold near-equal numbers of rows, equal scores in one bin, and are those of the whole
    sample in every resample.
    """
    edges = np.quantile(sample.score, np.arange(1, _BINS) / _BINS)
    columns = np.zeros((len(sample), _BINS + 1))
    columns[:, 0] = 1
    bins = np.searchsorted(edges, sample.score, side="right")
    columns[np.arange(len(sample)), bins + 1] = _error(sample)
    return columns


def _calibration_error(sums: Floats) -> Floats:
    return _over(np.abs(sums[..., 1:]).sum(axis=-1), sums[..., 0])


# --------------------------------------------------------------------------------------- the list

BINARY: tuple[Task, ...] = ("binary",)
CLASSES: tuple[Task, ...] = ("binary", "multiclass")
MULTICLASS: tuple[Task, ...] = ("multiclass",)
REGRESSION: tuple[Task, ...] = ("regression",)
_POSITIVES: frozenset[Part] = frozenset({"positives"})
_NEGATIVES: frozenset[Part] = frozenset({"negatives"})
_BOTH = _POSITIVES | _NEGATIVES


def _threshold(
    name: str,
    label: str,
    value: Callable[[Floats], Floats],
    tasks: tuple[Task, ...] = BINARY,
    needs: frozenset[Part] = frozenset(),
    better: Better = "higher",
) -> Metric:
    """Return a metric of decisions; as a share, it lies between 0 and 1."""
    return Metric(name, label, tasks, better, Table(value), needs, share=True, uses_threshold=True)


_ALL: Sequence[Metric] = (
    Metric("roc_auc", "ROC AUC", BINARY, "higher", Contributions(ranks.roc_auc), _BOTH, share=True),
    Metric(
        "average_precision",
        "Average precision",
        BINARY,
        "higher",
        Contributions(ranks.average_precision, leverage=True),
        _POSITIVES,
        share=True,
    ),
    _threshold("f1", "F1", lambda table: _f1_each(table)[..., 1], needs=_POSITIVES),
    _threshold("precision", "Precision", _precision, needs=_POSITIVES),
    _threshold("recall", "Recall", _recall, needs=_POSITIVES),
    _threshold("specificity", "Specificity", _specificity, needs=_NEGATIVES),
    _threshold("accuracy", "Accuracy", _accuracy, CLASSES),
    _threshold("balanced_accuracy", "Balanced accuracy", _balanced_accuracy, CLASSES, _BOTH),
    _threshold("selection_rate", "Selection rate", _selection_rate),
    _threshold("f1_macro", "Macro F1", lambda table: _mean_known(_f1_each(table)), MULTICLASS),
    Metric(
        "roc_auc_ovr",
        "ROC AUC, one against the rest",
        MULTICLASS,
        "higher",
        Contributions(ranks.roc_auc_ovr),
        share=True,
    ),
    Metric("brier", "Brier score", BINARY, "lower", mean_of(_squared), probability=True),
    Metric("log_loss", "Log loss", CLASSES, "lower", mean_of(_log_loss), probability=True),
    Metric(
        "calibration_gap",
        "Calibration gap",
        BINARY,
        "zero",
        mean_of(_error),
        _POSITIVES,
        probability=True,
    ),
    Metric(
        "calibration_error",
        "Calibration error",
        BINARY,
        "lower",
        Sums(_binned_gaps, _calibration_error),
        _POSITIVES,
        probability=True,
        inflated=True,
    ),
    Metric("mae", "Mean absolute error", REGRESSION, "lower", mean_of(lambda s: abs(_error(s)))),
    Metric("mse", "Mean squared error", REGRESSION, "lower", mean_of(_squared)),
    Metric(
        "rmse",
        "Root mean squared error",
        REGRESSION,
        "lower",
        Sums(mean_of(_squared).columns, lambda sums: np.sqrt(_over(sums[..., 1], sums[..., 0]))),
    ),
    Metric("r2", "R squared", REGRESSION, "higher", Sums(_explained, _r2)),
    Metric("mean_error", "Mean error", REGRESSION, "zero", mean_of(_error)),
    Metric(
        "poisson_deviance",
        "Poisson deviance",
        REGRESSION,
        "lower",
        mean_of(_poisson_deviance),
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric that a rule may name."""


def metrics_of(task: Task) -> list[str]:
    """Return the names of the metrics of a task."""
    return [name for name, metric in METRICS.items() if task in metric.tasks]


def metric_named(name: Any, task: Task) -> Metric:
    """Return a metric of ``task`` by name.

    Raises:
        StatisticsError: there is none; the message lists those there are.
    """
    known = metrics_of(task)
    if name not in known:
        raise StatisticsError(
            f"there is no metric {name!r} for a {task} task.{did_you_mean(str(name), known)}",
            remedy=f"There are: {', '.join(known)}.",
        )
    return METRICS[name]
