"""Names that a run from top to bottom would not find.

A notebook that passed in an editor may live on a cell that was deleted, moved or left out. The
code outside functions must find each name already bound; the code inside may use what any cell
binds, as it runs when it is called. Where the code can bind names that no reader sees (a star
import, ``exec``, ``%run``), nothing more is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlnb import modules
from mlnb.analysis.parsed import Parsed
from mlnb.analysis.scopes import Bindings, Use, walk
from mlnb.notebook import DEV, Notebook


@dataclass(frozen=True)
class Undefined:
    """A name that a run would not find.

    Attributes:
        name: the name.
        cell: number of the cell that uses it.
        line: line in that cell.
        bound_in: number of a later cell, or one tagged ``dev``, that binds it; 0 if none does.
        reason: ``below`` (in the same cell), ``later``, ``dev``, ``deleted`` or ``never``.
    """

    name: str
    cell: int
    line: int
    bound_in: int
    reason: str


def undefined(notebook: Notebook, cells: Sequence[Parsed]) -> Iterator[Undefined]:
    """Yield each name, once per cell, that is used before or without being bound."""
    found = walk((parsed.cell, parsed.tree) for parsed in cells)
    seen: set[tuple[str, int]] = set()
    for use in sorted(found.missed, key=lambda use: (use.cell, use.line)):
        if (use.name, use.cell) not in seen:
            seen.add((use.name, use.cell))
            bound_in, reason = _explain(notebook, found, use)
            yield Undefined(use.name, use.cell, use.line, bound_in, reason)


def _explain(notebook: Notebook, found: Bindings, use: Use) -> tuple[int, str]:
    if use.name in found.deleted and found.deleted[use.name] <= use.cell:
        return found.deleted[use.name], "deleted"
    if use.name in found.first_bound:
        bound_in = found.first_bound[use.name]
        return bound_in, "below" if bound_in == use.cell else "later"
    for cell in notebook.cells:
        is_aside = cell.kind == "code" and DEV in cell.tags
        tree = modules.parse(cell) if is_aside else None
        if tree is not None and use.name in walk([(cell, tree)]).first_bound:
            return cell.number, "dev"
    return 0, "never"
