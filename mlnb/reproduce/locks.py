"""DVC's locks, with patience: who finds them taken waits and says for whom.

DVC has a lock of the repository, held while it works, and a list of the paths that each process
reads or writes, the rwlock, held while a stage runs. DVC itself gives up on the first after three
seconds and on the second at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mlnb.reproduce.turn import born

PATIENCE = 3600.0
"""Seconds that another process may hold a lock before we give up."""

BEGAN = "began"
"""Stands in our entries of the rwlock, before the time at which the process began."""

_TICK = 0.5


class Patient:
    """DVC's lock of the repository, waited for.

    Args:
        lock: DVC's lock.
        say: tells the person a line.
        hurried: whether to give up at once, as the run is to end.
    """

    def __init__(self, lock: Any, say: Callable[[str], None], hurried: Callable[[], bool]) -> None:
        self._lock, self._say, self._hurried = lock, say, hurried

    @property
    def is_locked(self) -> bool:
        """Whether this process holds it."""
        return bool(self._lock.is_locked)

    def lock(self) -> None:
        """Take it.

        Raises:
            dvc.lock.LockError: another process holds it for too long.
        """
        from dvc.lock import LockError

        told, limit = False, time.monotonic() + PATIENCE
        while True:
            try:
                self._lock.lock()
            except LockError:
                if self._hurried() or time.monotonic() > limit:
                    raise
            else:
                return
            if not told:
                self._say(f"waiting for another DVC process{self._holder()} to end its work")
                told = True

    def unlock(self) -> None:
        """Give it back, if it is held."""
        if self.is_locked:
            self._lock.unlock()

    def __enter__(self) -> None:
        self.lock()

    def __exit__(self, *_: object) -> None:
        self.unlock()

    def _holder(self) -> str:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return f" (pid {int(Path(self._lock.lockfile).read_text())})"
        return ""


class PathLock:
    """What stands for ``dvc.rwlock.rwlock``: the paths that a stage reads and writes.

    As DVC's own, with these differences. A block inside one that holds the same paths already
    does not write the file again. Stages of this process are told apart, so that one that ends
    does not release what another still reads. The file is replaced as a whole.

    Args:
        original: DVC's own.
        pause: lets other threads and DVC processes work for a while.
        say: tells the person a line.
        hurried: whether to give up at once, as the run is to end.
    """

    def __init__(
        self,
        original: Callable[..., contextlib.AbstractContextManager[None]],
        pause: Callable[[], contextlib.AbstractContextManager[None]],
        say: Callable[[str], None],
        hurried: Callable[[], bool],
    ) -> None:
        self._original, self._pause, self._say = original, pause, say
        self._hurried = hurried
        self._began = born(os.getpid())
        self._held = threading.local()

    @contextlib.contextmanager
    def __call__(
        self,
        tmp_dir: str,
        fs: Any,
        cmd: str,
        read: Sequence[str],
        write: Sequence[str],
        hardlink: bool,
    ) -> Iterator[None]:
        """Hold the paths ``read`` and ``write``, once nobody else holds them otherwise.

        Raises:
            dvc.lock.LockError: another process holds one for too long.
        """
        reading, writing = getattr(self._held, "paths", (frozenset(), frozenset()))
        if writing.issuperset(write) and (reading | writing).issuperset(read):
            yield
            return
        who = f"{cmd} [{threading.current_thread().name}, {BEGAN} {self._began}]"
        with contextlib.ExitStack() as held:
            self._take(held, tmp_dir, _Whole(fs), who, list(read), list(write), hardlink)
            self._held.paths = (reading | set(read), writing | set(write))
            try:
                yield
            finally:
                self._held.paths = (reading, writing)

    def _take(self, held: contextlib.ExitStack, *arguments: Any) -> None:
        from dvc.lock import LockError

        told, limit = False, time.monotonic() + PATIENCE
        while True:
            try:
                held.enter_context(self._original(*arguments))
            except LockError as error:
                if self._hurried() or time.monotonic() > limit:
                    raise
                if not told:
                    self._say("waiting: " + str(error).partition("\n\n")[0])
                    told = True
            else:
                return
            with self._pause():
                time.sleep(_TICK)


class _Whole:
    """DVC's file system, whose files are written as a whole or not at all."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name)

    @contextlib.contextmanager
    def open(self, path: str, mode: str = "r", encoding: str | None = None) -> Iterator[Any]:
        if mode != "w":
            with self._fs.open(path, mode, encoding=encoding) as file:
                yield file
            return
        text = io.StringIO()
        yield text
        # Not flushed to the disk: what no process outlives a power cut for may be lost in one.
        new = f"{path}.{os.getpid()}.tmp"
        Path(new).write_text(text.getvalue(), encoding=encoding)
        os.replace(new, path)
