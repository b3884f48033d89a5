"""Run one notebook as a stage: bind, execute, check what it wrote, record.

Under DVC the stage is known from ``DVC_STAGE``; everything about it is checked before a kernel
starts. By hand, a notebook that one stage runs takes that stage's values, and ``-p`` overrides
them.

* ``plan`` checks what was asked for, ``outputs`` what was written.
* ``record`` says what reports and tracking need to know of the run.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlnb import files, mirror
from mlnb.errors import MlnbError
from mlnb.execute import Outcome, Progress, execute
from mlnb.project import Project
from mlnb.run import record
from mlnb.run.outputs import states, unwritten
from mlnb.run.plan import Plan, Request, prepare
from mlnb.run.record import FORMAT, serialise

__all__ = [
    "FORMAT",
    "InterruptedRunError",
    "OutputError",
    "Plan",
    "Request",
    "Result",
    "RunFailedError",
    "prepare",
    "run",
    "serialise",
    "warm",
]


class RunFailedError(MlnbError):
    """A run that started and did not pass."""

    exit_code = 1


class InterruptedRunError(RunFailedError):
    """A run that a person or a signal ended."""

    exit_code = 130


class OutputError(RunFailedError):
    """An output that a run declared and did not write."""


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
    project: Project,
    request: Request,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    echo: Callable[[str, str], None] = lambda name, text: None,
) -> Result:
    """Run a notebook and check what it wrote.

    Args:
        project: where it belongs.
        request: what was asked for.
        progress: told where the run is.
        echo: told what the cells print, with ``stdout`` or ``stderr``, as it comes.

    Raises:
        MlnbError: bad input; nothing was started or written.
        RunFailedError: the run failed; ``reports/failed`` has the notebook as far as it came.
    """
    plan = prepare(project, request)
    before = states(plan)
    for path in before:
        (project.root / path).parent.mkdir(parents=True, exist_ok=True)
    environment = _environment(plan)
    plan.copy.unlink(missing_ok=True)  # from here on, what it shows may be written over
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
        echo=echo,
        keep=lambda document: _keep(plan, document),
    )
    cause = outcome.cause or unwritten(plan, before)
    text = serialise(record.described(plan, outcome, cause))
    record.keep(plan, outcome, cause, text, started, environment)
    if cause:
        raise _failure(plan, outcome, cause, text)
    files.write_text(plan.copy, text)
    for old in (plan.failed(".ipynb"), plan.failed(".html")):
        old.unlink(missing_ok=True)
    notice = (
        "" if plan.contract.cell else f"{plan.source.path} has no parameters cell; it ran as it is."
    )
    return Result(plan.name, plan.copy, outcome.seconds, len(plan.source.code), notice)


def warm() -> None:
    """Do once what every run in the project around the working directory would do again."""
    from pydantic import TypeAdapter

    from mlnb import execute, pipeline
    from mlnb.project import find

    execute.warm()
    record.installed()
    TypeAdapter(int)  # looks for pydantic's plug-ins
    pipeline.load(find())  # the files' content is known as long as they do not change


def _environment(plan: Plan) -> dict[str, str]:
    """Return what the kernel finds in its environment besides ours."""
    from mlnb import tracking

    execution = uuid.uuid4().hex
    found = {"MLNB_STAGE": plan.name, "MLNB_EXECUTION": execution}
    if "mlflow" in plan.mirror.text:
        found |= tracking.environment(plan.project, plan.name, execution)
    return found


def _keep(plan: Plan, document: Any) -> None:
    """Write the notebook while it runs: what is left of a run that cannot say how it ended."""
    partial = record.unfinished(plan, document)
    files.write_text(plan.failed(".ipynb"), serialise(partial))


def _failure(plan: Plan, outcome: Outcome, cause: str, text: str) -> RunFailedError:
    """Write the notebook as far as it came and its report; return the error to raise."""
    from mlnb import reports

    files.write_text(plan.failed(".ipynb"), text)
    page = plan.failed(".html")
    files.write_text(page, reports.render_failed(json.loads(text), plan.source.path))
    kind = OutputError if not outcome.cause else RunFailedError
    kind = InterruptedRunError if outcome.interrupted else kind
    return kind(
        cause,
        where=plan.project.relative(plan.source.path),
        remedy=f"As far as it came: {plan.project.relative(page)}",
    )
