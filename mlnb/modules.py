"""Which local modules a notebook imports, and theirs in turn.

A notebook that imports ``features.py`` beside it must run again when that file changes. DVC
cannot see an import; the code mirror carries a digest of each local module instead.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlnb.notebook import Cell, Notebook

TOOL = "mlnb"
"""This package is the tool, not the project's code, also in its own repository."""

_MAGIC = re.compile(r"^\s*[%!?]|^\s*[^#=]+=\s*[%!]|^\s*[%\w.]+\?{1,2}\s*$")
_TIMED = re.compile(r"^(\s*)%(?:time|timeit|prun|memit|lprun)\s+(?=[^\s-])")
_RUN = re.compile(r"^\s*%run\s+(.+)")
_LOAD = re.compile(r"^\s*%(?:load|reload)_ext\s+([\w.]+)")
_IMPORT = re.compile(r"^\s*(?:import|from)\s")
_NOT_PARSED = (SyntaxError, ValueError, RecursionError, MemoryError)
_PYTHON = ("capture", "prun", "time", "timeit")
_FOREIGN = re.compile(
    r"!|bash|cmd|file|html|javascript|js|latex|markdown|perl|pypy|python[23]?|ruby|script|sh|svg|sx"
    r"|system|writefile",
    re.IGNORECASE,
)
"""Cell magics whose cell the kernel does not run as its own Python."""


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

    A cell in another language (``%%bash``) is blank. A line that looks like a magic is one only
    where Python cannot read it: ``% b`` may go on with a sum, or stand in a string.
    """
    written = re.split(r"\r\n|\r|\n", cell.source)
    lines = list(written)
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    magic = re.match(r"%%(!|\w+)", lines[first])
    if magic:
        if _FOREIGN.fullmatch(magic[1]):
            return ""
        lines[first] = ""
    while (line := _error_line("\n".join(lines))) is not None:
        found = [i for i in range(min(line, len(lines))) if _MAGIC.match(lines[i])]
        if not found:
            # A cell magic that we do not know may hold anything.
            return "" if magic and magic[1] not in _PYTHON else "\n".join(lines)
        _blank(lines, found[-1])
    return cell.source if lines == written else "\n".join(lines)


def parse(cell: Cell) -> ast.Module | None:
    """Return the syntax tree of a cell, or None if it is not Python."""
    try:
        return _tree(python(cell))
    except _NOT_PARSED:
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
                parts = package.split(".") if package else []
                above = parts[: max(len(parts) - node.level + 1, 0)]
                base = ".".join([*above, base] if base else above)
            names = [f"{base}.{alias.name}" if base else alias.name for alias in node.names]
            for name in [base, *names] if base else names:
                yield Import(name, node.lineno)
        elif isinstance(node, ast.Call) and (called := _called(node)):
            yield Import(called, node.lineno)


def locate(module: str, folders: Sequence[Path]) -> list[Path]:
    """Return the files that importing ``module`` runs, if it is local.

    As in Python, a package or module in any folder goes before a folder without ``__init__.py``.
    """
    head = module.partition(".")[0]
    regular = [
        f for f in folders if (f / head / "__init__.py").is_file() or (f / f"{head}.py").is_file()
    ]
    for folder in regular[:1] or folders:
        files: list[Path] = []
        here = folder
        for part in module.split("."):
            if (here / part / "__init__.py").is_file():
                files.append(here / part / "__init__.py")
            elif (here / f"{part}.py").is_file():
                files.append(here / f"{part}.py")
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
    if notebook.language != "python":
        return []
    found: set[Path] = set()
    waiting: list[Path] = []
    for cell in notebook.code:
        waiting += _magically(cell, folders)
        waiting += _files(imports(parse(cell) or _salvaged(cell)), folders)
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        waiting += _files(_module_imports(file.read_bytes(), _package(file, folders)), folders)
    return sorted(found)


@functools.lru_cache(maxsize=256)
def _module_imports(code: bytes, package: str) -> tuple[Import, ...]:
    """Return what a module imports; many notebooks import the same ones."""
    try:
        return tuple(imports(_tree(code), package))
    except _NOT_PARSED:
        return ()  # its bytes count all the same, and the run will say what is wrong


def _files(found: Iterable[Import], folders: Sequence[Path]) -> list[Path]:
    there = {path.name.partition(".")[0] for folder in folders for path in folder.glob("*")}
    names = {item.module for item in found if item.module.partition(".")[0] in there - {TOOL}}
    return [file for name in sorted(names) for file in locate(name, folders)]


def _magically(cell: Cell, folders: Sequence[Path]) -> list[Path]:
    """Return the local files that a cell runs by ``%run`` or ``%load_ext``."""
    found: list[Path] = []
    for line in cell.source.splitlines():
        if ran := _RUN.match(line):
            words = ran[1].replace('"', " ").replace("'", " ").split()
            names = [name for word in words for name in (word, f"{word}.py")]
            paths = (Path(os.path.abspath(folder / name)) for name in names for folder in folders)
            found += [path for path in paths if path.is_file()]
            found += [file for word in words if "-m" in words for file in locate(word, folders)]
        elif loaded := _LOAD.match(line):
            found += _files([Import(loaded[1], 1)], folders)
    return found


def _salvaged(cell: Cell) -> ast.Module:
    """Return the imports that stand on lines of their own in a cell that is not all Python."""
    body: list[ast.stmt] = []
    for line in cell.source.splitlines():
        if _IMPORT.match(line):
            try:
                body += _tree(line.strip()).body
            except _NOT_PARSED:
                continue
    return ast.Module(body, [])


def _package(file: Path, folders: Sequence[Path]) -> str:
    """Return the dotted package that ``file`` belongs to, as seen from the nearest folder."""
    inside = [
        file.relative_to(folder).parent.parts for folder in folders if file.is_relative_to(folder)
    ]
    nearest = min(inside, key=len, default=())
    return ".".join(nearest)


def _called(node: ast.Call) -> str:
    """Return the name in ``import_module("name")`` or ``__import__("name")``; else nothing."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    first = node.args[0] if node.args else None
    if name not in ("import_module", "__import__") or not isinstance(first, ast.Constant):
        return ""
    return first.value if isinstance(first.value, str) and not first.value.startswith(".") else ""


@functools.lru_cache(maxsize=1024)
def _tree(source: str | bytes) -> ast.Module:
    """Parse ``source``; what Python warns of in it is for its author, at the run.

    Many notebooks import the same modules, and several checks read the same cell: the tree is
    shared, and only to be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _error_line(source: str) -> int | None:
    """Return the line that Python cannot read, or None if it can read all."""
    try:
        _tree(source)
    except SyntaxError as error:
        return error.lineno or 1
    except _NOT_PARSED:
        return 0
    return None


def _blank(lines: list[str], number: int) -> None:
    """Make a magic ``pass``, or the Python that it times, with the lines that it goes on to."""
    line = lines[number]
    lines[number] = _TIMED.sub(r"\1", line)
    if lines[number] != line:
        return
    lines[number] = line[: len(line) - len(line.lstrip())] + "pass"
    while line.endswith("\\") and number + 1 < len(lines):
        number += 1
        line, lines[number] = lines[number], ""
