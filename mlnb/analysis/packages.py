"""Imports that would fail, and import paths that nobody can follow."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlnb import modules
from mlnb.analysis.parsed import Parsed
from mlnb.notebook import Notebook

_OURS = ("", "python3", "python")
"""Kernels that run in this environment; what another one has installed is not known here."""

_CATCHES_IMPORT_ERROR = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


@dataclass(frozen=True)
class Missing:
    """An import of a module that is neither installed nor local."""

    module: str
    cell: int
    line: int


@dataclass(frozen=True)
class ImportPath:
    """A change of ``sys.path``: what is imported through it, mlnb and DVC cannot see."""

    cell: int
    line: int


def missing(
    notebook: Notebook, cells: Sequence[Parsed], folders: Sequence[Path]
) -> Iterator[Missing]:
    """Yield each import that would fail, once per module; guarded imports are left alone."""
    if notebook.kernel not in _OURS or any(import_paths(cells)):
        return
    seen: set[str] = set()
    for parsed in cells:
        guarded = set(_guarded(parsed))
        for found in modules.imports(parsed.tree):
            name = found.module.partition(".")[0]
            if name and name not in seen and found.line not in guarded:
                seen.add(name)
                if (
                    not modules.locate(name, folders)
                    and not _is_namespace(name, folders)
                    and not _installed(name)
                ):
                    yield Missing(name, parsed.cell.number, found.line)


def import_paths(cells: Sequence[Parsed]) -> Iterator[ImportPath]:
    """Yield each place that changes ``sys.path``."""
    for parsed in cells:
        for node in parsed.nodes:
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("append", "insert", "extend")
                and ast.unparse(node.func.value) == "sys.path"
            ):
                yield ImportPath(parsed.cell.number, node.lineno)


def _guarded(parsed: Parsed) -> Iterator[int]:
    """Yield the lines whose imports may fail, or are for type checkers only."""
    for node in parsed.nodes:
        caught: set[str] = set()
        if isinstance(node, ast.Try):
            for handler in node.handlers:
                kinds = ast.walk(handler.type) if handler.type else [ast.Name("BaseException")]
                caught |= {kind.id for kind in kinds if isinstance(kind, ast.Name)}
        is_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if isinstance(node, ast.Try | ast.If) and (caught & _CATCHES_IMPORT_ERROR or is_for_types):
            for statement in node.body:
                yield from range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)


def _is_namespace(name: str, folders: Sequence[Path]) -> bool:
    """Whether ``name`` is a local folder that imports may go through."""
    return any(
        (folder / name).is_dir() and any((folder / name).rglob("*.py")) for folder in folders
    )


@functools.cache
def _installed(name: str) -> bool:
    """Whether ``name`` can be imported, without importing it."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # `__main__` and the like have no spec, and are there
        return True
