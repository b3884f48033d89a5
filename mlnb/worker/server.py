"""The warm worker: one thread that imports, listens, forks and passes on, and computes nothing.

Each request becomes a child with the client's own environment, working directory, limits and
standard streams. The client's connection is the leash: its signals go to the child, and when it
breaks, the child ends, with all that it started. The worker itself leaves when nobody has asked
for anything for a while, when its project is gone, or when what it has imported has changed.
"""

from __future__ import annotations

import contextlib
import gc
import marshal
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb.forks import adopt_orphans, end_orphans
from mlnb.worker import client, harm, lessons
from mlnb.worker.child import become
from mlnb.worker.preload import Preload

_TICK = 1.0
_PATIENCE = 5.0
"""Seconds that a client has to send its request."""

_GRACE = 5.0
"""Seconds between asking a child to end and killing it."""

_SIGNALS = {client.INTERRUPT: signal.SIGINT, client.TERMINATE: signal.SIGTERM}


@dataclass
class _Child:
    """A command that runs, and who asked for it."""

    words: list[str]
    link: socket.socket
    started: float = field(default_factory=time.monotonic)
    ending: float = 0.0


@dataclass
class _Request:
    """A command that waits for its imports."""

    link: socket.socket
    content: dict[str, Any]
    streams: list[int]

    @property
    def notebook(self) -> str:
        """The notebook that it runs, or nothing."""
        words = self.content["words"]
        return next((w for w in words[1:] if w.endswith(".ipynb")), "") if "run" in words else ""

    def close(self) -> None:
        """Let go of the client and its streams."""
        self.link.close()
        for fd in self.streams:
            os.close(fd)


class Server:
    """A worker that serves one socket.

    Args:
        listener: the socket.
        path: where it lies.
        root: the project.
        command: what a child does with the words of a command; returns the exit code.
        preload: what is imported, and whether that is still true.
        idle: seconds without a command after which it leaves.
    """

    def __init__(
        self,
        listener: socket.socket,
        path: Path,
        root: Path,
        *,
        command: Callable[[Sequence[str]], int],
        preload: Preload,
        idle: float,
    ) -> None:
        self._listener, self._path, self._root = listener, path, root
        self._command, self._preload, self._idle = command, preload, idle
        self._children: dict[int, _Child] = {}
        self._waiting: list[_Request] = []
        self._served = 0
        self._started = self._last = time.monotonic()
        self._leaving = ""
        self._inode = path.stat().st_ino

    def serve(self) -> None:
        """Serve until there is a reason to leave."""
        adopt_orphans()
        lessons.open_book()
        woken, wakes = os.pipe()
        for fd in (woken, wakes):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._noted)
        self._wake = (woken, wakes)
        self._preload.start()
        _log(f"listens after {time.monotonic() - self._started:.1f} s")
        if self._preload.harmed:
            self._leave(self._preload.harmed)
        while self._children or not self._leaving:
            self._turn()
        _log(f"leaves: {self._leaving}")

    def _noted(self, number: int, frame: object) -> None:
        if number != signal.SIGCHLD:
            self._leave(f"{signal.Signals(number).name} came")
            for child in self._children.values():
                child.ending = child.ending or time.monotonic()

    def _leave(self, why: str) -> None:
        """Take no more commands; the socket's place is free for another worker."""
        if not self._leaving:
            self._leaving = why
            _log(f"will leave: {why}")
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == self._inode:  # no later worker's
                    self._path.unlink()
            self._listener.close()

    def _turn(self) -> None:
        poll = select.poll()
        links = {child.link.fileno(): pid for pid, child in self._children.items()}
        for fd in (self._wake[0], *links, *(() if self._leaving else (self._listener.fileno(),))):
            poll.register(fd, select.POLLIN)
        listening = -1 if self._leaving else self._listener.fileno()
        busy = self._preload.busy and not self._leaving
        free = not busy and not self._children and time.monotonic() - self._last > _TICK
        hurry = busy or (free and self._preload.more)
        ready = [fd for fd, _ in poll.poll(0 if hurry else _TICK * 1000)]
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake[0], 4096)
        self._reap()
        for fd in ready:
            if fd in links and links[fd] in self._children:
                self._hear(links[fd])
            elif fd == listening and not self._leaving:
                self._welcome()
        self._look()
        if busy:
            self._import()
        elif free and not ready and not self._leaving:
            self._preload.learn(lessons.read())
            self._preload.go_on()
            if not self._preload.more:
                _settle()

    def _import(self) -> None:
        """Import one more module, and start what has waited for it."""
        urgent = [name for request in self._waiting for name in self._lacks(request)]
        self._preload.step(urgent)
        if self._preload.harmed:
            self._leave(self._preload.harmed)
        elif not self._preload.busy:
            _settle()
            _log(f"ready after {time.monotonic() - self._started:.1f} s; {self._preload}")
        for request in list(self._waiting):
            if self._leaving or not self._lacks(request):
                self._waiting.remove(request)
                self._begin(request)

    def _lacks(self, request: _Request) -> list[str]:
        return self._preload.lacks(request.notebook) if request.notebook else []

    def _look(self) -> None:
        """End what was asked to end and has not; leave if there is a reason."""
        now = time.monotonic()
        for pid, child in self._children.items():
            if child.ending and now - child.ending > _GRACE:
                _kill(pid)
        if self._children or self._waiting:
            self._last = now
        elif not self._leaving and self._idle and now - self._last > self._idle:
            self._leave(f"idle for {self._idle:g} s")
        elif not self._leaving and not self._root.is_dir():
            self._leave("the project is gone")

    # --- requests -------------------------------------------------------------------------------

    def _welcome(self) -> None:
        link, _ = self._listener.accept()
        link.settimeout(_PATIENCE)
        request = _Request(link, {}, [])
        try:
            peer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if int.from_bytes(peer[4:8], sys.byteorder) != os.getuid():
                raise PermissionError("another user's")
            request.content, request.streams = _received(link)
            link.settimeout(None)
            self._serve(request)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            if not isinstance(error, EOFError):  # somebody just looked whether we are here
                _log(f"a request that cannot be served: {error!r}")
            request.close()

    def _serve(self, request: _Request) -> None:
        op = request.content["op"]
        if op == "run" and self._lacks(request) and not self._leaving:
            self._waiting.append(request)
        elif op == "run":
            self._begin(request)
        elif op == "status":
            self._answer(request, self._status())
        elif op == "stop":
            self._answer(request, {"stopping": True})
            self._noted(signal.SIGTERM, None)
            for pid in self._children:
                os.kill(pid, signal.SIGTERM)

    def _begin(self, request: _Request) -> None:
        """Start a command, unless this is no place for it any more."""
        if not self._leaving and (changed := self._preload.changed()):
            self._leave(changed)
        if not self._leaving and harm.extra_threads():
            self._leave("threads have been started in the worker")
        if self._leaving:
            self._answer(request, {"leaving": self._leaving})
        else:
            self._start(request)

    def _answer(self, request: _Request, answer: dict[str, Any]) -> None:
        """Answer what needs no child."""
        with contextlib.suppress(OSError):
            _send(request.link, answer)
        request.close()

    def _start(self, request: _Request) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        us = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # too many processes, or no memory; that may pass
            self._answer(request, {"refused": f"cannot fork: {error.strerror}"})
            return
        if not pid:
            links = [c.link for c in self._children.values()] + [r.link for r in self._waiting]
            for shared in (self._listener, *links):
                shared.close()
            for fd in self._wake:
                os.close(fd)
            become(request.content, request.streams, us, self._command)
        self._served += 1
        self._children[pid] = _Child(list(request.content["words"]), request.link)
        for fd in request.streams:
            os.close(fd)
        with contextlib.suppress(OSError):  # a client that has gone is noticed when it is heard
            _send(request.link, {"taken": pid})

    def _hear(self, pid: int) -> None:
        """Pass on what the client says; silence for ever means that it has died."""
        child = self._children[pid]
        try:
            said = child.link.recv(16)
        except OSError:
            said = b""
        with contextlib.suppress(ProcessLookupError):
            for word in said:
                os.kill(pid, _SIGNALS.get(bytes([word]), signal.SIGTERM))
            if not said and not child.ending:
                child.ending = time.monotonic()
                os.kill(pid, signal.SIGTERM)
        if not said:
            # Nothing more to hear; a socket at its end would wake us for ever.
            child.link.close()
            child.link = socket.socket(socket.AF_UNIX)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._preload.trial:
                self._preload.judged()
                continue
            if (child := self._children.pop(pid, None)) is None:
                continue  # left behind by a command, and adopted
            code = os.waitstatus_to_exitcode(status)
            if code < 0:  # what it had started is ours now
                end_orphans({*self._children, self._preload.trial})
            _log(f"{' '.join(child.words)}: {code} after {time.monotonic() - child.started:.2f} s")
            with contextlib.suppress(OSError):
                _send(child.link, {"exit": code} if code >= 0 else {"killed": _how(-code)})
            child.link.close()
            self._last = time.monotonic()

    def _status(self) -> dict[str, Any]:
        now = time.monotonic()
        return {
            "pid": os.getpid(),
            "root": str(self._root),
            "seconds": now - self._started,
            "idle": now - self._last if not self._children else 0.0,
            "leaves_after": self._idle,
            "served": self._served,
            "memory": _memory(os.getpid()),
            "preloaded": self._preload.loaded,
            "importing": self._preload.busy or self._preload.more or bool(self._preload.trial),
            "left_out": self._preload.left_out,
            "children": [
                {
                    "pid": pid,
                    "words": child.words,
                    "seconds": now - child.started,
                    "memory": _memory(pid),
                }
                for pid, child in self._children.items()
            ],
        }


def _received(link: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return a request and the file descriptors that came with it."""
    data, streams, _, _ = socket.recv_fds(link, 1 << 16, 3)
    if not data:
        raise EOFError
    try:
        size = int.from_bytes(data[:4], "big") + 4
        while len(data) < size:
            part = link.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return marshal.loads(data[4:]), streams
    except BaseException:
        for fd in streams:
            os.close(fd)
        raise


def _send(link: socket.socket, answer: dict[str, Any]) -> None:
    client.send(link, marshal.dumps(answer), ())


def _settle() -> None:
    """Say that what is here stays: children need not look at it, and share it longer."""
    gc.collect()
    gc.freeze()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _how(number: int) -> str:
    from mlnb.kernel import death

    return death(-number, "").strip()


def _memory(pid: int) -> dict[str, int]:
    """Return bytes in memory: ``shared`` with other processes in part, and ``private``."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    sizes = {key: int(rest.split()[0]) * 1024 for key, _, rest in (x.partition(":") for x in lines)}
    private = sizes.get("Private_Clean", 0) + sizes.get("Private_Dirty", 0)
    return {"resident": sizes["Rss"], "proportional": sizes["Pss"], "private": private}


def _log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
