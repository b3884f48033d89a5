"""Run one notebook as a stage: bind, execute, check what it wrote, record.

Under DVC the stage is known from ``DVC_STAGE``; everything about it is checked before a kernel
starts. By hand, a notebook that one stage runs takes that stage's values, and ``-p`` overrides
them.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb import agreement, contract, files, mirror, modules, notebook, pipeline
from mlnb.contract import Contract, Parameter
from mlnb.errors import MlnbError
from mlnb.execute import Limits, Outcome, Progress, execute
from mlnb.mirror import Mirror, StaleMirrorError
from mlnb.notebook import Notebook
from mlnb.pipeline import Given, Stage
from mlnb.project import Project

FORMAT = 1


class RunFailedError(MlnbError):
    """A run that started and did not pass."""

    exit_code = 1


class InterruptedRunError(RunFailedError):
    """A run that a person or a signal ended."""

    exit_code = 130


class OutputError(RunFailedError):
    """An output that a run declared and did not write."""


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

    def written(self) -> list[str]:
        """Return every file or folder that the notebook is to write."""
        return [path for p in self.contract.parameters if p.writes for path in self.paths(p)]


@dataclass(frozen=True)
class Result:
    """A run that passed.

    Attributes:
        name: stage or notebook.
        copy: the executed notebook.
        seconds: wall time of the execution.
        cells: how many code cells ran.
        notice: something that a person should know; may be empty.
    """

    name: str
    copy: Path
    seconds: float
    cells: int
    notice: str = ""


def run(
    project: Project, request: Request, *, progress: Callable[[Progress], None] = lambda _: None
) -> Result:
    """Run a notebook and check what it wrote.

    Raises:
        MlnbError: bad input; nothing was started or written.
        RunFailedError: the run failed; ``reports/failed`` has the notebook as far as it came.
    """
    plan = prepare(project, request)
    before = {path: _state(project.root / path) for path in plan.written()}
    for path in before:
        (project.root / path).parent.mkdir(parents=True, exist_ok=True)
    environment = _environment(plan)
    started = datetime.datetime.now(datetime.UTC)
    outcome = execute(
        plan.source,
        plan.values,
        root=project.root,
        folders=mirror.search(project, plan.source.path),
        kernel_name=request.kernel,
        limits=request.limits,
        environment=environment,
        progress=progress,
    )
    cause = outcome.cause or _unwritten(plan, before)
    document = _described(plan, outcome, cause)
    _record(plan, outcome, cause, started, environment)
    if cause:
        raise _failure(plan, outcome, cause, document)
    files.write_text(plan.copy, serialise(document))
    for old in (_failed(plan, ".ipynb"), _failed(plan, ".html")):
        old.unlink(missing_ok=True)
    notice = (
        "" if plan.contract.cell else f"{plan.source.path} has no parameters cell; it ran as it is."
    )
    return Result(plan.name, plan.copy, outcome.seconds, len(plan.source.code), notice)


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
                [pipeline.PipelineError(d.what, where=d.where, remedy=d.remedy) for d in found]
            )
    given = lines.given(stage, declared.names) if stage else {}
    given |= _overrides(declared, request.overrides)
    if not address:
        # By hand a value for another notebook of the stage's section is no reason to stop.
        given = {
            name: g for name, g in given.items() if name in declared.names or g.origin == _BY_HAND
        }
    values = declared.bind(
        {name: g.value for name, g in given.items()}, source=_origins(given) or "the command line"
    )
    plan = Plan(project, source, declared, made, stage, given, values)
    _refuse_missing_inputs(plan)
    return plan


_BY_HAND = "command line"


def serialise(document: Mapping[str, Any]) -> str:
    """Return a notebook as text: sorted keys and fixed spacing, the same bytes each time."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _stage(lines: pipeline.Pipeline, request: Request, address: str) -> Stage | None:
    if address:
        return pipeline.current(lines, request.notebook, address)
    if request.stage:
        return lines.stage(request.stage)
    found = lines.running(request.notebook)
    if len(found) > 1:
        raise pipeline.PipelineError(
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
        pipeline.PipelineError(
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


def _environment(plan: Plan) -> dict[str, str]:
    """Return what the kernel finds in its environment besides ours."""
    from mlnb import tracking

    execution = uuid.uuid4().hex
    found = {"MLNB_STAGE": plan.name, "MLNB_EXECUTION": execution}
    if "mlflow" in plan.mirror.text:
        found |= tracking.environment(plan.project, plan.name, execution)
    return found


# --- what the run wrote ------------------------------------------------------------------------


def _state(path: Path) -> dict[str, tuple[int, int, int]]:
    """Return what tells whether a file, or the files of a folder, were written again."""
    found = {}
    for file in [path] if path.is_file() else files.walk(path):
        stat = file.stat()
        found[str(file)] = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
    return found


def _unwritten(plan: Plan, before: Mapping[str, Mapping[str, tuple[int, int, int]]]) -> str:
    """Return what is wrong with the outputs of a run whose cells all passed."""
    kept = {out.path for out in plan.stage.outs if out.persist} if plan.stage else set()
    for path, old in before.items():
        new = _state(plan.project.root / path)
        if not new and not (plan.project.root / path).is_dir():
            return f"output {path!r} was not written"
        if new == old and path not in kept:
            return f"output {path!r} was not written again; what lies there is from an earlier run"
    for p in plan.contract.parameters:
        if p.kind == "metrics":
            for path in plan.paths(p):
                if problem := _bad_metrics(plan.project.root / path):
                    return f"metrics {path!r}: {problem}"
    return ""


def _bad_metrics(path: Path) -> str:
    """Return why a metrics file cannot be judged; empty if it can."""
    if path.suffix != ".json":
        return "" if path.stat().st_size else "the file is empty"
    try:
        metrics = json.loads(path.read_bytes())
    except ValueError as error:
        return f"not JSON: {error}"
    if not isinstance(metrics, dict) or not metrics:
        return "no metric in it"
    for name, value in _leaves(metrics):
        if isinstance(value, float) and not math.isfinite(value):
            return f"{name} is {value}"
        if value is None:
            return f"{name} is null"
    return ""


def _leaves(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        pairs = [(f"{name}.{k}" if name else str(k), v) for k, v in value.items()]
    elif isinstance(value, list):
        pairs = [(f"{name}[{i}]", v) for i, v in enumerate(value)]
    else:
        return [(name, value)]
    return [leaf for key, item in pairs for leaf in _leaves(item, key)]


# --- the record --------------------------------------------------------------------------------


def _described(plan: Plan, outcome: Outcome, cause: str) -> dict[str, Any]:
    """Return the executed notebook with what a report needs to know of the run.

    Nothing in it depends on when or where the run was, so that DVC sees the same bytes again.
    """
    document: dict[str, Any] = outcome.document
    root = plan.project.root
    inputs = [path for p in plan.contract.parameters if p.kind == "in" for path in plan.paths(p)]
    document["metadata"]["mlnb"] = {
        "format": FORMAT,
        "stage": plan.name,
        "notebook": plan.project.relative(plan.source.path),
        "status": "failed" if cause else "passed",
        "cause": cause,
        "failed_cell": None if outcome.failed_cell is None else outcome.failed_cell - 1,
        "parameters": [_parameter(plan, p) for p in plan.contract.parameters],
        "code": plan.mirror.digest,
        "inputs": {path: files.digest_tree(root / path) for path in inputs},
        "outputs": {
            path: files.digest_tree(root / path)
            for path in plan.written()
            if (root / path).exists()
        },
        "environment": {"python": platform.python_version(), "packages": _packages(plan.source)},
    }
    return document


def _parameter(plan: Plan, p: Parameter) -> dict[str, Any]:
    given = plan.given.get(p.name)
    return {
        "name": p.name,
        "kind": p.kind,
        "type": p.annotation or type(p.default).__name__,
        "value": _plain(plan.values[p.name]),
        "default": None if p.required or p.template else _plain(p.default),
        "help": p.help,
        "origin": given.origin if given else "notebook",
    }


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it."""
    return json.loads(json.dumps(value, default=str))


def _packages(source: Notebook) -> dict[str, str]:
    """Return the versions of the installed packages that the notebook imports itself."""
    from importlib import metadata

    names = {
        item.module.split(".")[0]
        for cell in source.code
        if (tree := modules.parse(cell)) is not None
        for item in modules.imports(tree)
    }
    owners = metadata.packages_distributions()
    found = {owner for name in names - sys.stdlib_module_names for owner in owners.get(name, ())}
    return {name: metadata.version(name) for name in sorted(found)}


def _record(
    plan: Plan,
    outcome: Outcome,
    cause: str,
    started: datetime.datetime,
    environment: Mapping[str, str],
) -> None:
    """Keep when, how long and how the run went: what differs each time, and DVC never sees."""
    files.write_json(
        plan.project.root / ".mlnb" / "runs" / f"{plan.name}.json",
        {
            "format": FORMAT,
            "stage": plan.name,
            "notebook": plan.project.relative(plan.source.path),
            "execution": environment["MLNB_EXECUTION"],
            "status": "failed" if cause else "passed",
            "cause": cause,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(outcome.seconds, 3),
            "cells": {str(k): round(v, 3) for k, v in outcome.cell_seconds.items()},
        },
    )


def _failed(plan: Plan, suffix: str) -> Path:
    return plan.project.failed / f"{plan.name}{suffix}"


def _failure(plan: Plan, outcome: Outcome, cause: str, document: dict[str, Any]) -> RunFailedError:
    """Write the notebook as far as it came and its report; return the error to raise."""
    from mlnb import reports

    kept = _failed(plan, ".ipynb")
    files.write_text(kept, serialise(document))
    page = _failed(plan, ".html")
    files.write_text(page, reports.render_failed(document, plan.source.path))
    kind = OutputError if not outcome.cause else RunFailedError
    kind = InterruptedRunError if outcome.interrupted else kind
    return kind(
        cause,
        where=plan.project.relative(plan.source.path),
        remedy=f"As far as it came: {plan.project.relative(page)}",
    )
