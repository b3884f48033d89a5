"""Lines of the ignore files that a project with notebooks needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mlnb.agreement import LITTER
from mlnb.edits import Change
from mlnb.project import Project

_GIT_IGNORED = (
    "/.mlnb/*",
    "!/.mlnb/code/",
    "/reports/failed/",
    ".ipynb_checkpoints/",
    "__pycache__/",
)


def ignore_changes(project: Project) -> Iterator[Change]:
    """Yield what .gitignore (where there is git) and .dvcignore lack."""
    under_git = any((folder / ".git").exists() for folder in (project.root, *project.root.parents))
    if under_git:
        yield from _with_lines(project.root / ".gitignore", _GIT_IGNORED)
    yield from _with_lines(project.root / ".dvcignore", LITTER)


def _with_lines(path: Path, lines: Sequence[str]) -> Iterator[Change]:
    before = path.read_bytes().decode() if path.is_file() else ""
    known = {line.strip().strip("/") for line in before.splitlines()}
    missing = [line for line in lines if line.strip("/") not in known]
    if missing:
        start = before if not before or before.endswith("\n") else before + "\n"
        yield Change(path, before, start + "".join(f"{line}\n" for line in missing))
