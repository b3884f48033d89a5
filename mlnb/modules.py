"""Which local modules a notebook imports, and theirs in turn.

A notebook that imports ``features.py`` beside it must run again when that file changes. DVC
cannot see an import; the code mirror carries a digest of each local module instead.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlnb.notebook import Cell, Notebook

TOOL = "mlnb"
"""This package is the tool, not the project's code, also in its own repository."""

_PYTHON_CELL_MAGICS = ("%%time", "%%timeit", "%%capture", "%%prun")
_MAGIC = re.compile(r"^\s*[%!]|^\s*[\w, ]+=\s*[%!]|^\s*\w[\w.]*\?{1,2}\s*$|^\s*\?")
_RUN = re.compile(r"^\s*%run\s+(?:-\w+\s+)*([^\s-]\S*\.py)\b")


@dataclass(frozen=True)
class Import:
    """One imported module.

    Attributes:
        module: dotted name; ``from a import b`` gives ``a.b``, which may be a name in ``a``.
        line: line of the statement, from 1.
    """

    module: str
    line: int


def python(cell: Cell) -> str:
    """Return the Python of a cell: IPython's magics blanked, lines where they were.

    A cell in another language (``%%bash``) is blank.
    """
    first = next((line for line in cell.source.splitlines() if line.strip()), "")
    if first.startswith("%%") and not first.startswith(_PYTHON_CELL_MAGICS):
        return ""
    lines = cell.source.split("\n")
    if _parses(lines):
        return cell.source
    return "\n".join(_blanked(line) for line in lines)


def parse(cell: Cell) -> ast.Module | None:
    """Return the syntax tree of a cell, or None if it is not Python."""
    try:
        return ast.parse(python(cell))
    except (SyntaxError, ValueError, RecursionError):
        return None


def imports(tree: ast.AST, package: str = "") -> Iterator[Import]:
    """Yield what ``tree`` imports; relative imports are resolved against ``package``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield Import(base, node.lineno)
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno)


def locate(module: str, folders: Sequence[Path]) -> list[Path]:
    """Return the files that importing ``module`` runs, if it is local: packages first."""
    parts = module.split(".")
    for folder in folders:
        files: list[Path] = []
        here = folder
        for part in parts:
            if (here / part / "__init__.py").is_file():
                files.append(here / part / "__init__.py")
            elif (here / f"{part}.py").is_file():
                files.append(here / f"{part}.py")
                return files
            elif not (here / part).is_dir() or not _holds_python(here / part):
                break
            here = here / part
        if files:
            return files
    return []


def closure(notebook: Notebook, folders: Sequence[Path]) -> list[Path]:
    """Return the local module files that the notebook imports, directly or not, sorted.

    Args:
        notebook: the notebook.
        folders: where imports are looked up, in order.
    """
    found: set[Path] = set()
    waiting: list[Path] = []
    for cell in notebook.code:
        waiting += _scripts(cell, folders)
        tree = parse(cell)
        if tree is not None:
            waiting += _files(imports(tree), folders)
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError):
            continue  # its bytes count all the same, and the run will say what is wrong
        waiting += _files(imports(tree, _package(file, folders)), folders)
    return sorted(found)


def _files(found: Iterator[Import], folders: Sequence[Path]) -> list[Path]:
    names = {item.module for item in found if item.module.split(".")[0] != TOOL}
    return [file for name in sorted(names) for file in locate(name, folders)]


def _scripts(cell: Cell, folders: Sequence[Path]) -> list[Path]:
    """Return the local scripts that a cell runs by ``%run``."""
    names = [m[1] for m in map(_RUN.match, cell.source.splitlines()) if m]
    return [folder / name for name in names for folder in folders if (folder / name).is_file()]


def _package(file: Path, folders: Sequence[Path]) -> str:
    """Return the dotted package that ``file`` belongs to."""
    for folder in folders:
        if file.is_relative_to(folder):
            return ".".join(file.relative_to(folder).parent.parts)
    return ""


def _holds_python(folder: Path) -> bool:
    """Whether a folder without ``__init__.py`` may be a namespace package."""
    return any(folder.glob("*.py")) or any(folder.glob("*/*.py"))


def _parses(lines: list[str]) -> bool:
    try:
        ast.parse("\n".join(lines))
    except (SyntaxError, ValueError, RecursionError):
        return False
    return True


def _blanked(line: str) -> str:
    """Return the line, or ``pass`` at the same indentation if it is a magic."""
    if not _MAGIC.match(line):
        return line
    return line[: len(line) - len(line.lstrip())] + "pass"
