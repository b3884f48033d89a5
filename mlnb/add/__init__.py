"""Propose a stage for a notebook, once; afterwards it is the person's.

What the stage reads and writes comes from the notebook's contract, from paths written out in its
code, and from one observed run. Nothing is written here: the proposal holds the texts that
dvc.yaml, params.yaml and the ignore files would have, and what a person should know first.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlnb import agreement, contract, edits, mirror, notebook, pipeline
from mlnb.add.ignores import ignore_changes
from mlnb.add.observe import observe as observed_run
from mlnb.add.use import Use, about_run, about_use, declared_use, literal_use, whole_folders
from mlnb.agreement import Disagreement
from mlnb.contract import Contract
from mlnb.edits import Change, NewStage
from mlnb.errors import MlnbError
from mlnb.pipeline import PARAMS, Output, Pipeline, Stage
from mlnb.project import Project


class AddError(MlnbError):
    """A notebook that no stage can be proposed for."""


@dataclass(frozen=True)
class Proposal:
    """A stage for a notebook.

    Attributes:
        stage: its name.
        changes: what becomes of dvc.yaml, params.yaml and the ignore files.
        notes: what a person should know, a sentence each.
    """

    stage: str
    changes: tuple[Change, ...]
    notes: tuple[str, ...]


def propose(
    project: Project, path: Path, *, name: str | None = None, observe: bool = True
) -> Proposal:
    """Return a stage for the notebook at ``path``.

    Args:
        project: the project.
        path: the notebook.
        name: name of the stage; the notebook's by default.
        observe: run the notebook once in a copy of the project and watch it.

    Raises:
        AddError: a stage runs it already, the name is taken, or no stage could run it.
        MlnbError: the notebook, its contract or dvc.yaml cannot be read.
    """
    path = Path(os.path.abspath(path))
    source = notebook.read(path)
    lines = pipeline.load(project)
    stage_name = _name(project, lines, path, name)
    declared = contract.read(source)
    made = mirror.mirror(project, source)
    use = declared_use(project, declared)
    use = use.joined(literal_use(project, source), "a path in the code")
    notes: list[str] = []
    if observe:
        seen = observed_run(project, source, outs=[out.path for out in use.outs])
        notes += about_run(seen)
        use = use.joined(([], list(seen.writes)), "the observed run")
        use = use.joined((whole_folders(project, use, seen.reads), []), "the observed run")
    stage = _stage(project, stage_name, path, made, declared, use)
    notes += about_use(declared, use)
    found = agreement.disagreements(
        project, replace(lines, stages=(*lines.stages, stage)), stage, declared, made
    )
    wanted = [
        *_fixes(found, "code-stage"),
        _new_stage(project, stage),
        *_fixes(found, "missing-value"),
    ]
    changes = [*edits.changes(wanted), *ignore_changes(project)]
    return Proposal(stage_name, tuple(changes), tuple(notes))


def _name(project: Project, lines: Pipeline, path: Path, name: str | None) -> str:
    here = project.relative(path)
    if running := lines.running(path):
        raise AddError(
            f"stage {running[0].name!r} runs this notebook already",
            where=here,
            remedy=f"See {agreement.place(project, running[0])}; `mlnb lint` checks it.",
        )
    if path not in project.notebooks():
        folders = ", ".join(project.settings.notebooks)
        raise AddError(
            f"the notebook lies in none of the project's notebook folders ({folders})",
            where=here,
            remedy="Move it there, or name its folder in [tool.mlnb]: notebooks = [...].",
        )
    wanted = name or re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-") or "notebook"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", wanted):
        raise AddError(
            f"a stage cannot be called {wanted!r}", remedy="Letters, digits, - and _ only."
        )
    if any(stage.key.partition("@")[0] == wanted for stage in lines.stages):
        raise AddError(
            f"dvc.yaml has a stage {wanted!r} for something else",
            where=here,
            remedy=f"Choose another name: mlnb add {here} --name NAME.",
        )
    return wanted


def _stage(
    project: Project, name: str, path: Path, made: mirror.Mirror, declared: Contract, use: Use
) -> Stage:
    stage = Stage(
        name=name,
        target=name,
        file=project.root / "dvc.yaml",
        wdir=project.root,
        cmd=f"mlnb run {shlex.quote(project.relative(path))}",
        deps=(project.relative(made.path), *use.reads),
        outs=(),
        params=((PARAMS, name),) if declared.values else (),
        notebook=path,
    )
    return replace(stage, outs=(*use.outs, Output(agreement.executed(project, stage), "outs")))


def _new_stage(project: Project, stage: Stage) -> NewStage:
    body: dict[str, Any] = {"cmd": stage.cmd, "deps": list(stage.deps)}
    if stage.params:
        body["params"] = [key for _, key in stage.params]
    for kind in ("outs", "metrics", "plots"):
        entries = [
            out.path if out.cache else {out.path: {"cache": False}}
            for out in stage.outs
            if out.kind == kind
        ]
        if entries:
            body[kind] = entries
    return NewStage(stage.file, stage.key, body)


def _fixes(found: Iterable[Disagreement], rule: str) -> list[edits.Edit]:
    wanted: list[edits.Edit] = []
    for disagreement in found:
        if disagreement.rule == rule:
            wanted += [edit for edit in disagreement.fixes if edit not in wanted]
    return wanted
