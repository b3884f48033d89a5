"""The state: versions, aliases, approvals and the journal, in SQLite and in PostgreSQL."""

from __future__ import annotations

import dataclasses
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import postgres
import pytest
from sqlalchemy import Connection, text
from state_acts import WHO, bundle

from mlnb.project import find
from mlnb.state import (
    ConflictError,
    Entry,
    StateError,
    UnusableError,
    chain,
    database,
    locate,
    open_state,
    store,
)
from mlnb.state.store import State


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a state may be made: a path that is not there, or an empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "deep" / "state.db")
    running: postgres.Server = request.getfixturevalue("server")
    return running.database()


def register(state: State, *numbers: int) -> None:
    for n in numbers:
        state.register(bundle=bundle(n), candidate=f"c{n}", commit="f00", verdict="v", by="ada")


def move(state: State, version: int, expected: int | None, kind: Any = "promote") -> Entry:
    return state.move("production", version, expected=expected, kind=kind, **WHO)


def test_a_bundle_is_one_version(place: str) -> None:
    """Versions are numbered as they come; the same bundle again is the same version."""
    state = open_state(place)
    first = state.register(bundle=bundle(7), candidate="c", commit="f00", verdict="v", by="ada")
    register(state, 8)
    again = state.register(bundle=bundle(7), candidate="d", commit="b00", verdict="w", by="bob")
    assert again == first == state.version(1)
    assert [(v.number, v.bundle) for v in state.versions()] == [(1, bundle(7)), (2, bundle(8))]
    assert len(state.journal()) == 2


def test_an_alias_moves_from_where_it_is_expected(place: str) -> None:
    """A move that expected the alias elsewhere is a conflict, and changes nothing."""
    state = open_state(place)
    register(state, 1, 2, 3)
    move(state, 1, None)
    for expected in (None, 2):
        with pytest.raises(ConflictError, match="production is at version 1, not at"):
            move(state, 3, expected)
    assert move(state, 3, 1).previous == 1
    assert state.move("staging", 2, expected=None, kind="promote", **WHO).previous is None
    assert state.aliases() == {"production": 3, "staging": 2}
    assert state.verify().sound


@pytest.mark.parametrize(
    ("current", "version", "kind", "words"),
    [
        (2, 1, "promote", "version 1 is older"),
        (2, 3, "rollback", "version 3 is not before"),
        (None, 1, "rollback", "at no version"),
        (2, 2, "promote", "already"),
        (2, 9, "promote", "no version 9; the newest is 3"),
    ],
)
def test_only_a_rollback_goes_back(
    tmp_path: Path, current: int | None, version: int, kind: str, words: str
) -> None:
    """Promotions go to higher numbers and rollbacks to lower ones, of versions that there are."""
    state = open_state(tmp_path / "state.db")
    register(state, 1, 2, 3)
    if current:
        move(state, current, None)
    before = state.journal()
    with pytest.raises(StateError, match=words) as caught:
        move(state, version, current, kind)
    assert caught.value.exit_code == 2
    assert state.journal() == before


def test_approvals_count_once_and_are_used_up(place: str) -> None:
    """A person approves once; after the alias left the version, its approvals are gone."""
    state = open_state(place)
    register(state, 1, 2)
    given = state.approve(2, "production", who="ada", reason="good")
    assert state.approve(2, "production", who="ada", reason="again") == given
    state.approve(2, "production", who="bob", reason="fine")
    state.approve(2, "staging", who="eve", reason="elsewhere")
    assert [entry.who for entry in state.approvals(2, "production")] == ["ada", "bob"]
    move(state, 1, None)
    move(state, 2, 1)
    assert len(state.approvals(2, "production")) == 2
    move(state, 1, 2, "rollback")
    assert state.approvals(2, "production") == []
    state.approve(2, "production", who="ada", reason="mended")
    assert [entry.reason for entry in state.approvals(2, "production")] == ["mended"]


def test_what_was_where_on_a_day(place: str) -> None:
    """At each moment of the journal the alias is at the version of its last move."""
    state = open_state(place)
    register(state, 1, 2)
    moves = [move(state, 1, None), move(state, 2, 1), move(state, 1, 2, "rollback")]
    moments = [datetime.fromisoformat(entry.at) for entry in moves]
    held = [state.at("production", moment) for moment in moments]
    assert [version and version.number for version in held] == [1, 2, 1]
    assert state.at("production", datetime.fromisoformat(state.journal()[0].at)) is None
    assert state.at("staging", moments[-1]) is None


def test_the_journal_tells_everything(place: str) -> None:
    """What was given stands in the rows, and another process reads the same rows."""
    state = open_state(place)
    register(state, 1)
    reason = "AUC of 0.71 ≥ 0.70 'but' \\ 🙂\nnext line"
    state.record(1, verdict="blocked", who="zoë", reason=reason)
    state.move("production", 1, expected=None, kind="promote", statement="s", verdict="w", **WHO)
    rows = state.journal()
    assert [(row.number, row.kind, row.alias, row.version) for row in rows] == [
        (1, "register", "", 1), (2, "record", "", 1), (3, "promote", "production", 1),
    ]  # fmt: skip
    assert rows[1].reason == reason
    assert (rows[2].statement, rows[2].verdict, rows[2].before) == ("s", "w", rows[1].hash)
    assert {row.bundle for row in rows} == {bundle(1)}
    assert state.head() == rows[-1]
    assert open_state(place).journal() == rows


@pytest.mark.parametrize(
    "change",
    [
        lambda state: register(state, -1),
        lambda state: state.move("Prod", 1, expected=None, kind="promote", **WHO),
        lambda state: state.approve(1, "../etc", **WHO),
        lambda state: state.approve(1, "staging", who=" ", reason="x"),
        lambda state: state.approve(1, "staging", who="ada", reason="nul \0"),
        lambda state: state.approve(1, "staging", who="ada", reason="half \udce9"),
        lambda state: state.record(2, verdict="v", **WHO),
    ],
)
def test_what_is_no_name_is_refused(place: str, change: Callable[[State], Any]) -> None:
    """Digests, aliases, persons and texts that are none leave the state as it is."""
    state = open_state(place)
    register(state, 1)
    with pytest.raises(StateError) as caught:
        change(state)
    assert caught.value.exit_code == 2
    assert len(state.journal()) == 1


def test_a_clock_that_is_set_back_keeps_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is never older than the one above it, whatever the clock says."""
    state = open_state(tmp_path / "state.db")
    register(state, 1)
    monkeypatch.setattr(store, "_text", lambda moment: "2001-01-01T00:00:00.000000Z")
    register(state, 2)
    first, second = state.journal()
    assert second.at == first.at
    assert state.verify().sound


def test_an_older_format_is_brought_to_the_present(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step to a new format runs once, keeps the rows, and an older mlnb refuses the result."""
    register(open_state(place), 1)
    rows = open_state(place).journal()

    def step(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE mlnb_more (number INTEGER)"))

    with monkeypatch.context() as patched:
        patched.setattr(database, "STEPS", (*database.STEPS, step))
        for _ in range(2):
            assert open_state(place).journal() == rows
    with pytest.raises(StateError, match=r"format 2; this mlnb knows formats up to 1"):
        open_state(place)


def test_a_step_that_fails_leaves_the_old_format(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a step did before it failed is taken back, tables too."""
    register(open_state(place), 1)

    def step(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE mlnb_more (number INTEGER)"))
        connection.execute(text("INSERT INTO nowhere VALUES (1)"))

    with monkeypatch.context() as patched:
        patched.setattr(database, "STEPS", (*database.STEPS, step))
        for _ in range(2):  # the second would find mlnb_more
            with pytest.raises(UnusableError, match="nowhere"):
                open_state(place)
    assert len(open_state(place).journal()) == 1


def test_the_hash_of_a_row_stays_the_same() -> None:
    """Format 1 hashes these values to this; another figure makes every journal unsound."""
    row = Entry(
        2, "2026-11-01T09:30:00.000000Z", "promote", "production", 1, None, "zoë", "why\n",
        bundle(1), "c", "f00", "v", "s", "sha256:00", "",
    )  # fmt: skip
    assert chain.seal(vars(row)) == GOLDEN


GOLDEN = "sha256:0ed008e1e71dae022c7018e9ab85f10e61d760adb46f1637f9d9e98ca3beea7f"


# Edits behind our back, by someone who can write the file.


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A state of eight rows, as bytes of its file."""
    path = tmp_path_factory.mktemp("written") / "state.db"
    state = open_state(path)
    register(state, 1, 2, 3)
    state.approve(2, "production", **WHO)
    move(state, 1, None)
    move(state, 2, 1)
    move(state, 1, 2, "rollback")
    state.record(3, verdict="blocked", **WHO)
    return path.read_bytes()


def edit(content: bytes, path: Path, *statements: str) -> State:
    """Return a state whose file was edited."""
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return open_state(path)


FIELDS = [field.name for field in dataclasses.fields(Entry)]
COLUMNS = ", ".join(f'"{name}"' for name in FIELDS[1:])
SWAP = [
    "UPDATE mlnb_journal SET number = 99 WHERE number = 5",
    "UPDATE mlnb_journal SET number = 5 WHERE number = 6",
    "UPDATE mlnb_journal SET number = 6 WHERE number = 99",
]
COPY = f"INSERT INTO mlnb_journal SELECT 9, {COLUMNS} FROM mlnb_journal"
X = "UPDATE mlnb_journal SET \"{}\" = 'x' WHERE number = 5"
EDITS = {
    # A number of another type SQLite refuses by itself.
    **{f"edit {name}": [X.format(name)] for name in FIELDS[1:]},
    "edit a number": ["UPDATE mlnb_journal SET previous = 1 WHERE number = 7"],
    "empty": ["UPDATE mlnb_journal SET previous = NULL WHERE number = 6"],
    "bytes": ["UPDATE mlnb_journal SET reason = x'ff00' WHERE number = 6"],
    "delete": ["DELETE FROM mlnb_journal WHERE number = 4"],
    "delete the first": ["DELETE FROM mlnb_journal WHERE number = 1"],
    "swap": SWAP,
    "insert": [COPY + " WHERE number = 8"],
    "insert an older one": [COPY + " WHERE number = 6"],
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_journal_is_seen(written: bytes, tmp_path: Path, name: str) -> None:
    """Whatever is changed in a row, or about rows, the journal is not sound any more."""
    state = edit(written, tmp_path / "state.db", *EDITS[name])
    report = state.verify()
    assert not report.sound
    assert report.faults[0].number >= 1


def test_an_untouched_journal_is_sound(written: bytes, tmp_path: Path) -> None:
    """The control: the same file without an edit, against anchors out of itself."""
    state = edit(written, tmp_path / "state.db")
    anchors = [(row.number, row.hash) for row in state.journal()]
    report = state.verify(anchors)
    assert report.sound, report.faults
    assert (report.rows, report.anchors, report.aliases) == (8, 8, {"production": 1})


def test_rows_cut_off_the_end_are_seen_by_an_anchor(written: bytes, tmp_path: Path) -> None:
    """A shorter journal is a sound chain; a statement that names a missing row tells."""
    head = edit(written, tmp_path / "whole.db").head()
    assert head
    cut = edit(written, tmp_path / "cut.db", "DELETE FROM mlnb_journal WHERE number > 6")
    assert cut.verify().sound
    report = cut.verify([(head.number, head.hash)])
    assert [(fault.number, "missing" in fault.what) for fault in report.faults] == [(8, True)]


def test_a_deleted_state_is_seen_by_an_anchor(tmp_path: Path) -> None:
    """A new, empty state in place of the old one does not satisfy a statement."""
    assert not open_state(tmp_path / "state.db").verify([(1, "sha256:00")]).sound


@pytest.mark.parametrize(
    ("changed", "seen_without"), [({"who": "eve"}, False), ({"version": 3}, True)]
)
def test_a_chain_computed_again_is_seen_by_an_anchor(
    written: bytes, tmp_path: Path, changed: dict[str, Any], seen_without: bool
) -> None:
    """Hashes computed again after an edit fit together; a statement's does not fit them.

    A careless edit is seen without an anchor, too: the story that the rows tell breaks.
    """
    path = tmp_path / "state.db"
    rows = edit(written, path).journal()
    before = ""
    statements = []
    for row in rows:
        edits = changed if row.number == 6 else {}
        new = dataclasses.replace(row, before=before, **edits)
        before = chain.seal(vars(new))
        values = ", ".join(f"{k} = '{v}'" for k, v in edits.items())
        statements.append(
            f"UPDATE mlnb_journal SET {values + ', ' if values else ''}before = '{new.before}',"
            f" hash = '{before}' WHERE number = {row.number}"
        )
    state = edit(written, path, *statements)
    assert state.verify().sound != seen_without
    report = state.verify([(6, rows[5].hash)])
    assert "is not the row that a signed statement names" in [f.what for f in report.faults]
    assert state.verify([(5, rows[4].hash)]).sound != seen_without


@pytest.mark.parametrize(
    ("number", "changed", "words"),
    [
        (6, {"number": 7}, "follows row 5: what was between them is missing"),
        (6, {"before": "sha256:00"}, "does not continue row 5"),
        (6, {"at": "2001-01-01T00:00:00.000000Z"}, "is older than row 5"),
        (6, {"previous": 3}, "moves production from 3, which was at 1"),
        (6, {"bundle": bundle(9)}, "version 2, which was not registered with that bundle"),
        (6, {"kind": "move"}, "is of no known kind: 'move'"),
        (3, {"version": 5}, "registers version 5 after 2"),
        (3, {"bundle": bundle(1)}, f"registers {bundle(1)} again"),
    ],
)
def test_rows_that_tell_no_story_are_seen(
    written: bytes, tmp_path: Path, number: int, changed: dict[str, Any], words: str
) -> None:
    """With hashes that all fit, what a row says must still follow from the rows above it."""
    rows: list[Entry] = []
    for row in edit(written, tmp_path / "state.db").journal():
        content = {**vars(row), "before": rows[-1].hash if rows else ""}
        if row.number == number:
            content |= changed
        rows.append(Entry(**{**content, "hash": chain.seal(content)}))
    found = chain.verify(rows).faults
    assert words in found[0].what
    assert found[0].number == changed.get("number", number)


def test_ten_thousand_rows_are_verified(tmp_path: Path) -> None:
    """A long journal is followed to its end, and one changed letter in its middle is seen."""
    state = open_state(tmp_path / "state.db")
    register(state, 1)
    (row,) = state.journal()
    rows = [row]
    for number in range(2, 10_001):
        row = dataclasses.replace(row, number=number, kind="record", before=row.hash)
        rows.append(row := dataclasses.replace(row, hash=chain.seal(vars(row))))
    with state._database.writing() as connection:
        connection.execute(database.journal.insert(), [vars(row) for row in rows[1:]])
    report = state.verify([(10_000, rows[-1].hash)])
    assert (report.rows, report.sound) == (10_000, True)
    with state._database.writing() as connection:
        connection.execute(text("UPDATE mlnb_journal SET who = 'adb' WHERE number = 5000"))
    assert [fault.number for fault in state.verify().faults] == [5000]


# States that cannot be used.


def unusable(place: str | Path) -> UnusableError:
    """Return the error that opening a state gives, which must be short and for a person."""
    with pytest.raises(UnusableError) as caught:
        open_state(place)
    assert caught.value.exit_code == 1
    assert len(str(caught.value).splitlines()) <= 2
    return caught.value


def test_what_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    """A file that SQLite cannot read is named in one line, and keeps its bytes."""
    path = tmp_path / "state.db"
    path.write_bytes(b"a notebook, say" * 100)
    assert str(path) in str(unusable(path))
    assert path.read_bytes() == b"a notebook, say" * 100


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file where the folder should be is an error, not a traceback."""
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in str(unusable(tmp_path / "file" / "state.db"))


def test_who_waits_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that another process holds up ends with a line that says so; reading goes on."""
    path = tmp_path / "state.db"
    monkeypatch.setattr(database, "PATIENCE", 0)
    state = open_state(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnusableError, match="locked"):
            register(state, 1)
        assert state.journal() == []
        other.execute("ROLLBACK")
    register(state, 1)


def test_a_server_that_is_away_is_told_without_the_password(tmp_path: Path) -> None:
    """The message names the server and asks after it; the password does not appear."""
    error = unusable(f"postgresql://ada:hunter2@/models?host={tmp_path}")
    assert "Is the server up?" in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("address", ["mysql://host/x", "sqlite://", "sqlite:///:memory:", "://"])
def test_other_addresses_are_refused(address: str) -> None:
    """What is neither an SQLite file nor PostgreSQL is refused before anything is reached."""
    with pytest.raises(StateError):
        open_state(address)


def test_where_the_state_of_a_project_is(tmp_path: Path) -> None:
    """Without a setting it is a file of the project; relative paths are the project's."""
    toml = tmp_path / "pyproject.toml"
    for setting, expected in [
        ("", tmp_path / ".mlnb" / "state.db"),
        ('state = "sqlite:///shared/s.db"', tmp_path / "shared" / "s.db"),
        ('state = "postgresql://host/models"', "postgresql://host/models"),
    ]:
        toml.write_text(f"[tool.mlnb]\n{setting}\n")
        assert locate(find(tmp_path)) == expected


def test_the_package_is_light() -> None:
    """Who needs the records only does not wait for SQLAlchemy."""
    code = "import sys, mlnb.state; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- From elsewhere ----------------------------------------------------------------------------


def test_a_move_from_elsewhere_brings_its_version(tmp_path: Path) -> None:
    """It counts once, is given its own number, and takes it from a bundle that nothing runs by."""
    state = open_state(tmp_path / "state.db")
    ours, theirs = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"

    def adopt(alias: str, version: int, expected: int | None, digit: str) -> Any:
        return state.adopt(
            alias, version, expected=expected, bundle=theirs, candidate="c", commit="f00",
            verdict="v", statement=f"sha256:{digit * 64}", who="bea", reason="elsewhere",
        )  # fmt: skip

    told = {"candidate": "c", "commit": "f00", "verdict": "v", "by": "ada"}
    assert state.register(bundle=ours, **told).number == 1
    state.approve(1, "production", who="ada", reason="mine")
    row = adopt("production", 1, None, "a")
    assert adopt("production", 1, None, "a") == row
    assert [version.bundle for version in state.versions()] == [theirs]
    assert state.approvals(1, "production") == [], "they were of the other bundle"
    assert adopt("production", 5, 1, "b").version == 5
    again = state.register(bundle=ours, **told)
    assert again.number == 6
    state.move("staging", 6, expected=None, kind="promote", who="ada", reason="mine")
    with pytest.raises(ConflictError, match="another bundle in staging than in production"):
        adopt("production", 6, 5, "c")
    with pytest.raises(ConflictError, match="production is at version 5, not at version 1"):
        adopt("production", 7, 1, "d")
    assert state.aliases() == {"production": 5, "staging": 6}
    assert state.verify().sound
