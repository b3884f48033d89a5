"""Everything that can be said about a project without running it, in one pass.

`lint` collects what ``agreement``, ``analysis`` and the contracts find over all stages and all
notebooks; nothing stops at the first error. `fix` makes the edits that are safe and returns them
as texts: who calls it shows the difference and writes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlnb import edits, notebook, pipeline
from mlnb.edits import Change, Edit
from mlnb.errors import MlnbError
from mlnb.lint.cells import Case, of_notebook
from mlnb.lint.findings import (
    ERROR,
    INFO,
    WARNING,
    Finding,
    format_finding,
    of_error,
    render,
    render_json,
)
from mlnb.lint.graph import litter, two_writers, unreadable_params, unused_sections
from mlnb.pipeline import Pipeline, PipelineError, Stage
from mlnb.project import Project

__all__ = [
    "ERROR",
    "INFO",
    "WARNING",
    "Finding",
    "fix",
    "format_finding",
    "lint",
    "render",
    "render_json",
]


def lint(project: Project) -> list[Finding]:
    """Return what is wrong in the project, sorted by place, each thing once."""
    found: dict[tuple[Any, ...], Finding] = {}
    for finding in _findings(project):
        # The stages that matrix makes of one entry disagree in the same words.
        words = re.sub(r"(\w)@[^']*'", r"\1'", finding.message)
        key = (finding.path, finding.cell, finding.line, finding.rule, words)
        found.setdefault(key, finding)
    return sorted(
        map(_checked, found.values()), key=lambda f: (f.path, f.cell, f.line, f.rule, f.message)
    )


def fix(project: Project) -> list[Change]:
    """Return what the safe edits make of dvc.yaml and params.yaml; nothing is written."""
    wanted: list[Edit] = []
    for finding in lint(project):
        wanted += [edit for edit in finding.fixes if edit not in wanted]
    return edits.changes(wanted)


def _findings(project: Project) -> Iterator[Finding]:
    lines: Pipeline | None = None
    try:
        lines = pipeline.load(project)
    except PipelineError as error:
        yield from unreadable_params(project) or [of_error(project, error, "pipeline")]
    if lines is not None:
        yield from two_writers(lines)
        yield from unused_sections(project, lines)
        yield from litter(lines)
    runs: dict[Path, tuple[Stage, ...]] = {}
    for stage in lines.stages if lines is not None else ():
        if stage.notebook is not None:
            runs[stage.notebook] = (*runs.get(stage.notebook, ()), stage)
    for path in sorted({*project.notebooks(), *runs}):
        try:
            source = notebook.read(path)
        except MlnbError as error:
            yield of_error(project, error, "unreadable-notebook")
            continue
        yield from of_notebook(
            Case(project, lines, source, project.relative(path), runs.get(path, ()))
        )


def _checked(finding: Finding) -> Finding:
    """Return the finding without edits that cannot be made safely."""
    if not finding.fixes or edits.possible(finding.fixes):
        return finding
    return dataclasses.replace(finding, fixes=())
