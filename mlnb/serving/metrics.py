"""Figures for Prometheus: counted in the files of :mod:`mlnb.serving.counts`, added up when asked.

The library of Prometheus writes the text. Its own counters are not used: with more than one process
they need a folder of files for each, and naming labels takes longer than routing a request.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlnb.serving.counts import Counts

BOUNDS = (
    1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5,
)  # fmt: skip
"""Upper bounds of seconds: from what a compiled scorer takes for a row to what nobody waits for."""
SUM = len(BOUNDS) + 1

Gauges = Mapping[str, Sequence[tuple[Mapping[str, str], float]]]

COUNTERS = {
    "mlnb_requests": "Requests by route, status and the version that answered.",
    "mlnb_answers": "Answers by version and variant.",
    "mlnb_rows": "Rows answered, by version and variant.",
    "mlnb_failures": "Requests that a version did not answer rightly, by version and variant.",
    "mlnb_fallbacks": "Requests of the candidate that the stable version answered.",
    "mlnb_trips": "Candidates that were taken out by the server.",
    "mlnb_swaps": "Changes of what a worker serves.",
    "mlnb_load_failures": "What was published and could not be served: untrusted or unusable.",
    "mlnb_log_rows": "Rows written to the prediction log.",
    "mlnb_log_dropped_rows": "Rows that the prediction log did not take, for it was full.",
    "mlnb_log_failures": "Failed writes of the prediction log; they are tried again.",
    "mlnb_feedback": "Labels taken.",
    "mlnb_shadowed": "Requests that were also given to the candidate aside.",
    "mlnb_shadow_dropped": "Requests that were to be compared, and no time was.",
}
HISTOGRAMS = {
    "mlnb_request_seconds": "Seconds from the request to its answer, by route.",
    "mlnb_score_seconds": "Seconds that the scorer took, by version and variant.",
}
_GAUGES = {
    "mlnb_model_info": "1 for each version that is loaded.",
    "mlnb_candidate_share": "Share of the requests that the candidate answers.",
    "mlnb_candidate_out": "1 if the candidate was taken out.",
    "mlnb_published_problem": "1 if what is published is not what is served.",
    "mlnb_log_queue_rows": "Rows of this worker that wait for the prediction log.",
}


class Metrics:
    """Counters and histograms of one process.

    Args:
        counts: what holds them.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._cells, self._lock = counts.metrics, counts.lock
        self._known: dict[tuple[str, int, str], tuple[int, int]] = {}

    def request(self, route: str, status: int, seconds: float, version: int | str = "") -> None:
        """Count a request.

        Args:
            route: as it was declared, not as it was asked for.
            status: of the answer.
            seconds: that it took.
            version: that answered; empty if none did.
        """
        key = (route, status, str(version))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = (
                self._counts.series(
                    "mlnb_requests", route=route, status=str(status), version=str(version)
                ),
                self._counts.series("mlnb_request_seconds", route=route),
            )
        at, histogram = found
        cells = self._cells
        with self._lock:
            cells[at] += 1.0
            cells[histogram + bisect_left(BOUNDS, seconds)] += 1.0
            cells[histogram + SUM] += seconds

    def counter(self, name: str, **labels: str) -> Counter:
        """Return the counter ``name``, one of :data:`COUNTERS`."""
        return Counter(self._cells, self._lock, self._counts.series(name, **labels))

    def place(self, name: str, **labels: str) -> int:
        """Return where the figures of a series begin in the cells of the counts."""
        return self._counts.series(name, **labels)

    def render(self, gauges: Gauges) -> bytes:
        """Return all figures of all workers in the text format of Prometheus.

        Args:
            gauges: what holds at this moment: for each name, labels and values.
        """
        from prometheus_client import CollectorRegistry, generate_latest

        found = list(self._collected(gauges))

        class _Found:
            def collect(self) -> Iterator[Any]:
                yield from found

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Found())
        return generate_latest(registry)

    def _collected(self, gauges: Gauges) -> Iterator[Any]:
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        families: dict[str, list[tuple[dict[str, str], list[float]]]] = {}
        for name, labels, cells in self._counts.sums():
            families.setdefault(name, []).append((labels, cells))
        for name, told in COUNTERS.items():
            rows = families.get(name, [])
            names = sorted({label for labels, _ in rows for label in labels})
            counter = CounterMetricFamily(name, told, labels=names)
            for labels, cells in rows:
                counter.add_metric([labels.get(each, "") for each in names], cells[0])
            if not rows:
                counter.add_metric([], 0.0)
            yield counter
        for name, told in HISTOGRAMS.items():
            rows = families.get(name, [])
            names = sorted({label for labels, _ in rows for label in labels})
            histogram = HistogramMetricFamily(name, told, labels=names)
            for labels, cells in rows:
                total, buckets = 0.0, []
                for bound, count in zip([*map(str, BOUNDS), "+Inf"], cells, strict=False):
                    total += count
                    buckets.append((bound, total))
                values = [labels.get(each, "") for each in names]
                histogram.add_metric(values, buckets, sum_value=cells[SUM])
            yield histogram
        for name, told in _GAUGES.items():
            samples = gauges.get(name, [])
            names = sorted({label for labels, _ in samples for label in labels})
            gauge = GaugeMetricFamily(name, told, labels=names)
            for found, value in samples:
                gauge.add_metric([found.get(each, "") for each in names], value)
            yield gauge


class Counter:
    """One counter of this process."""

    __slots__ = ("_at", "_cells", "_lock")

    def __init__(self, cells: Any, lock: threading.Lock, at: int) -> None:
        self._cells, self._lock, self._at = cells, lock, at

    def add(self, amount: float = 1.0) -> None:
        """Count ``amount`` more."""
        with self._lock:
            self._cells[self._at] += amount
