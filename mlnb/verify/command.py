"""A stage's command, run as DVC runs it, in the stage's box."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlnb.pipeline import Stage
from mlnb.verify.box import Box

_TAIL = 10
_SHELL_OPTIONS = {"bash": ("--noprofile", "--norc"), "zsh": ("--no-rcs",)}


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes:
        code: exit code; negative for a signal.
        output: what it printed, both streams.
        late: it was ended at its deadline.
    """

    code: int
    output: str
    late: bool = False

    @property
    def tail(self) -> str:
        """The last lines of the output."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return "\n".join(lines[-_TAIL:])


def run(stage: Stage, box: Box, deadline: float) -> Ended:
    """Run each line of the stage's command until one fails, as DVC does.

    Args:
        stage: the stage.
        box: its folder.
        deadline: seconds for all lines; 0 for no limit.
    """
    limit = time.monotonic() + deadline if deadline else None
    environment = _environment(stage, box)
    log = box.root.with_name(f"{box.root.name}.log")
    code, late = 0, False
    with log.open("wb") as sink:
        for line in stage.cmd.splitlines():
            code, late = _run(line, box.wdir, environment, sink, limit)
            if code or late:
                break
    return Ended(code, log.read_text("utf-8", errors="replace"), late)


def _run(
    line: str, wdir: Path, environment: dict[str, str], sink: IO[bytes], limit: float | None
) -> tuple[int, bool]:
    with subprocess.Popen(
        _words(line),
        cwd=wdir,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=sink,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        shell=os.name == "nt",
    ) as process:
        try:
            left = None if limit is None else max(0.0, limit - time.monotonic())
            return process.wait(left), False
        except subprocess.TimeoutExpired:
            return -signal.SIGTERM, True
        finally:
            _end(process)


def _words(line: str) -> list[str] | str:
    """Return the shell call that DVC would make: the user's shell, without its start-up files."""
    if os.name == "nt":
        return line
    shell = os.environ.get("SHELL") or "/bin/sh"
    return [shell, *_SHELL_OPTIONS.get(Path(shell).name, ()), "-c", line]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the command and what it left running, which could go on to write."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _environment(stage: Stage, box: Box) -> dict[str, str]:
    """Return the caller's environment with DVC's names in it, pointing into the box."""
    root = box.project.root
    found = {**os.environ, "DVC_STAGE": stage.target, "DVC_ROOT": str(box.root)}
    programs = str(Path(sys.executable).parent)
    found["PATH"] = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    if os.environ.get("PYTHONPATH"):
        # The project's own modules must come from the box, or an undeclared one would be found.
        folders = map(Path, os.environ["PYTHONPATH"].split(os.pathsep))
        found["PYTHONPATH"] = os.pathsep.join(
            str(box.root / f.relative_to(root) if f.is_relative_to(root) else f) for f in folders
        )
    return found
