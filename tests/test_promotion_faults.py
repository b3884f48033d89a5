"""Promotion under faults: a decision that is killed was made or was not, and nothing in between.

The state's own tests kill it at every system call; here the whole command is killed, at some.
"""

# ruff: noqa: F811 - a fixture is asked for by its name

from __future__ import annotations

import itertools
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nursery import Nursery
from promoted import alone, first, published, second, state_of, third  # noqa: F401

from mlnb import promotion
from mlnb.project import find
from mlnb.promotion import publish

CALLS = "?rename,renameat,renameat2,?unlink,unlinkat,fsync,fdatasync,pwrite64,?link,?mkdir,mkdirat"
"""What changes files; strace kills the verb at each of them in turn."""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory, alone: Path) -> Iterator[Nursery]:
    with Nursery("promotion_acts", tmp_path_factory.mktemp("nursery")) as running:
        yield running


def _killed(
    nursery: Nursery, act: str, source: Path, folder: Path, sound: Callable[[Path], Any]
) -> tuple[int, set[Any]]:
    """Kill ``act`` at some points, check with ``sound``; return how many it has, and outcomes.

    Of each system call the one in the middle and the last. All 144 passed when this was written.
    """
    roots = (Path(shutil.copytree(source, folder / str(n))) for n in itertools.count())
    root = next(roots)
    points = nursery.points(CALLS, act, str(root))
    sound(root)
    seen = set()
    last = dict(points)
    for call, k in {(name, k) for name, n in last.items() for k in (n, (n + 1) // 2)}:
        root = next(roots)  # git may still be busy in the last one
        death, _ = nursery.traced(CALLS, act, str(root), inject=f"{call}:signal=KILL:when={k}")
        assert death.code == -signal.SIGKILL, (call, k, death)
        seen.add(sound(root))
    return len(points), seen


def _sound(root: Path) -> Any:
    """Let the next command run; return where the alias is, after all that must agree does."""
    project = find(root)
    promotion.models(project)
    state = state_of(root)
    assert state.verify().sound
    at = state.aliases()["production"]
    assert published(root).version == at
    assert publish.is_published(project, publish.last_moves(state)["production"])
    assert promotion.audit(project).sound
    return at, len([row for row in state.journal() if row.kind == "approve"])


@pytest.mark.parametrize(
    ("act", "old", "new"),
    [("promote", (1, 0), (2, 0)), ("rollback", (2, 0), (1, 0)), ("approve", (2, 0), (2, 1))],
)
def test_a_killed_decision_is_made_or_not(
    act: str, old: Any, new: Any, nursery: Nursery, second: Path, third: Path, tmp_path: Path
) -> None:
    """Whenever it dies, state, journal and statement are all old or all new after one command."""
    source = second if act == "promote" else third
    count, seen = _killed(nursery, act, source, tmp_path, _sound)
    assert seen == {old, new}
    assert count >= 20


def test_a_full_disk_is_told(nursery: Nursery, second: Path, tmp_path: Path) -> None:
    """From some write on there is no room: not done, a line or two, and old or new."""
    roots = (Path(shutil.copytree(second, tmp_path / str(n))) for n in itertools.count())
    calls = "fsync,fdatasync"
    last = dict(nursery.points(calls, "promote", str(next(roots))))
    assert sum(last.values()) >= 10
    seen = set()
    for call, k in {(name, k) for name, n in last.items() for k in ((n + 1) // 2, n)}:
        root = next(roots)
        inject = f"{call}:error=ENOSPC:when={k}+"
        death, trace = nursery.traced(calls, "promote", str(root), inject=inject)
        assert "(INJECTED)" in trace
        assert death.code in (1, 2), death
        assert "Traceback" not in death.said and death.said.count("\n") <= 1, death.said
        assert "space" in death.said
        seen.add(_sound(root))
    assert seen == {(1, 0), (2, 0)}


def test_a_disk_that_fails_is_told(nursery: Nursery, second: Path, tmp_path: Path) -> None:
    """One write or rename fails, in whatever way: it is told, and all is old or new."""
    roots = (Path(shutil.copytree(second, tmp_path / str(n))) for n in itertools.count())
    calls = "write,pwrite64,?rename"
    last = dict(nursery.points(calls, "promote", str(next(roots))))
    assert {"write", "pwrite64"} <= set(last)
    errors = itertools.cycle(("EIO", "EROFS", "ENOSPC"))
    for (call, n), error in zip(last.items(), errors, strict=False):
        root = next(roots)
        inject = f"{call}:error={error}:when={(n + 1) // 2}"
        death, trace = nursery.traced(calls, "promote", str(root), inject=inject)
        assert "(INJECTED)" in trace
        assert death.code in (0, 1, 2), death
        assert "Traceback" not in death.said and death.said.count("\n") <= 1, death.said
        assert bool(death.said) == bool(death.code)
        at = _sound(root)
        assert at in {(1, 0), (2, 0)}
        assert death.code or at == (2, 0)


@pytest.mark.parametrize("act", ["promote", "rollback", "approve"])
def test_a_file_that_cannot_be_opened_is_told(
    act: str, nursery: Nursery, second: Path, third: Path, tmp_path: Path
) -> None:
    """A file that is to be written cannot be opened: a line or two, and all is old or new."""
    source = second if act == "promote" else third
    roots = (Path(shutil.copytree(source, tmp_path / str(n))) for n in itertools.count())
    _, trace = nursery.traced("openat", act, str(next(roots)))
    calls = [line for line in trace.splitlines() if line.startswith("openat(")]
    points = [k for k, call in enumerate(calls, 1) if re.search("O_CREAT|O_WRONLY|O_RDWR", call)]
    assert len(points) >= 2
    codes = set()
    for n, k in enumerate({points[0], points[len(points) // 2], points[-1]}):
        root = next(roots)
        inject = f"openat:error={('ENOSPC', 'EROFS')[n % 2]}:when={k}"
        death, trace = nursery.traced("openat", act, str(root), inject=inject)
        assert "(INJECTED)" in trace
        assert death.code in (0, 1, 2), (calls[k - 1], death)
        assert "Traceback" not in death.said and death.said.count("\n") <= 1, death.said
        codes.add(death.code)
        assert _sound(root) in {(1, 0), (2, 0), (2, 1)}
    assert codes & {1, 2}


def test_a_naive_promotion_is_caught(nursery: Nursery, tmp_path: Path) -> None:
    """The control: a published file and a log beside it do not survive the same kills."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "production.txt").write_text("1")
    (source / "log.txt").write_text("1")
    torn = []
    for call, k in (("openat", 1), ("write", 1), ("openat", 2), ("write", 2)):
        root = Path(shutil.copytree(source, tmp_path / f"{call}{k}"))
        inject = f"{call}:signal=KILL:when={k}"
        death, _ = nursery.traced("openat,write", "naive", str(root), inject=inject)
        assert death.code == -signal.SIGKILL
        found = (root / "production.txt").read_text(), (root / "log.txt").read_text()
        torn.append(found not in (("1", "1"), ("2", "12")))
    assert any(torn)
