"""The parameters cell as source: parsing without executing, and errors that carry a place."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from typing import Any

from mlnb.contract.records import ContractError
from mlnb.notebook import Cell, Notebook

NOT_PARSED = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What Python raises for text that it cannot parse."""


@dataclass(frozen=True)
class Reader:
    """The parameters cell while it is read."""

    notebook: Notebook
    cell: Cell

    def where(self, line: int) -> str:
        """Return where ``line`` of the cell stands."""
        return self.notebook.where(self.cell, line)

    def error(self, what: str, node: ast.AST | int, remedy: str = "") -> ContractError:
        """Return an error with the place of ``node``, or of a line."""
        line = node if isinstance(node, int) else getattr(node, "lineno", 0)
        return ContractError(what, where=self.where(line), remedy=remedy)

    def unquoted(self, annotation: ast.expr) -> ast.expr:
        """Return the expression in a string annotation, or the annotation itself."""
        if not (isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)):
            return annotation
        try:
            # In brackets as typing reads it, so that it may have more than one line.
            body = parse(f"({annotation.value}\n)")
            if len(body) != 1 or not isinstance(body[0], ast.Expr):
                raise ValueError
        except NOT_PARSED:
            raise self.error(
                f"the annotation {shown(annotation.value)} is not Python", annotation
            ) from None
        for node in ast.walk(body[0]):
            ast.copy_location(node, annotation)
        return body[0].value


def parse(source: str) -> list[ast.stmt]:
    """Parse ``source``; what Python warns of in it is for its author, at the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source).body


def last_name(node: ast.expr) -> str:
    """Return the last part of a dotted name, or an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def excerpt(node: ast.AST) -> str:
    """Return the first line of the source of ``node``, not too long for a message."""
    try:
        line = ast.unparse(node).splitlines()[0]
    except RecursionError:
        return "..."
    return line if len(line) <= 60 else line[:57] + "..."


def shown(value: Any) -> str:
    """Return ``value`` as a message may show it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python will write
        return f"this {type(value).__name__}"
    return text if len(text) <= 200 else text[:197] + "..."
