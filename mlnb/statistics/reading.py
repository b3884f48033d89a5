"""One metric read off several samples of the same rows, and how these readings vary together.

Two models on one test set, or several groups of it: what they have in common must not count as
uncertainty of their difference. So all parts are read from the same resamples, or from the sum of
what each row contributes to each.

Shapes: ``[m]`` parts, ``[b]`` resamples, ``[n]`` rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mlnb.statistics.design import Design
from mlnb.statistics.metrics import Metric, Sums, Table
from mlnb.statistics.sample import Floats, Ints, Mask, Sample, StatisticsError


class Part(NamedTuple):
    """A sample, and those of its rows [n] that are read; all for None."""

    sample: Sample
    rows: Mask | None = None


class Function(NamedTuple):
    """A function of the parts' values [..., m] to [...], and its slopes by each of them [m]."""

    of: Callable[[Floats], Floats]
    slopes: Callable[[Floats], Floats]


@dataclass(frozen=True)
class Estimate:
    """A value with its uncertainty.

    Attributes:
        value: on the rows themselves.
        low: lower bound: the truth is below it with a chance of 1 - ``confidence``.
        high: upper bound, likewise; between the two lies an interval of 2 * ``confidence`` - 1.
        error: standard error.
        rows: how many rows it is computed from.
        clusters: how many clusters they come from; each row is one where there are none.
        freedom: degrees of freedom of the standard error.
        confidence: one-sided, of each bound by itself.
        method: how the bounds were computed, in words.
    """

    value: float
    low: float
    high: float
    error: float
    rows: int
    clusters: int
    freedom: int
    confidence: float
    method: str

    def mirrored(self) -> Estimate:
        """Return the estimate of minus the same thing."""
        return replace(self, value=-self.value, low=-self.high, high=-self.low)


class Spread(NamedTuple):
    """How a function of the parts varies: its value, standard error, and draws [b] if resampled."""

    value: float
    error: float
    draws: Floats | None


@dataclass(frozen=True, eq=False)
class Reading:
    """The values of one metric on m parts, with what tells how they vary together.

    Attributes:
        metric: which was read.
        parts: what it was read off, m of them.
        design: of the rows.
        values: the metric of each part [m].
        draws: the metric of each part in each resample [b, m], or None;
        contributions: then, what each row contributes to each part [m, n].
        noise: for a metric that noise can only raise, what noise alone would give [b, m].
    """

    metric: Metric
    parts: Sequence[Part]
    design: Design
    values: Floats
    draws: Floats | None
    contributions: Floats | None
    noise: Floats | None = None

    @classmethod
    def of(cls, metric: Metric, parts: Sequence[Part], design: Design) -> Reading:
        """Read ``metric`` off ``parts``.

        Raises:
            StatisticsError: the metric does not exist for a part, or the design is of other rows.
        """
        samples = [part.sample.only(part.rows) for part in parts]
        for part, sample in zip(parts, samples, strict=True):
            metric.check(sample)
            if len(part.sample) != len(design.codes):
                raise StatisticsError(
                    f"the sample has {len(part.sample)} rows and the design {len(design.codes)}"
                )
        draws = contributions = noise = None
        if isinstance(metric.form, Table):
            values, draws = _read_tables(metric.form, parts, design)
        elif isinstance(metric.form, Sums):
            values, draws, noise = _read_sums(metric, metric.form, parts, samples, design)
        else:
            read = [metric.form.value(sample) for sample in samples]
            values = np.array([value for value, _ in read])
            contributions = np.stack(
                [_spread(part, each) for part, (_, each) in zip(parts, read, strict=True)]
            )
            if metric.form.leverage:
                contributions *= np.stack([_leverage(part, design) for part in parts])
        if not np.isfinite(values).all():
            raise StatisticsError(
                f"{metric.name} does not exist here: it is a share of no rows at all"
            )
        return cls(metric, parts, design, values, draws, contributions, noise)

    def spread(self, function: Function, freedom: int) -> Spread:
        """Return how ``function`` of the parts' values varies, given its degrees of freedom."""
        value = float(function.of(self.values))
        if self.draws is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                draws = function.of(self.draws)
            known = draws[np.isfinite(draws)]
            error = float(known.std(ddof=1)) if len(known) > 1 else math.inf
            # Resamples vary around the mean of the sample, not around the truth.
            return Spread(value, math.sqrt(_corrected(freedom + 1)) * error, draws)
        assert self.contributions is not None
        return Spread(value, math.sqrt(self._variance(function.slopes(self.values))), None)

    def absolute(self) -> Reading:
        """Return the reading of the distances from zero; for a metric that was resampled."""
        assert self.draws is not None
        values, draws = np.abs(self.values), np.abs(self.draws)
        return Reading(self.metric, self.parts, self.design, values, draws, None)

    def freedom(self, parts: Sequence[int]) -> int:
        """Return the degrees of freedom of the scarcest of some parts.

        That is one less than the number of clusters that hold the rows it cannot do without: a
        recall of 10,000 rows with positives in 30 households is known as well as 30 households
        can tell.

        Raises:
            StatisticsError: a part has its rows from one cluster only.
        """
        fewest = min(self._units(self.parts[number]) for number in parts)
        if fewest < 2:
            raise StatisticsError(
                f"{self.metric.name} cannot be judged: its rows come from one {self.design.unit}"
            )
        return fewest - 1

    def _units(self, part: Part) -> int:
        """Return how many units hold rows of each kind that the metric needs: the scarcest kind."""
        rows = np.ones(len(part.sample), np.bool_) if part.rows is None else part.rows
        kinds = [rows]
        if part.sample.task == "binary":
            kinds += [rows & (part.sample.target == (n == "positives")) for n in self.metric.needs]
        return min(self.design.units_with(kind) for kind in kinds)

    def _variance(self, slopes: Floats) -> float:
        """Return the variance of a sum of contributions [n] whose units were drawn independently.

        Obuchowski 1997, Biometrics 53: units with positive rows, units with negative rows and
        units with both each have a correction of their own. Where every row is a unit this is
        exactly the variance of DeLong.
        """
        assert self.contributions is not None
        row = (slopes[:, None] * self.contributions).sum(axis=0)
        used = np.zeros(len(row), np.bool_)
        for part in self.parts:
            used |= True if part.rows is None else part.rows
        if self.parts[0].sample.task != "binary":
            sums = self.design.sums(row[:, None])[:, 0]
            return _corrected(self.design.units_with(used)) * _product(sums, sums)
        positive = self.parts[0].sample.target == 1
        with_positive, with_negative = (
            self.design.sums((row * kind)[:, None])[:, 0] for kind in (positive, ~positive)
        )
        return max(
            _corrected(self.design.units_with(used & positive))
            * _product(with_positive, with_positive)
            + _corrected(self.design.units_with(used & ~positive))
            * _product(with_negative, with_negative)
            + 2 * _corrected(self.design.units_with(used)) * _product(with_positive, with_negative),
            0.0,
        )


def _product(first: Floats, second: Floats) -> float:
    """Return the sum of products, in the order of numpy and not of BLAS's threads."""
    return float((first * second).sum())


def _corrected(units: int) -> float:
    """Return what a sum of squares around its mean is short of, with so many units."""
    return units / (units - 1) if units > 1 else 1.0


def _spread(part: Part, contribution: Floats) -> Floats:
    """Return contributions of the rows of ``part`` as those of all rows [n]: 0 for the others."""
    if part.rows is None or len(contribution) == len(part.sample):
        return contribution
    whole = np.zeros(len(part.sample))
    whole[part.rows] = contribution
    return whole


def _leverage(part: Part, design: Design) -> Floats:
    """Return what to multiply the contributions of each row [n] with: 1 / (1 - its unit's share).

    A unit with a large share of the positive rows pulls the value towards itself, so that its
    contribution looks too small: with 50 clusters of unequal size, tests err in 6.2 instead of 5
    of 100 cases. This is the correction HC3 for such leverage (MacKinnon and White 1985, Journal
    of Econometrics 29).
    """
    positive = part.sample.target.astype(np.float64)
    if part.rows is not None:
        positive = positive * part.rows
    share = np.bincount(design.codes, positive, minlength=design.units) / positive.sum()
    factors: Floats = (1 / np.maximum(1 - share, 1 / design.units))[design.codes]
    return factors


def _read_tables(form: Table, parts: Sequence[Part], design: Design) -> tuple[Floats, Floats]:
    """Return a metric of the confusion matrix for each part [m], and in each resample [b, m]."""
    count = parts[0].sample.class_count
    cells: list[Ints] = [
        part.sample.cells if part.rows is None else np.where(part.rows, part.sample.cells, -1)
        for part in parts
    ]
    found = np.stack([np.bincount(each[each >= 0], minlength=count**2) for each in cells])
    shape = (len(parts), count, count)
    values = form.value(found.reshape(shape).astype(np.float64))
    drawn = design.resampled_tables(cells, count**2)
    return values, form.value(drawn.reshape(-1, *shape))


def _read_sums(
    metric: Metric, form: Sums, parts: Sequence[Part], samples: Sequence[Sample], design: Design
) -> tuple[Floats, Floats, Floats | None]:
    """Return a metric of sums for each part [m], in each resample [b, m], and of noise alone.

    The metric of the noise is that of the sums' distances from their true ones, here from those
    of the rows themselves; the first sum counts rows and stays.
    """
    columns = [form.columns(sample) for sample in samples]
    sums = np.stack([each.sum(axis=0) for each in columns])
    for number, part in enumerate(parts):
        if len(columns[number]) < len(part.sample):
            whole = np.zeros((len(part.sample), columns[number].shape[1]))
            whole[part.rows] = columns[number]
            columns[number] = whole
    drawn = design.resampled_sums(np.concatenate(columns, axis=1))
    drawn = drawn.reshape(len(drawn), *sums.shape)
    draws, noise = form.value(drawn), None
    if metric.inflated:
        drawn[..., 1:] -= sums[:, 1:]
        noise = form.value(drawn)
    return form.value(sums), draws, noise
