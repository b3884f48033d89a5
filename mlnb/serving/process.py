"""The process of a server: its socket, its workers, its end.

One socket is bound first, so that a port that is taken is known at once. With one worker that is
all: the process serves. With more, it forks each worker, which shares the socket, before anything
has a thread, and stays to start another when one dies. SIGTERM and Ctrl-C stop it: nothing more is
let in, and what is in flight is answered. A worker whose parent was killed stops, too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from mlnb import files
from mlnb.serving import logs
from mlnb.serving.access import Access
from mlnb.serving.app import Engine, Face, build
from mlnb.serving.errors import ServingError
from mlnb.serving.limits import WatchedServer, connection_type
from mlnb.serving.settings import ServeSettings

FORMAT = 1
_BACKLOG = 1024
_PATIENCE = 3.0
"""Seconds in which a port may become free, for a server that was killed lets go of it only then."""
_YOUNG = 2.0
"""A worker that dies younger is not started again at once."""
_SO_ATTACH_FILTER = 26
_STOPS = (signal.SIGTERM, signal.SIGINT)


class RunningEngine(Engine, Protocol):
    """An engine with a beginning and an end."""

    def start(self) -> None:
        """Return when a version is ready; ServingError says why none will be."""

    def stop(self) -> None:
        """End its threads, after what they have to write."""


@dataclass(frozen=True)
class Place:
    """Where a server is.

    Attributes:
        folder: where it says so, and keeps its counts.
        host: a name or an address to listen on.
        port: to listen on; 0 for any that is free.
        workers: how many processes serve.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1


def serve(
    make: Callable[[], RunningEngine],
    place: Place,
    settings: ServeSettings,
    access: Access,
    *,
    tell: Callable[[str], None] = lambda line: None,
) -> int:
    """Serve until told to stop; return the exit code.

    Args:
        make: makes the engine; called in each worker, after the fork.
        place: where.
        settings: limits.
        access: who may ask.
        tell: shows a line to whoever started it.

    Raises:
        ServingError: the address cannot be had, or there is nothing to serve.
    """
    listening = _bound(place)
    _raise_file_limit(settings)
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    for path, said in _notes(place.folder):
        if not said:
            path.unlink(missing_ok=True)  # of a server that was killed
    note = place.folder / f"server-{port}.json"
    files.write_json(
        note,
        {
            "format": FORMAT,
            "pid": os.getpid(),
            "address": address,
            "host": host,
            "port": port,
            "workers": place.workers,
        },
    )
    try:
        if place.workers == 1:
            return _work(make, listening, settings, access, lambda: tell(f"serves on {address}"))
        crew = _Crew(make, listening, settings, access)
        return crew.run(place.workers, lambda: tell(f"serves on {address}"))
    finally:
        note.unlink(missing_ok=True)


def _work(
    make: Callable[[], RunningEngine],
    listening: socket.socket,
    settings: ServeSettings,
    access: Access,
    ready: Callable[[], None],
    *,
    parent: int | None = None,
) -> int:
    """Serve in this process; return its exit code.

    Args:
        make: makes the engine.
        listening: the socket.
        settings: limits.
        access: who may ask.
        ready: called when requests are answered.
        parent: a pipe that ends when the parent does; None without one.
    """
    import uvicorn

    engine = make()
    engine.start()
    face = build(engine, settings, access)
    config = uvicorn.Config(
        face,
        http=connection_type(settings),
        loop="uvloop",
        lifespan="off",
        ws="none",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(max(1, settings.idle_seconds)),
        timeout_graceful_shutdown=int(max(1, settings.drain_seconds)),
        backlog=_BACKLOG,
    )
    server = _Worker(config, face, ready, parent)
    # uvicorn ends by the signal that stopped it, and puts back what was there before.
    for each in _STOPS:
        signal.signal(each, _ignore)
    try:
        server.run(sockets=[listening])
    finally:
        engine.stop()
    return 0


class _Worker(WatchedServer):
    """A server that says when it is ready, and stops with its parent."""

    def __init__(
        self, config: Any, face: Face, ready: Callable[[], None], parent: int | None
    ) -> None:
        super().__init__(config)
        self._face, self._ready, self._parent = face, ready, parent

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody come to the door any more, unless others serve at it, and stop."""
        if self._parent is None:
            for each in sockets or []:
                _let_nobody_in(each)
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        import asyncio

        await super().startup(sockets)
        if self._parent is not None:
            asyncio.get_running_loop().add_reader(self._parent, self._orphaned)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; a second time, at once."""
        self._face.ready = False
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    def _orphaned(self) -> None:
        import asyncio

        asyncio.get_running_loop().remove_reader(self._parent or 0)
        logs.warn("the parent is gone")
        self._face.ready, self.should_exit = False, True


class _Crew:
    """The parent of the workers."""

    def __init__(
        self,
        make: Callable[[], RunningEngine],
        listening: socket.socket,
        settings: ServeSettings,
        access: Access,
    ) -> None:
        self._make, self._listening = make, listening
        self._settings, self._access = settings, access
        self._born: dict[int, float] = {}
        self._ready_end, self._said_end = os.pipe()
        self._watched_end, self._life_end = os.pipe()
        self._stopping = False

    def run(self, workers: int, ready: Callable[[], None]) -> int:
        """Keep so many workers until told to stop; return the exit code."""
        for each in _STOPS:
            signal.signal(each, self._stop)
        for _ in range(workers):
            self._fork()
        waiting = workers
        while not self._stopping:
            with contextlib.suppress(InterruptedError):
                said = select.select([self._ready_end], [], [], 0.1)[0]
                if said:
                    heard = len(os.read(self._ready_end, 1))
                    if waiting and not (waiting := waiting - heard):
                        ready()
            for code, age in self._reap():
                if waiting:
                    # None of its kind has started yet: the next would die of the same.
                    self._end()
                    return code or 1
                logs.error("a worker died and is started again", code=code)
                if age < _YOUNG:
                    time.sleep(0.5)
                self._fork()
        self._end()
        return 0

    def _fork(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            self._born[pid] = time.monotonic()
            return
        code = 1
        try:
            for each in _STOPS:
                signal.signal(each, signal.SIG_DFL)
            os.close(self._life_end)
            code = _work(
                self._make,
                self._listening,
                self._settings,
                self._access,
                self._say_ready,
                parent=self._watched_end,
            )
        except ServingError as error:
            print(f"mlnb: {error}", file=sys.stderr)
            code = error.exit_code
        except BaseException:
            logging.getLogger("mlnb.serving").exception("a worker failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _say_ready(self) -> None:
        os.write(self._said_end, b"1")

    def _reap(self) -> list[tuple[int, float]]:
        """Return the exit code and age of each worker that died."""
        gone = []
        for pid in list(self._born):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                age = time.monotonic() - self._born.pop(pid)
                gone.append((os.waitstatus_to_exitcode(status), age))
        return gone

    def _stop(self, sig: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _end(self) -> None:
        """Stop all workers, after what is in flight; kill who takes too long."""
        _let_nobody_in(self._listening)
        self._listening.close()
        for pid in self._born:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + self._settings.drain_seconds + 10
        while self._born and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.05)
        for pid in self._born:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while self._born:
            self._reap()
            time.sleep(0.05)


def running(folder: Path) -> list[dict[str, Any]]:
    """Return what each server that says in ``folder`` where it is, and lives, says of itself."""
    return [said for _, said in _notes(folder) if said]


def _notes(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the notes of servers, and what they say; nothing if the server is dead."""
    found = []
    for path in sorted(folder.glob("server-*.json")):
        said: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            read = json.loads(path.read_bytes())
            os.kill(read["pid"], 0)
            said = read
        found.append((path, said))
    return found


def _bound(place: Place) -> socket.socket:
    deadline = time.monotonic() + _PATIENCE
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ServingError(f"no such address: {error.strerror}", where=place.host) from error
    while True:
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(address)
            made.listen(_BACKLOG)
        except OSError as error:
            made.close()
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise ServingError(
                f"cannot listen there: {error.strerror}",
                where=f"{place.host}:{place.port}",
                remedy="Another process may; --port takes another port, 0 any that is free.",
            ) from error
        made.setblocking(False)
        return made


def _let_nobody_in(listening: socket.socket) -> None:
    """Let new connections wait outside of a socket that is about to be closed.

    The kernel makes connections before we take them, and breaks those that are not taken when the
    socket is closed, with what their clients sent already. A filter that passes no packet (man 7
    socket, SO_ATTACH_FILTER) stops new ones, so that all there are can be taken first; who waited
    outside is refused once it is closed, and has sent nothing.
    """
    if sys.platform != "linux":
        return
    import ctypes

    drop = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF_RET, 0 bytes
    program = struct.pack("HP", 1, ctypes.addressof(drop))
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _raise_file_limit(settings: ServeSettings) -> None:
    """Have room for as many connections as are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.connections + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _ignore(sig: int, frame: FrameType | None) -> None:
    """Do nothing."""
