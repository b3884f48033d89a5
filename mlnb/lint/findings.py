"""Findings: what was found, where, and how it is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mlnb.agreement import Disagreement
from mlnb.edits import Edit
from mlnb.errors import MlnbError
from mlnb.project import Project

ERROR, WARNING, INFO = "error", "warning", "info"
_PLACE = re.compile(r"(?P<path>.*?)(?:, cell (?P<cell>\d+))?(?:, line (?P<line>\d+))?")


@dataclass(frozen=True)
class Finding:
    """One thing to mend or to know.

    Attributes:
        path: the file, relative to the root.
        cell: number of the cell, from 1; 0 if it is not about one.
        line: line in the cell or file, from 1; 0 if it is not about one.
        rule: short name of what is checked.
        severity: ``error``, ``warning`` or ``info``.
        message: what is wrong.
        remedy: the line or command that helps.
        fixes: the edits by which `fix` mends it; empty where only a person can.
    """

    path: str
    cell: int
    line: int
    rule: str
    severity: str
    message: str
    remedy: str
    fixes: tuple[Edit, ...] = ()


def render(findings: Sequence[Finding]) -> str:
    """Return the findings as text, with a last line that counts them."""
    lines = [format_finding(finding) for finding in findings]
    counts = {s: sum(f.severity == s for f in findings) for s in (ERROR, WARNING, INFO)}
    total = ", ".join(f"{n} {s}{'s' * (n != 1 and s != INFO)}" for s, n in counts.items() if n)
    fixable = sum(bool(f.fixes) for f in findings)
    if fixable:
        total += f"; `mlnb lint --fix` can mend {fixable} of them"
    return "\n".join([*lines, total or "notebooks, dvc.yaml and params.yaml agree"])


def render_json(findings: Sequence[Finding]) -> str:
    """Return the findings as a JSON list."""
    plain = []
    for finding in findings:
        fields = {k: v for k, v in asdict(finding).items() if k != "fixes"}
        plain.append(fields | {"fixable": bool(finding.fixes)})
    return json.dumps(plain, indent=2)


def format_finding(finding: Finding) -> str:
    """Return ``notebooks/train.ipynb:cell 3:2: error[rule] message`` and the remedy below."""
    place = finding.path
    place += f":cell {finding.cell}" if finding.cell else ""
    place += f":{finding.line}" if finding.line else ""
    lines = [f"{place}: {finding.severity}[{finding.rule}] {finding.message}"]
    lines += [f"    {line}" for line in finding.remedy.splitlines()]
    return "\n".join(lines)


def of_disagreement(found: Disagreement) -> Finding:
    """Return a disagreement as a finding."""
    path, cell, line = parse_place(found.where)
    return Finding(path, cell, line, found.rule, ERROR, found.what, found.remedy, found.fixes)


def of_error(project: Project, error: MlnbError, rule: str) -> Finding:
    """Return an error as a finding, with paths relative to the root."""
    path, cell, line = parse_place(error.where)
    path = project.relative(project.root / path)
    what = error.what.replace(f"{project.root}/", "")
    return Finding(
        path, cell, line, rule, ERROR, what, error.remedy.replace(f"{project.root}/", "")
    )


def parse_place(where: str) -> tuple[str, int, int]:
    """Return (path, cell, line) of 'notebooks/train.ipynb, cell 3, line 2'."""
    match = _PLACE.fullmatch(where)
    assert match is not None  # every part of the pattern may be empty
    return match["path"], int(match["cell"] or 0), int(match["line"] or 0)
