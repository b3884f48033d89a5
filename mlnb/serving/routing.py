"""Who answers a request while a candidate is rolled out, and when the candidate is out.

A request's key gives it a place between 0 and 1 that stays while the candidate's share grows: whom
it answered, it goes on answering. The server never gives the candidate more than it was told to;
it takes it out by itself, at once, when :func:`mlnb.rollout.decide` says so of the counts of all
workers. Only what speaks against the candidate can turn that decision, so it is asked then.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlnb import rollout
from mlnb.rollout import Strategy
from mlnb.serving import logs
from mlnb.serving.counts import FIELDS, FIRST, OUT, SHARE, STATEMENT, VARIANTS, WIDTH, Counts, Tally
from mlnb.serving.versions import Serving, Version

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_SPREAD = 0x9E3779B1
"""Odd, near 2**32 divided by the golden ratio: it spreads sums that differ in few bits."""
_CALM = 1.05
"""By what a usual time moves with each answer, up or down: it stays where as many are above."""
_KNOWN = 32
"""Answers of about so many rows until their usual time counts as known."""


def place(key: str, salt: int) -> float:
    """Return the place of a key between 0 and 1; another ``salt`` gives other places."""
    return (zlib.crc32(key.encode("utf-8", "replace"), salt) * _SPREAD & 0xFFFFFFFF) / 2**32


class Rollout:
    """A candidate that is rolled out, as this process sees it.

    Args:
        serving: what is served.
        counts: of all workers.
        tripped: is called when this process took the candidate out.

    Attributes:
        strategy: of the statement.
        candidate: the version that is rolled out.
        sample: share of the requests that are compared aside.
    """

    def __init__(self, serving: Serving, counts: Counts, tripped: Callable[[], None]) -> None:
        assert serving.candidate is not None
        self.strategy = Strategy.parse(serving.statement.strategy)
        self.candidate: Version = serving.candidate
        self.statement = serving.statement.counter
        wanted = self.strategy.kind == "shadow" or self.strategy.disagreement is not None
        self.sample = self.strategy.sample if wanted else 0.0
        self._factor = self.strategy.latency_factor
        self._counts, self._tripped = counts, tripped
        self._cells, self._shared, self._lock = counts.cells, counts.shared_cells, counts.lock
        self._salt = zlib.crc32(self.candidate.digest.encode())
        self._share = first_share(self.strategy)
        # By the number of rows, rounded to powers of two; of one row the golden requests told.
        self._usual = [(0.0, 0)] * 64
        self._usual[1] = (serving.stable.usual, 1)
        counts.begin(self.statement, self.candidate.digest, self._share)
        if self._shared[STATEMENT] != self.statement:
            self._share = 0.0  # others serve a newer statement already

    @property
    def share(self) -> float:
        """The share of the candidate now."""
        if self._shared[STATEMENT] == self.statement:
            self._share = self._shared[SHARE]
        # Else another worker is at another statement already, and this one soon.
        return self._share

    @property
    def over(self) -> bool:
        """Whether the candidate is out, or another statement is served."""
        return bool(self._shared[OUT]) or self._shared[STATEMENT] != self.statement

    def takes(self, key: str) -> bool:
        """Whether the candidate answers a request with this key."""
        share = self.share
        return share > 0 and place(key, self._salt) < share

    def sampled(self) -> bool:
        """Whether to compare the answer to a request."""
        return self.sample > 0 and random.random() < self.sample

    def count(self, variant: int, rows: int, seconds: float) -> None:
        """Count an answer of :data:`mlnb.serving.counts.VARIANTS` number ``variant``.

        Its time is slow beyond what stable answers to about as many rows usually take, by the
        factor of the strategy.
        """
        size = rows.bit_length()
        usual, known = self._usual[size]
        start = FIRST + WIDTH * variant
        cells, slow = self._cells, False
        with self._lock:
            cells[start + _REQUESTS] += 1.0
            cells[start + _SECONDS] += seconds
            if known >= _KNOWN:
                cells[start + _TIMED] += 1.0
                slow = seconds > usual * self._factor
                if slow:
                    cells[start + _SLOW] += 1.0
            if not variant:
                moved = usual * _CALM if seconds > usual else usual / _CALM
                self._usual[size] = (moved if known else seconds, known + 1)
        if slow and variant:
            self.judge()

    def failed(self) -> None:
        """Count a hard failure of the candidate."""
        start = FIRST + WIDTH
        with self._lock:
            self._cells[start + _REQUESTS] += 1.0
            self._cells[start + _FAILURES] += 1.0
            self._cells[start + _FALLBACKS] += 1.0
        self.judge()

    def compared(self, stable: Floats, candidate: Floats | None) -> None:
        """Count the rows on which both answered, or that the candidate did not answer (None).

        Args:
            stable, candidate: answers [n] or [n, k] to the same rows.
        """
        bad = _disagreed(stable, candidate, self.candidate.task)
        start = FIRST + WIDTH
        with self._lock:
            self._cells[start + _COMPARED] += float(len(stable))
            self._cells[start + _DISAGREED] += float(bad)
        if bad:
            self.judge()

    def judge(self) -> None:
        """Take the candidate out if what was counted speaks against it."""
        shared = self._counts.shared()
        if shared.out or shared.statement != self.statement:
            return
        tallies = self._counts.tallies(self.statement)
        stable, candidate = (_observed(tallies[each]) for each in VARIANTS)
        decision = rollout.decide(self.strategy, shared.step, candidate, stable)
        if decision.action == "rollback" and self._counts.take_out(self.statement, decision.reason):
            self._share = 0.0
            self._tripped()
            logs.error(
                "the candidate was taken out",
                version=self.candidate.number,
                statement=self.statement,
                why=decision.reason,
            )


_REQUESTS, _FAILURES, _SLOW, _TIMED, _COMPARED, _DISAGREED, _SECONDS, _FALLBACKS = (
    FIELDS[name]
    for name in (
        "requests", "failures", "slow", "timed", "compared", "disagreed", "seconds", "fallbacks",
    )
)  # fmt: skip


def first_share(strategy: Strategy) -> float:
    """Return the share that a candidate starts with."""
    return strategy.steps[0] if strategy.kind == "canary" else 0.0


def _observed(tally: Tally) -> rollout.Counts:
    return rollout.Counts(
        requests=tally.requests,
        failures=tally.failures,
        slow=tally.slow,
        timed=tally.timed,
        compared=tally.compared,
        disagreed=tally.disagreed,
    )


def _disagreed(stable: Floats, candidate: Floats | None, task: str) -> int:
    """Return on how many rows two answers mean something else."""
    import numpy as np

    if candidate is None or stable.shape != candidate.shape:
        return len(stable)
    if task == "binary":
        return int(((stable >= 0.5) != (candidate >= 0.5)).sum())
    if task == "multiclass":
        return int((stable.argmax(axis=1) != candidate.argmax(axis=1)).sum())
    size = np.maximum(np.abs(stable), 1e-9)
    return int((np.abs(stable - candidate) > 0.1 * size).sum())
