"""Deadlines of a run, kept from a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mlnb.kernel import Kernel

GRACE = 3.0
"""Seconds between the interrupt at a deadline and the kill."""

_TICK = 0.2


class Watch:
    """Ends a kernel at its deadlines, from a thread of its own.

    nbclient's timeout waits for a reply that a stopped kernel never sends; a killed kernel is
    noticed at once, whatever it was doing.

    Args:
        kernel: what to end.
        run_deadline: seconds for the run; 0 for none.
        cell_deadline: seconds for each cell; 0 for none.
        tick: called a few times a second while the run lasts.
    """

    def __init__(
        self, kernel: Kernel, run_deadline: float, cell_deadline: float, tick: Callable[[], None]
    ) -> None:
        self._kernel, self._tick = kernel, tick
        self._run_deadline, self._cell_deadline = run_deadline, cell_deadline
        self._started = self._cell_started = time.monotonic()
        self._cell = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mlnb-watch", daemon=True)
        self.reason = ""

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def cell(self, number: int) -> None:
        """Say that cell ``number`` begins now."""
        self._cell, self._cell_started = number, time.monotonic()

    def _watch(self) -> None:
        killed_at = 0.0
        while not self._over.wait(_TICK):
            self._tick()
            if not self.reason and (reason := self._expired()):
                self.reason = reason
                self._kernel.interrupt()
                killed_at = time.monotonic() + GRACE
            elif self.reason and time.monotonic() > killed_at:
                self._kernel.kill()

    def _expired(self) -> str:
        now = time.monotonic()
        if self._cell and self._cell_deadline and now - self._cell_started > self._cell_deadline:
            return f"cell {self._cell} ran past the cell deadline of {self._cell_deadline:g} s"
        if self._run_deadline and now - self._started > self._run_deadline:
            place = f"in cell {self._cell}" if self._cell else "while the kernel started"
            return f"the run passed its deadline of {self._run_deadline:g} s {place}"
        return ""
