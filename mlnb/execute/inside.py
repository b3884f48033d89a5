"""The notebook process: IPython's own kernel, without sockets, in a process that was forked.

It is ipykernel's kernel and shell, so that a notebook finds what it finds in JupyterLab. Only the
wire differs. What a kernel would publish goes as JSON down one pair of sockets; file descriptors
1 and 2 are pipes, and ``sys.stdout`` and ``sys.stderr`` write to them, so that Python, native
code and subprocesses share one order. Before each message a mark goes down both pipes: the other
side (:mod:`mlnb.execute.forked`) puts what stands before the mark before the message.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import os
import signal
import socket
import struct
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, NoReturn

from mlnb.forks import become_own, take_environment
from mlnb.worker import lessons
from mlnb.worker.wanted import INSTALLED

HEADER = struct.Struct("!II")
"""Length of the JSON and of the binary buffers after it."""

_NAMES = {1: "stdout", 2: "stderr"}


def mark(token: bytes, number: int) -> bytes:
    """Return the bytes that stand in a pipe where message ``number`` was sent."""
    return b"\0%s:%08x\0" % (token, number)


def live(
    link: socket.socket,
    pipes: tuple[int, int],
    token: bytes,
    *,
    parent: int,
    folders: Sequence[Path],
    environment: Mapping[str, str],
) -> NoReturn:
    """Be the notebook process until the other side has no more cells, and end.

    Args:
        link: for requests and messages.
        pipes: where file descriptors 1 and 2 write to.
        token: what marks begin with, unknown to the notebook.
        parent: process id of the other side; the notebook ends with it.
        folders: where local modules are imported from.
        environment: the whole environment.
    """
    code = 1
    try:
        _settle_in(pipes, parent, folders, environment)
        kernel = _kernel(link, pipes, token)
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(_answer(kernel, link))
        code = 0
        lessons.tell(INSTALLED)
        _say_goodbye()
    except BaseException as error:  # noqa: BLE001 - nothing may return into the parent's code
        with contextlib.suppress(BaseException):
            os.write(2, f"the notebook process failed: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def _settle_in(
    pipes: tuple[int, int], parent: int, folders: Sequence[Path], environment: Mapping[str, str]
) -> None:
    """Make this fork a process of its own, as one that was started anew would be."""
    import ipykernel

    become_own(parent)
    sys.settrace(None)  # who watched the lines of the process that we were has no business here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # until a cell runs
    gc.freeze()  # what was imported before stays, and stays shared with the other side
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, pipe in enumerate(pipes, 1):
        os.dup2(pipe, number)
    os.close(null)
    usual = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    take_environment({**usual, **environment})
    with contextlib.suppress(OSError):  # if memory runs out, this process goes, and no other
        Path("/proc/self/oom_score_adj").write_text("800")
    sys.argv = [str(Path(ipykernel.__path__[0]).with_name("ipykernel_launcher.py"))]
    sys.path[:] = _search(list(map(str, folders)))
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    # What is left in the buffers of the process that we were is its to write.
    sys.stdout = sys.__stdout__ = _stream(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2)  # type: ignore[misc]
    _say_where_native_code_crashes()


def _search(folders: list[str]) -> list[str]:
    """Return where a kernel that was started anew would look for modules."""
    # The folder of the program that we were is no place of the notebook's.
    rest = sys.path if sys.flags.safe_path else sys.path[1:]
    rest = [path for path in rest if path not in ("", *folders)]
    at = next((i for i, path in enumerate(rest) if path.endswith("-packages")), 0)
    return [*folders, *rest[:at], "", *rest[at:]]


def _stream(number: int) -> io.TextIOWrapper:
    """Return a text stream to a descriptor that holds nothing back and refuses surrogates."""
    raw = _Descriptor(number, "w", closefd=False)
    raw.name = _NAMES[number]
    return io.TextIOWrapper(raw, encoding="utf-8", errors="strict", write_through=True)


class _Descriptor(io.FileIO):
    """A file descriptor that takes all of a write, also when a signal comes between."""

    def write(self, data: Any, /) -> int:
        left = memoryview(data)
        while left:
            left = left[os.write(self.fileno(), left) :]
        return len(data)


def _say_where_native_code_crashes() -> None:
    import faulthandler

    faulthandler.enable(file=2)


def _kernel(link: socket.socket, pipes: tuple[int, int], token: bytes) -> Any:
    """Return IPython's kernel, wired to ``link``."""
    import logging

    from ipykernel import ipkernel
    from ipykernel.compiler import XCachingCompiler, get_tmp_directory
    from ipykernel.ipkernel import IPythonKernel
    from ipykernel.kernelapp import IPKernelApp
    from IPython.core.interactiveshell import InteractiveShell
    from jupyter_client.session import Session, json_packer
    from traitlets.config import Config

    class LinkSession(Session):  # type: ignore[misc]
        """Sends what a kernel publishes over the link, each message behind its marks."""

        sent = 0
        owner = os.getpid()
        turn = threading.RLock()

        def send(
            self,
            stream: Any,
            msg_or_type: Any,
            content: Any = None,
            parent: Any = None,
            ident: Any = None,
            buffers: Any = None,
            track: bool = False,
            header: Any = None,
            metadata: Any = None,
        ) -> Any:
            if os.getpid() != self.owner:
                return None  # a fork of the notebook's own; a kernel's session refuses it too
            message = msg_or_type
            if not isinstance(message, dict):
                message = self.msg(msg_or_type, content, parent, header, metadata)
            kept = ("msg_type", "content", "metadata", "parent_header")
            found = [bytes(b) for b in (message.get("buffers") or buffers or ())]
            body = json_packer(
                {**{key: message[key] for key in kept}, "buffers": [len(b) for b in found]}
            )
            with self.turn, interrupts.held():
                LinkSession.sent += 1
                for pipe in pipes:
                    os.write(pipe, mark(token, self.sent))
                rest = b"".join(found)
                link.sendall(HEADER.pack(len(body), len(rest)) + body + rest)
            return message

    class QuickCompiler(XCachingCompiler):  # type: ignore[misc]
        """Names a cell's code by a checksum that costs nothing."""

        def get_code_name(self, raw_code: str, code: str, number: int) -> str:
            name = zlib.crc32(raw_code.encode("utf-8", "surrogatepass"))
            return f"{get_tmp_directory()}/{name}.py"

    interrupts = _Interrupts()
    for single in (InteractiveShell, IPythonKernel, IPKernelApp):
        single.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    config.IPKernelApp.connection_file = ""
    log = logging.getLogger("mlnb.notebook")
    log.setLevel(logging.CRITICAL)
    # It would look at each module there is, and so copy much memory that is shared with the parent.
    ipkernel.sys = SimpleNamespace(modules={})
    kernel = IPythonKernel.instance(
        config=config,
        log=log,
        user_ns=None,  # or there would be no module around the names
        session=LinkSession(key=b"", username="mlnb"),
        iopub_socket=link,
        compiler_class=QuickCompiler,
        shell_channel_thread=SimpleNamespace(parent_thread=threading.main_thread()),
    )
    ipkernel.sys = sys
    # Libraries ask it which kernel this is; it starts nothing.
    IPKernelApp.instance(config=config, kernel=kernel, log=log)
    kernel.shell.exit_now = False
    kernel.shell.user_ns_hidden.update(kernel.shell.user_ns)
    kernel.shell.extension_manager.load_extension("storemagic")
    return kernel


class _Interrupts:
    """Lets Ctrl-C wait while a message is sent."""

    def __init__(self) -> None:
        self._came = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let Ctrl-C wait while this lasts."""
        usual = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(usual):
            yield
            return
        signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, usual)
            if self._came:
                self._came = False
                usual(signal.SIGINT, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True


async def _answer(kernel: Any, link: socket.socket) -> None:
    """Run cells as they are asked for, until the other side closes or says that it is done."""
    from tornado.ioloop import IOLoop

    kernel.io_loop = IOLoop.current()
    while (request := receive(link)) is not None:
        message, _ = request
        if message["msg_type"] == "execute_request":
            await _execute(kernel, message)
        else:  # comm_msg, comm_open, comm_close: what a front end would send
            handler = kernel.shell_handlers[message["msg_type"]]
            handler(None, [], message)
        await asyncio.sleep(0)  # tasks that a cell has left behind take their turn


async def _execute(kernel: Any, request: dict[str, Any]) -> None:
    kernel.set_parent([], request)
    code = request["content"]["code"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        reply = await kernel.do_execute(code, silent=False, allow_stdin=False)
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        # Ctrl-C between two parts of IPython that handle it.
        kernel.shell.showtraceback((KeyboardInterrupt, KeyboardInterrupt(), error.__traceback__))
        reply = {"status": "error", "ename": "KeyboardInterrupt", "evalue": "", "traceback": []}
        reply["execution_count"] = kernel.shell.execution_count - 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a notebook may have put anything there
            stream.flush()
    shown = ("status", "ename", "evalue", "execution_count")
    content = {name: reply[name] for name in shown if name in reply}
    content["exiting"] = bool(kernel.shell.exit_now)
    kernel.session.send(None, "execute_reply", content, parent=request)


def receive(link: socket.socket) -> tuple[dict[str, Any], bytes] | None:
    """Return the next message and its buffers, or None when the other side has closed."""
    import json

    head = _exactly(link, HEADER.size)
    if head is None:
        return None
    body_size, rest_size = HEADER.unpack(head)
    body, rest = _exactly(link, body_size), _exactly(link, rest_size)
    return None if body is None or rest is None else (json.loads(body), rest)


def _exactly(link: socket.socket, size: int) -> bytes | None:
    parts = []
    while size:
        part = link.recv(min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _say_goodbye() -> None:
    """Do what an interpreter does at its end, except waiting for threads."""
    import atexit

    gc.freeze()  # IPython would look through all that is about to go
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
