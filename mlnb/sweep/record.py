"""What is known of a sweep: its trials, in an SQLite file that outlives any kill.

The file is made whole under another name and then takes its own. It is open only while something
is read or written, so that no forked trial shares a connection with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb.errors import MlnbError

FORMAT = 1

RUNNING = "running"
FINISHED = "finished"
FAILED = "failed"
INTERRUPTED = "interrupted"

_TABLES = """
CREATE TABLE sweep (format INTEGER NOT NULL, spec TEXT NOT NULL);
CREATE TABLE trials (
    number INTEGER PRIMARY KEY,
    params TEXT NOT NULL,
    state TEXT NOT NULL,
    value REAL,
    seconds REAL,
    computed TEXT,
    candidate TEXT,
    run TEXT,
    cause TEXT
);
"""
_COLUMNS = "number, params, state, value, seconds, computed, candidate, run, cause"


class SweepError(MlnbError):
    """A sweep that cannot go on, or that is not there."""


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: from 0, in the order of proposal.
        values: what it tries, by key as on the command line.
        state: ``running``, ``finished``, ``failed`` or ``interrupted``.
        value: the metric.
        seconds: wall time.
        computed: the stages that ran; the others came from DVC's run cache.
        candidate: digest of the candidate that it made.
        run: MLflow's id of that candidate's run.
        cause: why it failed.
    """

    number: int
    values: Mapping[str, Any]
    state: str = RUNNING
    value: float | None = None
    seconds: float = 0
    computed: tuple[str, ...] = ()
    candidate: str = ""
    run: str = ""
    cause: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {**vars(self), "values": dict(self.values), "computed": list(self.computed)}


@dataclass(frozen=True)
class Spec:
    """What a sweep looks for; two that differ are two sweeps.

    Attributes:
        space: ``key=…`` texts.
        metric: the metric's name.
        minimize: less is better.
        sampler: ``tpe``, ``random`` or ``grid``.
        seed: of the sampler.
        base: digest of everything else that a trial depends on: code, data, other values.
    """

    space: tuple[str, ...]
    metric: str
    minimize: bool
    sampler: str
    seed: int
    base: str

    def text(self) -> str:
        """Return it as JSON text."""
        return json.dumps(vars(self) | {"space": list(self.space)}, sort_keys=True)


@dataclass(frozen=True)
class Record:
    """The file of one sweep.

    Attributes:
        path: the file.
        spec: what the sweep looks for.
    """

    path: Path
    spec: Spec = field(repr=False)

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.path.stem

    def log(self, trial: Trial) -> Path:
        """Return the file that a trial prints to; kept of those that failed."""
        return self.path.parent.parent / "trials" / self.name / f"{trial.number}.log"

    def trials(self) -> list[Trial]:
        """Return all trials by number."""
        with _open(self.path) as store:
            return [_trial(row) for row in store.execute(f"SELECT {_COLUMNS} FROM trials")]

    def put(self, *trials: Trial) -> None:
        """Write ``trials``, in the place of what was known of them."""
        rows = [
            (
                trial.number,
                json.dumps(trial.values),
                trial.state,
                trial.value,
                trial.seconds,
                json.dumps(trial.computed),
                trial.candidate,
                trial.run,
                trial.cause,
            )
            for trial in trials
        ]
        with _open(self.path) as store:
            marks = ", ".join("?" * len(_COLUMNS.split(",")))
            store.executemany(f"REPLACE INTO trials ({_COLUMNS}) VALUES ({marks})", rows)

    def ranked(self) -> list[Trial]:
        """Return all trials, the best first; those without a value last."""
        sign = 1 if self.spec.minimize else -1
        return sorted(
            self.trials(), key=lambda t: (t.value is None, sign * (t.value or 0), t.number)
        )

    def best(self) -> Trial | None:
        """Return the best finished trial; the earliest of equals."""
        return next((trial for trial in self.ranked() if trial.state == FINISHED), None)


def create(path: Path, spec: Spec) -> Record:
    """Make the file of a new sweep; the caller holds the sweep's lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with _open(new, create=True) as store:
        store.executescript(_TABLES)
        store.execute("INSERT INTO sweep VALUES (?, ?)", (FORMAT, spec.text()))
    os.replace(new, path)
    return Record(path, spec)


def read(path: Path) -> Record:
    """Return the sweep in ``path``.

    Raises:
        SweepError: there is none that can be read.
    """
    if not path.is_file():
        raise SweepError("no such sweep", where=path.stem, remedy="`mlnb sweep list` shows them.")
    with _open(path) as store:
        number, text = store.execute("SELECT format, spec FROM sweep").fetchone()
    if number != FORMAT:
        raise SweepError(f"of format {number}, not {FORMAT}", where=str(path))
    data = json.loads(text)
    return Record(path, Spec(**data | {"space": tuple(data["space"])}))


@contextlib.contextmanager
def _open(path: Path, create: bool = False) -> Iterator[sqlite3.Connection]:
    """Yield a connection; what is written is on disk afterwards."""
    try:
        with (
            contextlib.closing(
                sqlite3.connect(
                    f"file:{path}?mode={'rwc' if create else 'rw'}", uri=True, timeout=20
                )
            ) as store,
            store,
        ):
            yield store
    except sqlite3.Error as error:
        raise SweepError(
            f"the record of the sweep cannot be used: {error}",
            where=str(path),
            remedy="Move it away to begin anew; the candidates in MLflow stay.",
        ) from error


def _trial(row: tuple[Any, ...]) -> Trial:
    number, values, state, value, seconds, computed, candidate, run, cause = row
    return Trial(
        number,
        json.loads(values),
        state,
        value,
        seconds,
        tuple(json.loads(computed)),
        candidate,
        run,
        cause,
    )
