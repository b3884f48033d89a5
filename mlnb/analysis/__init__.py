"""What a notebook's code tells without being run.

* ``names``: names used before, or without, a definition: state that only an editor's session had.
* ``accesses``: files that literal paths read and write, and paths that exist on one machine only.
* ``packages``: imports of what is neither installed nor local.

Everything is read from the syntax trees of the cells that a run executes, in their order.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlnb import modules
from mlnb.analysis.accesses import Access, MachinePath, accesses, machine_paths
from mlnb.analysis.names import Undefined, undefined
from mlnb.analysis.packages import ImportPath, Missing, import_paths, missing
from mlnb.analysis.parsed import Parsed, parsed
from mlnb.notebook import Cell, Notebook

__all__ = [
    "Access",
    "Analysis",
    "BadSyntax",
    "ImportPath",
    "MachinePath",
    "Missing",
    "Undefined",
    "analyse",
]


@dataclass(frozen=True)
class BadSyntax:
    """A cell that is not Python, and why."""

    cell: int
    line: int
    reason: str


@dataclass(frozen=True)
class Analysis:
    """What was found in one notebook; cells and lines count from 1."""

    syntax: tuple[BadSyntax, ...] = ()
    undefined: tuple[Undefined, ...] = ()
    accesses: tuple[Access, ...] = ()
    machine_paths: tuple[MachinePath, ...] = ()
    missing: tuple[Missing, ...] = ()
    import_paths: tuple[ImportPath, ...] = ()


def analyse(notebook: Notebook, folders: Sequence[Path]) -> Analysis:
    """Return what the code of ``notebook`` tells; nothing of one that is not Python.

    Args:
        notebook: the notebook.
        folders: where its local imports are looked up.
    """
    if notebook.language != "python":
        return Analysis()
    cells: list[Parsed] = []
    broken: list[BadSyntax] = []
    for cell in notebook.code:
        tree = modules.parse(cell)
        if tree is None:
            broken.append(_reason(cell))
        else:
            cells.append(parsed(cell, tree))
    opened = tuple(accesses(cells))
    return Analysis(
        syntax=tuple(broken),
        undefined=() if broken else tuple(undefined(notebook, cells)),
        accesses=opened,
        machine_paths=tuple(machine_paths(cells, opened)),
        missing=tuple(missing(notebook, cells, folders)),
        import_paths=tuple(import_paths(cells)),
    )


def _reason(cell: Cell) -> BadSyntax:
    try:
        ast.parse(modules.python(cell))
    except SyntaxError as error:
        return BadSyntax(cell.number, error.lineno or 0, error.msg)
    except (ValueError, RecursionError) as error:
        return BadSyntax(cell.number, 0, str(error))
    raise AssertionError("the cell parses")
