"""Requests that the candidate is asked aside, to be compared; what it says is never answered."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlnb.serving.lanes import Live
from mlnb.serving.metrics import Metrics

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_WAITING = 64
"""Requests that wait to be compared; more are not, and counted."""


class Shadows:
    """Asks the candidate aside, in a thread, as far as there is time.

    Args:
        metrics: where it is counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._queue: queue.Queue[tuple[Live, Any, Any, Floats] | None] = queue.Queue(_WAITING)
        self._taken = metrics.counter("mlnb_shadowed")
        self._dropped = metrics.counter("mlnb_shadow_dropped")
        self._thread = threading.Thread(target=self._run, name="mlnb-shadows", daemon=True)
        self._stopping = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Compare no more."""
        self._stopping = True
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(10)

    def add(
        self,
        live: Live,
        columns: Sequence[str] | None,
        rows: Sequence[Sequence[Any]],
        scores: Floats,
    ) -> None:
        """Take what stable answered to a request, unless too many wait."""
        try:
            self._queue.put_nowait((live, columns, rows, scores))
            self._taken.add()
        except queue.Full:
            self._dropped.add()

    def _run(self) -> None:
        while (found := self._queue.get()) is not None and not self._stopping:
            live, columns, rows, scores = found
            if live.candidate is None or live.rollout is None or live.rollout.over:
                continue
            version, answers = live.candidate.version, None
            start = time.perf_counter()
            with contextlib.suppress(Exception):  # no answer is one that does not agree
                answers = version.score(version.check(columns, rows))
            if live.rollout.strategy.kind == "shadow":
                if answers is None:
                    live.rollout.failed()
                else:
                    live.rollout.count(1, len(rows), time.perf_counter() - start)
            live.rollout.compared(scores, answers)
