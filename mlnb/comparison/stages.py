"""The pipeline at a glance: which stages are stale, what each gave last, where its report is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlnb import pipeline
from mlnb.comparison.runs import ComparisonError
from mlnb.project import Project

_FIGURES = 4
_PATIENCE = 120


def stages(project: Project) -> list[dict[str, Any]]:
    """Return the stages in the order in which they run, as JSON holds them.

    Raises:
        MlnbError: dvc.yaml cannot be read, or DVC says no.
    """
    line = pipeline.load(project)
    stale = _stale(project)
    running = _running(project)
    found = []
    for stage in line.ordered():
        report = project.reports / f"{stage.name}.html"
        state = "fresh"
        if line.locked(stage) is None:
            state = "never"
        elif stage.name in stale:
            state = "stale"
        if running and state != "fresh":
            state = "running"
        found.append(
            {
                "name": stage.name,
                "state": state,
                "why": stale.get(stage.name, ""),
                "figures": _figures(project, stage),
                "report": report.relative_to(project.home).as_posix() if report.is_file() else "",
            }
        )
    return found


def start(project: Project, stage: str) -> str:
    """Begin to run a stage and what it needs, in the background; return what was begun.

    Raises:
        MlnbError: there is no such stage, or one is running.
    """
    line = pipeline.load(project)
    if stage not in [each.name for each in line.stages]:
        raise ComparisonError(f"no stage {stage!r} in dvc.yaml")
    if _running(project):
        raise ComparisonError("the pipeline is running: wait for its end")
    log = project.state / "logs" / "lab.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        begun = subprocess.Popen(
            [sys.executable, "-m", "mlnb", "repro", stage],
            cwd=project.root,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _STARTED[project.root] = begun
    return f"`mlnb repro {stage}` has begun; its output goes to {project.relative(log)}"


_STARTED: dict[Path, subprocess.Popen[bytes]] = {}


def _running(project: Project) -> bool:
    begun = _STARTED.get(project.root)
    return begun is not None and begun.poll() is None


def _stale(project: Project) -> dict[str, str]:
    """Return why each stage that is not current is not, as DVC says."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=project.root,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
    )
    try:
        told = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise ComparisonError(
            f"`dvc status` failed: {last[0]}", remedy="Run it yourself."
        ) from None
    return {
        name.rpartition(":")[2]: _why(entries)
        for name, entries in told.items()
        if entries != ["always changed"]
    }


def _why(entries: Any) -> str:
    words = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            words.append(str(entry))
            continue
        for kind, named in entry.items():
            names = list(named) if isinstance(named, Mapping) else []
            words.append(f"{kind} {', '.join(map(str, names[:3]))}".strip())
    return "; ".join(words)


def _figures(project: Project, stage: Any) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for out in stage.outs:
        if out.kind != "metrics" or not out.path.endswith(".json"):
            continue
        try:
            told = json.loads((project.root / out.path).read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(told, Mapping):
            found += [
                (str(name), value)
                for name, value in told.items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            ]
    return found[:_FIGURES]
