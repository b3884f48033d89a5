"""What a fork does to be a process of its own, and what makes orphans somebody's. Linux only."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
import weakref
from typing import Any

_PARENT_DEATH_SIGNAL, _DUMPABLE, _BECOME_REAPER = 1, 4, 36
_RESET = (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2)

_watched = False


def is_watched() -> bool:
    """Whether our parent ends what we leave behind, should we be killed: we are a fork of ours."""
    return _watched


def adopt_orphans() -> None:
    """Make this process the parent of whatever its descendants leave behind."""
    _prctl(_BECOME_REAPER, 1)


def end_orphans(ours: set[int]) -> None:
    """Kill every descendant that is not one of ``ours``, nor below one, until none is left."""
    import psutil

    end = time.monotonic() + 10
    while time.monotonic() < end:
        left = [child for child in children() if child.pid not in ours]
        if not left:
            return
        below = [d for child in left for d in _descendants(child)]
        for one in (*left, *below):
            with contextlib.suppress(psutil.Error):
                one.kill()
        for child in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, 0)


def children() -> list[Any]:
    """Return our children; most often there are none, which is quicker to ask than who they are."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return []
    import psutil

    return list(psutil.Process().children())


def _descendants(process: Any) -> list[Any]:
    import psutil

    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def become_own(parent: int) -> None:
    """Be a fork that ends with its parent and shares neither session, signals nor chance with it.

    Args:
        parent: process id of the parent, as it was before the fork.
    """
    global _watched
    _watched = True
    os.setsid()
    _prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before we could ask
    signal.set_wakeup_fd(-1)
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tempfile.tempdir = None
    random.seed()
    if "numpy.random.mtrand" in sys.modules:
        sys.modules["numpy.random.mtrand"].seed()  # all forks would draw the same numbers
    for left in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        left.atexit = False  # temporary folders of the parent's are its to delete


def leave_no_core() -> None:
    """End without a core file, whatever ends this process."""
    _prctl(_DUMPABLE, 0)


def take_environment(environment: dict[str, str]) -> None:
    """Have exactly these variables."""
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
