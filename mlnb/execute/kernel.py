"""One kernel: started privately, watched, and gone when the run is over, however it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlnb.errors import MlnbError, did_you_mean

GRACE = 3.0
"""Seconds between the interrupt at a deadline and the kill."""

_OWN = ("", "python3", "python")
_TICK = 0.2

PREPARE = """
def _mlnb_prepare(folders):
    import sys
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    def strict(stream):
        write = stream.write
        def checked(text):
            text.encode()
            return write(text)
        stream.write = checked
    def before_cell(info=None):
        # A kernel loses a text it cannot encode and goes on; a script would fail, and so do we.
        # At every cell, because IPython swaps the streams' write around each.
        strict(sys.stdout)
        strict(sys.stderr)
    get_ipython().events.register("pre_run_cell", before_cell)
_mlnb_prepare({folders!r})
del _mlnb_prepare
"""
"""What runs in a Python kernel before the first cell, without a trace in the notebook."""


class KernelError(MlnbError):
    """A kernel that is not installed or does not start."""


class Kernel:
    """A kernel manager with files of its own and a clean end.

    Args:
        name: kernelspec; empty or ``python3`` is this interpreter, whatever is registered.
        where: the notebook, for messages.
    """

    def __init__(self, name: str, where: str) -> None:
        from jupyter_client.manager import AsyncKernelManager

        # Unix sockets: no port to race for, and nobody else can connect. Their paths are short
        # because the system allows about a hundred bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="mlnb-"))
        self._log = (self._folder / "log").open("w+b")
        self._process: subprocess.Popen[bytes] | None = None
        self._children: set[Any] = set()
        self.manager = AsyncKernelManager(
            kernel_name=name or "python3", connection_file=str(self._folder / "k.json")
        )
        if os.name == "posix":
            self.manager.transport = "ipc"
        self._set_spec(name, where)

    def _set_spec(self, name: str, where: str) -> None:
        from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

        if name in _OWN:
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            spec = KernelSpec(argv=argv, display_name="Python 3", language="python")
        else:
            specs = KernelSpecManager()
            try:
                spec = specs.get_kernel_spec(name)
            except NoSuchKernel:
                known = sorted({"python3", *specs.find_kernel_specs()})
                self.close()
                raise KernelError(
                    f"kernel {name!r} is not installed here.{did_you_mean(name, known)}",
                    where=where,
                    remedy=f"Installed: {', '.join(known)}. Choose one in the editor and save, or "
                    "run with `--kernel python3`.",
                ) from None
        self.manager._kernel_spec = spec

    def start_arguments(self, root: Path, environment: Mapping[str, str]) -> dict[str, Any]:
        """Return what the kernel process is started with: folder, environment, where it logs."""
        env = {**os.environ, "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "0", **environment}
        return {"cwd": str(root), "env": env, "stdout": self._log, "stderr": self._log}

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The kernel process, once it was started."""
        # Kept, because the manager forgets it when it thinks the kernel is gone.
        self._process = self._process or getattr(self.manager.provisioner, "process", None)
        return self._process

    def log_tail(self, lines: int = 8) -> str:
        """Return the last lines that the process itself wrote, outside any cell."""
        text = (self._folder / "log").read_bytes().decode(errors="replace")
        return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])

    def death(self) -> str:
        """Return in words how the process ended."""
        code = self.process.poll() if self.process else None
        if code is None:
            return "the kernel stopped answering"
        if code >= 0:
            return f"the kernel process ended with exit code {code}"
        name = signal.Signals(-code).name
        hint = {
            "SIGKILL": " (often because memory ran out)",
            "SIGSEGV": " (a crash in native code)",
        }.get(name, "")
        return f"the kernel was killed by {name}{hint}"

    def interrupt(self) -> None:
        """Send Ctrl-C to the kernel."""
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGINT)

    def note_children(self) -> None:
        """Remember what the kernel has started: once it is gone, nobody knows whose they were."""
        import psutil

        if self.process is not None:
            with contextlib.suppress(psutil.Error):
                self._children |= set(psutil.Process(self.process.pid).children(recursive=True))

    def kill(self) -> None:
        """Kill the kernel and all it started, also what left its process group."""
        import psutil

        process = self.process
        if process is None:
            return
        self.note_children()
        for child in self._children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(process.pid, signal.SIGKILL)  # it leads a session of its own
            else:
                process.kill()

    def close(self) -> None:
        """Remove the files of the connection."""
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Watch:
    """Ends a kernel at its deadlines, from a thread of its own.

    nbclient's timeout waits for a reply that a stopped kernel never sends; a killed kernel is
    noticed at once, whatever it was doing.

    Args:
        kernel: what to end.
        run_deadline: seconds for the run; 0 for none.
        cell_deadline: seconds for each cell; 0 for none.
        tick: called a few times a second while the run lasts.
    """

    def __init__(
        self, kernel: Kernel, run_deadline: float, cell_deadline: float, tick: Callable[[], None]
    ) -> None:
        self._kernel, self._tick = kernel, tick
        self._run_deadline, self._cell_deadline = run_deadline, cell_deadline
        self._started = self._cell_started = time.monotonic()
        self._cell = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mlnb-watch", daemon=True)
        self.reason = ""

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def cell(self, number: int) -> None:
        """Say that cell ``number`` begins now."""
        self._cell, self._cell_started = number, time.monotonic()

    def _watch(self) -> None:
        killed_at = 0.0
        while not self._over.wait(_TICK):
            self._tick()
            if not self.reason and (reason := self._expired()):
                self.reason = reason
                self._kernel.interrupt()
                killed_at = time.monotonic() + GRACE
            elif self.reason and time.monotonic() > killed_at:
                self._kernel.kill()

    def _expired(self) -> str:
        now = time.monotonic()
        if self._cell and self._cell_deadline and now - self._cell_started > self._cell_deadline:
            return f"cell {self._cell} ran past the cell deadline of {self._cell_deadline:g} s"
        if self._run_deadline and now - self._started > self._run_deadline:
            place = f"in cell {self._cell}" if self._cell else "while the kernel started"
            return f"the run passed its deadline of {self._run_deadline:g} s {place}"
        return ""
