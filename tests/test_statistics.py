"""Metrics and their bounds: against independent implementations, on real arrays."""

from __future__ import annotations

import itertools
import math
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as oracle

from mlnb.statistics import (
    METRICS,
    Design,
    Estimate,
    Sample,
    ScarceError,
    StatisticsError,
    detectable,
    difference,
    estimate,
    gain,
    group_differences,
    mcnemar_exact,
    metric_named,
    metrics_of,
)
from mlnb.statistics import design as design_module
from mlnb.statistics.groups import holm
from mlnb.statistics.metrics import Contributions
from mlnb.statistics.reading import Part, Reading
from mlnb.statistics.sample import Floats, Ints

ROOT = Path(__file__).parent.parent
THRESHOLD = 0.4


def binary(rows: int = 900, seed: int = 0) -> tuple[Ints, Floats, Floats, Ints]:
    """Return target, two models' probabilities with ties, and clusters of about three rows."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, rows // 3, rows)
    risk = rng.normal(size=rows // 3)[codes] + rng.normal(size=rows)
    target = (rng.random(rows) < 1 / (1 + np.exp(1 - risk))).astype(np.int64)
    first, second = (
        np.round(1 / (1 + np.exp(1 - risk - noise * rng.normal(size=rows))), 2).clip(0.01, 0.99)
        for noise in (0.8, 2.0)
    )
    return target, first, second, codes


@pytest.fixture(scope="module")
def samples() -> tuple[Sample, Sample]:
    target, first, second, _ = binary()
    return (
        Sample("binary", target, first, THRESHOLD),
        Sample("binary", target, second, THRESHOLD),
    )


@pytest.fixture(scope="module")
def rows_design() -> Design:
    return Design.of(900)


@pytest.fixture(scope="module")
def clusters_design() -> Design:
    return Design.of(900, binary()[3])


def multiclass(rows: int = 600) -> Sample:
    rng = np.random.default_rng(3)
    target = rng.integers(0, 4, rows)
    score = rng.random((rows, 4)) + 0.8 * np.eye(4)[target]
    names = np.array(["ash", "elm", "fir", "oak"])
    return Sample(
        "multiclass", names[target], score / score.sum(1, keepdims=True), classes=names.tolist()
    )


def regression(rows: int = 500) -> Sample:
    rng = np.random.default_rng(4)
    mean = rng.gamma(2, 2, rows) + 0.1
    return Sample("regression", rng.poisson(mean), mean * rng.uniform(0.7, 1.4, rows))


# ------------------------------------------------------------------------------- values

Oracle = Callable[[Any, Any, Any], Any]  # target, score or decision, weight
BY_DECISION: dict[str, Oracle] = {
    "f1": lambda y, d, w: oracle.f1_score(y, d, sample_weight=w),
    "precision": lambda y, d, w: oracle.precision_score(y, d, sample_weight=w),
    "recall": lambda y, d, w: oracle.recall_score(y, d, sample_weight=w),
    "specificity": lambda y, d, w: oracle.recall_score(y, d, pos_label=0, sample_weight=w),
    "accuracy": lambda y, d, w: oracle.accuracy_score(y, d, sample_weight=w),
    "balanced_accuracy": lambda y, d, w: oracle.balanced_accuracy_score(y, d, sample_weight=w),
    "selection_rate": lambda y, d, w: np.average(d, weights=w),
    "f1_macro": lambda y, d, w: oracle.f1_score(y, d, average="macro", sample_weight=w),
}
BY_SCORE: dict[str, Oracle] = {
    "roc_auc": lambda y, s, w: oracle.roc_auc_score(y, s, sample_weight=w),
    "average_precision": lambda y, s, w: oracle.average_precision_score(y, s, sample_weight=w),
    "roc_auc_ovr": lambda y, s, w: oracle.roc_auc_score(y, s, multi_class="ovr", sample_weight=w),
    "brier": lambda y, s, w: oracle.brier_score_loss(y, s, sample_weight=w),
    "log_loss": lambda y, s, w: oracle.log_loss(y, s, sample_weight=w),
    "calibration_gap": lambda y, s, w: np.average(s, weights=w) - np.average(y, weights=w),
    "calibration_error": lambda y, s, w: ece(y, s, w),
    "mae": lambda y, s, w: oracle.mean_absolute_error(y, s, sample_weight=w),
    "mse": lambda y, s, w: oracle.mean_squared_error(y, s, sample_weight=w),
    "rmse": lambda y, s, w: oracle.root_mean_squared_error(y, s, sample_weight=w),
    "r2": lambda y, s, w: oracle.r2_score(y, s, sample_weight=w),
    "mean_error": lambda y, s, w: np.average(s - y, weights=w),
    "poisson_deviance": lambda y, s, w: oracle.mean_poisson_deviance(y, s, sample_weight=w),
}


def ece(target: Any, score: Any, weight: Any) -> float:
    """Return the calibration error over ten groups of the unweighted rows, spelled out."""
    edges = np.quantile(score, np.arange(1, 10) / 10)
    bins = [int(np.sum(edges <= value)) for value in score]
    gaps = [0.0] * 10
    for place, (y, s, w) in enumerate(zip(target, score, weight, strict=True)):
        gaps[bins[place]] += w * (s - y)
    return sum(map(abs, gaps)) / float(np.sum(weight))


def of_task(task: str) -> Sample:
    target, first, _, _ = binary()
    if task == "binary":
        return Sample("binary", target, first, THRESHOLD)
    return multiclass() if task == "multiclass" else regression()


def form_of(name: str) -> Any:
    return METRICS[name].form


CASES = [(name, task) for name, metric in METRICS.items() for task in metric.tasks]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_values_are_those_of_scikit_learn(name: str, task: str) -> None:
    """Each metric of each task equals scikit-learn's, or a plain spelling of its definition."""
    sample = of_task(task)
    ones = np.ones(len(sample))
    shown = sample.decision if name in BY_DECISION else sample.score
    expected = (BY_DECISION | BY_SCORE)[name](sample.target, shown, ones)
    found = estimate(METRICS[name], sample, Design.of(len(sample), resamples=100))
    assert found.value == pytest.approx(float(expected), rel=1e-12, abs=1e-14)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    ("name", "task"), [case for case in CASES if not isinstance(form_of(case[0]), Contributions)]
)
def test_draws_are_the_metric_of_the_resampled_rows(name: str, task: str) -> None:
    """A draw is scikit-learn's metric, each row weighted by how often its cluster was drawn."""
    sample = of_task(task)
    codes = np.random.default_rng(1).integers(0, len(sample) // 3, len(sample))
    design = Design.of(len(sample), codes, resamples=100)
    reading = Reading.of(METRICS[name], [Part(sample)], design)
    assert reading.draws is not None
    shown = sample.decision if name in BY_DECISION else sample.score
    for draw in range(5):
        weight = design.counts[draw][design.codes].astype(float)
        expected = (BY_DECISION | BY_SCORE)[name](sample.target, shown, weight)
        assert reading.draws[draw, 0] == pytest.approx(float(expected), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "roc_auc_ovr"])
def test_contributions_are_derivatives(name: str) -> None:
    """What a row contributes is how the metric of scikit-learn moves with the row's weight."""
    sample = of_task("multiclass" if name == "roc_auc_ovr" else "binary")
    _, contributions = form_of(name).value(sample)
    assert contributions.sum() == pytest.approx(0, abs=1e-12)
    for row in range(0, len(sample), 97):
        values = []
        for step in (-1e-4, 1e-4):
            weight = np.ones(len(sample))
            weight[row] += step
            if name == "roc_auc_ovr":  # scikit-learn weighs classes evenly, but takes no weights
                each = [BY_SCORE["roc_auc"](sample.target == k, sample.score[:, k], weight)
                        for k in range(4)]  # fmt: skip
                values.append(np.mean(each))
            else:
                values.append(BY_SCORE[name](sample.target, sample.score, weight))
        assert contributions[row] == pytest.approx(
            (values[1] - values[0]) / 2e-4, rel=1e-4, abs=1e-9
        )


# ------------------------------------------------------------------------------- bounds


def components(target: Ints, score: Floats) -> tuple[Floats, Floats]:
    """Return DeLong's structural components of positives and negatives, pair by pair."""
    positive, negative = score[target == 1], score[target == 0]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    return wins.mean(axis=1), wins.mean(axis=0)


def test_an_area_and_a_difference_have_delongs_variance(
    samples: tuple[Sample, Sample], rows_design: Design
) -> None:
    """The standard errors are those of DeLong's covariance matrix, computed pair by pair."""
    first, second = samples
    parts = [components(each.target, each.score) for each in samples]
    of_positives, of_negatives = (
        np.cov(np.stack([part[kind] for part in parts])) / len(parts[0][kind]) for kind in (0, 1)
    )
    covariance = of_positives + of_negatives
    auc = METRICS["roc_auc"]
    single = estimate(auc, first, rows_design)
    assert single.error == pytest.approx(math.sqrt(covariance[0, 0]), rel=1e-10)
    paired = difference(auc, first, second, rows_design)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert paired.error == pytest.approx(math.sqrt(variance), rel=1e-10)
    quantile = scipy.stats.t.ppf(0.95, (first.target == 1).sum() - 1)
    assert paired.low == pytest.approx(paired.value - quantile * paired.error, rel=1e-10)
    assert paired.method == "DeLong"


def test_clusters_have_obuchowskis_variance(
    samples: tuple[Sample, Sample], clusters_design: Design
) -> None:
    """The clustered standard error is the formula of Obuchowski's paper, cluster by cluster."""
    sample, codes = samples[0], binary()[3]
    target = sample.target
    of_positive, of_negative = components(target, sample.score)
    auc = of_positive.mean()
    m, n = len(of_positive), len(of_negative)
    tens, ones = [], []
    component = np.empty(len(target))
    component[target == 1], component[target == 0] = of_positive, of_negative
    for code in np.unique(codes):
        rows = codes == code
        tens.append(sum(component[rows & (target == 1)] - auc))
        ones.append(sum(component[rows & (target == 0)] - auc))
    ten, one = np.array(tens), np.array(ones)
    units = len(ten)
    units_ten = len(np.unique(codes[target == 1]))
    units_one = len(np.unique(codes[target == 0]))
    s10 = units_ten / ((units_ten - 1) * m) * (ten @ ten)
    s01 = units_one / ((units_one - 1) * n) * (one @ one)
    s11 = units / (units - 1) * (ten @ one)
    expected = s10 / m + s01 / n + 2 * s11 / (m * n)
    found = estimate(METRICS["roc_auc"], sample, clusters_design)
    assert found.error == pytest.approx(math.sqrt(expected), rel=1e-10)
    assert found.clusters == units
    assert found.method == "Obuchowski's DeLong for clusters"


def weighted(name: str, sample: Sample, design: Design, draws: int) -> Floats:
    """Return scikit-learn's metric of the first resamples of a design."""
    weights = design.counts[:draws][:, design.codes].astype(float)
    return np.array([BY_SCORE[name](sample.target, sample.score, each) for each in weights])


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_contributions_agree_with_the_paired_cluster_bootstrap(
    name: str, samples: tuple[Sample, Sample], clusters_design: Design
) -> None:
    """Standard errors by contributions are those of resampling the clusters, within 10 %."""
    drawn = [weighted(name, each, clusters_design, 400) for each in samples]
    found = difference(METRICS[name], *samples, clusters_design)
    assert found.error == pytest.approx((drawn[0] - drawn[1]).std(ddof=1), rel=0.1)
    assert estimate(METRICS[name], samples[0], clusters_design).error == pytest.approx(
        drawn[0].std(ddof=1), rel=0.1
    )


@pytest.mark.parametrize("name", ["f1", "brier", "recall"])
def test_a_paired_difference_agrees_with_scipys_bootstrap(
    name: str, samples: tuple[Sample, Sample], rows_design: Design
) -> None:
    """Bounds and standard error are those of scipy's paired bootstrap of the rows."""
    first, second = samples
    target = first.target
    uses: dict[str, Callable[[Any, Any], Any]] = {
        "f1": lambda y, s: 2 * (y * (s >= THRESHOLD)).sum(-1) / (y + (s >= THRESHOLD)).sum(-1),
        "recall": lambda y, s: (y * (s >= THRESHOLD)).sum(-1) / y.sum(-1),
        "brier": lambda y, s: ((y - s) ** 2).mean(-1),
    }
    use = uses[name]
    expected = scipy.stats.bootstrap(
        (target, first.score, second.score),
        lambda y, a, b, axis=-1: use(y, a) - use(y, b),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        batch=500,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    found = difference(METRICS[name], first, second, rows_design)
    assert found.error == pytest.approx(expected.standard_error, rel=0.05)
    near = 0.15 * found.error
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=near)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=near)


def test_a_clustered_mean_has_the_error_of_statsmodels(
    samples: tuple[Sample, Sample], clusters_design: Design
) -> None:
    """The standard error of a mean loss is that of a regression with clustered errors."""
    import statsmodels.api as sm

    sample, codes = samples[0], binary()[3]
    loss = (sample.score - sample.target) ** 2
    fitted = sm.OLS(loss, np.ones(len(loss))).fit(cov_type="cluster", cov_kwds={"groups": codes})
    found = estimate(METRICS["brier"], sample, clusters_design)
    assert found.value == pytest.approx(fitted.params[0])
    assert found.error == pytest.approx(fitted.bse[0], rel=0.05)
    low, high = fitted.conf_int(0.1)[0]
    assert found.low == pytest.approx(low, abs=0.15 * found.error)
    assert found.high == pytest.approx(high, abs=0.15 * found.error)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "f1", "brier", "log_loss"])
def test_repeated_rows_tell_nothing_new(
    name: str, samples: tuple[Sample, Sample], rows_design: Design
) -> None:
    """Every row four times, as a cluster, has the standard error of the rows; as rows, half."""
    repeated = [
        Sample("binary", np.repeat(each.target, 4), np.repeat(each.score, 4), THRESHOLD)
        for each in samples
    ]
    expected = difference(METRICS[name], *samples, rows_design).error
    clusters = Design.of(3600, np.repeat(np.arange(900), 4))
    found = difference(METRICS[name], repeated[0], repeated[1], clusters)
    assert found.error == pytest.approx(expected, rel=0.06)
    naive = difference(METRICS[name], repeated[0], repeated[1], Design.of(3600))
    assert naive.error == pytest.approx(expected / 2, rel=0.06)


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("name", ["f1", "brier", "calibration_error"])
def test_the_normal_limit_agrees_with_the_resamples(
    name: str, clustered: bool, samples: tuple[Sample, Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With so many units that sums are drawn from their limit, the bounds stay where they were."""
    codes = binary()[3] if clustered else None
    exact = difference(METRICS[name], *samples, Design.of(900, codes))
    monkeypatch.setattr(design_module, "LIMIT", 10)
    limit = difference(METRICS[name], *samples, Design.of(900, codes))
    assert limit.value == exact.value
    assert limit.error == pytest.approx(exact.error, rel=0.06)
    assert limit.low == pytest.approx(exact.low, abs=0.2 * exact.error)
    assert limit.high == pytest.approx(exact.high, abs=0.2 * exact.error)


def test_few_units_widen_the_bounds(samples: tuple[Sample, Sample]) -> None:
    """The percentiles of twelve clusters are expanded as Student's t would have it."""
    design = Design.of(900, np.arange(900) // 75, resamples=4000)
    found = estimate(METRICS["brier"], samples[0], design)
    assert found.freedom == 11
    width = (found.high - found.low) / 2
    assert width == pytest.approx(scipy.stats.t.ppf(0.95, 11) * found.error, rel=0.06)
    assert width > 1.05 * scipy.stats.norm.ppf(0.95) * found.error


def test_three_clusters_reach_beyond_their_resamples(samples: tuple[Sample, Sample]) -> None:
    """Where no draw lies as far out as it must, the bounds are Student's."""
    found = estimate(METRICS["brier"], samples[0], Design.of(900, np.arange(900) // 300))
    reach = scipy.stats.t.ppf(0.95, 2) * found.error
    assert [found.low, found.high] == pytest.approx([found.value - reach, found.value + reach])


def test_few_large_losses_make_no_model_better() -> None:
    """Of two equal models with a few large losses, the better is found in 5 of 100 cases at most.

    By percentiles alone it is 6, and no less where the gain is a share of what the other has.
    """
    rng = np.random.default_rng(0)
    design = Design.of(200, resamples=500)
    better = {False: 0, True: 0}
    for _ in range(300):
        models = [Sample("regression", np.zeros(200), rng.lognormal(0, 1.5, 200)) for _ in "ab"]
        for relative in better:
            found = gain(METRICS["mae"], models[0], models[1], design, relative=relative)
            better[relative] += (found.low > 0) + (found.high < 0)
    assert max(better.values()) <= 0.05 * 600


def test_no_comparison_is_nearer_than_students(
    samples: tuple[Sample, Sample], clusters_design: Design
) -> None:
    """Bounds of a difference reach as far as Student's at least, and further where it is skewed."""
    for name in ("f1", "brier", "log_loss", "calibration_gap"):
        found = difference(METRICS[name], *samples, clusters_design)
        reach = scipy.stats.t.ppf(0.95, found.freedom) * found.error * (1 - 1e-9)
        assert found.low <= found.value - reach
        assert found.high >= found.value + reach
    zeros, loss = np.zeros(900), np.random.default_rng(0).lognormal(0, 1.5, 900)
    models = [Sample("regression", zeros, each) for each in (loss, zeros)]
    skewed = difference(METRICS["mae"], models[0], models[1], clusters_design)
    reach = scipy.stats.t.ppf(0.95, skewed.freedom) * skewed.error
    assert skewed.low == pytest.approx(skewed.value - reach)
    assert skewed.high > skewed.value + 1.02 * reach


def test_a_share_of_almost_nothing_is_no_error_without_end() -> None:
    """The error of a relative gain is by its slopes, whatever a few denominators near 0 do."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 400)
    models = [Sample("binary", target, rng.uniform(0, 1, 400)) for _ in "ab"]
    found, plain = (
        gain(METRICS["calibration_gap"], models[0], models[1], Design.of(400), relative=relative)
        for relative in (True, False)
    )
    other = abs(estimate(METRICS["calibration_gap"], models[1], Design.of(400)).value)
    assert found.error < 3 * plain.error / other


def test_what_has_never_happened_is_not_impossible() -> None:
    """A recall of 60 out of 60 has the exact lower bound of Clopper and Pearson, and so an area."""
    target = np.repeat([1, 0], [60, 240])
    sample = Sample("binary", target, target * 0.9, 0.5)
    expected = scipy.stats.binomtest(60, 60).proportion_ci(0.9, "exact").low
    for name in ("recall", "roc_auc"):
        found = estimate(METRICS[name], sample, Design.of(300))
        assert (found.value, found.high) == (1, 1)
        assert found.low == pytest.approx(expected)


def test_an_area_cannot_go_beyond_one(samples: tuple[Sample, Sample], rows_design: Design) -> None:
    """The bounds of a single area are those of Student's t on the scale of its log odds."""
    found = estimate(METRICS["roc_auc"], samples[0], rows_design)
    odds = math.log(found.value / (1 - found.value))
    reach = scipy.stats.t.ppf(0.95, found.freedom) * found.error
    reach /= found.value * (1 - found.value)
    bounds = [1 / (1 + math.exp(-odds + step)) for step in (reach, -reach)]
    assert [found.low, found.high] == pytest.approx(bounds)


def test_large_clusters_are_no_anchor() -> None:
    """With twelve clusters, the error of the average precision is above that of the jackknife."""
    target, first, _, _ = binary()
    codes = np.arange(900) // 75
    left_out = np.array(
        [
            oracle.average_precision_score(target[codes != code], first[codes != code])
            for code in range(12)
        ]
    )
    jackknife = math.sqrt(11 / 12 * np.sum((left_out - left_out.mean()) ** 2))
    sample = Sample("binary", target, first)
    found = estimate(METRICS["average_precision"], sample, Design.of(900, codes))
    assert jackknife < found.error < 1.1 * jackknife


def test_a_share_of_perhaps_nothing_is_unknown() -> None:
    """Where one resample in seven selects nobody, the precision could be anything."""
    target = np.tile([1, 0], 150)
    sample = Sample("binary", target, np.where(np.arange(300) < 2, 0.9, 0.1), 0.5)
    found = estimate(METRICS["precision"], sample, Design.of(300))
    assert (found.value, found.low, found.high) == (0.5, 0, 1)
    other = Sample("binary", target, np.full(300, 0.9), 0.5)
    relative = gain(METRICS["precision"], sample, other, Design.of(300), relative=True)
    assert (relative.value, relative.low, relative.high) == (0, -np.inf, np.inf)


def test_noise_is_not_taken_for_miscalibration() -> None:
    """The calibration error of true probabilities is above 0, and its lower bound is not."""
    rng = np.random.default_rng(0)
    probability = rng.uniform(0.05, 0.95, 500)
    true = Sample("binary", rng.random(500) < probability, probability)
    found = estimate(METRICS["calibration_error"], true, Design.of(500))
    assert found.low == 0 < found.value < found.high
    wrong = Sample("binary", true.target, probability / 2)
    assert estimate(METRICS["calibration_error"], wrong, Design.of(500)).low > 0.1


def test_rows_choose_a_slice(samples: tuple[Sample, Sample], clusters_design: Design) -> None:
    """A slice is the metric of its rows and of the clusters that they come from."""
    chosen = np.arange(900) % 3 == 0
    target, first, _, codes = binary()
    alone = Sample("binary", target[chosen], first[chosen], THRESHOLD)
    for name in ("roc_auc", "f1", "brier", "calibration_error"):
        found = estimate(METRICS[name], samples[0], clusters_design, rows=chosen)
        expected = estimate(METRICS[name], alone, Design.of(300, codes[chosen]))
        assert found.value == pytest.approx(expected.value, rel=1e-12)
        assert (found.rows, found.clusters) == (300, len(np.unique(codes[chosen])))
        assert found.error == pytest.approx(expected.error, rel=0.08)
        assert found.freedom == expected.freedom


# ------------------------------------------------------------------------------ comparisons


def test_gain_is_above_zero_for_the_better_model(
    samples: tuple[Sample, Sample], clusters_design: Design
) -> None:
    """Whichever way a metric is better, the model with less noise has the gain, and a mirror."""
    for name in ("roc_auc", "average_precision", "brier", "log_loss"):
        better = gain(METRICS[name], *samples, clusters_design)
        worse = gain(METRICS[name], samples[1], samples[0], clusters_design)
        assert better.low > 0 > worse.high
        assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low))


def test_a_relative_gain_is_a_share_of_the_other(
    samples: tuple[Sample, Sample], clusters_design: Design
) -> None:
    """A gain of 2 % is two hundredths of what the other has, bounds included."""
    for name in ("roc_auc", "f1", "brier"):
        metric = METRICS[name]
        absolute = gain(metric, *samples, clusters_design)
        relative = gain(metric, *samples, clusters_design, relative=True)
        other = estimate(metric, samples[1], clusters_design).value
        assert relative.value == pytest.approx(absolute.value / other)
        assert relative.low == pytest.approx(absolute.low / other, abs=0.25 * relative.error)


def test_best_at_zero_means_nearer_to_zero(clusters_design: Design) -> None:
    """A calibration gap of -0.05 is better than one of 0.1, and worse than one of 0.01."""
    target = np.repeat([1, 0], [300, 600])
    models = {
        gap: Sample("binary", target, np.full(900, 1 / 3 + gap)) for gap in (-0.05, 0.1, 0.01)
    }
    gap = METRICS["calibration_gap"]
    assert gain(gap, models[-0.05], models[0.1], clusters_design).value == pytest.approx(0.05)
    assert gain(gap, models[-0.05], models[0.01], clusters_design).value == pytest.approx(-0.04)


def test_a_model_does_not_differ_from_itself(
    samples: tuple[Sample, Sample], rows_design: Design, clusters_design: Design
) -> None:
    """Paired with itself, every metric differs by 0 without any uncertainty."""
    for name, design in itertools.product(metrics_of("binary"), (rows_design, clusters_design)):
        found = difference(METRICS[name], samples[0], samples[0], design)
        assert (found.value, found.low, found.high, found.error) == (0, 0, 0, 0)


def test_detectable_is_found_with_the_power() -> None:
    """The shift that is said to be detectable is found in 80 of 100 normal samples."""
    found = Estimate(0.0, -1.0, 1.0, 0.5, 400, 400, 399, 0.95, "")
    shift = detectable(found)
    chance = scipy.stats.nct.sf(scipy.stats.t.ppf(0.95, 399), 399, shift / 0.5)
    assert chance == pytest.approx(0.8, abs=0.005)


def test_mcnemar_is_that_of_statsmodels() -> None:
    """The exact test equals statsmodels' and scipy's binomial test."""
    from statsmodels.stats.contingency_tables import mcnemar

    rng = np.random.default_rng(0)
    for first_share, second_share in ((0.8, 0.7), (0.8, 0.8), (0.5, 0.9)):
        first, second = rng.random(150) < first_share, rng.random(150) < second_share
        found = mcnemar_exact(first, second)
        table = [[0, found.first_only], [found.second_only, 0]]
        assert found.two_sided == pytest.approx(mcnemar(table, exact=True).pvalue)
        both = found.first_only + found.second_only
        greater = scipy.stats.binomtest(found.first_only, both, alternative="greater").pvalue
        assert found.greater == pytest.approx(greater)
    nothing = mcnemar_exact(np.ones(5), np.ones(5))
    assert (nothing.greater, nothing.two_sided) == (1, 1)


# ----------------------------------------------------------------------------------- groups


def groups_of(rows: int = 900) -> Any:
    return np.random.default_rng(8).choice(["north", "south", "west"], rows, p=[0.5, 0.3, 0.2])


def test_group_values_and_differences_are_fairlearns(
    samples: tuple[Sample, Sample], rows_design: Design
) -> None:
    """Values by group, the largest difference and the smallest ratio equal fairlearn's."""
    from fairlearn.metrics import MetricFrame, selection_rate

    sample, names = samples[0], groups_of()
    for name, function in (("recall", oracle.recall_score), ("selection_rate", selection_rate)):
        frame = MetricFrame(
            metrics=function,
            y_true=sample.target,
            y_pred=sample.decision,
            sensitive_features=names,
        )
        found = group_differences(METRICS[name], sample, names, rows_design, min_rows=100,
                                  min_positives=20)  # fmt: skip
        assert {key: value.value for key, value in found.values.items()} == pytest.approx(
            frame.by_group.to_dict()
        )
        pairs = found.judge(max_difference=0.1).pairs
        assert max(abs(pair.difference.value) for pair in pairs) == pytest.approx(
            frame.difference()
        )
        ratios = [pair.ratio.value for pair in pairs if pair.ratio]
        assert min(ratios) == pytest.approx(frame.ratio())


def test_groups_pass_fail_or_leave_it_open(rows_design: Design) -> None:
    """Near groups pass, far ones fail, and what lies between stays inconclusive."""
    target = np.tile([1, 1, 1, 0], 225)
    group = np.repeat(["a", "b"], 450)
    for share, limit, outcome in (
        (0.80, 0.15, "pass"),
        (0.40, 0.15, "fail"),
        (0.65, 0.15, "inconclusive"),
    ):
        chosen = np.arange(900) % 20 < 20 * np.where(group == "a", 0.8, share)
        sample = Sample("binary", target, chosen * 1.0, 0.5)
        for name in ("recall", "selection_rate"):
            found = group_differences(METRICS[name], sample, group, rows_design)
            assert found.judge(max_difference=limit).outcome == outcome
            assert found.judge(min_ratio=0.81).outcome == outcome


def test_groups_without_a_fault_may_still_differ(rows_design: Design) -> None:
    """Two groups of 60 positives, all found, pass a limit of 0.06 and not one of 0.04."""
    target = np.tile([1] * 60 + [0] * 390, 2)
    sample = Sample("binary", target, target * 0.9, 0.5)
    found = group_differences(METRICS["recall"], sample, np.repeat(["a", "b"], 450), rows_design)
    assert found.judge(max_difference=0.06).outcome == "pass"
    assert found.judge(max_difference=0.04).outcome == "inconclusive"


def test_the_p_of_two_groups_is_that_of_a_test_of_two_shares(rows_design: Design) -> None:
    """Without a margin, p is that of the two-sided test of two shares, with either limit."""
    from statsmodels.stats.proportion import test_proportions_2indep

    group = np.repeat(["a", "b"], 450)
    chosen = np.concatenate([np.arange(450) < 200, np.arange(450) < 165])
    sample = Sample("binary", np.tile([1, 0], 450), chosen * 1.0, 0.5)
    found = group_differences(METRICS["selection_rate"], sample, group, rows_design)
    expected = test_proportions_2indep(200, 450, 165, 450, method="wald").pvalue
    for judged in (found.judge(max_difference=0), found.judge(min_ratio=1)):
        assert judged.pairs[0].p == pytest.approx(expected, rel=0.15)


def test_holm_is_that_of_statsmodels() -> None:
    """Corrected chances equal those of statsmodels, in the order given."""
    from statsmodels.stats.multitest import multipletests

    p = [0.04, 0.001, 0.6, 0.02, 0.02]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_small_groups_are_named_with_their_numbers(
    samples: tuple[Sample, Sample], rows_design: Design
) -> None:
    """A group with too few rows, or positives where they count, is skipped and says how few."""
    names = np.array(["rest", "other", "tiny", "rare"])[np.arange(900) % 2]
    names[:20] = "tiny"
    target = samples[0].target
    rare = np.flatnonzero((target == 0) & (np.arange(900) >= 20))[:150]
    names = names.astype("U5")
    names[rare] = "rare"
    found = group_differences(METRICS["recall"], samples[0], names, rows_design, min_rows=100)
    skipped = {each.name: (each.rows, each.scarce, each.kind) for each in found.skipped}
    assert skipped == {"tiny": (20, 20, "rows"), "rare": (150, 0, "positives")}
    assert set(found.values) == {"rest", "other"}
    every = group_differences(METRICS["accuracy"], samples[0], names, rows_design, min_rows=100)
    assert "rare" in every.values


# ------------------------------------------------------------------------------- bad input

GOOD = np.array([0, 1, 0, 1])


def sample_of(*arguments: Any, **options: Any) -> Sample:
    return Sample(*arguments, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sample_of("binary", GOOD, [0.1, np.nan, 0.2, 0.3]), "1 values of the score"),
        (lambda: sample_of("regression", [1, np.inf], [1, 1]), "1 values of the target"),
        (lambda: sample_of("binary", [0, 1, 2, 1], GOOD / 2), "must be 0 or 1"),
        (lambda: sample_of("binary", GOOD, GOOD[:3]), "4 targets and 3 scores"),
        (lambda: sample_of("binary", [], []), "no rows"),
        (lambda: sample_of("binary", GOOD, np.ones((4, 2))), r"shape \(4, 2\)"),
        (lambda: sample_of("binary", GOOD, ["a"] * 4), "must be numbers"),
        (lambda: sample_of("binary", GOOD, GOOD, np.nan), "threshold"),
        (lambda: sample_of("multiclass", [0, 1, 5], np.ones((3, 3)) / 3), "holds 5"),
        (lambda: sample_of("multiclass", [0, 1], np.ones((2, 3)) / 3, classes="ab"), "2 classes"),
        (lambda: sample_of("binary", GOOD, GOOD).only(GOOD == 7), "no rows"),
        (lambda: sample_of("binary", GOOD, GOOD).only(np.array([True])), "4 truth values"),
        (lambda: Design.of(4, [1, 1, 1, 1]), "at least two clusters"),
        (lambda: Design.of(4, [1, 2, 3]), "4 rows"),
        (lambda: Design.of(4, np.array(["a", None, "b", "a"], dtype=object)), "missing"),
        (lambda: Design.of(4, [1.0, np.nan, 2.0, 1.0]), "missing"),
        (lambda: Design.of(4, resamples=10), "too few"),
        (lambda: metric_named("roc_au", "binary"), "Did you mean 'roc_auc'"),
        (lambda: metric_named("f1", "regression"), "no metric 'f1' for a regression task"),
        (lambda: mcnemar_exact([True], [True, False]), "no pairs"),
    ],
)
def test_bad_input_is_one_clear_error(make: Callable[[], object], message: str) -> None:
    """What cannot be computed from is refused in words, with the exit code of bad input."""
    with pytest.raises(StatisticsError, match=message) as caught:
        make()
    assert caught.value.exit_code == 2


def of(name: str, target: Any, score: Any, threshold: float | None = 0.5) -> Estimate:
    sample = Sample("binary", np.asarray(target), np.asarray(score, float), threshold)
    return estimate(METRICS[name], sample, Design.of(len(sample), resamples=100))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: of("roc_auc", [1, 1, 1], [0.1, 0.2, 0.3]), "needs negatives"),
        (lambda: of("recall", [0, 0, 0], [0.1, 0.2, 0.3]), "needs positives"),
        (lambda: of("recall", [0, 0, 1], [0.1, 0.2, 0.3]), "one row"),
        (lambda: of("f1", GOOD, GOOD, None), "needs a threshold"),
        (lambda: of("precision", GOOD, GOOD * 0), "share of no rows"),
        (lambda: of("brier", GOOD, GOOD * 3), "probabilities"),
        (lambda: of("rmse", GOOD, GOOD), "no metric of a binary task"),
        (
            lambda: estimate(
                METRICS["poisson_deviance"],
                sample_of("regression", [1, 2, 3], [1, 0, 2]),
                Design.of(3),
            ),
            "predictions above 0",
        ),
        (
            lambda: estimate(
                METRICS["roc_auc_ovr"],
                sample_of("multiclass", [0, 1, 1], np.full((3, 3), 1 / 3)),
                Design.of(3),
            ),
            r"of \[2\] there are none",
        ),
    ],
)
def test_a_metric_that_does_not_exist_is_an_error(make: Callable[[], object], message: str) -> None:
    """A metric without the rows, threshold or scores it needs is refused, never a number."""
    with pytest.raises(StatisticsError, match=message):
        make()


def test_comparisons_refuse_what_is_no_pair(
    samples: tuple[Sample, Sample], rows_design: Design
) -> None:
    """Other rows, too few groups, noise as a metric of groups, and wrong limits are refused."""
    first, names = samples[0], groups_of()
    other = Sample("binary", 1 - first.target, first.score, THRESHOLD)
    recall = METRICS["recall"]
    with pytest.raises(StatisticsError, match="not of the same rows"):
        gain(recall, first, other, rows_design)
    with pytest.raises(StatisticsError, match=r"900 rows and the design 899"):
        estimate(recall, first, Design.of(899))
    with pytest.raises(ScarceError, match="two are needed: south has"):
        group_differences(recall, first, names, rows_design, min_rows=300)
    with pytest.raises(StatisticsError, match="calibration_gap"):
        group_differences(METRICS["calibration_error"], first, names, rows_design)
    found = group_differences(recall, first, names, rows_design, min_rows=100, min_positives=20)
    for limits in ({}, {"max_difference": -1.0}, {"min_ratio": 1.2},
                   {"min_ratio": 0.8, "max_difference": 0.1}):  # fmt: skip
        with pytest.raises(StatisticsError):
            found.judge(**limits)
    gaps = group_differences(
        METRICS["calibration_gap"], first, names, rows_design, min_rows=100, min_positives=20
    )
    with pytest.raises(StatisticsError, match="no ratio"):
        gaps.judge(min_ratio=0.8)
    with pytest.raises(StatisticsError, match="confidence"):
        estimate(recall, first, rows_design, 95)


def test_every_metric_is_explained() -> None:
    """The page of the statistics says for each metric, and for no other, how it is bounded."""
    lines = (ROOT / "docs/statistics.md").read_text().splitlines()
    rows = [line.split("|")[1] for line in lines if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(METRICS)


# ----------------------------------------------------------------------- the same everywhere

FIGURES = """
import numpy as np
from test_statistics import *
target, first, second, codes = binary(5000)  # a product that BLAS shares between its threads
one, two = (Sample("binary", target, each, THRESHOLD) for each in (first, second))
for clusters in (None, codes):
    design = Design.of(5000, clusters)
    for name in metrics_of("binary"):
        print(gain(METRICS[name], one, two, design))
"""


def test_figures_do_not_depend_on_threads_or_hash_seeds() -> None:
    """Two processes with other numbers of threads and hash seeds print the same digits."""
    printed = set()
    for threads, seed in (("1", "0"), ("4", "7")):
        answer = subprocess.run(
            [sys.executable, "-c", FIGURES],
            env=os.environ
            | {
                "OPENBLAS_NUM_THREADS": threads,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            },
            capture_output=True,
            text=True,
            check=True,
        )
        printed.add(answer.stdout)
    assert len(printed) == 1
    assert len(printed.pop().splitlines()) == 2 * len(metrics_of("binary"))


def test_the_kind_of_cluster_names_changes_nothing(samples: tuple[Sample, Sample]) -> None:
    """Names as texts, objects or numbers of one order give the same draws."""
    codes = binary()[3]
    texts = np.array([f"{code:04d}" for code in codes])
    found = [
        estimate(METRICS["brier"], samples[0], Design.of(900, names))
        for names in (codes, texts, texts.astype(object))
    ]
    assert found[0] == found[1] == found[2]


def test_no_metric_warns(samples: tuple[Sample, Sample]) -> None:
    """A few rare rows, absent from many resamples, lead to wide bounds and no warning."""
    target = np.repeat([1, 0], [3, 297])
    score = np.linspace(0.9, 0.1, 300)
    sample = Sample("binary", target, score, 0.897)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in metrics_of("binary"):
            found = estimate(METRICS[name], sample, Design.of(300))
            assert found.low <= found.value <= found.high
            assert np.isfinite([found.low, found.high]).all()
