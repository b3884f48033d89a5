"""Where the project is and what its settings say: the one reader of configuration.

The root is the folder that holds ``.dvc`` or a ``pyproject.toml`` with ``[tool.mlnb]``, found
from the working directory upwards. ``[tool.mlnb]`` holds the tool's settings; experiments keep
theirs in params.yaml.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb import files
from mlnb.errors import ProjectError, did_you_mean

_COPIES = ((".dvc", "tmp", "exps"), (".mlnb", "trials"))
"""Folders in a checkout that hold copies of it."""


@dataclass(frozen=True)
class Settings:
    """``[tool.mlnb]`` of pyproject.toml.

    Attributes:
        notebooks: folders of notebooks, relative to the root.
        source: folders that local modules are imported from, besides the notebook's own.
        run_deadline: seconds that one run may take; 0 for no limit.
        cell_deadline: seconds that one cell may take; 0 for no limit.
        output_cap_mb: megabytes of output kept of one cell.
        tracking_uri: MLflow store; empty for the project's own SQLite file.
        experiment: MLflow experiment; empty for the root folder's name.
        worker_idle: seconds after which the warm worker leaves when nobody needs it; 0 for never.
        preload: modules that the warm worker imports besides those that notebooks import.
        state: PostgreSQL address or SQLite file of the state; empty for the project's own file.
        store: folder or URL of the promoted bundles; empty for the project's own folder.
        encrypt_to: recipients of age that stored bundles are encrypted to; none to store plainly.
        release_tags: ``plain`` or ``signed`` tags in git for versions and moves, as GTO reads them.
        people: a table for each person: role, and how the person is known; see ``mlnb.people``.
        policy: a table for each environment that demands something of a promotion.
        events: a table for each hook that is told of changes; see ``mlnb.events``.
        serve: limits of a server, and what it is called; see ``mlnb.serving``.
        rollout: how versions are rolled out, and tables of environments; see ``mlnb.rollout``.
        image_base: the image that servers' images start from; empty for the official one.
        kubernetes: a server on Kubernetes; see ``mlnb.deploy.kubernetes``.
    """

    notebooks: tuple[str, ...] = ("notebooks",)
    source: tuple[str, ...] = (".", "src")
    run_deadline: float = 0
    cell_deadline: float = 0
    output_cap_mb: float = 10
    tracking_uri: str = ""
    experiment: str = ""
    worker_idle: float = 600
    preload: tuple[str, ...] = ()
    state: str = ""
    store: str = ""
    encrypt_to: tuple[str, ...] = ()
    release_tags: str = ""
    people: Mapping[str, Any] = field(default_factory=dict, hash=False)
    policy: Mapping[str, Any] = field(default_factory=dict, hash=False)
    events: Mapping[str, Any] = field(default_factory=dict, hash=False)
    serve: Mapping[str, Any] = field(default_factory=dict, hash=False)
    rollout: Mapping[str, Any] = field(default_factory=dict, hash=False)
    image_base: str = ""
    kubernetes: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Project:
    """A project root and its settings. Paths below are absolute."""

    root: Path
    settings: Settings

    @property
    def home(self) -> Path:
        """The checkout that owns the project's state.

        DVC runs queued experiments in a copy below ``.dvc/tmp/exps``, and ``mlnb sweep`` its trials
        below ``.mlnb/trials``; what they track belongs to the checkout they came from.
        """
        parts = self.root.parts
        for i in range(len(parts)):
            if any(parts[i : i + len(copies)] == copies for copies in _COPIES):
                return Path(*parts[:i])
        return self.root

    @property
    def code(self) -> Path:
        """Folder of the code mirrors, committed to git."""
        return self.root / ".mlnb" / "code"

    @property
    def state(self) -> Path:
        """Folder of local state (MLflow store, run records), ignored by git."""
        return self.home / ".mlnb"

    @property
    def reports(self) -> Path:
        """Folder of rendered reports."""
        return self.root / "reports"

    @property
    def executed(self) -> Path:
        """Folder of executed notebooks."""
        return self.reports / "executed"

    @property
    def failed(self) -> Path:
        """Folder of the partial notebooks and reports of failed runs, ignored by git."""
        return self.reports / "failed"

    @property
    def sources(self) -> tuple[Path, ...]:
        """Existing folders that local modules are imported from."""
        folders = (Path(os.path.abspath(self.root / name)) for name in self.settings.source)
        return tuple(folder for folder in folders if folder.is_dir())

    def relative(self, path: Path) -> str:
        """Return ``path`` relative to the root, with forward slashes; absolute if outside."""
        path = Path(os.path.abspath(path))
        root = self.root
        if not path.is_relative_to(root):
            # A shell that came to the root by a link names it otherwise than its processes do.
            root, real = root.resolve(), place(path)
            path = real if real.is_relative_to(root) else path
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()

    def notebooks(self) -> list[Path]:
        """Return the notebooks in the project's notebook folders, sorted by path.

        Neither checkpoints and other hidden folders nor what runs left below ``reports``.
        """
        return sorted(
            {
                path
                for name in self.settings.notebooks
                for path in (self.root / name).rglob("*.ipynb")
                if not any(
                    part.startswith(".") for part in path.relative_to(self.root / name).parts
                )
                and not any(path.is_relative_to(made) for made in (self.executed, self.failed))
            }
        )


def find(start: Path | None = None) -> Project:
    """Return the project that ``start`` (default: the working directory) lies in.

    Raises:
        ProjectError: no root above ``start``, or settings that cannot be read.
    """
    start = Path(os.path.abspath(start or Path.cwd()))
    for folder in (start, *start.parents):
        if (folder / ".dvc").is_dir() or "mlnb" in _tool_table(folder / "pyproject.toml"):
            return Project(root=folder, settings=_settings(folder / "pyproject.toml"))
    raise ProjectError(
        "no project here: neither a .dvc folder nor a pyproject.toml with [tool.mlnb] lies above",
        where=str(start),
        remedy="Run `dvc init` in the project's root folder, or change into it.",
    )


def place(path: Path) -> Path:
    """Return ``path`` absolute, the links on the way to it resolved, but not itself a link."""
    path = Path(os.path.abspath(path))
    return path.parent.resolve() / path.name


def enter_root() -> Path:
    """Make the project root the working directory and importable; return it."""
    project = find()
    os.chdir(project.root)
    for folder in reversed(project.sources):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    return project.root


def _settings(pyproject: Path) -> Settings:
    table = _tool_table(pyproject).get("mlnb", {})
    if not isinstance(table, dict):
        raise ProjectError(f"[tool.mlnb] must be a table, not {table!r}", where=str(pyproject))
    defaults = dataclasses.asdict(Settings())
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in defaults:
            raise ProjectError(
                f"unknown setting {key!r} in [tool.mlnb].{did_you_mean(key, defaults)}",
                where=str(pyproject),
                remedy=f"Known settings: {', '.join(sorted(defaults))}.",
            )
        values[name] = _cast(value, defaults[name], key, pyproject)
    for folder in values.get("notebooks", ()):
        if Path(os.path.normpath(folder)).parts[:1] in (("..",), ("/",)):
            raise ProjectError(
                f"folder {folder!r} in `notebooks` of [tool.mlnb] lies outside the project",
                where=str(pyproject),
                remedy="Name folders below the root, such as 'notebooks'.",
            )
    return Settings(**values)


def _cast(value: Any, default: Any, key: str, pyproject: Path) -> Any:
    """Return ``value`` in the type of the setting's default, or say what type it must have."""
    if isinstance(default, tuple):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        expected = "a list of strings"
    elif isinstance(default, dict):
        if isinstance(value, dict):
            return value
        expected = "a table"
    elif isinstance(default, str):
        if isinstance(value, str):
            return value
        expected = "a string"
    else:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
            return value
        expected = "a finite number that is not negative"
    raise ProjectError(
        f"setting {key!r} in [tool.mlnb] must be {expected}, not {value!r}", where=str(pyproject)
    )


@functools.lru_cache(maxsize=64)
def _parse_toml(path: Path, version: tuple[int, ...]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"not valid TOML: {error}", where=str(path)) from error


def _tool_table(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    tool = _parse_toml(path, files.version(path)).get("tool", {})
    return tool if isinstance(tool, dict) else {}
