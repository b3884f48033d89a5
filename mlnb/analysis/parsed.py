"""A cell's syntax tree, walked once for all who look at it."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from mlnb.notebook import Cell


@dataclass(frozen=True)
class Parsed:
    """A cell that is Python.

    Attributes:
        cell: the cell.
        tree: its syntax tree.
        nodes: every node of the tree.
    """

    cell: Cell
    tree: ast.Module
    nodes: tuple[ast.AST, ...]


def parsed(cell: Cell, tree: ast.Module) -> Parsed:
    """Return ``cell`` with the nodes of its tree."""
    return Parsed(cell, tree, tuple(ast.walk(tree)))
