"""Notebooks and small projects for tests, as files a person could have made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Cell = tuple[str, str, tuple[str, ...]]


def code(source: str, *tags: str) -> Cell:
    """Return a code cell."""
    return ("code", source, tags)


def parameters(source: str) -> Cell:
    """Return a parameters cell."""
    return code(source, "parameters")


def prose(source: str) -> Cell:
    """Return a markdown cell."""
    return ("markdown", source, ())


def document(cells: Sequence[Cell | str], *, kernel: str | None = "python3") -> dict[str, Any]:
    """Return a notebook of format 4.5; a string is a code cell."""
    made = []
    for number, cell in enumerate(cells):
        kind, source, tags = cell if not isinstance(cell, str) else code(cell)
        entry: dict[str, Any] = {
            "cell_type": kind,
            "id": f"cell-{number}",
            "metadata": {"tags": list(tags)} if tags else {},
            "source": source.splitlines(keepends=True),
        }
        if kind == "code":
            entry |= {"execution_count": None, "outputs": []}
        made.append(entry)
    spec = {"name": kernel, "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": spec} if kernel is not None else {}
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def write(path: Path, *cells: Cell | str, kernel: str | None = "python3") -> Path:
    """Write a notebook and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(cells, kernel=kernel), indent=1), encoding="utf-8")
    return path


def project(root: Path, *, dvc: str = "", params: str = "") -> Path:
    """Make ``root`` a project with the given dvc.yaml and params.yaml, and return it."""
    (root / ".dvc").mkdir(parents=True, exist_ok=True)
    (root / ".dvcignore").write_text("__pycache__\n.ipynb_checkpoints\n")
    if dvc:
        (root / "dvc.yaml").write_text(dvc, encoding="utf-8")
    if params:
        (root / "params.yaml").write_text(params, encoding="utf-8")
    return root
