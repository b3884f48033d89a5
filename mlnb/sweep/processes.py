"""Trials as forked processes: started, waited for, and ended with all that they started.

A fork has everything imported. It needs a parent without further Python threads, which would be
missing in it with their locks held. What it has to say comes through a pipe; whether it is over,
the system says.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

from mlnb import forks

_PATIENCE = 5.0
"""Seconds that a trial has to end its notebook."""


@dataclass
class _Process:
    number: int
    reader: int
    said: bytes = b""


@dataclass(frozen=True)
class Ended:
    """A process that is over.

    Attributes:
        number: as given to ``start``.
        said: what its work returned; None if it did not come to that.
        code: exit code, negative for a signal.
    """

    number: int
    said: Any
    code: int


class Processes:
    """The processes that run now. As a context manager, it leaves none."""

    def __init__(self) -> None:
        self._running: dict[int, _Process] = {}

    def __enter__(self) -> Processes:
        forks.adopt_orphans()
        self._others = {child.pid for child in forks.children()}
        self._bell = os.pipe()
        for end in self._bell:
            os.set_blocking(end, False)
        self._handler = signal.signal(signal.SIGCHLD, lambda *_: None)
        self._old = signal.set_wakeup_fd(self._bell[1], warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.end()
        finally:
            signal.set_wakeup_fd(self._old)
            signal.signal(signal.SIGCHLD, self._handler)
            for end in self._bell:
                os.close(end)

    def __len__(self) -> int:
        return len(self._running)

    def start(self, number: int, work: Callable[[], Any], log: Path) -> None:
        """Fork a process that does ``work`` and writes to ``log`` all that it prints."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        reader, writer = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            os.close(reader)
            _live(work, writer, log, parent)
        os.close(writer)
        os.set_blocking(reader, False)
        self._running[pid] = _Process(number, reader)

    def wait(self, seconds: float) -> list[Ended]:
        """Return what has ended, after ``seconds`` at most."""
        if not (ended := self._reap()):
            select.select([self._bell[0]], [], [], seconds)
            with contextlib.suppress(BlockingIOError):
                os.read(self._bell[0], 4096)
            ended = self._reap()
        return ended

    def end(self) -> None:
        """End all, gently for a while, with whatever they have started."""
        for pid in self._running:
            os.kill(pid, signal.SIGTERM)
        limit = time.monotonic() + _PATIENCE
        while self._running and time.monotonic() < limit:
            self.wait(0.1)
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
        while self._running:
            self.wait(0.1)
        forks.end_orphans(self._others)

    def _reap(self) -> list[Ended]:
        ended = []
        for pid, process in list(self._running.items()):
            with contextlib.suppress(BlockingIOError):
                while part := os.read(process.reader, 1 << 16):
                    process.said += part
            found, status = os.waitpid(pid, os.WNOHANG)
            if not found:
                continue
            with contextlib.suppress(BlockingIOError):  # what it said last
                while part := os.read(process.reader, 1 << 16):
                    process.said += part
            os.close(process.reader)
            del self._running[pid]
            code = os.waitstatus_to_exitcode(status)
            if code:
                forks.end_orphans(self._others | set(self._running))
            said = json.loads(process.said) if process.said.endswith(b"\n") else None
            ended.append(Ended(process.number, said, code))
        return ended


def _live(work: Callable[[], Any], writer: int, log: Path, parent: int) -> NoReturn:
    """Be the process that does ``work``."""
    code = 1
    try:
        _settle(log, parent)
        said = work()
        os.write(writer, json.dumps(said).encode() + b"\n")
        code = 0
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # noqa: BLE001 - whatever it is, it goes to the log, and so do we
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _settle(log: Path, parent: int) -> None:
    # In a session of its own: the terminal's Ctrl-C is for the sweep, which ends its trials itself.
    forks.become_own(parent)
    signal.signal(signal.SIGTERM, _interrupt)
    nothing = os.open(os.devnull, os.O_RDONLY)
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
    for old, new in ((nothing, 0), (sink, 1), (sink, 2)):
        os.dup2(old, new)
    sys.stdout, sys.stderr = _stream(1), _stream(2)


def _stream(descriptor: int) -> TextIO:
    """Return what writes to ``descriptor``; the parent's may belong to a capture or a bar."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
