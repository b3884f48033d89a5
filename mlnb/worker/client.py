"""Handing a command over to the warm worker, and starting one where there is none.

The client binds the socket before it starts the worker, under a lock, so that two clients at once
end with one worker and nobody has to ask whether it is ready: a request waits in the socket.
"""

from __future__ import annotations

import _socket
import fcntl
import marshal
import os
import sys
from collections.abc import Mapping, Sequence

from mlnb.worker import address
from mlnb.worker.address import UnavailableError

INTERRUPT, TERMINATE = b"I", b"T"
"""What a client sends while its command runs."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TRIES = 10
_BACKLOG = 128
_SIZE = 4
_LONGEST_LOG = 1 << 20
_CHUNK = 1 << 16
_SWITCH = "MLNB_WARM"
_RESOURCES = ("RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE",
              "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_STACK")  # fmt: skip


class WorkerError(Exception):
    """No worker took the command, or it went away before it answered; says why.

    Attributes:
        wanted: somebody should be told; a worker that was switched off is no fault.
    """

    def __init__(self, why: str, *, wanted: bool = True) -> None:
        self.wanted = wanted
        super().__init__(why)


class Handover:
    """A command in a child of the warm worker.

    Args:
        words: the command, without ``mlnb``.
        cwd: its working directory.
        environment: all its variables.
        streams: file descriptors that become its 0, 1 and 2.

    Raises:
        WorkerError: there can be no worker here.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        cwd: str | os.PathLike[str],
        environment: Mapping[str, str],
        streams: tuple[int, int, int] = (0, 1, 2),
    ) -> None:
        if environment.get(_SWITCH) == "0":
            raise WorkerError(f"{_SWITCH}=0", wanted=False)
        if sys.platform != "linux":
            raise WorkerError("warm workers need Linux", wanted=False)
        root = address.root_above(os.path.abspath(cwd))
        if not root:
            raise WorkerError("no project here", wanted=False)
        self._request = marshal.dumps(
            {
                "op": "run",
                "words": list(words),
                "cwd": os.path.abspath(cwd),
                "environment": dict(environment),
                **_bounds(),
            }
        )
        self._streams = streams
        try:
            self._path = address.socket_path(root, environment)
            self._link = self._sent(root, environment)
        except (UnavailableError, OSError) as error:
            raise WorkerError(str(error)) from None

    def _sent(self, root: str, environment: Mapping[str, str]) -> _socket.socket:
        """Return a connection to a worker that has taken the request."""
        for _ in range(_TRIES):
            link = connect(self._path) or _start(self._path, root, environment)
            try:
                send(link, self._request, self._streams)
                answer = receive(link)
            except OSError:
                answer = None
            if answer and answer.get("taken"):
                return link
            link.close()
            if answer and answer.get("refused"):
                raise UnavailableError(answer["refused"])
            # It was about to go: its environment has changed, or it has been idle for long.
        raise UnavailableError("no worker stays; `mlnb worker log` may say why")

    def wait(self) -> int:
        """Return the exit code; 1 where the child was killed, which is said on its stderr.

        Raises:
            WorkerError: the worker went away, and the child with it.
        """
        answer = receive(self._link)
        self._link.close()
        if answer is None:
            raise WorkerError("the worker died")
        if killed := answer.get("killed"):
            text = f"mlnb: the run {killed}\n"
            os.write(self._streams[2], text.encode())
            return 1
        return int(answer["exit"])

    def interrupt(self) -> None:
        """Press Ctrl-C on the child; from any thread or signal handler."""
        self._tell(INTERRUPT)

    def terminate(self) -> None:
        """Ask the child to end."""
        self._tell(TERMINATE)

    def _tell(self, what: bytes) -> None:
        try:
            self._link.send(what)
        except OSError:
            pass  # it has ended meanwhile


def ask(path: str, op: str) -> dict[str, Any] | None:
    """Return the answer of the worker at ``path`` to ``status`` or ``stop``; None without one."""
    link = connect(path)
    if link is None:
        return None
    try:
        send(link, marshal.dumps({"op": op}), ())
        return receive(link)
    except OSError:
        return None
    finally:
        link.close()


def ensure(cwd: str, environment: Mapping[str, str]) -> None:
    """Start a worker for the project around ``cwd`` without waiting for it, unless there is one.

    A worker that cannot be had is no matter here; the command that needs it will say so.
    """
    root = address.root_above(os.path.abspath(cwd))
    if environment.get(_SWITCH) == "0" or sys.platform != "linux" or not root:
        return
    try:
        path = address.socket_path(root, environment)
        link = connect(path) or _start(path, root, environment)
        link.close()
    except (UnavailableError, OSError):
        return


def connect(path: str) -> _socket.socket | None:
    """Return a connection to the worker at ``path``, or None if none listens there."""
    link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        link.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        link.close()
        return None
    return link


def send(link: _socket.socket, body: bytes, streams: Sequence[int]) -> None:
    """Send a request with its file descriptors."""
    data = len(body).to_bytes(_SIZE, "big") + body
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in streams)
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if streams else []
    sent = link.sendmsg([data], ancillary)
    if sent < len(data):
        link.sendall(data[sent:])


def receive(link: _socket.socket) -> dict[str, Any] | None:
    """Return what comes next, or None if the other side has gone."""
    try:
        head = _exactly(link, _SIZE)
        found: dict[str, Any] = marshal.loads(_exactly(link, int.from_bytes(head, "big")))
        return found
    except (EOFError, OSError):
        return None


def _exactly(link: _socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = link.recv(min(_CHUNK, size - len(data)))
        if not part:
            raise EOFError
        data += part
    return data


def _start(path: str, root: str, environment: Mapping[str, str]) -> _socket.socket:
    """Start a worker unless somebody else just did; return a connection to it."""
    lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (link := connect(path)) is not None:
            return link
        try:
            os.unlink(path)  # nobody listens: its worker was killed
        except FileNotFoundError:
            pass
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
        _spawn(listener.fileno(), path, root, environment)
        listener.close()
        link = connect(path)
        if link is None:
            raise UnavailableError("the worker ended at once; `mlnb worker log` may say why")
        return link
    finally:
        os.close(lock)


def _spawn(listener: int, path: str, root: str, environment: Mapping[str, str]) -> None:
    """Start the worker as a process that nobody waits for, with nothing of ours open."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.umask(0o077)
        log = os.open(f"{path}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        if os.fstat(log).st_size > _LONGEST_LOG:
            os.ftruncate(log, 0)
        null = os.open(os.devnull, os.O_RDONLY)
        kept = os.dup(listener)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(kept, 3)
        os.closerange(4, 1 << 16)
        os.set_inheritable(3, True)
        os.chdir(root)
        words = [sys.executable, "-P", "-m", "mlnb", "worker", "serve", path]
        given = {k: v for k, v in environment.items() if not k.startswith(("DVC_", "MLNB_"))}
        os.execve(sys.executable, words, given | {"PYTHONHASHSEED": "0"})
    finally:
        os._exit(127)


def _bounds() -> dict[str, Any]:
    """Return what a process started here would be bound by."""
    import resource

    limits = {name: resource.getrlimit(getattr(resource, name)) for name in _RESOURCES}
    return {"umask": _umask(), "limits": limits, "cores": list(os.sched_getaffinity(0))}


def _umask() -> int:
    """Return the mask of new files; asking by setting it would show in other threads' files."""
    with open("/proc/self/status", "rb") as file:
        return next(int(line.split()[1], 8) for line in file if line.startswith(b"Umask:"))
