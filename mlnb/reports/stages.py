"""The reports of a project: which stages have one, and what belongs to each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb import reports
from mlnb.pipeline import Pipeline, Stage, load
from mlnb.project import Project
from mlnb.reports import StageReport

if TYPE_CHECKING:
    from mlnb.gates import Judgement

CANDIDATE, JUDGEMENT = "candidate.json", "gates.json"


def build_all(project: Project) -> list[Path]:
    """Render the report of every stage that runs a notebook, and the index; return their paths.

    Raises:
        MlnbError: a stage has not run, or what it left cannot be read.
    """
    pipeline = load(project)
    return reports.build(
        [stage_report(pipeline, stage) for stage in pipeline.ordered() if stage.notebook],
        root=project.root,
        folder=project.reports,
        title=project.settings.experiment or project.root.name,
        candidate=_candidate(project),
        judgement=_judgement(project),
    )


def stage_report(pipeline: Pipeline, stage: Stage) -> StageReport:
    """Return what the report of ``stage`` is made of."""
    project = pipeline.project
    assert stage.notebook is not None
    return StageReport(
        name=stage.name,
        source=Path(project.relative(stage.notebook)),
        executed=Path(project.relative(project.executed / f"{stage.name}.ipynb")),
        metrics=tuple(Path(out.path) for out in stage.outs if out.kind == "metrics"),
        deps=tuple(above.name for above in pipeline.upstream(stage) if above.notebook),
    )


def _candidate(project: Project) -> dict[str, Any] | None:
    path = project.reports / CANDIDATE
    if not path.is_file():
        return None
    candidate: dict[str, Any] = json.loads(path.read_bytes())
    # Metrics and parameters stand on the pages of their stages.
    return {"digest": candidate.get("candidate", "unknown"), **candidate.get("data", {})}


def _judgement(project: Project) -> Judgement | None:
    path = project.reports / JUDGEMENT
    if not path.is_file():
        return None
    from mlnb.gates.verdicts import parse

    return parse(path.read_text("utf-8"), where=project.relative(path))
