"""A sweep while it runs: its turn, and one trial after another until none is lacking."""

from __future__ import annotations

import contextlib
import gc
import itertools
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mlnb import execute, tracking
from mlnb.errors import MlnbError
from mlnb.sweep import record
from mlnb.sweep.processes import Ended, Processes
from mlnb.sweep.record import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    Record,
    Spec,
    SweepError,
    Trial,
)
from mlnb.sweep.sampling import propose
from mlnb.sweep.space import Dimension
from mlnb.sweep.trial import Bench

Watch = Callable[[Record, int, Trial | None], None]
"""Hears the record, how many trials there will be, and the trial that has just begun or ended."""

_TICK = 0.5


def begin(path: Path, spec: Spec) -> Record:
    """Return the record of the sweep, with the trials that a kill cut off marked as such.

    Raises:
        SweepError: it was begun with another spec, or its file cannot be used.
    """
    if not path.exists():
        return record.create(path, spec)
    known = record.read(path)
    if known.spec != spec:
        mine, theirs = vars(spec), vars(known.spec)
        other = [name for name in mine if mine[name] != theirs[name]]
        names = {"base": "code, data or other values", "space": "parameters"}
        raise SweepError(
            f"it was begun with other {', '.join(names.get(name, name) for name in other)}",
            where=known.name,
            remedy="Give this one another --name; `mlnb sweep show` tells what that one found.",
        )
    cut = [replace(t, state=INTERRUPTED) for t in known.trials() if t.state == RUNNING]
    known.put(*cut)
    return known


@dataclass
class Running:
    """The trials of a sweep, run as many at a time as there are jobs.

    Attributes:
        bench: what trials share.
        record: what is known of them.
        space: what they choose from.
        total: how many there are to be.
        jobs: how many at the same time.
        warm: does what each run of a notebook would do again.
        watch: told how far it is.
    """

    bench: Bench
    record: Record
    space: Sequence[Dimension]
    total: int
    jobs: int
    warm: Callable[[], None]
    watch: Watch

    def run(self) -> None:
        """Run what is lacking.

        Raises:
            KeyboardInterrupt: it was interrupted; nothing is left running.
        """
        self.trials = {trial.number: trial for trial in self.record.trials()}
        self.watch(self.record, self.total, None)
        waiting = self._waiting()
        first = next(waiting, None)
        if first is None:
            return
        gc.freeze()  # what is here need not be gone through, here or in any trial
        execute.load()
        with self.bench.parsed.used():
            self.warm()
        tracking.warm_up(self.bench.workspace.scope.pipeline.project)
        gc.freeze()
        self.bench.workspace.prepare()
        processes = Processes()
        try:
            with processes:
                self._run(processes, itertools.chain([first], waiting))
        finally:
            # Also after Ctrl-C: what has not ended by now is to be repeated.
            left = [t for t in self.trials.values() if t.state == RUNNING]
            self.record.put(*(replace(trial, state=INTERRUPTED) for trial in left))
            self.bench.workspace.clear()

    def _run(self, processes: Processes, waiting: Iterator[Trial]) -> None:
        while True:
            while len(processes) < self.jobs and (trial := next(waiting, None)):
                self._put(trial)
                processes.start(trial.number, partial(self._perform, trial), self.record.log(trial))
            if not len(processes):
                return
            for ended in processes.wait(_TICK):
                self._end(ended)

    def _waiting(self) -> Iterator[Trial]:
        """Yield the trials to run, those that were cut off first."""
        for trial in list(self.trials.values()):
            if trial.state == INTERRUPTED and trial.number < self.total:
                yield Trial(trial.number, trial.values)
        for number in range(self.total):
            if number not in self.trials:
                known = [self.trials[n] for n in sorted(self.trials)]
                values = propose(self.bench.spec, self.space, number, known)
                assert values is not None, "the grid was counted"
                yield Trial(number, values)

    def _put(self, trial: Trial) -> None:
        self.trials[trial.number] = trial
        self.record.put(trial)
        self.watch(self.record, self.total, trial)

    def _perform(self, trial: Trial) -> dict[str, object]:
        """Run a trial; called in its own process."""
        try:
            return self.bench.perform(trial).document()
        except MlnbError as error:
            print(f"mlnb: {error}", file=sys.stderr)
            return {"cause": f"{error.where}: {error.what}" if error.where else error.what}

    def _end(self, ended: Ended) -> None:
        trial = self.trials[ended.number]
        said = ended.said or {"cause": _cause(ended.code)}
        if said["cause"]:
            trial = replace(trial, state=FAILED, cause=said["cause"])
        else:
            trial = Trial(**{**said, "values": trial.values, "computed": tuple(said["computed"])})
            self.record.log(trial).unlink(missing_ok=True)
        assert trial.state in (FAILED, FINISHED)
        self._put(trial)


def _cause(code: int) -> str:
    """Return in words how a process ended that said nothing."""
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with {code}; its log has the traceback"


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock of a sweep, which the kernel releases when this process ends.

    Not by flock, which would last as long as whatever a trial leaves behind.

    Raises:
        SweepError: another process holds it.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise SweepError(
                "another process runs this sweep", where=path.stem, remedy="Wait for it, or end it."
            ) from None
        yield
