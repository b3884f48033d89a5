"""What a run is asked for, and the plan that has passed every check before a kernel starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb import agreement, contract, mirror, notebook, pipeline
from mlnb.contract import Contract, Parameter
from mlnb.errors import MlnbError
from mlnb.execute import Limits
from mlnb.mirror import Mirror, StaleMirrorError
from mlnb.notebook import Notebook
from mlnb.pipeline import Given, PipelineError, Stage
from mlnb.project import Project

_BY_HAND = "command line"


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line.

    Attributes:
        notebook: the notebook's path.
        overrides: parameter texts by name.
        stage: name of the stage to take values from; empty to find it.
        kernel: kernelspec instead of the notebook's own.
        limits: deadlines and the output cap.
    """

    notebook: Path
    overrides: Mapping[str, str]
    stage: str = ""
    kernel: str | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Plan:
    """A run that has passed every check and may start."""

    project: Project
    source: Notebook
    contract: Contract
    mirror: Mirror
    stage: Stage | None
    given: Mapping[str, Given]
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The stage's name, or the notebook's for a run without a stage."""
        return self.stage.name if self.stage else self.mirror.path.stem

    @property
    def copy(self) -> Path:
        """Where the executed notebook goes."""
        return self.project.executed / f"{self.name}.ipynb"

    def paths(self, parameter: Parameter) -> list[str]:
        """Return the paths bound to a path parameter, relative to the root."""
        value = self.values[parameter.name]
        return list(value) if parameter.many else [value]

    def inputs(self) -> list[str]:
        """Return every file or folder that the notebook is to read."""
        return [path for p in self.contract.parameters if p.kind == "in" for path in self.paths(p)]

    def written(self) -> list[str]:
        """Return every file or folder that the notebook is to write."""
        return [path for p in self.contract.parameters if p.writes for path in self.paths(p)]

    def failed(self, suffix: str) -> Path:
        """Return where the notebook goes as far as it came, or its report, by ``suffix``."""
        return self.project.failed / f"{self.name}{suffix}"


def prepare(project: Project, request: Request) -> Plan:
    """Check everything that can be checked before a kernel starts.

    Raises:
        MlnbError: all that is wrong, in one message.
    """
    source = notebook.read(request.notebook)
    declared = contract.read(source)
    made = mirror.mirror(project, source)
    address = os.environ.get("DVC_STAGE", "")
    lines = pipeline.load(project)
    stage = _stage(lines, request, address)
    if address and stage is not None:
        _refuse_stale(project, made)
        found = agreement.disagreements(project, lines, stage, declared, made)
        if found:
            raise MlnbError.join(
                [PipelineError(d.what, where=d.where, remedy=d.remedy) for d in found]
            )
    given = lines.given(stage, declared.names) if stage else {}
    given |= _overrides(declared, request.overrides)
    values = declared.bind(
        {name: g.value for name, g in given.items()}, source=_origins(given) or "the command line"
    )
    plan = Plan(project, source, declared, made, stage, given, values)
    _refuse_missing_inputs(plan)
    return plan


def _stage(lines: pipeline.Pipeline, request: Request, address: str) -> Stage | None:
    if address:
        return pipeline.current(lines, request.notebook, address)
    if request.stage:
        return lines.stage(request.stage)
    found = lines.running(request.notebook)
    if len(found) > 1:
        raise PipelineError(
            f"{len(found)} stages run this notebook",
            where=str(request.notebook),
            remedy=f"Choose one with --stage: {', '.join(s.name for s in found)}.",
        )
    return found[0] if found else None


def _refuse_stale(project: Project, made: Mirror) -> None:
    if not made.is_current:
        raise StaleMirrorError(
            "the code mirror does not match the notebook, so DVC would record the wrong code",
            where=project.relative(made.path),
            remedy="Run `dvc repro` without -s, or `mlnb code` first.",
        )


def _overrides(declared: Contract, texts: Mapping[str, str]) -> dict[str, Given]:
    """Return ``-p`` texts as values: as YAML where the type accepts that, else as a string."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    found: dict[str, Given] = {}
    for name, text in texts.items():
        try:
            value: Any = YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            value = text
        if name in declared.names and not _accepts(declared, name, value):
            value = text if _accepts(declared, name, text) else value
        found[name] = Given(value, _BY_HAND)
    return found


def _accepts(declared: Contract, name: str, value: Any) -> bool:
    try:
        contract.check(declared[name], value, where="", source="")
    except contract.ContractError:
        return False
    return True


def _origins(given: Mapping[str, Given]) -> str:
    return ", ".join(dict.fromkeys(g.origin for g in given.values()))


def _refuse_missing_inputs(plan: Plan) -> None:
    errors = [
        PipelineError(
            f"input {path!r} ({p.name}) is not there",
            where=plan.contract.where(p),
            remedy="`dvc repro` makes what a stage writes; `dvc pull` fetches it.",
        )
        for p in plan.contract.parameters
        if p.kind == "in"
        for path in plan.paths(p)
        if not (plan.project.root / path).exists()
    ]
    if errors:
        raise MlnbError.join(errors)
