"""The notebook process seen from outside: started, asked, listened to, ended with all it started.

It is a fork of this process (:mod:`mlnb.execute.inside` is its code), so what is imported here is
there already. Whatever it leaves behind becomes a child of ours, however it hid, and goes with it.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import secrets
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from mlnb.execute import inside
from mlnb.execute.guard import fork_guarded
from mlnb.execute.inside import HEADER, mark
from mlnb.execute.session import CellFailedError, DiedError, Session
from mlnb.execute.watch import TICK
from mlnb.forks import adopt_orphans, children, end_orphans
from mlnb.kernel import death, surroundings

AVAILABLE = sys.platform == "linux"
"""Whether this platform has what it takes: fork, and a way to find a dead process's children."""

_PIPE_SIZE = 1 << 20
_CHUNK = 1 << 20
_NAP_MS = 2
_ENDING = 3.0
"""Seconds that a notebook has for what it does at exit."""

_NAMES = ("stdout", "stderr")
_AS_ALWAYS = {
    "allow_stdin": False,
    "silent": False,
    "stop_on_error": True,
    "store_history": True,
    "user_expressions": {},
}
"""What a front end says besides when it asks for a cell."""


def drive(
    session: Session, root: Path, folders: Sequence[Path], environment: Mapping[str, str]
) -> None:
    """Run the cells of the session's document in a notebook process.

    Raises:
        CellFailedError: a cell raised, where it must not.
        DiedError: the process ended before its last cell.
    """
    process = _Process(session, root, folders, surroundings(environment))
    try:
        for index, cell in enumerate(session.document.cells):
            with session.cell(index):
                process.run(index, cell)
        process.end()
    except KeyboardInterrupt:
        process.stop()
        raise
    finally:
        process.close()


class _Process:
    def __init__(
        self,
        session: Session,
        root: Path,
        folders: Sequence[Path],
        environment: Mapping[str, str],
    ) -> None:
        adopt_orphans()  # also where a guard stands between: it may be killed itself
        self._session = session
        self._collector = session.collector()
        self._collector.kc = SimpleNamespace(session=_Messages(), shell_channel=self)
        self._waiting: list[dict[str, Any]] = []
        self._reply: dict[str, Any] = {}
        self._token = secrets.token_hex(8).encode()
        self._ours = {child.pid for child in children()}
        self._status: int | None = None
        self._link, theirs = socket.socketpair()
        pipes = [os.pipe() for _ in _NAMES]
        for _, writer in pipes:
            with contextlib.suppress(OSError):  # more than an unprivileged user may have
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self._guard, self._pid = fork_guarded(
            lambda us: self._become_notebook(theirs, pipes, us, root, folders, environment)
        )
        theirs.close()
        for _, writer in pipes:
            os.close(writer)
        self._streams = [
            _Stream(name, reader, self._token)
            for name, (reader, _) in zip(_NAMES, pipes, strict=True)
        ]
        self._link.setblocking(False)
        self._inbox = bytearray()
        self._messages: dict[int, dict[str, Any]] = {}
        self._arrived = self._handled = 0
        self._poll = select.poll()
        self._handle = os.pidfd_open(self._guard)
        for fd in (self._link.fileno(), self._handle, *(s.fd for s in self._streams)):
            self._poll.register(fd, select.POLLIN)
        self._talk = select.poll()
        for fd in (self._link.fileno(), self._handle):
            self._talk.register(fd, select.POLLIN)

    def _become_notebook(
        self,
        link: socket.socket,
        pipes: list[tuple[int, int]],
        parent: int,
        root: Path,
        folders: Sequence[Path],
        environment: Mapping[str, str],
    ) -> NoReturn:
        self._link.close()
        for reader, _ in pipes:
            os.close(reader)
        os.chdir(root)
        inside.live(
            link,
            (pipes[0][1], pipes[1][1]),
            self._token,
            parent=parent,
            folders=folders,
            environment=environment,
        )

    # --- what the front end does ----------------------------------------------------------------

    def run(self, index: int, cell: Any) -> None:
        """Run one cell; its outputs are in it afterwards.

        Raises:
            CellFailedError: it raised, and has no tag that allows it.
            DiedError: the process ended in it.
        """
        self._collector.clear_before_next_output = False
        self._index, self._cell = index, cell
        for message in self._waiting:
            self._ask(message)
        self._waiting.clear()
        self._id = f"cell-{index}"
        self._reply = {}
        cell["execution_count"] = index + 1  # from now on it is being executed
        content = {"code": cell.source, **_AS_ALWAYS}
        self._ask(_Messages().msg("execute_request", content, id=self._id))
        while not (reply := self._reply):
            self._listen()
        cell["execution_count"] = reply["execution_count"]
        allowed = "raises-exception" in cell.metadata.get("tags", [])
        if reply["status"] == "error" and not allowed:
            raise CellFailedError(reply["ename"], reply["evalue"])
        if reply["exiting"] and index + 1 < len(self._session.document.cells):
            raise DiedError("the notebook was ended by exit() or quit()")

    def send(self, message: dict[str, Any]) -> None:
        """Take what nbclient would send to a kernel: widgets' news, read after the cell."""
        self._waiting.append(message)

    def _ask(self, message: dict[str, Any]) -> None:
        import json

        body = json.dumps(message).encode()
        self._link.setblocking(True)
        with contextlib.suppress(BrokenPipeError, ConnectionError):  # we shall see that it is dead
            self._link.sendall(HEADER.pack(len(body), 0) + body)
        self._link.setblocking(False)

    # --- listening ------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Wait for something to happen, a fifth of a second at most, and deal with it."""
        ready = {fd for fd, _ in self._poll.poll(TICK * 1000)}
        if ready and not ready & {self._link.fileno(), self._handle}:
            # Text only: more is likely to come, and each wake-up costs.
            ready |= {fd for fd, _ in self._talk.poll(_NAP_MS)}
        self._read()
        self._handle_all()
        self._session.tick(self.interrupt, self.kill)
        if not self._reply and self._is_over():
            self._drain()
            raise DiedError(death(self._status, "the notebook's process"))

    def _read(self) -> bool:
        """Take in what lies in the pipes and the link; return whether there was anything."""
        found = False
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while part := self._link.recv(_CHUNK):
                self._inbox += part
                found = True
        self._unpack()
        for stream in self._streams:
            found |= stream.read()
        return found

    def _unpack(self) -> None:
        import json

        while len(self._inbox) >= HEADER.size:
            body, rest = HEADER.unpack_from(self._inbox)
            end = HEADER.size + body + rest
            if len(self._inbox) < end:
                return
            message = json.loads(self._inbox[HEADER.size : HEADER.size + body])
            buffers, at = [], HEADER.size + body
            for size in message["buffers"]:
                buffers.append(bytes(self._inbox[at : at + size]))
                at += size
            del self._inbox[:end]
            self._arrived += 1
            message |= {"header": {"msg_type": message["msg_type"]}, "buffers": buffers}
            self._messages[self._arrived] = message

    def _handle_all(self) -> None:
        """Handle messages in their order, each after the text that was written before it."""
        while True:
            number = self._handled + 1
            for stream in self._streams:
                self._take(stream, number)
            behind = any(stream.reached < number for stream in self._streams)
            if number not in self._messages or (behind and self._status is None):
                return
            self._handled = number
            message = self._messages.pop(number)
            if message["msg_type"] == "execute_reply":
                self._reply = message["content"]
            elif message["parent_header"].get("msg_id") == self._id:
                self._collector.process_message(message, self._cell, self._index)

    def _take(self, stream: _Stream, number: int) -> None:
        for text in stream.before(number):
            parent = {"msg_id": self._id}
            message = _Messages().msg("stream", {"name": stream.name, "text": text}, parent)
            self._collector.process_message(message, self._cell, self._index)

    def _drain(self) -> None:
        """Take in what the process wrote before it died; its marks may be incomplete."""
        end = time.monotonic() + 1  # what it started may go on writing
        while self._read() and time.monotonic() < end:
            self._handle_all()
        self._handle_all()
        for stream in self._streams:
            stream.close()
            self._take(stream, self._handled + 1)

    # --- its end --------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Send Ctrl-C."""
        if self._status is None:
            os.kill(self._pid, signal.SIGINT)

    def stop(self) -> None:
        """Kill it, and take in what it has written."""
        self.kill()
        if not self._reply:
            self._drain()

    def end(self) -> None:
        """Let it do what it does at exit, and wait for that a while."""
        self._link.shutdown(socket.SHUT_WR)
        self._poll.unregister(self._link.fileno())  # at its end soon, and would wake us for ever
        end = time.monotonic() + _ENDING
        while not self._is_over() and time.monotonic() < end:
            ready = {fd for fd, _ in self._poll.poll(TICK * 1000)}
            for stream in self._streams:
                if stream.fd in ready and not stream.read():
                    self._poll.unregister(stream.fd)  # the same
                stream.forget()

    def kill(self) -> None:
        """Kill it and all that it started."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)  # it may have left its group
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._guard, 0)[1])
        end_orphans(self._ours)

    def close(self) -> None:
        """Kill it and let go of what connected it with us."""
        self.kill()
        self._link.close()
        for fd in (self._handle, *(stream.fd for stream in self._streams)):
            os.close(fd)

    def _is_over(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self._guard, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is not None


class _Stream:
    """One of the pipes: text, cut where the marks of messages stand.

    Attributes:
        name: ``stdout`` or ``stderr``.
        fd: where it is read.
        reached: number of the last mark that was passed.
    """

    def __init__(self, name: str, fd: int, token: bytes) -> None:
        self.name, self.fd, self._token = name, fd, token
        self.reached = 0
        self._data = bytearray()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        os.set_blocking(fd, False)

    def read(self) -> bool:
        """Take in what lies in the pipe; return whether there was anything."""
        try:
            part = os.read(self.fd, _CHUNK)
        except BlockingIOError:
            return False
        self._data += part
        return bool(part)

    def before(self, number: int) -> Iterator[str]:
        """Yield the text before the mark of message ``number``, as far as it has come."""
        if self.reached >= number:
            return
        wanted = mark(self._token, number)
        at = self._data.find(wanted)
        if at >= 0:
            self.reached = number
            taken, self._data = self._data[:at], self._data[at + len(wanted) :]
        else:
            # A mark may have come in half.
            start = self._data.rfind(b"\0", max(0, len(self._data) - len(wanted)))
            end = len(self._data)
            if start >= 0 and wanted.startswith(self._data[start:]):
                end = start
            taken, self._data = self._data[:end], self._data[end:]
        if text := self._decoder.decode(bytes(taken)):
            yield text

    def forget(self) -> None:
        """Leave what has come."""
        self._data.clear()

    def close(self) -> None:
        """Take no more: what looks like half a mark is none, unless it is one."""
        if mark(self._token, self.reached + 1).startswith(bytes(self._data)):
            self._data.clear()


class _Messages:
    """Makes messages as jupyter_client does, without its keys and signatures."""

    def msg(
        self,
        kind: str,
        content: Mapping[str, Any],
        parent: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        id: str = "",
    ) -> dict[str, Any]:
        """Return a message of ``kind``."""
        return {
            "header": {"msg_id": id, "msg_type": kind, "session": "mlnb", "username": "mlnb"},
            "msg_id": id,
            "msg_type": kind,
            "parent_header": dict(parent or {}),
            "metadata": dict(metadata or {}),
            "content": dict(content),
            "buffers": [],
        }
