"""Metrics with honest uncertainty: numpy arrays in, estimates with one-sided bounds out.

A :class:`Sample` holds targets and scores of the same rows, a :class:`Design` says who was drawn
(rows, or clusters of rows), and :data:`METRICS` has the metrics by name. Then::

    estimate(METRICS["roc_auc"], sample, design)            # a value with bounds
    gain(METRICS["f1"], candidate, champion, design)        # paired; above 0 is better
    group_differences(METRICS["recall"], sample, groups, design).judge(max_difference=0.1)

``docs/statistics.md`` says how the bounds are computed and how often they err.
"""

from mlnb.statistics.agreement import McNemar, mcnemar_exact
from mlnb.statistics.design import Design
from mlnb.statistics.estimates import detectable, difference, estimate, gain
from mlnb.statistics.groups import Groups, Judgement, Pair, Skipped, group_differences
from mlnb.statistics.metrics import METRICS, Metric, metric_named, metrics_of
from mlnb.statistics.reading import Estimate
from mlnb.statistics.sample import Sample, ScarceError, StatisticsError, Task

__all__ = [
    "METRICS",
    "Design",
    "Estimate",
    "Groups",
    "Judgement",
    "McNemar",
    "Metric",
    "Pair",
    "Sample",
    "ScarceError",
    "Skipped",
    "StatisticsError",
    "Task",
    "detectable",
    "difference",
    "estimate",
    "gain",
    "group_differences",
    "mcnemar_exact",
    "metric_named",
    "metrics_of",
]
