"""Code mirrors: what DVC watches instead of a notebook.

A notebook file changes when outputs, execution counts or prose do. Its mirror
``.mlnb/code/NAME.py`` changes exactly when a run would: it holds the code cells that run, their
tags, the language, and a digest of each local module they import. Mirrors are committed, so
that a fresh clone is up to date and a pull request shows readable code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlnb import files, modules, notebook
from mlnb.errors import MlnbError
from mlnb.notebook import Notebook
from mlnb.project import Project

FORMAT = 1
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
        NotebookError: a notebook cannot be read; nothing has been written.
    """
    wanted: dict[Path, Mirror] = {}
    errors: list[MlnbError] = []
    for source in project.notebooks():
        try:
            made = mirror(project, notebook.read(source))
            wanted[made.path] = made
        except MlnbError as error:
            errors.append(error)
    if errors:
        raise MlnbError.join(errors)
    changed = [made.path for made in wanted.values() if not made.is_current]
    for made in wanted.values():
        if not made.is_current:
            files.write_text(made.path, made.text)
    for old in project.code.rglob("*.py"):
        if old not in wanted:
            old.unlink()
            changed.append(old)
    return changed


def _text(project: Project, source: Notebook, found: Sequence[Path]) -> str:
    lines = [
        f"# Code of {project.relative(source.path)}, written by `mlnb code`: edit the notebook instead.",
        f"# mlnb-mirror: {FORMAT}, language: {source.language}",
    ]
    for module in found:
        lines.append(f"# imports {project.relative(module)} sha256:{files.digest_file(module)}")
    for cell in source.code:
        tags = [tag for tag in _TAGS if tag in cell.tags]
        lines += ["", "# %%" + (f" tags={tags}" if tags else ""), cell.source.rstrip("\n")]
    return "\n".join(lines) + "\n"
