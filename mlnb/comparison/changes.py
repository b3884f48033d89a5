"""What differs between two candidates besides their figures: parameters, data, code."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any

from mlnb.comparison.paired import artifact
from mlnb.comparison.runs import ComparisonError, Table
from mlnb.project import Project

_CONTEXT = 3
_MOST_LINES = 2000


def changes(project: Project, table: Table, first: int, second: int) -> list[dict[str, Any]]:
    """Return what differs between the runs of two rows, as unified differences of named texts.

    Args:
        project: whose.
        table: all candidates.
        first, second: rows of it.

    Returns:
        For each text that differs its ``name`` and the ``lines`` of the difference.
    """
    found = [
        ("parameters", _lines(table, "param", first), _lines(table, "param", second)),
        ("data", _listed(table.data_of(first)), _listed(table.data_of(second))),
    ]
    found += [
        (name, _code(project, table, first, name), _code(project, table, second, name))
        for name in _notebooks(project, table, (first, second))
    ]
    return [{"name": name, "lines": list(_differing(a, b))} for name, a, b in found if a != b]


def _lines(table: Table, kind: Any, row: int) -> list[str]:
    return _listed(table.runs.row(row, kind))


def _listed(values: dict[str, Any]) -> list[str]:
    return [f"{name}: {value}" for name, value in sorted(values.items())]


def _notebooks(project: Project, table: Table, rows: tuple[int, int]) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        try:
            folder = artifact(project, table.runs.ids[row], "candidate.json").parent / "notebooks"
        except ComparisonError:
            continue
        names |= dict.fromkeys(
            path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.ipynb"))
        )
    return list(names)


def _code(project: Project, table: Table, row: int, name: str) -> list[str]:
    """Return the code and prose of an executed notebook, without what a run put there."""
    try:
        path = artifact(project, table.runs.ids[row], f"notebooks/{name}")
        cells = json.loads(path.read_bytes())["cells"]
    except (ComparisonError, OSError, ValueError, KeyError):
        return []
    lines: list[str] = []
    for cell in cells:
        if "injected-parameters" in cell.get("metadata", {}).get("tags", ()):
            continue
        source = cell.get("source", "")
        text = source if isinstance(source, str) else "".join(source)
        prefix = "" if cell.get("cell_type") == "code" else "# "
        lines += [prefix + line for line in text.splitlines()] + [""]
    return lines


def _differing(first: list[str], second: list[str]) -> Iterator[str]:
    for number, line in enumerate(difflib.unified_diff(first, second, lineterm="", n=_CONTEXT)):
        if number >= _MOST_LINES:
            yield f"… more than {_MOST_LINES} lines differ"
            return
        if number > 1:  # the names of the files are ours
            yield line
