"""A folder with what one stage declares, and nothing else."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from mlnb import mirror, notebook
from mlnb.pipeline import PARAMS, Pipeline, Stage

_LEFT_BEHIND = ("__pycache__", ".ipynb_checkpoints")
"""What Python and editors leave; no input and no output of anything."""

_OURS = (".dvc/", ".mlnb/", "reports/failed/")
_TEMPLATE = re.compile(r"\$\{\s*([\w.]+)")
_YAML = (".yaml", ".yml")


class Box:
    """The folder that one stage runs in.

    Args:
        lines: the pipeline that the stage belongs to.
        stage: the stage.
        root: where the folder is to be made; it stands for the project's root.
    """

    def __init__(self, lines: Pipeline, stage: Stage, root: Path) -> None:
        self.lines, self.stage, self.root = lines, stage, root
        self.project = lines.project
        self.left_out: dict[str, list[str]] = {}
        self._sources: dict[str, Path] = {}
        self._before: dict[str, tuple[int, int]] = {}

    @property
    def wdir(self) -> Path:
        """Where the stage's command runs."""
        return self.root / self.project.relative(self.stage.wdir)

    def fill(self, made: Path, done: Sequence[Stage]) -> None:
        """Put the declared inputs in place.

        Args:
            made: outputs of the stages run before, preferred to the workspace's.
            done: those stages.
        """
        (self.root / ".dvc").mkdir(parents=True)
        self._configure()
        for path in self._inputs():
            self._place(path, made, done)
        for out in self.stage.outs:
            (self.root / out.path).parent.mkdir(parents=True, exist_ok=True)
        self.wdir.mkdir(parents=True, exist_ok=True)
        self._before = {path: _state(self.root / path) for path in self._listed()}

    def written(self) -> list[str]:
        """Return the files that are new and neither a declared output nor a leftover."""
        return [path for path in self._listed() if path not in self._before and not self._may(path)]

    def modified(self) -> list[str]:
        """Return the inputs that the stage has changed or deleted."""
        return [path for path, old in self._before.items() if self._is_modified(path, old)]

    def hand_over(self, made: Path) -> None:
        """Move the declared outputs to ``made``, for judgement and for later stages."""
        for out in self.stage.outs:
            target = made / out.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(self.root / out.path, target)

    def _may(self, path: str) -> bool:
        return (
            self.stage.writes(path)
            or path.startswith(_OURS)
            or any(part in _LEFT_BEHIND for part in Path(path).parts)
        )

    def _is_modified(self, path: str, old: tuple[int, int]) -> bool:
        here = self.root / path
        if self.stage.writes(path):
            return False
        if not here.is_file():
            return True
        source = self._sources.get(path)
        if _state(here) == old or source is None:
            return _state(here) != old
        return not filecmp.cmp(source, here, shallow=False)

    def _listed(self) -> list[str]:
        """Return the files in the folder, relative to it."""
        found = []
        for folder, _, names in os.walk(self.root):
            found += [os.path.relpath(Path(folder, name), self.root) for name in names]
        return sorted(Path(path).as_posix() for path in found)

    # --- what goes in --------------------------------------------------------------------------

    def _inputs(self) -> list[str]:
        """Return the paths of what the stage may read, relative to the root."""
        found = list(self.stage.deps)
        found += [out.path for out in self.stage.outs if out.persist]  # it may read what it wrote
        if self.stage.notebook:
            made = mirror.mirror(self.project, notebook.read(self.stage.notebook))
            found += [self.project.relative(p) for p in (made.path, *made.modules)]
            found.append(self.project.relative(self.stage.notebook))
        return [path for path in dict.fromkeys(found) if _is_inside(path)]

    def _place(self, path: str, made: Path, done: Sequence[Stage]) -> None:
        """Copy a file or folder, what was made again in the place of the workspace's."""
        source = self.project.root / path
        for file in [source] if source.is_file() else _files(source):
            name = self.project.relative(file)
            if not any(stage.writes(name) for stage in done):
                self._copy(file, name)
        for file in [made / path] if (made / path).is_file() else _files(made / path):
            self._copy(file, file.relative_to(made).as_posix())

    def _copy(self, source: Path, name: str) -> None:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        # DVC protects what it links from its cache; a stage that writes to it is to be seen.
        target.chmod(target.stat().st_mode | stat.S_IWUSR)
        self._sources[name] = source

    def _configure(self) -> None:
        """Copy the configuration, with no parameter that the stage does not declare."""
        for name in ("pyproject.toml", ".dvc/config"):
            if (self.project.root / name).is_file():
                self._copy(self.project.root / name, name)
        pipelines = sorted({stage.file for stage in self.lines.stages})
        templates: set[str] = set()
        for file in pipelines:
            self._copy(file, self.project.relative(file))
            templates.update(_TEMPLATE.findall(file.read_text("utf-8")))
        beside = [self.project.relative(file.with_name(PARAMS)) for file in pipelines]
        declared = [file for file, _ in self.stage.params]
        for name in dict.fromkeys([*declared, *beside, *self._variables(pipelines)]):
            if _is_inside(name) and (self.project.root / name).is_file():
                keys = {key for file, key in self.stage.params if file == name}
                self._configure_values(name, keys, templates)

    def _variables(self, pipelines: Sequence[Path]) -> Iterator[str]:
        """Yield the files that templates in dvc.yaml take values from."""
        for file in pipelines:
            document = _yaml().load(file.read_text("utf-8")) or {}
            for entry in document.get("vars", ()):
                if isinstance(entry, str):
                    yield self.project.relative(file.parent / entry.partition(":")[0])

    def _configure_values(self, name: str, keys: set[str], templates: set[str]) -> None:
        source = self.project.root / name
        if "" in keys or source.suffix not in _YAML:
            self._copy(source, name)
            return
        document = _yaml().load(source.read_text("utf-8"))
        wanted = [tuple(key.split(".")) for key in keys | templates]
        pruned = list(_pruned(document, wanted, ()))
        self._copy(source, name)
        if pruned:
            text = StringIO()
            _yaml().dump(document, text)
            (self.root / name).write_text(text.getvalue(), "utf-8")
            self.left_out[name] = pruned
            self._sources.pop(name)


def _pruned(
    document: Any, wanted: Sequence[tuple[str, ...]], above: tuple[str, ...]
) -> Iterator[str]:
    """Delete every key of ``document`` that is not wanted; yield their dotted paths."""
    if not isinstance(document, dict):
        return
    for key in list(document):
        below = [path[1:] for path in wanted if path[0] == str(key)]
        here = (*above, str(key))
        if not below:
            del document[key]
            yield ".".join(here)
        elif all(below):
            yield from _pruned(document[key], below, here)


def _yaml() -> Any:
    """Return a reader and writer that keeps every value as it is written."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    return yaml


def _files(folder: Path) -> Iterator[Path]:
    for path, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if name not in (*_LEFT_BEHIND, ".git"))
        yield from (Path(path, name) for name in sorted(names))


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _is_inside(path: str) -> bool:
    """Whether a declared path lies in the project, rather than elsewhere or on a remote."""
    return "://" not in path and not Path(path).is_absolute()
