"""The state under faults: killed at every system call, or at every message; a full disk.

Each trial proves that its fault happened, and beside what is tested stands something deliberately
worse that the same trial must catch.
"""

# ruff: noqa: F811 - a fixture is asked for by its name

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import postgres
import pytest
import state_acts as acts
from nursery import Nursery
from state_trials import nursery, server  # noqa: F401

from mlnb.state import open_state

ACTS = ["first use", "register", "record", "approve", "promote", "rollback"]
CALLS = "openat,pwrite64,write,fsync,fdatasync,ftruncate,?unlink,unlinkat,?rename,renameat,fcntl"
"""What an act does to files, and how it locks them; a kill at a read leaves what a write left."""

Rows = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state with three versions, one in production."""
    path = tmp_path_factory.mktemp("prepared") / "state.db"
    acts.prepare(str(path))
    return path


class Trial:
    """One act on a fresh copy of the prepared state, in a folder of its own."""

    def __init__(self, act: str, prepared: Path, folder: Path) -> None:
        self.function = act.replace("first use", "register")
        self.path = folder / "state.db"
        self._source = None if act == "first use" else prepared
        self.old = self._outcome(lambda _: None)
        self.new = self._outcome(getattr(acts, self.function))

    def reset(self) -> None:
        shutil.rmtree(self.path.parent, ignore_errors=True)
        self.path.parent.mkdir()
        if self._source:
            shutil.copyfile(self._source, self.path)

    def rows(self) -> Rows:
        """Return what the file holds, read without any of our code."""
        with closing(sqlite3.connect(self.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not tables.fetchall():
                return []
            return connection.execute(
                "SELECT number, kind, alias, version, previous, who, bundle, verdict"
                " FROM mlnb_journal ORDER BY number"
            ).fetchall()

    def check(self, allowed: list[Rows]) -> None:
        """The state is one of ``allowed``, its chain is sound, and the next command works."""
        assert self.rows() in allowed
        rows = len(self.rows())
        state = open_state(self.path)
        assert state.verify().sound
        acts.register(str(self.path), "9")
        assert state.verify().sound
        assert len(self.rows()) == rows + 1

    def _outcome(self, act: Callable[[str], None]) -> Rows:
        self.reset()
        act(str(self.path))
        return self.rows()


@pytest.mark.parametrize("act", ACTS)
def test_killed_at_every_system_call(
    nursery: Nursery, prepared: Path, tmp_path: Path, act: str
) -> None:
    """Whenever an act is killed, the state is the old or the new one, and the next one works."""
    trial = Trial(act, prepared, tmp_path / "trial")
    assert trial.old != trial.new
    trial.reset()
    points = nursery.points(CALLS, trial.function, str(trial.path))
    assert trial.rows() == trial.new
    seen = []
    for call, k in points:
        trial.reset()
        inject = f"{call}:signal=KILL:when={k}"
        death, _ = nursery.traced(CALLS, trial.function, str(trial.path), inject=inject)
        assert death.code == -signal.SIGKILL, (call, k, death)
        seen.append(trial.rows() == trial.new)
        trial.check([trial.old, trial.new])
    assert {True, False} == set(seen), "the kills did not fall on both sides of the commit"
    assert len(seen) >= 40  # and so 240 kills in all


def test_a_naive_writer_is_caught(nursery: Nursery, tmp_path: Path) -> None:
    """The control: an alias in a file and a log beside it do not survive the same kills."""
    folder = tmp_path / "naive"
    path, log = folder / "aliases.json", folder / "log"

    def reset() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        path.write_text('{"production": 2}')
        log.write_text("production 2\n")

    def whole() -> bool:
        alias, version = log.read_text().splitlines()[-1].split()
        return path.read_text() == json.dumps({alias: int(version)})

    reset()
    points = nursery.points(CALLS, "naive", str(folder))
    assert whole()
    bad = 0
    for call, k in points:
        reset()
        death, _ = nursery.traced(
            CALLS, "naive", str(folder), inject=f"{call}:signal=KILL:when={k}"
        )
        assert death.code == -signal.SIGKILL
        bad += not whole()
    assert bad >= 2


@pytest.mark.parametrize("act", ACTS)
def test_a_full_disk_at_every_write(
    nursery: Nursery, prepared: Path, tmp_path: Path, act: str
) -> None:
    """From any write on the disk is full: one clear error, the old state, and later all is well."""
    trial = Trial(act, prepared, tmp_path / "trial")
    trial.reset()
    calls = "openat,pwrite64,fsync,fdatasync,ftruncate"
    points = nursery.points(calls, trial.function, str(trial.path))
    assert len(points) >= 5
    for call, k in points:
        trial.reset()
        inject = f"{call}:error=ENOSPC:when={k}+"
        death, trace = nursery.traced(calls, trial.function, str(trial.path), inject=inject)
        assert "(INJECTED)" in trace, (call, k)
        if death.code == 0:
            # Only what comes after the commit may fail unheard.
            trial.check([trial.new])
            assert call != "pwrite64"
            continue
        assert death.code == 1, (call, k, death)
        assert "the state cannot be used" in death.said
        assert len(death.said.splitlines()) <= 2
        trial.check([trial.old] if call == "pwrite64" else [trial.old, trial.new])


def test_killed_while_talking_to_a_server(
    nursery: Nursery, server: postgres.Server, tmp_path: Path
) -> None:
    """With PostgreSQL, too, a promotion killed at any message is whole or has not happened."""
    place = server.database()
    acts.prepare(place)
    before = open_state(place).journal()
    points = nursery.points("sendto", "promote", place)
    seen = []
    for call, k in points:
        server.execute(f"DELETE FROM mlnb_journal WHERE number > {len(before)}")
        inject = f"{call}:signal=KILL:when={k}"
        death, _ = nursery.traced("sendto", "promote", place, inject=inject)
        assert death.code == -signal.SIGKILL
        acts.register(place, "9")  # waits until the server has taken back what was begun
        state = open_state(place)
        after = state.journal()
        assert after[: len(before)] == before
        kinds = [entry.kind for entry in after[len(before) :]]
        assert kinds in (["register"], ["promote", "register"])
        assert state.verify().aliases == {"production": 3 if "promote" in kinds else 2}
        assert state.verify().sound
        seen.append("promote" in kinds)
    assert {True, False} == set(seen)
