"""Code mirrors: what DVC watches instead of a notebook.

A notebook file changes when outputs, execution counts or prose do. Its mirror
``.mlnb/code/NAME.py`` changes exactly when a run would: it holds the code cells that run, their
tags, the language, and a digest of each local module they import. Mirrors are committed, so
that a fresh clone is up to date and a pull request shows readable code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlnb import files, modules, notebook
from mlnb.errors import MlnbError, NotebookError, ProjectError
from mlnb.notebook import Notebook
from mlnb.project import Project

FORMAT = 1
_MARK = re.compile(r"^# ( *%%)", re.MULTILINE)
"""A comment that would look like the start of a cell; it gets one more space, so that none does."""

_TAGS = ("parameters", "raises-exception")
"""Tags that change what a run does; others are for people."""


class StaleMirrorError(MlnbError):
    """A mirror that does not match its notebook."""


@dataclass(frozen=True)
class Mirror:
    """The mirror that a notebook should have.

    Attributes:
        path: where it belongs, absolute.
        text: what it should hold.
        modules: local module files that the notebook imports, absolute.
    """

    path: Path
    text: str
    modules: tuple[Path, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return files.digest_bytes(self.text.encode())

    @property
    def is_current(self) -> bool:
        """Whether the file on disk holds the text."""
        try:
            return self.path.read_bytes() == self.text.encode()
        except FileNotFoundError:
            return False


def mirror(project: Project, source: Notebook) -> Mirror:
    """Return the mirror that ``source`` should have."""
    found = tuple(modules.closure(source, search(project, source.path)))
    return Mirror(path(project, source.path), _text(project, source, found), found)


def path(project: Project, source: Path) -> Path:
    """Return where the mirror of the notebook at ``source`` belongs."""
    relative = Path(project.relative(source))
    for folder in project.settings.notebooks:
        if relative.is_relative_to(folder):
            relative = relative.relative_to(folder)
            break
    return project.code / relative.with_suffix(".py")


def search(project: Project, source: Path) -> list[Path]:
    """Return the folders that a notebook's local imports are looked up in, in order."""
    return list(dict.fromkeys([Path(source).absolute().parent, *project.sources]))


def write_all(project: Project) -> list[Path]:
    """Write the mirror of every notebook, delete those without one; return what changed.

    Raises:
        MlnbError: a notebook cannot be read, or two would have one mirror; nothing has been
            written.
    """
    wanted: dict[Path, Mirror] = {}
    owners: dict[Path, Path] = {}
    errors: list[MlnbError] = [
        ProjectError(
            "no such folder of notebooks; without it all code mirrors would go",
            where=str(project.root / folder),
            remedy="Make it, or name the right one: `notebooks` in [tool.mlnb] of pyproject.toml.",
        )
        for folder in project.settings.notebooks
        if not (project.root / folder).is_dir()
    ]
    for source in project.notebooks():
        try:
            made = mirror(project, notebook.read(source))
            if made.path in wanted:
                raise NotebookError(
                    f"its mirror would be {project.relative(made.path)}, "
                    f"which is that of {project.relative(owners[made.path])}",
                    where=project.relative(source),
                    remedy="Rename one of them, or keep one folder of notebooks in [tool.mlnb].",
                )
            wanted[made.path], owners[made.path] = made, source
        except MlnbError as error:
            errors.append(error)
    if errors:
        raise MlnbError.join(errors)
    changed = [made.path for made in wanted.values() if not made.is_current]
    for made in wanted.values():
        if not made.is_current:
            files.write_text(made.path, made.text)
    for old in sorted(project.code.rglob("*.py")):
        if old not in wanted:
            old.unlink()
            changed.append(old)
    return changed


def _text(project: Project, source: Notebook, found: Sequence[Path]) -> str:
    name = project.relative(source.path)
    lines = [
        f"# Code of {name}, written by `mlnb code`: edit the notebook instead.",
        f"# mlnb-mirror: {FORMAT}, language: {source.language}",
    ]
    for module in found:
        # Not project.relative: outside the root that names a folder of this machine.
        relative = Path(os.path.relpath(module, project.root)).as_posix()
        lines.append(f"# imports {relative} sha256:{files.digest_file(module)}")
    for cell in source.code:
        tags = [tag for tag in _TAGS if tag in cell.tags]
        lines += [
            "",
            "# %%" + (f" tags={tags}" if tags else ""),
            _MARK.sub(r"#  \1", cell.source.rstrip("\n")),
        ]
    return "\n".join(lines) + "\n"
