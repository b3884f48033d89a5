"""Who was drawn: the rows, or the clusters of rows that belong together.

Uncertainty comes from the units that were drawn. Rows of one household are alike, so a test set
of 20,000 rows from 5,000 households is 5,000 pieces of evidence, not 20,000. A resample draws as
many units as there are, with replacement, and a metric that is a function of sums over rows needs
no more than the sums of each unit and how often the unit was drawn: one matrix product.

Shapes: ``[n]`` rows, ``[h]`` units, ``[b]`` resamples, ``[k]`` sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mlnb.statistics.sample import Floats, Ints, Mask, StatisticsError

LIMIT = 20_000
"""Above so many units, resampled sums are drawn from their normal limit: the counts would need
more memory than they are worth, and the sums of so many units are normal to three digits."""

_CHUNK = 250  # resamples at a time: 40 MB of counts as floats at most
_NORMAL_STREAM = 1  # a stream of random numbers of its own beside the one of the counts


@dataclass(frozen=True, eq=False)
class Design:
    """The units of the rows, and the resamples of them, drawn once and used by every metric.

    Make one with :meth:`of`. Equal seeds give equal draws on any number of threads.

    Attributes:
        codes: the unit of each row [n], numbered from 0 without gaps.
        units: how many units there are, h.
        clustered: whether a unit may have several rows.
        resamples: how many times the units are drawn again, b.
        seed: of the draws.
    """

    codes: Ints
    units: int
    clustered: bool
    resamples: int
    seed: int

    @classmethod
    def of(
        cls,
        rows: int,
        clusters: npt.ArrayLike | None = None,
        *,
        resamples: int = 2000,
        seed: int = 0,
    ) -> Design:
        """Return the design of ``rows`` rows that were drawn one by one, or with their cluster.

        Args:
            rows: how many there are, n.
            clusters: the name or number of the cluster of each row [n]; None: every row by itself.
            resamples: how many, from 100 on.
            seed: of the draws.

        Raises:
            StatisticsError: fewer than two units, too few resamples, or a wrong number of names.
        """
        if resamples < 100:
            raise StatisticsError(
                f"{resamples} resamples are too few for an interval; at least 100"
            )
        codes, units = np.arange(rows, dtype=np.int64), rows
        if clusters is not None:
            codes, units = _numbered(clusters, rows)
        if units < 2:
            raise StatisticsError(
                f"{rows} rows of {units} cluster are no evidence: at least two clusters are needed"
            )
        return cls(codes, units, units < rows, resamples, seed)

    @property
    def unit(self) -> str:
        """What a unit is called: cluster or row."""
        return "cluster" if self.clustered else "row"

    @cached_property
    def counts(self) -> npt.NDArray[np.uint8]:
        """How often each unit was drawn in each resample [b, h]."""
        generator = np.random.default_rng(self.seed)
        counts = np.empty((self.resamples, self.units), dtype=np.uint8)
        for start in range(0, self.resamples, _CHUNK):
            part = counts[start : start + _CHUNK]
            drawn = generator.integers(0, self.units, size=part.shape)
            drawn += np.arange(len(part))[:, None] * self.units
            part[:] = np.bincount(drawn.ravel(), minlength=part.size).reshape(part.shape)
        return counts

    def sums(self, values: Floats) -> Floats:
        """Return the sums of ``values`` [n, k] over the rows of each unit [h, k]."""
        if not self.clustered:
            return values
        columns = [np.bincount(self.codes, column, minlength=self.units) for column in values.T]
        return np.stack(columns, axis=1)

    def units_with(self, rows: Mask) -> int:
        """Return how many units have at least one of the ``rows`` [n]."""
        return int(np.count_nonzero(np.bincount(self.codes[rows], minlength=self.units)))

    def resampled_sums(self, values: Floats) -> Floats:
        """Return the sums of ``values`` [n, k] over all rows of each resample [b, k]."""
        return self._resampled(self.sums(values))

    def resampled_tables(self, cells: Sequence[Ints], size: int) -> Floats:
        """Return how many rows of each resample lie in each cell, for several tables at once.

        Args:
            cells: for each of m tables the cell of each row [n], below ``size``; -1: in none.
            size: how many cells a table has.

        Returns:
            Counts [b, m, size]. The same rows are drawn for all tables.
        """
        if self.clustered:
            tables = [self._unit_tables(each, size) for each in cells]
            return self._resampled(np.concatenate(tables, axis=1)).reshape(-1, len(cells), size)
        # Rows that were drawn one by one: the counts of the joint cells are multinomial, which
        # costs nothing however many rows there are.
        joint = np.zeros(len(self.codes), dtype=np.int64)
        for each in cells:
            _, joint = np.unique(joint * (size + 1) + each + 1, return_inverse=True)
        occupied = np.bincount(joint)
        _, first = np.unique(joint, return_index=True)
        generator = np.random.default_rng(self.seed)
        drawn = generator.multinomial(self.units, occupied / self.units, size=self.resamples)
        found = np.zeros((self.resamples, len(cells), size))
        for number, each in enumerate(cells):
            for source, cell in enumerate(each[first]):
                if cell >= 0:
                    found[:, number, cell] += drawn[:, source]
        return found

    def _unit_tables(self, cells: Ints, size: int) -> Floats:
        """Return how many rows of each unit lie in each cell [h, size]."""
        inside = cells >= 0
        places = self.codes[inside] * size + cells[inside]
        counts = np.bincount(places, minlength=self.units * size)
        return counts.reshape(self.units, size).astype(np.float64)

    def _resampled(self, sums: Floats) -> Floats:
        """Return the totals of the units' ``sums`` [h, k] in each resample [b, k]."""
        from threadpoolctl import threadpool_limits

        # With more threads a product may be summed in another order: other last digits.
        with threadpool_limits(1, user_api="blas"):
            if self.units > LIMIT:
                return self._normal(sums)
            return np.concatenate(
                [
                    self.counts[start : start + _CHUNK].astype(np.float64) @ sums
                    for start in range(0, self.resamples, _CHUNK)
                ]
            )

    def _normal(self, sums: Floats) -> Floats:
        """Return totals [b, k] from the normal distribution that resampling many units tends to."""
        centre = sums.mean(axis=0)
        covariance = (sums - centre).T @ (sums - centre)
        values, vectors = np.linalg.eigh(covariance)
        # The symmetric root is the same whatever signs the eigenvectors have.
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        generator = np.random.default_rng([self.seed, _NORMAL_STREAM])
        normal = generator.standard_normal((self.resamples, sums.shape[1]))
        totals: Floats = self.units * centre + normal @ root
        return totals


def _numbered(clusters: Any, rows: int) -> tuple[Ints, int]:
    """Return the number of the cluster of each row [n], and how many there are."""
    names = np.asarray(clusters)
    if names.shape != (rows,):
        raise StatisticsError(f"there are {rows} rows, and clusters of the shape {names.shape}")
    if names.dtype.kind == "f" and np.isnan(names).any():
        raise StatisticsError("the cluster of some rows is missing")
    if names.dtype.kind == "O":
        if any(name is None or name != name for name in names):  # NaN is not itself
            raise StatisticsError("the cluster of some rows is missing")
        numbers: dict[str, int] = {}
        codes = np.array([numbers.setdefault(str(name), len(numbers)) for name in names], np.int64)
        # Numbered in the order of the names, so that the order of the rows changes no draw.
        rank = np.empty(len(numbers), np.int64)
        rank[np.argsort(list(numbers), kind="stable")] = np.arange(len(numbers))
        return rank[codes], len(numbers)
    found, numbered = np.unique(names, return_inverse=True)
    return numbered.astype(np.int64), len(found)
