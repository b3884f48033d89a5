"""The folder of one trial: copies of what its stages read, with its own values in params.yaml.

Nothing in it is a link to anything outside, so a notebook that writes over its input, or beside
its outputs, harms nobody. Copies share their blocks where the file system can. Only what stages
declare is there, as in ``mlnb verify``; what they make goes to the project's own cache.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlnb import edits, files, mirror, notebook
from mlnb.pipeline import PARAMS
from mlnb.project import Project
from mlnb.sweep.scope import Scope
from mlnb.sweep.space import Dimension, written

_LEFT_BEHIND = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", ".git")
_IMAGES = (".png", ".jpg", ".jpeg", ".svg", ".gif", ".webp")
_CLONE = 0x40049409
"""The request to share the blocks of another file, FICLONE."""


@dataclass(frozen=True)
class Workspace:
    """What the folders of a sweep's trials have in common.

    Attributes:
        scope: what a trial does.
        space: what it changes.
        folder: where the trials' folders are made.
        paths: what a trial needs, relative to the root.
        config: text of ``.dvc/config.local``.
    """

    scope: Scope
    space: tuple[Dimension, ...]
    folder: Path
    paths: tuple[str, ...]
    config: str

    @property
    def _base(self) -> Path:
        return self.folder / "base"

    def prepare(self) -> None:
        """Copy what trials need, once: people may edit the checkout while a sweep runs."""
        checkout = self.scope.pipeline.project
        _make(self._base)
        (self._base / ".dvc" / "config.local").write_text(self.config, encoding="utf-8")
        for path in self.paths:
            _copy(checkout.root / path, self._base / path)

    def clear(self) -> None:
        """Delete the copy, and the folder if no trial left anything in it."""
        shutil.rmtree(self._base, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def make(self, number: int, values: Mapping[str, Any]) -> Project:
        """Make the folder of a trial anew and return it as a project."""
        checkout = self.scope.pipeline.project
        root = self.folder / str(number)
        _make(root)
        shutil.copytree(self._base, root, copy_function=_clone, dirs_exist_ok=True)
        for change in edits.changes(written(self.space, root, values)):
            files.write_text(change.path, change.after)
        for stage in self.scope.stages:
            stage_wdir = root / checkout.relative(stage.wdir)
            stage_wdir.mkdir(parents=True, exist_ok=True)
            for out in stage.outs:
                (root / out.path).parent.mkdir(parents=True, exist_ok=True)
        return Project(root, checkout.settings)


def workspace(scope: Scope, space: tuple[Dimension, ...], name: str, config: str) -> Workspace:
    """Return the workspace of the sweep ``name``."""
    project = scope.pipeline.project
    paths = sorted({path for path in _paths(scope) if (project.root / path).exists()})
    inside = [p for p in paths if not any(p != q and f"{p}/".startswith(f"{q}/") for q in paths)]
    return Workspace(scope, space, project.state / "trials" / name, tuple(inside), config)


def _paths(scope: Scope) -> Iterator[str]:
    """Yield what a trial needs: configuration, sources, inputs, and what others have made."""
    pipeline = scope.pipeline
    project = pipeline.project
    yield from ("pyproject.toml", ".dvcignore", ".dvc/config", PARAMS)
    for stage in pipeline.stages:
        here = project.relative(stage.file.parent)
        yield project.relative(stage.file)
        yield os.path.normpath(f"{here}/{PARAMS}")
        yield from (file for file, _ in stage.params)
    yield from _variables(scope)
    for stage in scope.stages:
        yield from (dep for dep in stage.deps if _is_inside(dep) and not scope.writes(dep))
        yield from (out.path for out in stage.outs if out.persist)
        if stage.notebook:
            made = mirror.mirror(project, notebook.read(stage.notebook))
            yield from map(project.relative, (stage.notebook, made.path, *made.modules))
    for stage in scope.kept:
        yield f"reports/executed/{stage.name}.ipynb"
        for out in stage.outs:
            if _is_inside(out.path) and (out.kind != "outs" or out.path.endswith(_IMAGES)):
                yield out.path


def _variables(scope: Scope) -> Iterator[str]:
    """Yield the files that templates in dvc.yaml take values from."""
    from mlnb.pipeline import content

    project = scope.pipeline.project
    for file in {stage.file for stage in scope.pipeline.stages}:
        for entry in (content(file) or {}).get("vars", ()):
            if isinstance(entry, str):
                yield project.relative(file.parent / entry.partition(":")[0])


def _is_inside(path: str) -> bool:
    return "://" not in path and not Path(path).is_absolute() and not path.startswith("..")


def _make(root: Path) -> None:
    """Make a folder anew, with the sign at once that makes the checkout's DVC pass it by."""
    shutil.rmtree(root, ignore_errors=True)
    (root / ".dvc").mkdir(parents=True)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=_LEFT_BEHIND, copy_function=_clone)
    else:
        _clone(source, target)


def _clone(source: str | Path, target: str | Path) -> None:
    """Copy a file, sharing its blocks until one of the two is written, where that can be."""
    if not _shared(source, target):
        shutil.copyfile(source, target)
    shutil.copystat(source, target)


def _shared(source: str | Path, target: str | Path) -> bool:
    import fcntl

    with Path(source).open("rb") as here, Path(target).open("wb") as there:
        try:
            fcntl.ioctl(there, _CLONE, here.fileno())
        except OSError:
            return False
        return True


def local_config(repo: Any) -> str:
    """Return ``.dvc/config.local`` of a trial: the checkout's own, and the checkout's cache."""
    from configobj import ConfigObj

    own = Path(repo.dvc_dir) / "config.local"
    config = ConfigObj(str(own) if own.is_file() else None, list_values=False)
    config.merge(
        {
            "core": {"no_scm": "true", "analytics": "false", "check_update": "false"},
            "cache": {"dir": repo.cache.legacy.path},
        }
    )
    return "\n".join(config.write()) + "\n"
