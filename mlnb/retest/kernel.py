"""A kernel for nbval that is watched while it works, and leaves nothing behind."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from queue import Empty
from typing import Any

from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel

from mlnb.kernel import Kernel, KernelError, preparation

TICK = 0.25
"""Seconds between two looks at the kernel's process."""

GRACE = 5.0
"""Seconds that an interrupted cell has to end."""


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
        from jupyter_client.manager import KernelManager

        self._queues: dict[str, deque[Any]] = {"shell": deque(), "iopub": deque()}
        self._deadline = float("inf")
        self.kc: Any = None
        self._kernel = Kernel("" if name == CURRENT_ENV_KERNEL_NAME else name, "", KernelManager)
        self.km = self._kernel.manager
        try:
            self._start(name, cwd, startup_timeout)
        except BaseException:  # also Ctrl-C, so that no kernel is left behind
            self.stop()
            raise

    def _start(self, name: str, cwd: str, startup_timeout: float) -> None:
        self.km.start_kernel(**self._kernel.start_arguments(Path(cwd)))
        self.kc = self.km.client()
        self.kc.start_channels(hb=False)  # the process itself is watched
        try:
            self.kc.wait_for_ready(timeout=startup_timeout)
            self._ensure_iopub_up()
            if self._kernel.is_python:
                message = self.kc.execute(preparation(), silent=True)
                self.await_reply(message, startup_timeout)
                self.await_idle(message, startup_timeout)
        except RuntimeError as error:
            raise KernelError(f"kernel {name!r} does not start: {error}{self._told()}") from None

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

    @property
    def interrupted(self) -> bool:
        """Whether a cell was told to end."""
        return self._deadline < float("inf")

    def interrupt(self) -> None:
        """Send Ctrl-C, and give the cell a short time to end."""
        self._deadline = time.monotonic() + GRACE
        super().interrupt()

    def stop(self) -> None:
        """Kill the kernel and what it started, close the channels, remove the files."""
        if self.kc is not None:
            self.kc.stop_channels()
        if hasattr(self, "km"):
            self._kernel.kill()
            self.km.shutdown_kernel(now=True)
            del self.km
        self._kernel.close()

    def death(self) -> str:
        """Return in words how the process ended."""
        return self._kernel.death() + self._told()

    def _told(self) -> str:
        """Return the last lines that the process wrote by itself, as an addition to a message."""
        return "".join(f"\n  | {line}" for line in self._kernel.log_tail(5).splitlines())
