"""Estimates of a metric, and of the difference of two models on the same rows.

``confidence`` is always one-sided: each decision is made on one bound, which the truth passes with
a chance of 1 - ``confidence``. An interval between the two bounds of 0.95 is one of 90 %.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from mlnb.statistics.design import LIMIT, Design
from mlnb.statistics.metrics import Metric, Table
from mlnb.statistics.reading import Estimate, Function, Part, Reading, Spread
from mlnb.statistics.sample import Mask, Sample, StatisticsError


def linear(*slopes: float) -> Function:
    """Return the sum of the parts' values, each times its slope."""
    weights = np.array(slopes)
    # The others are left out: a value that does not exist would spoil the sum even times 0.
    used = np.flatnonzero(weights)
    return Function(
        lambda values: (values[..., used] * weights[used]).sum(axis=-1), lambda values: weights
    )


_NOTHING = 1e-12  # what rounding makes of no error at all
_ITSELF = linear(1.0)
_DIFFERENCE = linear(1.0, -1.0)
RATIO = Function(
    lambda values: values[..., 0] / values[..., 1],
    lambda values: np.array([1.0, -values[0] / values[1]]) / values[1],
)
_RELATIVE = Function(
    lambda values: (values[..., 0] - values[..., 1]) / np.abs(values[..., 1]), RATIO.slopes
)


def estimate(
    metric: Metric,
    sample: Sample,
    design: Design,
    confidence: float = 0.95,
    *,
    rows: Mask | None = None,
) -> Estimate:
    """Return a metric with its bounds, of all rows or of those [n] that are true in ``rows``.

    Raises:
        StatisticsError: the metric does not exist for these rows.
    """
    reading = Reading.of(metric, [Part(sample, rows)], design)
    return bounded(reading, _ITSELF, confidence, within=(0.0, 1.0) if metric.share else None)


def difference(
    metric: Metric,
    first: Sample,
    second: Sample,
    design: Design,
    confidence: float = 0.95,
    *,
    rows: Mask | None = None,
) -> Estimate:
    """Return the metric of ``first`` minus that of ``second`` on the same rows: paired.

    Raises:
        StatisticsError: the samples are not of the same rows, or the metric does not exist.
    """
    reading = _paired(metric, first, second, design, rows)
    within = (-1.0, 1.0) if metric.share else None
    return bounded(reading, _DIFFERENCE, confidence, within=within, paired=True)


def gain(
    metric: Metric,
    first: Sample,
    second: Sample,
    design: Design,
    confidence: float = 0.95,
    *,
    relative: bool = False,
    rows: Mask | None = None,
) -> Estimate:
    """Return by how much ``first`` is better than ``second``: above 0 is better for any metric.

    A metric that is best at zero is compared by its distance from zero. ``relative``: as a share
    of what ``second`` has.

    Raises:
        StatisticsError: as for :func:`difference`; a share of nothing.
    """
    reading = _paired(metric, first, second, design, rows)
    if metric.better == "zero":
        reading = reading.absolute()
    if not relative:
        within = (-1.0, 1.0) if metric.share else None
        found = bounded(reading, _DIFFERENCE, confidence, within=within, paired=True)
    elif reading.values[1] == 0:
        raise StatisticsError(
            f"{metric.name} of what is compared with is 0, and a gain cannot be a share of that",
            remedy="Write the gain as a number instead of a percentage.",
        )
    else:
        found = bounded(reading, _RELATIVE, confidence, paired=True)
    return found if metric.better == "higher" else found.mirrored()


def detectable(found: Estimate, power: float = 0.8) -> float:
    """Return the smallest true difference that a test like ``found`` sees with chance ``power``.

    The standard error times the sum of the quantiles of confidence and power (Cohen 1988).
    """
    quantile = float(special.stdtrit(found.freedom, found.confidence) + special.ndtri(power))
    return quantile * found.error


def unseen(freedom: int, confidence: float) -> float:
    """Return how large a share can be of which nothing has been seen in ``freedom`` + 1 units.

    No resample can show what has not happened yet; the exact bound can (Clopper and Pearson 1934,
    Biometrika 26; the "rule of three").
    """
    return float(1 - (1 - confidence) ** (1 / (freedom + 1)))


def bounded(
    reading: Reading,
    function: Function,
    confidence: float,
    *,
    parts: tuple[int, ...] | None = None,
    within: tuple[float, float] | None = None,
    paired: bool = False,
) -> Estimate:
    """Return ``function`` of the values of ``reading`` with its bounds.

    Args:
        reading: what was read.
        function: of the values of all its parts.
        confidence: one-sided, between 0.5 and 1.
        parts: those that the function uses; None: all.
        within: the range outside of which there is nothing.
        paired: it compares two models on the same rows, so that bounds are no nearer than
            Student's (see ``_no_nearer``).
    """
    if not 0.5 < confidence < 1:
        raise StatisticsError(f"the confidence must lie between 0.5 and 1, not at {confidence}")
    used = tuple(range(len(reading.parts))) if parts is None else parts
    freedom = reading.freedom(used)
    found = reading.spread(function, freedom)
    share = within == (0.0, 1.0)
    if share and min(found.value, 1 - found.value) < _NOTHING:
        reach = unseen(freedom, confidence)
        low, high = (0.0, reach) if found.value < 0.5 else (1 - reach, 1.0)
    elif found.draws is None:
        low, high = _normal(found, freedom, confidence, logit=share)
    elif reading.noise is None:
        low, high = _resampled(found, freedom, confidence)
    else:
        inflation = float(np.nanmean(found.draws)) - found.value
        moved = Spread(found.value, found.error, found.draws - inflation)
        low, high = _resampled(moved, freedom, confidence)
        if len(used) == 1:
            noise = Spread(0.0, found.error, reading.noise[:, used[0]])
            low = max(found.value - _resampled(noise, freedom, confidence)[1], 0.0)
    if paired and found.draws is not None:
        # By its slopes, or a share of almost nothing in a few draws would be all of the error.
        tangent = linear(*function.slopes(reading.values))
        found = found._replace(error=reading.spread(tangent, freedom).error)
        low, high = _no_nearer((low, high), found, freedom, confidence)
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
    masks = [reading.parts[number].rows for number in used]
    rows = np.zeros(len(reading.design.codes), np.bool_)
    for mask in masks:
        rows |= True if mask is None else mask
    return Estimate(
        found.value,
        low,
        high,
        found.error,
        int(rows.sum()),
        reading.design.units_with(rows),
        freedom,
        confidence,
        _method(reading),
    )


def _normal(found: Spread, freedom: int, confidence: float, *, logit: bool) -> tuple[float, float]:
    """Return the bounds by Student's t; of a share on the scale of its log odds.

    Near 1 an area is skewed: its lower bound would be too high in 10 instead of 5 of 100 cases for
    the average precision of 200 rows (Pepe 2003, section 5.2; Boyd, Eng and Page 2013).
    """
    reach = float(special.stdtrit(freedom, confidence)) * found.error
    if not logit:
        return found.value - reach, found.value + reach
    centre, reach = special.logit(found.value), reach / (found.value * (1 - found.value))
    return float(special.expit(centre - reach)), float(special.expit(centre + reach))


def _resampled(found: Spread, freedom: int, confidence: float) -> tuple[float, float]:
    """Return the expanded percentile bounds of draws.

    Efron's percentile interval is that of a normal distribution with the variance divided by the
    number of units: too narrow for few. Taking the quantiles further out mends both (Hesterberg
    2015, The American Statistician 69, section 5.3). A draw that does not exist could be
    anything, so it counts as the worst on either side. Quantiles that lie beyond all draws, as
    those of three clusters do, are Student's.
    """
    assert found.draws is not None
    reach = math.sqrt((freedom + 1) / freedom) * float(special.stdtrit(freedom, confidence))
    rank = int(special.ndtr(-reach) * (len(found.draws) + 1))
    if rank < 1:
        return _normal(found, freedom, confidence, logit=False)
    unknown = np.isnan(found.draws)
    rising = np.sort(np.where(unknown, -np.inf, found.draws))
    falling = np.sort(np.where(unknown, np.inf, found.draws))
    return float(rising[rank - 1]), float(falling[-rank])


def _no_nearer(
    bounds: tuple[float, float], found: Spread, freedom: int, confidence: float
) -> tuple[float, float]:
    """Return bounds of a comparison, or Student's where those are further out.

    Where a few large losses make most of a sum, percentiles of draws are too near: of two equally
    good models of such counts, one is called better in 6.2 instead of 5 of 100 cases. Differences
    of equally good models are symmetric, and for these Student's t keeps its level however heavy
    the tails (Efron 1969, Journal of the American Statistical Association 64; Benjamini 1983, the
    same, 78). Corrections for skewness (bootstrap of t, BCa, Hall 1992) take the noise of such
    losses for skewness and err in 8 to 9.
    """
    low, high = _normal(found, freedom, confidence, logit=False)
    return min(low, bounds[0]), max(high, bounds[1])


def _paired(
    metric: Metric, first: Sample, second: Sample, design: Design, rows: Mask | None
) -> Reading:
    """Read ``metric`` off two samples of the same rows."""
    if first.task != second.task or not np.array_equal(first.target, second.target):
        raise StatisticsError("the two samples are not of the same rows: their targets differ")
    if first.score.shape != second.score.shape:
        raise StatisticsError("the two samples have scores of different shapes")
    return Reading.of(metric, [Part(first, rows), Part(second, rows)], design)


def _method(reading: Reading) -> str:
    """Return in words how the bounds of ``reading`` are computed."""
    design, metric = reading.design, reading.metric
    units = f"{design.units:,} {design.unit}s"
    if reading.draws is None:
        area = metric.name.startswith("roc_auc")
        if area and not design.clustered:
            return "DeLong"
        return "Obuchowski's DeLong for clusters" if area else f"contributions of {units}"
    if isinstance(metric.form, Table) and not design.clustered:
        return f"multinomial bootstrap of the confusion matrix, {design.resamples:,} resamples"
    if design.units > LIMIT:
        return f"normal limit of the bootstrap of {units}, {design.resamples:,} resamples"
    return f"bootstrap of {units}, {design.resamples:,} resamples"
