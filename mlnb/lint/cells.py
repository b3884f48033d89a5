"""Findings about one notebook."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlnb import agreement, contract, mirror
from mlnb.analysis import Access, Analysis, Undefined, analyse
from mlnb.contract import Contract
from mlnb.errors import MlnbError
from mlnb.lint.findings import ERROR, INFO, WARNING, Finding, of_disagreement, of_error
from mlnb.notebook import Cell, Notebook
from mlnb.pipeline import Given, Pipeline, PipelineError, Stage, covers
from mlnb.project import Project


@dataclass(frozen=True)
class Case:
    """One notebook and the stages that run it; ``lines`` is None if dvc.yaml cannot be read."""

    project: Project
    lines: Pipeline | None
    notebook: Notebook
    path: str
    stages: tuple[Stage, ...]

    def finding(
        self,
        rule: str,
        message: str,
        remedy: str,
        cell: int = 0,
        line: int = 0,
        severity: str = ERROR,
    ) -> Finding:
        """Return a finding in this notebook."""
        return Finding(self.path, cell, line, rule, severity, message, remedy)


def of_notebook(case: Case) -> Iterator[Finding]:
    """Yield everything about one notebook and the stages that run it."""
    made = mirror.mirror(case.project, case.notebook)
    analysis = analyse(case.notebook, mirror.search(case.project, case.notebook.path))
    yield from _of_code(case, analysis)
    yield from _out_of_order(case)
    yield from _not_used(case)
    if case.stages and not made.is_current:
        yield case.finding(
            "stale-mirror",
            f"{case.project.relative(made.path)} does not hold the code of this notebook",
            "Run `mlnb code` (`dvc repro` does).",
        )
    try:
        declared = contract.read(case.notebook)
    except MlnbError as error:
        yield of_error(case.project, error, "contract")
        return
    for stage in case.stages:
        assert case.lines is not None  # else there are no stages
        for found in agreement.disagreements(case.project, case.lines, stage, declared, made):
            yield of_disagreement(found)
    yield from _undeclared(case, declared, analysis.accesses)


def _not_used(case: Case) -> Iterator[Finding]:
    if case.lines is not None and not case.stages:
        remedy = f"`mlnb add {case.path}` proposes a stage."
        yield case.finding("unused-notebook", "no stage runs this notebook", remedy, severity=INFO)
    elif case.stages and not any("parameters" in cell.tags for cell in case.notebook.code):
        yield case.finding(
            "no-parameters",
            "no cell is tagged `parameters`, so that mlnb does not know what it reads and writes",
            "Put its paths and values in one code cell and give it the tag `parameters`.",
            severity=INFO,
        )


def _of_code(case: Case, analysis: Analysis) -> Iterator[Finding]:
    for bad in analysis.syntax:
        yield case.finding(
            "syntax", f"not Python: {bad.reason}", "Mend the cell.", bad.cell, bad.line
        )
    for name in analysis.undefined:
        yield case.finding("undefined-name", *_undefined(name), name.cell, name.line)
    for path in analysis.machine_paths:
        yield case.finding(
            "absolute-path",
            f"{path.path!r} exists on this machine only",
            "Move the file into the project and write its path relative to the root.",
            path.cell,
            path.line,
        )
    for module in analysis.missing:
        yield case.finding(
            "missing-module",
            f"module {module.module!r} is neither installed nor in the project",
            f"`pip install {module.module}`, or add its folder to `source` in [tool.mlnb].",
            module.cell,
            module.line,
        )
    for change in analysis.import_paths:
        yield case.finding(
            "import-path",
            "this changes sys.path, so an edit of what is imported through it would run nothing",
            'Name the folder in pyproject.toml instead: [tool.mlnb] source = [".", "src"].',
            change.cell,
            change.line,
            WARNING,
        )


def _undefined(found: Undefined) -> tuple[str, str]:
    message = f"name {found.name!r} is not defined when the notebook runs from top to bottom"
    return {
        "later": (
            f"{message}: cell {found.bound_in} binds it later",
            f"Move cell {found.bound_in} above cell {found.cell}.",
        ),
        "below": (
            f"{message}: this cell binds it further down",
            "Bind it first; the session that knew it is gone.",
        ),
        "dev": (
            f"{message}: cell {found.bound_in} binds it, and its tag `dev` leaves it out of runs",
            f"Move what binds it out of cell {found.bound_in}.",
        ),
        "deleted": (
            f"{message}: cell {found.bound_in} deletes it",
            f"Take the `del` out of cell {found.bound_in}, or bind the name again.",
        ),
        "never": (message, "Bind or import it in a cell above; the session that knew it is gone."),
    }[found.reason]


def _out_of_order(case: Case) -> Iterator[Finding]:
    """Yield the first cell that was last run before a cell above it."""
    highest: Cell | None = None
    for cell in case.notebook.code:
        if cell.count is None:
            continue
        if highest is not None and highest.count is not None and cell.count <= highest.count:
            message = (
                f"saved outputs are out of order: this cell ran as [{cell.count}], "
                f"cell {highest.number} above it as [{highest.count}]"
            )
            remedy = "Run all cells from the top before saving (Kernel, Restart and Run All)."
            yield case.finding("execution-order", message, remedy, cell.number, severity=WARNING)
            return
        highest = cell


def _undeclared(case: Case, declared: Contract, accesses: Sequence[Access]) -> Iterator[Finding]:
    """Yield the literal reads and writes that neither the contract nor the stages know."""
    if declared.cell is None and not case.stages:
        return
    reads, writes = _known_paths(case, declared)
    for access in accesses:
        path = case.project.relative(case.project.root / access.path)
        if _is_outside(path) or any(covers(p, path) for p in (writes if access.writes else reads)):
            continue
        verb, marker = ("writes", "Out") if access.writes else ("reads", "In")
        name = re.sub(r"\W", "_", path.rpartition("/")[2].partition(".")[0]) or "path"
        if declared.cell is None:
            section = "outs" if access.writes else "deps"
            remedy = f"Add to `{section}` of its stage in dvc.yaml:\n    - {path}"
        else:
            declaration = f'{name}: {marker} = "{path}"'
            remedy = f"Declare it in the parameters cell and use `{name}` here:\n    {declaration}"
        yield case.finding(
            f"undeclared-{'write' if access.writes else 'read'}",
            f"`{access.call}` {verb} {path}, which DVC does not know",
            remedy,
            access.cell,
            access.line,
        )


def _is_outside(path: str) -> bool:
    """Whether a path is absolute or leaves the root, which is a finding of its own."""
    return path.startswith(("/", "~", "\\", "../")) or path[1:2] == ":"


def _known_paths(case: Case, declared: Contract) -> tuple[list[str], list[str]]:
    """Return the paths that a cell may read, and those that it may write."""
    if declared.cell is None:
        writes = [out.path for stage in case.stages for out in stage.outs]
        return writes + [dep for stage in case.stages for dep in stage.deps], writes
    reads: list[str] = []
    writes = []
    stages: list[Stage | None] = [*case.stages] or [None]
    for stage in stages:
        given: dict[str, Given] = {}
        if stage is not None and case.lines is not None:
            with contextlib.suppress(PipelineError):  # agreement tells it
                given = case.lines.given(stage, declared.names)
        for name, paths in agreement.bound_paths(case.project, declared, given).items():
            reads += paths
            writes += paths if declared[name].writes else []
    return reads, writes
