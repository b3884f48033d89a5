"""Fixtures of the trials of the state: processes to kill or to start at once, and a server."""

from __future__ import annotations

from collections.abc import Iterator

import postgres
import pytest
from nursery import Nursery


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    folder = tmp_path_factory.mktemp("nursery")
    with Nursery("state_acts", folder) as running:
        running.call("register", str(folder / "warm.db"))
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.server() as running:
        yield running
