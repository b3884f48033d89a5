"""A kernel for nbval that is watched while it works, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from pathlib import Path
from queue import Empty
from typing import Any

from nbval.kernel import CURRENT_ENV_KERNEL_NAME, NbvalKernelspecManager, RunningKernel

from mlnb.errors import MlnbError, did_you_mean

TICK = 0.25
"""Seconds between two looks at the kernel's process."""

GRACE = 5.0
"""Seconds that an interrupted cell has to end."""

_OWN = ("python", "python3", CURRENT_ENV_KERNEL_NAME)
"""Names for this interpreter, as in a run; a ``python3`` registered by somebody else is not it."""

_EDITORS = ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD")
_INSIDE = """
exec(compile({text!r}, "mlnb", "exec"), {{"__name__": "mlnb-inside", "get_ipython": get_ipython}})
"""


class KernelError(MlnbError):
    """A kernel that is not there, does not start, or has died."""


class WatchedKernel(RunningKernel):  # type: ignore[misc] # nbval has no types
    """nbval's kernel, with eyes on its process.

    Messages of both channels are taken as they come. nbval reads the outputs only after a cell
    has ended, and what does not fit into the socket's queue until then is lost.

    Args:
        name: kernelspec.
        cwd: where the kernel starts.
        startup_timeout: seconds it has to answer.

    Raises:
        KernelError: it is not installed, or did not start.
    """

    def __init__(self, name: str, cwd: str, startup_timeout: float) -> None:
        self._queues: dict[str, deque[Any]] = {"shell": deque(), "iopub": deque()}
        self._deadline = float("inf")
        self._folder = Path(tempfile.mkdtemp(prefix="mlnb-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.kc: Any = None
        try:
            self._start(name, cwd, startup_timeout)
        except BaseException:  # also Ctrl-C, so that no kernel is left behind
            self.stop()
            raise

    def _start(self, name: str, cwd: str, startup_timeout: float) -> None:
        self.km = self._manager(name)
        with (self._folder / "log").open("wb") as log:
            self.km.start_kernel(cwd=cwd, env=_environment(), stdout=log, stderr=log)
        self._process = self.km.provisioner.process
        self.kc = self.km.client()
        self.kc.start_channels(hb=False)  # the process itself is watched
        try:
            self.kc.wait_for_ready(timeout=startup_timeout)
            self._ensure_iopub_up()
            if (self.language or "").startswith("python"):
                self._prepare(startup_timeout)
        except RuntimeError as error:
            raise KernelError(f"kernel {name!r} does not start: {error}{self.log_tail()}") from None

    def _prepare(self, timeout: float) -> None:
        inside = Path(__file__).with_name("inside.py").read_text("utf-8")
        message = self.kc.execute(_INSIDE.format(text=inside), silent=True)
        self.await_reply(message, timeout)
        self.await_idle(message, timeout)

    def _manager(self, name: str) -> Any:
        from jupyter_client.kernelspec import NoSuchKernel
        from jupyter_client.manager import KernelManager

        specs = NbvalKernelspecManager()
        manager = KernelManager(
            kernel_name=CURRENT_ENV_KERNEL_NAME if name in _OWN else name,
            kernel_spec_manager=specs,
            connection_file=str(self._folder / "k.json"),
        )
        if os.name == "posix":
            manager.transport = "ipc"  # no port to race for, and nobody else can connect
        try:
            manager.kernel_spec  # noqa: B018 - looked up on first use
        except NoSuchKernel:
            known = sorted({"python3", *specs.find_kernel_specs()})
            raise KernelError(
                f"kernel {name!r} is not installed here.{did_you_mean(name, known)}",
                remedy=f"Installed: {', '.join(known)}. Choose one in the editor and save, or "
                "give pytest --nbval-current-env.",
            ) from None
        return manager

    def get_message(self, stream: str, timeout: float | None = None) -> Any:
        """Return the next message of a channel.

        Raises:
            KernelError: the process has died.
            Empty: nothing came in time.
        """
        limit = float("inf") if timeout is None else time.monotonic() + timeout
        while not self._queues[stream]:
            left = min(limit, self._deadline) - time.monotonic()
            alive = self.is_alive()
            if self._pump(max(0.0, min(TICK, left))):
                continue
            if not alive:
                raise KernelError(self.death())
            if left <= 0:
                raise Empty
        if time.monotonic() > self._deadline:
            raise Empty  # an interrupted cell that goes on printing is not listened to
        return self._queues[stream].popleft()

    def _pump(self, wait: float) -> bool:
        """Move what has arrived into the queues, waiting for the first; return whether any had."""
        import zmq

        channels = {"shell": self.kc.shell_channel, "iopub": self.kc.iopub_channel}
        poller = zmq.Poller()
        for channel in channels.values():
            poller.register(channel.socket, zmq.POLLIN)
        ready = dict(poller.poll(round(wait * 1000)))
        for name, channel in channels.items():
            if channel.socket in ready:
                self._queues[name].append(channel.get_msg(timeout=0))
        return bool(ready)

    def interrupt(self) -> None:
        """Send Ctrl-C, and give the cell a short time to end."""
        self._deadline = time.monotonic() + GRACE
        super().interrupt()

    def stop(self) -> None:
        """Kill the kernel and what it started, close the channels, remove the files."""
        if self.kc is not None:
            self.kc.stop_channels()
        if hasattr(self, "km"):
            with contextlib.suppress(RuntimeError):
                self.km.shutdown_kernel(now=True)
            del self.km
        shutil.rmtree(self._folder, ignore_errors=True)

    def death(self) -> str:
        """Return in words how the process ended."""
        code = self._process.poll() if self._process else None
        if code is None:
            return f"the kernel stopped answering{self.log_tail()}"
        if code >= 0:
            return f"the kernel ended with exit code {code}{self.log_tail()}"
        name = signal.Signals(-code).name
        hint = " (often because memory ran out)" if name == "SIGKILL" else ""
        return f"the kernel was killed by {name}{hint}{self.log_tail()}"

    def log_tail(self, lines: int = 5) -> str:
        """Return the last lines that the process wrote by itself, as an addition to a message."""
        try:
            log = (self._folder / "log").read_text("utf-8", errors="replace").replace("\0", "")
        except FileNotFoundError:
            return ""
        last = [line for line in log.splitlines() if line.strip()][-lines:]
        return "".join(f"\n  | {line}" for line in last)


def _environment() -> dict[str, str]:
    """Return what a kernel finds in its environment: what a run gives, and no editor's names."""
    # With pytest's name in it, ipykernel would not pass on what child processes print.
    left_out = ("PYTEST_CURRENT_TEST", *_EDITORS)
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "0"}
