"""Candidates: one state of the pipeline, told from dvc.lock and the metrics files.

The digest covers what the stages ran and what came out: commands, parameter values, and the
paths and checksums of dependencies and outputs. Left out are the tools that only look on
(``mlnb code``, ``package``, ``gate``, ``track``, ``report``) and executed notebooks, which show a
result and are none.
Nothing in it depends on where the project lies, when it ran or who ran it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb import files
from mlnb.project import Project
from mlnb.tracking.evidence import CandidateError, metrics

if TYPE_CHECKING:
    from mlnb.pipeline import Pipeline, Stage

FORMAT = 1
_ONLOOKERS = ("code", "track", "report")
_JUDGES = ("gate", "package")
"""What is made of a candidate so that it can be judged; of a pipeline that does nothing else, all
there is.
"""
_CHECKSUMS = ("md5", "etag", "checksum")
"""What DVC calls the checksum of a local file, an object in a bucket, and one on HDFS."""


@dataclass(frozen=True)
class StageState:
    """What dvc.lock records of one stage, and what its metrics files hold.

    Attributes:
        name: the stage's name.
        digest: of its part of the candidate.
        params: values by dotted name.
        metrics: finite numbers by dotted name, which starts with the stage's.
        deps: checksums by path, relative to the root.
        outs: the same of what it wrote; executed notebooks are here too.
    """

    name: str
    digest: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    deps: Mapping[str, str]
    outs: Mapping[str, str]


@dataclass(frozen=True)
class Candidate:
    """One state of the pipeline.

    Attributes:
        digest: equal for the same state anywhere.
        stages: its stages, each after what it reads.
        params: values of all stages by dotted name.
        metrics: metrics of all stages by dotted name.
        data: checksums of the dependencies that no stage writes, by path.
    """

    digest: str
    stages: tuple[StageState, ...]
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    data: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        """Return it as JSON holds it: reports/candidate.json, the same for the same state."""
        return {
            "format": FORMAT,
            "candidate": self.digest,
            "stages": {state.name: state.digest for state in self.stages},
            "params": dict(self.params),
            "metrics": dict(self.metrics),
            "data": dict(self.data),
        }


def candidate(pipeline: Pipeline) -> Candidate:
    """Return the present candidate.

    Its stages are those that the ``mlnb track`` stage follows; without such a stage, all. DVC may
    run the others after ``track``, when it is too late to tell their state.

    Raises:
        CandidateError: a stage never ran, a metrics file is missing, is not what dvc.lock
            records, or holds a number that is not finite.
    """
    stages = _stages(pipeline)
    never = [stage.name for stage in stages if pipeline.locked(stage) is None]
    if never or not stages:
        raise CandidateError(
            f"stages that never ran: {', '.join(never) or 'all, for there are none'}",
            where=str(pipeline.project.root / "dvc.lock"),
            remedy="Run `dvc repro`, and commit dvc.lock with what it wrote.",
        )
    states = tuple(_state(pipeline, stage) for stage in stages)
    return Candidate(
        digest=_digest({state.name: state.digest for state in states}),
        stages=states,
        params=_merged(states),
        metrics={name: value for state in states for name, value in state.metrics.items()},
        data={
            path: checksum
            for state in states
            for path, checksum in state.deps.items()
            if not any(stage.writes(path) for stage in pipeline.stages)
        },
    )


def _stages(pipeline: Pipeline) -> list[Stage]:
    """Return the stages of a candidate, each after what it reads."""
    ordered = pipeline.ordered()
    trackers = [stage for stage in ordered if stage.tool == "track"]
    if trackers:
        ordered = [s for s in ordered if any(t in pipeline.downstream(s) for t in trackers)]
    makers = [stage for stage in ordered if stage.tool not in _ONLOOKERS]
    return [stage for stage in makers if stage.tool not in _JUDGES] or makers


def _state(pipeline: Pipeline, stage: Stage) -> StageState:
    entry = pipeline.locked(stage) or {}
    project = pipeline.project
    kinds = {kind: list(checksums(entry.get(kind))) for kind in ("deps", "outs")}
    paths = {
        kind: {_from_root(project, stage, path): checksum for path, checksum in found}
        for kind, found in kinds.items()
    }
    essence = {
        "cmd": entry.get("cmd"),
        "params": entry.get("params", {}),
        **{
            kind: sorted((p, c) for p, c in found if not _is_shown(_from_root(project, stage, p)))
            for kind, found in kinds.items()
        },
    }
    return StageState(
        name=stage.name,
        digest=_digest(essence),
        params=dict(_params(project, stage, entry)),
        metrics=metrics(project, stage, paths["outs"]),
        deps=paths["deps"],
        outs=paths["outs"],
    )


def checksums(entries: Any) -> Iterator[tuple[str, str]]:
    """Yield path and checksum of each entry of dvc.lock; an empty one where it has none."""
    for entry in entries or ():
        yield str(entry["path"]), next((str(entry[key]) for key in _CHECKSUMS if key in entry), "")


def _from_root(project: Project, stage: Stage, path: str) -> str:
    """Return a path of dvc.lock, relative to the stage's folder, as relative to the root."""
    if "://" in path or Path(path).is_absolute():
        return path
    root = os.path.realpath(project.root)
    return Path(os.path.relpath(stage.wdir / path, root)).as_posix()


def _is_shown(path: str) -> bool:
    """Whether ``path`` is an executed notebook, or their folder."""
    return f"{path}/".startswith("reports/executed/")


def _digest(value: Any) -> str:
    text = json.dumps({"format": FORMAT, "of": _plain(value)}, sort_keys=True)
    return files.digest_bytes(text.encode())


def _plain(value: Any) -> Any:
    """Return a value of YAML as JSON holds it; dates, NaN and infinity become text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


# --- parameters ---------------------------------------------------------------------------------


def _params(project: Project, stage: Stage, entry: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield values by name: ``train.rate`` of params.yaml, ``other.yaml:train.rate`` of others."""
    for file, values in (entry.get("params") or {}).items():
        path = _from_root(project, stage, str(file))
        prefix = "" if path == "params.yaml" else f"{path}:"
        for name, value in _leaves(values):
            yield prefix + name, _plain(value)
    for key, value in stage.item.items():
        yield f"{stage.name}.{key}", _plain(value)


def _merged(states: Iterable[StageState]) -> dict[str, Any]:
    """Return the parameters of all stages; one name has one value in a candidate."""
    merged: dict[str, Any] = {}
    owner: dict[str, str] = {}
    for state in states:
        for name, value in state.params.items():
            if merged.setdefault(name, value) != value:
                raise CandidateError(
                    f"parameter {name!r} was {merged[name]!r} for stage {owner[name]!r}"
                    f" and {value!r} for {state.name!r}",
                    where="dvc.lock",
                    remedy="Run `dvc repro`, so that all stages have the same value.",
                )
            owner.setdefault(name, state.name)
    return merged


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what nested mappings hold, by dotted name; an empty mapping is a value itself."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value
