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
from mlnb.statistics import confusion, losses, ranks
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


def _probabilities(sample: Sample) -> bool:
    """Whether the scores can be probabilities."""
    inside = bool(((sample.score >= 0) & (sample.score <= 1)).all())
    if sample.task == "multiclass":
        return inside and bool((np.abs(sample.score.sum(axis=1) - 1) < 1e-4).all())
    return inside


def mean_of(loss: Callable[[Sample], Floats]) -> Sums:
    """Return the form of the mean of a ``loss`` of each row [n]."""
    return Sums(
        lambda sample: np.stack([np.ones(len(sample)), loss(sample)], axis=1),
        lambda sums: confusion.over(sums[..., 1], sums[..., 0]),
    )


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
    _threshold("f1", "F1", confusion.f1, needs=_POSITIVES),
    _threshold("precision", "Precision", confusion.precision, needs=_POSITIVES),
    _threshold("recall", "Recall", confusion.recall, needs=_POSITIVES),
    _threshold("specificity", "Specificity", confusion.specificity, needs=_NEGATIVES),
    _threshold("accuracy", "Accuracy", confusion.accuracy, CLASSES),
    _threshold(
        "balanced_accuracy", "Balanced accuracy", confusion.balanced_accuracy, CLASSES, _BOTH
    ),
    _threshold("selection_rate", "Selection rate", confusion.selection_rate),
    _threshold("f1_macro", "Macro F1", confusion.f1_macro, MULTICLASS),
    Metric(
        "roc_auc_ovr",
        "ROC AUC, one against the rest",
        MULTICLASS,
        "higher",
        Contributions(ranks.roc_auc_ovr),
        share=True,
    ),
    Metric("brier", "Brier score", BINARY, "lower", mean_of(losses.squared), probability=True),
    Metric("log_loss", "Log loss", CLASSES, "lower", mean_of(losses.log_loss), probability=True),
    Metric(
        "calibration_gap",
        "Calibration gap",
        BINARY,
        "zero",
        mean_of(losses.error),
        _POSITIVES,
        probability=True,
    ),
    Metric(
        "calibration_error",
        "Calibration error",
        BINARY,
        "lower",
        Sums(losses.binned_gaps, losses.calibration_error),
        _POSITIVES,
        probability=True,
        inflated=True,
    ),
    Metric(
        "mae", "Mean absolute error", REGRESSION, "lower", mean_of(lambda s: abs(losses.error(s)))
    ),
    Metric("mse", "Mean squared error", REGRESSION, "lower", mean_of(losses.squared)),
    Metric(
        "rmse",
        "Root mean squared error",
        REGRESSION,
        "lower",
        Sums(
            mean_of(losses.squared).columns,
            lambda sums: np.sqrt(confusion.over(sums[..., 1], sums[..., 0])),
        ),
    ),
    Metric("r2", "R squared", REGRESSION, "higher", Sums(losses.explained, losses.r2)),
    Metric("mean_error", "Mean error", REGRESSION, "zero", mean_of(losses.error)),
    Metric(
        "poisson_deviance",
        "Poisson deviance",
        REGRESSION,
        "lower",
        mean_of(losses.poisson_deviance),
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
