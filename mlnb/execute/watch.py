"""Deadlines of a run: what has expired, and for a kernel a thread that ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mlnb.kernel import Kernel

GRACE = 3.0
"""Seconds between the interrupt at a deadline and the kill."""

TICK = 0.2
"""Seconds between two looks at the clock."""


class Deadlines:
    """Knows how long the run and its present cell have been going.

    Args:
        run: seconds for the run; 0 for none.
        cell: seconds for each cell; 0 for none.

    Attributes:
        reason: what has expired, in words; empty while nothing has.
    """

    def __init__(self, run: float, cell: float) -> None:
        self._run_deadline, self._cell_deadline = run, cell
        self._started = self._cell_started = time.monotonic()
        self._cell = 0
        self._killing_at = 0.0
        self.reason = ""

    def cell(self, number: int) -> None:
        """Say that cell ``number`` begins now."""
        self._cell, self._cell_started = number, time.monotonic()

    def look(self, interrupt: Callable[[], None], kill: Callable[[], None]) -> None:
        """Call ``interrupt`` when a deadline has just passed, ``kill`` if that did not help."""
        if not self.reason and (reason := self._expired()):
            self.reason = reason
            interrupt()
            self._killing_at = time.monotonic() + GRACE
        elif self.reason and time.monotonic() > self._killing_at:
            kill()

    def _expired(self) -> str:
        now = time.monotonic()
        if self._cell and self._cell_deadline and now - self._cell_started > self._cell_deadline:
            return f"cell {self._cell} ran past the cell deadline of {self._cell_deadline:g} s"
        if self._run_deadline and now - self._started > self._run_deadline:
            place = f"in cell {self._cell}" if self._cell else "while the kernel started"
            return f"the run passed its deadline of {self._run_deadline:g} s {place}"
        return ""


class Watch:
    """Ends a kernel at its deadlines, from a thread of its own.

    nbclient's timeout waits for a reply that a stopped kernel never sends; a killed kernel is
    noticed at once, whatever it was doing.

    Args:
        kernel: what to end.
        deadlines: when.
        tick: called a few times a second while the run lasts.
    """

    def __init__(self, kernel: Kernel, deadlines: Deadlines, tick: Callable[[], None]) -> None:
        self._kernel, self._deadlines, self._tick = kernel, deadlines, tick
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mlnb-watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(TICK):
            self._tick()
            self._deadlines.look(self._kernel.interrupt, self._kernel.kill)
