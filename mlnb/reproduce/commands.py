"""The commands of stages: to the warm worker where it can take them, else as DVC runs them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from mlnb.reproduce.turn import Turn, family, signal_all

# Words that mean themselves to every shell.
_PLAIN = re.compile(r"mlnb(?: +(?!=)[\w@%+:,./=-]+)+")


class _Running(Protocol):
    """A command under way."""

    def wait(self) -> int:
        """Return its exit code once it has ended."""

    def interrupt(self) -> None:
        """Ask it to end, as Ctrl-C does."""

    def kill(self) -> None:
        """End it."""


class Commands:
    """Runs the commands of stages and can end them.

    Args:
        root: the project's root.
        logs: the folder of the stages' logs; None to let their output through.
        turn: marks what is started, so that a later run can end what this one left behind.
        say: tells the person a line.
        started: hears that a stage's command begins.
    """

    def __init__(
        self,
        root: Path,
        logs: Path | None,
        turn: Turn,
        say: Callable[[str], None],
        started: Callable[[Any], None],
    ) -> None:
        self._root, self._logs, self._turn = root, logs, turn
        self._say, self._started = say, started
        self._running: set[_Running] = set()
        self._guard = threading.Lock()
        self._closed = False
        self.ran: set[Any] = set()

    def log(self, stage: Any) -> Path | None:
        """Return the file that the stage's output goes to."""
        if self._logs is None:
            return None
        folder = Path(stage.path).parent
        inside = folder.relative_to(self._root) if folder.is_relative_to(self._root) else Path()
        name = getattr(stage, "name", None) or Path(stage.path).stem
        return self._logs / inside / (re.sub(r"[^\w@.+=,-]", "_", name)[:200] + ".log")

    def run(self, stage: Any, run_env: Mapping[str, str] | None = None) -> None:
        """Run each line of the stage's command until one fails.

        Raises:
            dvc.stage.exceptions.StageCmdFailedError: one failed.
        """
        from dvc.stage import run as dvc
        from dvc.stage.exceptions import StageCmdFailedError

        self.ran.add(stage)
        self._started(stage)
        kwargs = dvc.prepare_kwargs(stage, run_env=run_env)
        shell = dvc.get_executable()
        dvc._warn_if_fish(shell)
        if self._logs is None:
            dvc.logger.info("Running stage '%s':", stage.addressing)
        with self._streams(stage) as (stdin, stdout, stderr):
            for line in dvc._enforce_cmd_list(stage.cmd):
                if self._logs is None:
                    dvc.display_command(line)
                else:
                    os.write(stdout, f"> {line}\n".encode())
                streams = (stdin, stdout, stderr)
                code = self._run(line, dvc._make_cmd(shell, line), kwargs, streams)
                if code:
                    raise StageCmdFailedError(line, code)

    def close(self) -> None:
        """Let nothing more begin."""
        with self._guard:
            self._closed = True

    def interrupt(self) -> None:
        """Ask all that run to end, as Ctrl-C does."""
        for command in self._running.copy():
            command.interrupt()

    def kill(self) -> None:
        """End all that run."""
        for command in self._running.copy():
            command.kill()

    @contextlib.contextmanager
    def _streams(self, stage: Any) -> Iterator[tuple[int, int, int]]:
        """Yield the descriptors that the command gets as its standard streams."""
        path = self.log(stage)
        if path is None:
            sys.stdout.flush()
            sys.stderr.flush()
            yield 0, 1, 2
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several stages cannot share one keyboard.
        with path.open("wb", buffering=0) as log, Path(os.devnull).open("rb") as nothing:
            yield nothing.fileno(), log.fileno(), log.fileno()

    def _run(
        self, line: str, words: Any, kwargs: Mapping[str, Any], streams: tuple[int, int, int]
    ) -> int:
        if self._closed:
            return -signal.SIGINT
        if handed := self._hand_over(line, kwargs, streams):
            try:
                return self._wait(handed)
            except _WorkerGone:
                os.write(streams[2], b"mlnb: the warm worker is gone; starting the command cold\n")
        return self._wait(_Process(words, kwargs, streams, self._turn))

    def _wait(self, command: _Running) -> int:
        """Return the exit code of ``command`` once it has ended."""
        with self._guard:
            self._running.add(command)
            late = self._closed
        try:
            if late:
                command.interrupt()
            return command.wait()
        finally:
            with self._guard:
                self._running.discard(command)

    def _hand_over(
        self, line: str, kwargs: Mapping[str, Any], streams: tuple[int, int, int]
    ) -> _Running | None:
        """Return the command as the warm worker runs it; None where a shell must."""
        if not is_ours(line, kwargs["env"]):
            return None
        from mlnb.worker import Handover, WorkerError

        try:
            taken = Handover(
                line.split()[1:], cwd=kwargs["cwd"], environment=kwargs["env"], streams=streams
            )
        except WorkerError as error:
            if error.wanted:
                self._say(f"no warm worker ({error}); starting cold")
            return None
        return _HandedOver(taken)


def is_ours(line: str, environment: Mapping[str, str]) -> bool:
    """Whether a shell would do nothing with ``line`` but start this very ``mlnb``."""
    if not _PLAIN.fullmatch(line.strip()):
        return False
    found = shutil.which("mlnb", path=environment.get("PATH"))
    return found is not None and Path(found).parent.samefile(Path(sys.executable).parent)


class _WorkerGone(Exception):  # noqa: N818 - an event, which a cold run mends
    """The worker died without an answer."""


class _HandedOver:
    def __init__(self, handover: Any) -> None:
        self._handover = handover

    def wait(self) -> int:
        from mlnb.worker import WorkerError

        try:
            return int(self._handover.wait())
        except WorkerError as error:
            raise _WorkerGone from error

    def interrupt(self) -> None:
        self._handover.interrupt()

    def kill(self) -> None:
        # Our own end is what ends it for good: the worker kills a command whose client is gone.
        self._handover.terminate()


class _Process:
    """A command in a shell.

    It stays in our process group: a Ctrl-C, or a kill of the group, reaches all of it, and a
    command that asks at the terminal gets its answer, as under DVC.
    """

    def __init__(
        self, words: Any, kwargs: Mapping[str, Any], streams: tuple[int, int, int], turn: Turn
    ) -> None:
        stdin, stdout, stderr = streams
        environment = turn.marked(kwargs.get("env") or os.environ)
        self._process = subprocess.Popen(
            words,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            **{**kwargs, "env": environment},
        )

    def wait(self) -> int:
        return self._process.wait()

    def interrupt(self) -> None:
        signal_all(family(self._process.pid), signal.SIGINT)

    def kill(self) -> None:
        signal_all(family(self._process.pid), signal.SIGKILL)
