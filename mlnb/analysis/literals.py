"""Paths that can be known without running the code.

A string, ``Path`` and ``/`` and ``os.path.join`` of strings, and names that are bound once, at
the top, to such a path. The names of the parameters cell are left to the contract, which knows
what they will be.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from mlnb.analysis.parsed import Parsed
from mlnb.notebook import PARAMETERS


@dataclass
class Known:
    """Names that are bound once, to a path that can be known."""

    paths: dict[str, str] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    def bind(self, name: str, path: str | None) -> None:
        """Note an assignment; None, or a second path, makes the name unknown."""
        if path is None or self.paths.get(name, path) != path:
            self.unknown.add(name)
        else:
            self.paths[name] = path

    def get(self, name: str) -> str | None:
        """Return the path that the name stands for, if that is sure."""
        return None if name in self.unknown else self.paths.get(name)


def known_paths(cells: Sequence[Parsed]) -> Known:
    """Return the names of a notebook that stand for paths."""
    known = Known()
    for parsed in cells:
        if PARAMETERS in parsed.cell.tags:
            known.unknown |= {node.id for node in parsed.nodes if _is_stored(node)}
        for statement in parsed.tree.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                targets = (
                    statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                )
                for target in targets:
                    if isinstance(target, ast.Name):
                        known.bind(target.id, path_of(statement.value, known))
        _forget_rebound(parsed, known)
    return known


def _forget_rebound(parsed: Parsed, known: Known) -> None:
    """Give up names that anything but a plain assignment at the top binds as well."""
    plain = {
        id(target)
        for statement in parsed.tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for target in (
            statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        )
    }
    for node in parsed.nodes:
        if _is_stored(node) and id(node) not in plain:
            known.unknown.add(node.id)
        elif isinstance(node, ast.arg):
            known.unknown.add(node.arg)


def _is_stored(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def path_of(node: ast.expr | None, known: Known) -> str | None:
    """Return the path that an expression is, if that can be known."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _joined([node.left, node.right], known)
    if isinstance(node, ast.JoinedStr):
        parts = [
            path_of(v.value if isinstance(v, ast.FormattedValue) else v, known) for v in node.values
        ]
        return None if None in parts else "".join(part or "" for part in parts)
    if isinstance(node, ast.Call) and not node.keywords:
        name = last_name(node.func)
        if (
            name in ("Path", "PurePath", "PosixPath", "PurePosixPath", "str", "fspath")
            and node.args
        ):
            return _joined(node.args, known)
        if name == "join" and "path" in ast.unparse(node.func):
            return _joined(node.args, known)
    return None


def _joined(nodes: Sequence[ast.expr], known: Known) -> str | None:
    parts = [path_of(node, known) for node in nodes]
    if any(part is None for part in parts):
        return None
    return "/".join(part.rstrip("/") if part != "/" else "" for part in parts if part is not None)


def last_name(node: ast.expr) -> str:
    """Return the last part of a dotted name, or an empty string."""
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
