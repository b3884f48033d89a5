"""One Jupyter kernel: which program it is, how it starts privately, how it died, that it is gone.

Runs and tests drive kernels in their own ways, by nbclient and by nbval; what a kernel is and how
it ends is here, so that what passes in one passes in the other.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlnb.errors import MlnbError, did_you_mean

OWN = ("", "python3", "python")
"""Kernelspecs that mean this interpreter, whatever is registered."""

OUTPUT_PATIENCE = 60
"""Seconds that outputs may come after their cell has ended; the process is watched meanwhile."""

_NOT_PASSED_ON = (
    # With pytest's name in it, ipykernel would not pass on what child processes print.
    "PYTEST_CURRENT_TEST",
    # No editor is there to be told anything.
    "JPY_SESSION_NAME",
    "VSCODE_PID",
    "VSCODE_CWD",
)
_INSIDE = """
import sys
sys.path[:0] = [folder for folder in {folders!r} if folder not in sys.path]
del sys
exec(compile({text!r}, "<mlnb>", "exec"), {{"__name__": "mlnb-inside", "get_ipython": get_ipython}})
"""


class KernelError(MlnbError):
    """A kernel that is not installed, does not start, or has died."""


class Kernel:
    """A kernel manager with files of its own and a clean end.

    Args:
        name: kernelspec; empty or ``python3`` is this interpreter, whatever is registered.
        where: the notebook, for messages.
        manager: class of the jupyter_client manager.

    Raises:
        KernelError: it is not installed.
    """

    def __init__(self, name: str, where: str, manager: Any) -> None:
        # A name that is not there is refused before anything is made.
        spec = _spec(name, where)
        # Unix sockets: no port to race for, and nobody else can connect. Their paths are short
        # because the system allows about a hundred bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="mlnb-"))
        self._log = (self._folder / "log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None
        self._children: set[Any] = set()
        self.manager = manager(
            kernel_name=name or "python3", connection_file=str(self._folder / "k.json")
        )
        if os.name == "posix":
            self.manager.transport = "ipc"
        self.manager._kernel_spec = spec

    @property
    def is_python(self) -> bool:
        """Whether its language is Python."""
        return str(self.manager.kernel_spec.language).lower() == "python"

    def start_arguments(
        self, folder: Path, environment: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return what the process is started with: folder, environment, where it logs."""
        env = surroundings(environment or {})
        return {"cwd": str(folder), "env": env, "stdout": self._log, "stderr": self._log}

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The kernel process, once it was started."""
        # Kept, because the manager forgets it when it thinks the kernel is gone.
        self._process = self._process or getattr(self.manager.provisioner, "process", None)
        return self._process

    def log_tail(self, lines: int = 8) -> str:
        """Return the last lines that the process itself wrote, outside any cell."""
        text = (self._folder / "log").read_text("utf-8", errors="replace").replace("\0", "")
        return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])

    def death(self) -> str:
        """Return in words how the process ended."""
        return death(self.process.poll() if self.process else None)

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


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return all that a notebook finds: our variables, what is fixed, and ``environment``."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    # The order of sets and the dates in figures do not change from run to run.
    fixed = {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "0"}
    return {**kept, **fixed, **environment}


def death(code: int | None, who: str = "the kernel") -> str:
    """Return in words how a process ended; ``code`` is negative for a signal, None if unknown."""
    if code is None:
        return f"{who} stopped answering"
    if code >= 0:
        return f"{who} ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = {
        "SIGKILL": " (often because memory ran out)",
        "SIGSEGV": " (a crash in native code)",
    }.get(name, "")
    return f"{who} was killed by {name}{hint}"


def preparation(folders: Sequence[Path] = ()) -> str:
    """Return what a Python kernel runs before the first cell, without a trace in the notebook.

    Args:
        folders: where it imports local modules from.
    """
    inside = Path(__file__).with_name("inside.py").read_text("utf-8")
    return _INSIDE.format(folders=[str(folder) for folder in folders], text=inside)


def _spec(name: str, where: str) -> Any:
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel

    if name in OWN:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")
    specs = KernelSpecManager()
    try:
        return specs.get_kernel_spec(name)
    except NoSuchKernel:
        known = sorted({"python3", *specs.find_kernel_specs()})
        raise KernelError(
            f"kernel {name!r} is not installed here.{did_you_mean(name, known)}",
            where=where,
            remedy=f"Installed: {', '.join(known)}. Choose one in the editor and save.",
        ) from None
