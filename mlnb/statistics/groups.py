"""Differences between groups of rows, and whether they are too large.

The largest gap among several groups is large by chance alone: with five equal groups of 100
positives each, recall differs by more than 0.10 in every second test set. So a rule about groups
fails on evidence only, which is corrected for how many pairs were looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from mlnb.statistics.design import Design
from mlnb.statistics.estimates import RATIO, bounded, linear, unseen
from mlnb.statistics.metrics import Metric
from mlnb.statistics.reading import Estimate, Function, Part, Reading
from mlnb.statistics.sample import Floats, Mask, Sample, ScarceError, StatisticsError

Outcome = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class Skipped:
    """A group with too few rows to say anything.

    Attributes:
        name: of the group.
        rows: how many it has.
        scarce: how many rows of the scarcest kind that the metric needs it has.
        kind: which kind that is: rows, positives or negatives.
        needed: how many of them it should have.
    """

    name: str
    rows: int
    scarce: int
    kind: str
    needed: int


@dataclass(frozen=True)
class Pair:
    """Two groups compared.

    Attributes:
        first: name of one group.
        second: name of the other.
        difference: metric of the first minus that of the second.
        ratio: the smaller by the larger; None for a metric that can be negative, and where both
            are 0.
        p: chance of so much more than what is allowed, if no more were there; corrected for the
            number of pairs (Holm 1979, Scandinavian Journal of Statistics 6).
        outcome: of this pair.
    """

    first: str
    second: str
    difference: Estimate
    ratio: Estimate | None
    p: float
    outcome: Outcome


@dataclass(frozen=True)
class Judgement:
    """Whether the groups differ by more than is allowed: the worst pair decides."""

    outcome: Outcome
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Groups:
    """A metric of several groups.

    Attributes:
        values: the estimate of each group that has enough rows, by name.
        skipped: the groups that have not.
    """

    values: Mapping[str, Estimate]
    skipped: tuple[Skipped, ...]
    _reading: Reading = field(repr=False)
    _confidence: float = field(repr=False)

    def judge(
        self, *, max_difference: float | None = None, min_ratio: float | None = None
    ) -> Judgement:
        """Return whether any two groups differ by more than is allowed.

        Pass: every difference is within the limit with confidence (two one-sided tests, which
        need no correction since all must pass; Schuirmann 1987). Fail: one is outside, with a
        chance of error of at most 1 - confidence over all pairs together. Else inconclusive.

        Args:
            max_difference: the largest difference allowed, from 0 on; or
            min_ratio: the smallest ratio of the smaller to the larger, above 0 and up to 1.

        Raises:
            StatisticsError: neither or both limits, one out of range, or a ratio of a metric that
                can be negative.
        """
        margin = self._margin(max_difference, min_ratio)
        names = list(self.values)
        places = list(itertools.combinations(range(len(names)), 2))
        p = holm([self._excess(*place, margin) for place in places])
        pairs = tuple(
            self._pair(first, second, margin, chance)
            for (first, second), chance in zip(places, p, strict=True)
        )
        outcomes = {pair.outcome for pair in pairs}
        worst: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")
        return Judgement(next(each for each in worst if each in outcomes), pairs)

    def _margin(self, max_difference: float | None, min_ratio: float | None) -> _Margin:
        if (max_difference is None) == (min_ratio is None):
            raise StatisticsError("groups need one limit: max_difference or min_ratio")
        if max_difference is not None:
            if not 0 <= max_difference < np.inf:
                raise StatisticsError(f"max_difference must be 0 or more, not {max_difference}")
            return _Margin(1.0, max_difference)
        assert min_ratio is not None
        if not 0 < min_ratio <= 1:
            raise StatisticsError(f"min_ratio must be above 0 and at most 1, not {min_ratio}")
        metric = self._reading.metric
        if not _positive(metric):
            raise StatisticsError(f"{metric.name} can be negative, and has no ratio")
        return _Margin(min_ratio, 0.0)

    def _excess(self, first: int, second: int, margin: _Margin) -> float:
        """Return the chance of so large a difference if the true one were just allowed.

        Both ways of differing count, so that with no margin at all this is the two-sided p.
        """
        values = self._reading.values
        low, high = sorted((first, second), key=lambda place: float(values[place]))
        freedom = self._reading.freedom((first, second))
        chance = 0.0
        for function, offset in (
            (self._contrast({high: margin.ratio, low: -1.0}), -margin.difference),
            (self._contrast({high: 1.0, low: -margin.ratio}), margin.difference),
        ):
            found = self._reading.spread(function, freedom)
            over = found.value + offset
            if found.error == 0:
                chance += 0.5 * (over == 0) + (over < 0)
            else:
                chance += float(special.stdtr(freedom, -over / found.error))
        return min(chance, 1.0)

    def _pair(self, first: int, second: int, margin: _Margin, p: float) -> Pair:
        names = list(self.values)
        outcome: Outcome = "inconclusive"
        if p <= 1 - self._confidence:
            outcome = "fail"
        elif all(
            self._bounded({one: 1.0, other: -margin.ratio}, (first, second)).low
            >= -margin.difference
            for one, other in ((first, second), (second, first))
        ):
            outcome = "pass"
        return Pair(
            names[first],
            names[second],
            self._bounded({first: 1.0, second: -1.0}, (first, second)),
            self._ratio(first, second),
            p,
            outcome,
        )

    def _ratio(self, first: int, second: int) -> Estimate | None:
        values = self._reading.values
        low, high = sorted((first, second), key=lambda place: float(values[place]))
        if not _positive(self._reading.metric) or values[high] == 0:
            return None
        return bounded(
            self._reading, _of_two(RATIO, low, high, len(values)), self._confidence,
            parts=(first, second),
        )  # fmt: skip

    def _contrast(self, slopes: Mapping[int, float]) -> Function:
        return linear(*(slopes.get(place, 0.0) for place in range(len(self.values))))

    def _bounded(self, slopes: Mapping[int, float], parts: tuple[int, int]) -> Estimate:
        found = bounded(self._reading, self._contrast(slopes), self._confidence, parts=parts)
        if found.error > 0 or not self._reading.metric.share:
            return found
        # Two groups of which all rows are right may still differ in what has not been seen yet.
        reach = unseen(found.freedom, self._confidence)
        return replace(found, low=found.low - reach, high=found.high + reach)


@dataclass(frozen=True)
class _Margin:
    """What is allowed: each group has at least ``ratio`` times the other's, less ``difference``."""

    ratio: float
    difference: float


def group_differences(
    metric: Metric,
    sample: Sample,
    groups: npt.ArrayLike,
    design: Design,
    confidence: float = 0.95,
    *,
    min_rows: int = 200,
    min_positives: int = 50,
) -> Groups:
    """Return a metric of each group of rows; :meth:`Groups.judge` compares them.

    Args:
        metric: which; for a binary task ``metric.needs`` says which rows it cannot do without.
        sample: the rows, n of them.
        groups: the group of each row [n].
        design: of the rows.
        confidence: one-sided.
        min_rows: a group with fewer rows is skipped;
        min_positives: so is one with fewer positive (negative) rows where the metric needs them.

    Raises:
        ScarceError: fewer than two groups have enough rows.
        StatisticsError: a group's name is missing; a metric that noise raises, and so more in a
            small group than in a large one.
    """
    if metric.inflated:
        raise StatisticsError(
            f"{metric.name} is the larger the fewer rows a group has, and tells nothing of groups",
            remedy="Compare groups by calibration_gap.",
        )
    names = np.asarray(groups)
    if names.shape != (len(sample),):
        raise StatisticsError(f"there are {len(sample)} rows, and groups of shape {names.shape}")
    labels = names.tolist()
    if any(label is None or label != label for label in labels):
        raise StatisticsError("the group of some rows is missing")
    kept: dict[str, Mask] = {}
    skipped = []
    for label in sorted(set(labels), key=lambda each: (str(type(each)), each)):
        rows: Mask = names == label
        few = _too_few(str(label), metric, sample, rows, min_rows, min_positives)
        if few:
            skipped.append(few)
        else:
            kept[str(label)] = rows
    if len(kept) < 2:
        raise ScarceError(
            f"{len(kept)} of {len(kept) + len(skipped)} groups have enough rows, and two are "
            "needed: " + "; ".join(f"{s.name} has {s.scarce} {s.kind}" for s in skipped),
            remedy="Lower min_rows or min_positives, or merge groups.",
        )
    reading = Reading.of(metric, [Part(sample, rows) for rows in kept.values()], design)
    within = (0.0, 1.0) if metric.share else None
    values = {
        name: bounded(reading, _one(place, len(kept)), confidence, parts=(place,), within=within)
        for place, name in enumerate(kept)
    }
    return Groups(values, tuple(skipped), reading, confidence)


def holm(p: list[float]) -> list[float]:
    """Return the p values corrected for their number by Holm's step-down procedure.

    Holm 1979, Scandinavian Journal of Statistics 6: the chance of any false finding is at most
    the level, whatever the dependence.
    """
    order = np.argsort(p, kind="stable")
    corrected = np.zeros(len(p))
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = highest
    return [float(each) for each in corrected]


def _too_few(
    name: str, metric: Metric, sample: Sample, rows: Mask, min_rows: int, min_positives: int
) -> Skipped | None:
    """Return why a group is skipped, or None."""
    count = int(rows.sum())
    if count < min_rows:
        return Skipped(name, count, count, "rows", min_rows)
    for kind in sorted(metric.needs, reverse=True) if sample.task == "binary" else ():
        found = int((sample.target[rows] == (kind == "positives")).sum())
        if found < min_positives:
            return Skipped(name, count, found, kind, min_positives)
    return None


def _positive(metric: Metric) -> bool:
    """Whether a metric is never below 0."""
    return metric.share or metric.better == "lower"


def _one(place: int, count: int) -> Function:
    return linear(*(float(each == place) for each in range(count)))


def _of_two(function: Function, first: int, second: int, count: int) -> Function:
    """Return a function of two values as one of ``count`` values."""
    places = [first, second]

    def slopes(values: Floats) -> Floats:
        whole = np.zeros(count)
        whole[places] = function.slopes(values[places])
        return whole

    of: Callable[[Floats], Floats] = lambda values: function.of(values[..., places])  # noqa: E731
    return Function(of, slopes)
