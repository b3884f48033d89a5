"""Projects in which something was promoted, as fixtures; and a few words on what is in them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promotion_acts as acts
import pytest

from mlnb import promotion, trust
from mlnb.project import find
from mlnb.state import locate, open_state


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No git settings, keys or DVC folders of whoever runs this; return the folder of keys."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        patch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("site")))
        config = tmp_path_factory.mktemp("config")
        patch.setenv("XDG_CONFIG_HOME", str(config))
        for name in ("MLNB_TOKEN", "MLNB_KEY", "JUPYTERHUB_USER", "GIT_AUTHOR_EMAIL"):
            patch.delenv(name, raising=False)
        yield config / "mlnb" / "keys"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, alone: Path) -> Path:
    """A project with a candidate, and nothing promoted; no test changes it."""
    root = acts.begun(tmp_path_factory.mktemp("first") / "project")
    trust.new_key("ada", root / "deployments/keys")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        acts.train(root, "binary-logistic")
    return root


@pytest.fixture(scope="module")
def second(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with version 1 in production and another candidate; no test changes it."""
    root = Path(shutil.copytree(first, tmp_path_factory.mktemp("second") / "project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        promotion.promote(find(), "production", reason="the first")
        acts.train(root, "binary-forest")
    return root


@pytest.fixture(scope="module")
def third(second: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with version 2 in production after version 1; no test changes it."""
    root = Path(shutil.copytree(second, tmp_path_factory.mktemp("third") / "project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        promotion.promote(find(), "production", reason="better")
    return root


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what copies a project to change, and enters it."""

    def copy(source: Path) -> Path:
        root = Path(shutil.copytree(source, tmp_path / "project"))
        monkeypatch.chdir(root)
        return root

    return copy


def state_of(root: Path) -> Any:
    """Return the state of a project."""
    return open_state(locate(find(root)))


def published(root: Path, environment: str = "production") -> Any:
    """Return the verified statement of an environment."""
    keys = trust.trusted(root / "deployments/keys")
    return trust.read_published(root / f"deployments/{environment}.json", keys)
