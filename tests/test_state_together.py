"""The state used by many processes at once: nothing is lost, and nobody comes too early.

They begin together, write down what they did, and what they wrote is compared with the journal.
Beside ours, the same processes use MLflow's aliases, which must show that the trial sees losses.
"""

# ruff: noqa: F811 - a fixture is asked for by its name

from __future__ import annotations

from pathlib import Path

import pytest
import state_acts as acts
from nursery import Nursery
from state_trials import nursery, server  # noqa: F401

from mlnb.state import open_state


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_eight_processes_count_together(
    nursery: Nursery, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """8 processes make 25 moves each, each to the next version: none lost, none backward.

    10 each with PostgreSQL, where a connection takes longer than a move.
    """
    each = 25 if kind == "sqlite" else 10
    place = str(tmp_path / "state.db")
    if kind == "postgresql":
        place = request.getfixturevalue("server").database()
    acts.fill(place)
    moves = together(nursery, "count_up", place, tmp_path, each)
    assert sorted(moves) == [(n, n + 1) for n in range(8 * each)]
    state = open_state(place)
    assert state.aliases() == {"production": 8 * each}
    written = [(row.previous or 0, row.version) for row in state.journal() if row.alias]
    assert written == sorted(moves)
    assert state.verify().sound


def test_mlflow_aliases_lose_moves(nursery: Nursery, tmp_path: Path) -> None:
    """The control: by MLflow's alias the same processes overwrite each other's moves."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    nursery.call("load_mlflow", uri)
    moves = together(nursery, "count_up_mlflow", uri, tmp_path, 25)
    assert len(moves) == acts.LAST
    assert len(set(moves)) < acts.LAST, "no move was lost"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_eight_processes_come_first(
    nursery: Nursery, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """8 processes at once make and use a state that is not there yet, time and again."""
    for round_ in range(10 if kind == "sqlite" else 3):
        place = str(tmp_path / str(round_) / "state.db")
        if kind == "postgresql":
            place = request.getfixturevalue("server").database()
        for number in range(8):
            nursery.fork("register", place, str(number))
        deaths = nursery.go()
        assert [death.code for death in deaths] == [0] * 8, deaths
        state = open_state(place)
        assert {version.bundle for version in state.versions()} == {*map(acts.bundle, range(8))}
        assert state.verify().sound


def together(
    nursery: Nursery, function: str, place: str, folder: Path, each: int
) -> list[tuple[int, int]]:
    """Let 8 processes begin at once, and return the moves that they say they made."""
    histories = [folder / f"history{i}" for i in range(8)]
    for history in histories:
        nursery.fork(function, place, str(history), str(each))
    deaths = nursery.go()
    assert [death.code for death in deaths] == [0] * 8, deaths
    lines = [line for history in histories for line in history.read_text().splitlines()]
    return [(int(now), int(then)) for now, then in map(str.split, lines)]
