"""A process between this one and the notebook, for the case that this one is killed.

Only an ancestor can find whatever a notebook has started, and nobody is asked before a `kill -9`.
So the notebook is a grandchild. Its parent does nothing but wait until the notebook ends or we do,
kill all that is left below it, and end as the notebook did.
A worker does the same for its children, which need no guard.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable
from typing import NoReturn

from mlnb.forks import adopt_orphans, end_orphans, is_watched, leave_no_core

_ALL = 1 << 16


def fork_guarded(live: Callable[[int], NoReturn]) -> tuple[int, int]:
    """Fork a guard, and below it a process that lives.

    Args:
        live: what the process does; given the process id of its parent.

    Returns:
        The process ids of the guard, which ends as the process does, and of the process; the same
        where no guard is needed.
    """
    us = os.getpid()
    if is_watched():
        below = os.fork()
        return (below, below) if below else live(us)
    reader, writer = os.pipe()
    guard = os.fork()
    if not guard:
        os.close(reader)
        _stand(us, writer, live)
    os.close(writer)
    with open(reader, "rb") as told:  # noqa: PTH123
        return guard, int(told.read() or 0)


def _stand(above: int, writer: int, live: Callable[[int], NoReturn]) -> NoReturn:
    try:
        os.setsid()
        adopt_orphans()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        me = os.getpid()
        below = os.fork()
        if not below:
            os.close(writer)
            live(me)
        os.write(writer, b"%d" % below)
        os.closerange(0, _ALL)
        _wait(above, below)
        pid, status = os.waitpid(below, os.WNOHANG)
        # Also when it has ended: perhaps because we are gone, and then nobody else would do this.
        end_orphans(set())
        if pid:
            _end_as(os.waitstatus_to_exitcode(status))
    finally:
        os._exit(1)


def _wait(above: int, below: int) -> None:
    """Wait until one of two processes has ended."""
    poll = select.poll()
    poll.register(os.pidfd_open(below), select.POLLIN)
    with contextlib.suppress(ProcessLookupError):
        poll.register(os.pidfd_open(above), select.POLLIN)
        if os.getppid() == above:
            poll.poll()


def _end_as(code: int) -> NoReturn:
    """End as another process did."""
    if code < 0:
        leave_no_core()
        with contextlib.suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
