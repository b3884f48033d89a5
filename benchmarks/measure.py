"""What a command costs, and the records that a comparison is made of.

The processor time of a command is that of its own processes and of everything it leaves to others.
A warm worker does its work in children that are not ours, so nobody's word is taken for it: every
command carries a mark in its environment, which all that it starts inherit, and the kernel is asked
for what all marked processes, and the children they have reaped, have used.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_MARK = "BENCHMARK_MARK"
_TICK = os.sysconf("SC_CLK_TCK")
_QUIET = 0.2
_PATIENCE = 60.0


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time and of processor time; megabytes of private memory where asked for."""

    wall: float
    cpu: float
    memory: float = math.nan


@dataclass(frozen=True)
class Case:
    """One way to do some work.

    Attributes:
        name: how the table calls it.
        run: does it once and returns what it cost.
        prepare: called before, outside the measure.
    """

    name: str
    run: Callable[[], Cost]
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Bound:
    """What a case may cost at most, as a share of a peer's cost.

    Attributes:
        work: what is done, in the words of the summary.
        case: whose cost is judged.
        peer: what it is compared with.
        of: which of the costs: wall, cpu or memory.
        at_most: the highest ratio that passes.
        limit: the case that shows what no tool can go below, if one does.
    """

    work: str
    case: str
    peer: str
    of: str
    at_most: float
    limit: str = ""


@dataclass(frozen=True)
class Subject:
    """Cases of the same work that are measured in turn, and the bounds that they are judged by.

    Attributes:
        title: its heading.
        note: what is done and how it is counted.
        cases: in the order of the table; the first is what the ratios there are to.
        stages: how many stages each case must run, known by the figures that they leave.
        bounds: what the cases may cost.
        rounds: most rounds it is worth, for work that takes minutes; 0 for as many as asked for.
    """

    title: str
    note: str
    cases: Sequence[Case]
    stages: int
    bounds: Sequence[Bound] = ()
    rounds: int = 0


@dataclass(frozen=True)
class _Process:
    """A process that a command has left behind.

    Attributes:
        parent: the id of its parent.
        seconds: what it and the children it has reaped have used.
        words: its command line.
    """

    parent: int
    seconds: float
    words: str


class BenchmarkError(Exception):
    """A command that failed, or figures that do not mean what they should."""


class Meter:
    """Runs commands and knows what they cost.

    Args:
        environment: variables of every command besides this process's own.
        mark: a text that is nobody else's.
    """

    def __init__(self, environment: Mapping[str, str], mark: str) -> None:
        self.environment = {**os.environ, **environment, _MARK: mark}
        self._mark = f"\0{_MARK}={mark}\0".encode()

    def run(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        timeout: float = 1200,
    ) -> str:
        """Run ``command`` and return what it printed.

        Raises:
            BenchmarkError: it failed or took too long.
        """
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"{' '.join(command)} took more than {timeout:g} s") from error
        if done.returncode:
            tail = done.stdout[-4000:]
            raise BenchmarkError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
        return done.stdout

    def cost(self, act: Callable[[], object], *, times: int = 1) -> Cost:
        """Return what ``act`` costs, by the mean of ``times`` calls.

        Raises:
            BenchmarkError: a process that was there before has ended, and its time with it.
        """
        self.settle()
        before, own, started = self._marked(), _children(), time.perf_counter()
        for _ in range(times):
            act()
        wall = time.perf_counter() - started
        self.settle()
        after = self._marked()
        # What a child has used moves to its parent; only those without one of ours take it along.
        lost = [p.words for i, p in before.items() if i not in after and p.parent not in before]
        if lost:
            raise BenchmarkError(f"ended inside the measure, so that its time is lost: {lost}")
        cpu = _children() - own + _seconds(after) - _seconds(before)
        return Cost(wall / times, cpu / times)

    def command(
        self,
        words: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        times: int = 1,
    ) -> Callable[[], Cost]:
        """Return a function that runs a command and returns what it cost."""
        return lambda: self.cost(lambda: self.run(words, folder, environment), times=times)

    def settle(self) -> None:
        """Wait until nothing that our commands left behind is at work."""
        deadline = time.monotonic() + _PATIENCE
        before = self._marked()
        while time.monotonic() < deadline:
            time.sleep(_QUIET)
            now = self._marked()
            # A worker looks around now and then, for less than a tick.
            if now.keys() == before.keys() and _seconds(now) - _seconds(before) < 0.02:
                return
            before = now
        raise BenchmarkError(f"processes {sorted(before)} are still at work after {_PATIENCE:g} s")

    def processes(self) -> set[int]:
        """Return the ids of all processes that our commands have started."""
        return set(self._marked())

    def private(self, processes: Iterable[int]) -> float:
        """Return the megabytes that ``processes`` share with no other process."""
        kilobytes = 0
        for process in processes:
            with contextlib.suppress(OSError):
                pages = Path(f"/proc/{process}/smaps_rollup").read_text()
                kilobytes += sum(map(int, re.findall(r"(?m)^Private_\w+:\s+(\d+) kB$", pages)))
        return kilobytes / 1024

    def close(self) -> None:
        """Kill all that our commands left behind."""
        deadline = time.monotonic() + _PATIENCE
        while (left := self._marked()) and time.monotonic() < deadline:
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)

    def _marked(self) -> dict[int, _Process]:
        """Return the processes that carry the mark, by their ids."""
        found: dict[int, _Process] = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal() or int(folder.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if self._mark in b"\0" + (folder / "environ").read_bytes():
                    # The name in brackets may hold spaces; fields 14 to 17 are the times.
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    words = (folder / "cmdline").read_text().replace("\0", " ")
                    seconds = sum(map(int, fields[11:15])) / _TICK
                    if fields[0] != "Z":
                        found[int(folder.name)] = _Process(int(fields[1]), seconds, words)
        return found


def _seconds(processes: Mapping[int, _Process]) -> float:
    return sum(process.seconds for process in processes.values())


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
