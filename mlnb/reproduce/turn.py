"""One ``mlnb repro`` at a time: who comes second waits."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

_MARK = "MLNB_REPRO"
# Seconds. A number is not given to another process as quickly; a clock may be set by less.
_SAME = 2.0


class Turn:
    """The turn to reproduce a project, kept by a lock that ends with its process.

    The lock's file has the holder's mark, and is emptied at a good end. What the holder starts has
    the mark in its environment from its first moment on. A mark that stands there when the turn is
    taken is of a run that was killed; what that one left may still write, and is ended.

    Args:
        path: the lock's file.
        say: tells the person a line.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._file: IO[str] | None = None
        self._mark = ""

    def __enter__(self) -> Turn:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+", encoding="ascii")
        try:
            self._lock(file)
            self._end_leftovers(file)
            file.truncate(0)
            self._file, self._mark = file, f"{os.getpid()} {time.time_ns()}"
            os.write(file.fileno(), f"{self._mark}\n".encode())
        except BaseException:
            file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def marked(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of what this turn starts."""
        return {**environment, _MARK: self._mark}

    def _lock(self, file: IO[str]) -> None:
        if os.name == "nt":
            return  # DVC's own lock is all there is
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.readline().partition(" ")[0].strip() or "?"
            self._say(f"waiting for another mlnb repro (pid {holder}) to end")
            fcntl.flock(file, fcntl.LOCK_EX)

    def _end_leftovers(self, file: IO[str]) -> None:
        file.seek(0)
        if mark := file.readline().strip():
            for pid in _with_mark(mark):
                if end(pid):
                    self._say(f"ended process {pid}, which a killed mlnb repro had left running")


def _with_mark(mark: str) -> list[int]:
    """Return the processes that have a mark, the oldest first."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # other people's; it ends just now
            if process.environ().get(_MARK) == mark and process.pid != os.getpid():
                found.append((process.create_time(), process.pid))
    return [pid for _, pid in sorted(found)]


def end(pid: int) -> bool:
    """Kill a process and all that descend from it, and wait; return whether there was any."""
    import psutil

    found = family(pid)
    signal_all(found, signal.SIGKILL)
    psutil.wait_procs(found, timeout=5)
    return bool(found)


def family(pid: int) -> list[psutil.Process]:
    """Return the processes that descend from a process, and itself at last."""
    import psutil

    try:
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    except psutil.Error:
        return []


def signal_all(processes: Iterable[psutil.Process], number: int) -> None:
    """Send a signal to those of ``processes`` that are still there."""
    import psutil

    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def born(pid: int) -> float:
    """Return when a process began, in seconds since the epoch; 0 when there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        return 0 if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return 0


def lives(pid: int, when: float) -> bool:
    """Whether the process ``pid`` that began at ``when`` is alive, and not another one since."""
    return abs(born(pid) - when) < _SAME
