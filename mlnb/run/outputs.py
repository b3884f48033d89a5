"""What the run was to write: whether it did, and whether its metrics can be judged."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlnb import files
from mlnb.run.plan import Plan

State = Mapping[str, tuple[int, int, int]]
"""What tells whether a file, or the files of a folder, were written again."""


def states(plan: Plan) -> dict[str, State]:
    """Return the state of each output, by path."""
    return {path: _state(plan.project.root / path) for path in plan.written()}


def unwritten(plan: Plan, before: Mapping[str, State]) -> str:
    """Return what is wrong with the outputs of a run whose cells all passed; empty if nothing.

    Args:
        plan: the run.
        before: the outputs' states when it started.
    """
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


def _state(path: Path) -> State:
    found = [path] if path.is_file() else files.walk(path)
    return {str(file): files.version(file) for file in found}
