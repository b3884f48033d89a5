"""Two machines with a state each, which meet in git and in the store of bundles."""

# ruff: noqa: F811 - a fixture is asked for by its name

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import promotion_acts as acts
import pytest
from promoted import alone, first, published, second, state_of  # noqa: F401
from promotion_acts import PRODUCTION, git

from mlnb import cli, promotion, trust
from mlnb.errors import MlnbError
from mlnb.project import find


@pytest.fixture(scope="module")
def shared(second: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``hub.git``, ``bundles``, and the clones ``ada`` and ``bea``; see ``enter``.

    Version 1 is in production, and what both have lies there ready to become another version.
    """
    folder = tmp_path_factory.mktemp("shared")
    ada = Path(shutil.copytree(second, folder / "ada"))
    shutil.copytree(ada / ".mlnb/bundles", folder / "bundles")
    settings = ada / "pyproject.toml"
    settings.write_text(settings.read_text() + "store = '../bundles'\n")
    git(ada, "commit", "-qam", "Share the store")
    git(folder, "clone", "-q", "--bare", "ada", "hub.git")
    git(ada, "remote", "add", "origin", "../hub.git")
    git(ada, "fetch", "-q")
    git(ada, "branch", "-q", "-u", "origin/main")
    bea = folder / "bea"
    git(folder, "clone", "-q", "hub.git", "bea")
    git(bea, "remote", "set-url", "origin", "../hub.git")
    git(bea, "config", "user.email", "bea@example.org")
    git(bea, "config", "user.name", "Bea")
    for name in git(ada, "ls-files", "-o", "--directory").splitlines():
        if not name.startswith(".mlnb"):  # what DVC would have pulled
            source, target = ada / name, bea / name
            shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
    return folder


@pytest.fixture
def machines(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what enters the copy of a clone, and returns its folder."""
    shutil.copytree(shared, tmp_path / "shared")

    def enter(name: str) -> Path:
        root = tmp_path / "shared" / name
        monkeypatch.chdir(root)
        return root

    return enter


def test_a_clone_takes_over_what_was_published(
    machines: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second machine knows version, person and moment, goes on from there, and so back."""
    root = machines("bea")
    (version,), at = promotion.models(find())
    assert (version.number, version.bundle, at) == (
        1,
        published(root).bundle,
        {"production": 1},
    )
    (row,) = promotion.history(find())
    said = published(root)
    assert (row.kind, row.version, row.who) == ("adopt", 1, "ada@example.org")
    assert (row.reason, row.verdict, row.candidate) == (said.reason, said.verdict, said.candidate)
    assert promotion.at(find(), said.at)["production"] == row
    assert cli.main(["audit"]) == 0
    promotion.promote(find(), "production", reason="better")
    assert (published(root).version, published(root).counter) == (2, 2)
    git(root, "push", "-q")
    ada = machines("ada")
    git(ada, "pull", "-q")
    assert promotion.models(find())[1] == {"production": 2}
    assert promotion.audit(find()).sound
    promotion.rollback(find(), "production", reason="it drifts")
    git(ada, "push", "-q")
    root = machines("bea")
    git(root, "pull", "-q")
    capsys.readouterr()
    assert cli.main(["doctor"]) == 0
    assert "adopted: ada@example.org made version 1 what production runs" in capsys.readouterr().out
    assert cli.main(["history", "--to", "production"]) == 0
    assert "bea@example.org promoted version 2 to production: better" in capsys.readouterr().out
    assert published(root).counter == 3
    with pytest.raises(MlnbError, match="nothing was in production before version 1"):
        promotion.rollback(find(), "production", reason="further")
    assert promotion.audit(find()).sound


def test_who_pushes_first_has_decided(machines: Any) -> None:
    """Both promote, one push is rejected: that machine adopts the other's, its own comes next."""
    ada = machines("ada")
    promotion.promote(find(), "production", reason="mine")
    theirs = published(ada).bundle
    git(ada, "push", "-q")
    bea = machines("bea")
    acts.train(bea, "binary-sigmoid")
    promotion.promote(find(), "production", reason="no, mine")
    assert published(bea).version == 2 and published(bea).bundle != theirs
    with pytest.raises(subprocess.CalledProcessError):
        git(bea, "push", "-q")
    git(bea, "fetch", "-q")
    subprocess.run(["git", "merge", "-q", "origin/main"], cwd=bea, check=False, capture_output=True)
    git(bea, "checkout", "--theirs", PRODUCTION)
    git(bea, "commit", "-qam", "Take what was first")
    versions, aliases = promotion.models(find())
    assert aliases == {"production": 2}
    assert [version.bundle for version in versions][1] == theirs
    assert promotion.audit(find()).sound
    acts.settle(bea)
    promotion.promote(find(), "production", reason="after all")
    assert (published(bea).version, published(bea).counter) == (3, 3)
    assert promotion.audit(find()).sound
    git(bea, "push", "-q")
    ada = machines("ada")
    git(ada, "pull", "-q")
    assert promotion.models(find())[1] == {"production": 3}
    assert promotion.audit(find()).sound


def test_what_nobody_signed_is_not_adopted(machines: Any) -> None:
    """A statement by an unknown key, or edited, leaves the journal as it is."""
    root = machines("bea")
    path = root / PRODUCTION
    right = path.read_bytes()
    keys = root / "deployments/keys/ada.json"
    key = keys.read_bytes()
    for spoil in ("edited", "unknown"):
        if spoil == "edited":
            path.write_bytes(right.replace(b'"payload": "', b'"payload": "e30', 1))
        else:
            keys.unlink()
        assert promotion.models(find()) == ([], {})
        path.write_bytes(right)
        keys.write_bytes(key)
    assert promotion.models(find())[1] == {"production": 1}


def test_what_the_journal_lost_is_not_adopted(machines: Any) -> None:
    """Rows that were cut off do not come back as if from elsewhere: the audit names them."""
    root = machines("ada")
    promotion.promote(find(), "production", reason="better")
    for kept in (True, False):
        if not kept:  # the statement names the row below it, which is there
            shutil.rmtree(root / ".mlnb/statements")
        with sqlite3.connect(root / ".mlnb/state.db") as journal:
            journal.execute("DELETE FROM mlnb_journal WHERE number > 3")
        journal.close()
        report = promotion.audit(find())
        assert not report.sound
        assert [row.kind for row in state_of(root).journal()] == ["register", "promote", "register"]


def test_an_adopted_row_says_what_was_signed(machines: Any) -> None:
    """A row of that kind with a statement that says otherwise, or with none, is seen."""
    root = machines("bea")
    said = published(root)
    promotion.models(find())
    state = state_of(root)
    state.adopt(
        "production", 2, expected=1, bundle=f"sha256:{'9' * 64}", candidate="", commit="",
        verdict=said.verdict, statement=f"sha256:{'8' * 64}", who="eve", reason="mine",
    )  # fmt: skip
    assert state.verify().sound
    assert "no signed statement says so" in promotion.audit(find()).faults[0].what
    assert trust.verify(
        (root / PRODUCTION).read_bytes(), trust.trusted(root / "deployments/keys"),
        environment="production",
    ) == said  # fmt: skip
