"""What a sweep touches: the stages that its parameters reach, and what stays as it is.

Everything is checked here, before anything is written: each key exists and some stage reads it,
each value fits the contract of the notebooks that get it, and the metric is one that can change.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlnb import contract, notebook, tracking
from mlnb.errors import MlnbError, did_you_mean
from mlnb.pipeline import Pipeline, Stage, content
from mlnb.sweep.space import Dimension, Key, SpaceError


@dataclass(frozen=True)
class Scope:
    """What a trial does.

    Attributes:
        pipeline: the checkout's.
        candidate: what it makes now.
        stages: the stages that a trial runs, each after what it reads.
        kept: the candidate's other stages, as they are in the checkout.
        tracker: the ``mlnb track`` stage, if there is one that a trial can settle: not one that
            reads the verdict of the gates, which no trial is judged by.
    """

    pipeline: Pipeline
    candidate: tracking.Candidate
    stages: tuple[Stage, ...]
    kept: tuple[Stage, ...]
    tracker: Stage | None

    def writes(self, path: str) -> bool:
        """Whether a trial makes ``path`` itself."""
        return any(stage.writes(path) for stage in self.stages)


def scope(pipeline: Pipeline, space: Sequence[Dimension], metric: str) -> Scope:
    """Return what a sweep of ``space`` for ``metric`` touches.

    Raises:
        MlnbError: all that is wrong with either, in one message.
        CandidateError: the pipeline was never run as it is.
    """
    errors: list[MlnbError] = []
    for dimension in space:
        try:
            _refuse_missing(pipeline, dimension.key)
            errors += _misfits(pipeline, dimension)
        except MlnbError as error:
            errors.append(error)
    if errors:
        raise MlnbError.join({str(error): error for error in errors}.values())
    first = [s for s in pipeline.stages if any(reads(s, each.key) for each in space)]
    reached = [
        s for s in pipeline.ordered() if any(s in (f, *pipeline.downstream(f)) for f in first)
    ]
    candidate = tracking.candidate(pipeline)
    wanted = [state.name for state in candidate.stages]
    found = Scope(
        pipeline,
        candidate,
        stages=tuple(stage for stage in reached if stage.name in wanted),
        kept=tuple(pipeline.stage(n) for n in wanted if n not in [stage.name for stage in reached]),
        tracker=next((s for s in reached if s.tool == "track" and not _waits(pipeline, s)), None),
    )
    _refuse_metric(found, space, metric)
    return found


def _waits(pipeline: Pipeline, tracker: Stage) -> bool:
    """Whether it reads what a stage writes that no trial runs."""
    judges = [stage for stage in pipeline.stages if stage.tool in ("gate", "package")]
    return any(tracker in pipeline.downstream(judge) for judge in judges)


def reads(stage: Stage, key: Key) -> bool:
    """Whether ``stage`` depends on the value at ``key``."""
    return any(
        file == key.file and (not name or _within(key.name, name) or _within(name, key.name))
        for file, name in stage.params
    )


def _within(inner: str, outer: str) -> bool:
    return f"{inner}.".startswith(f"{outer}.")


def _refuse_missing(pipeline: Pipeline, key: Key) -> None:
    path = pipeline.project.root / key.file
    document = content(path)
    names = list(_names(document))
    if key.name not in names:
        raise SpaceError(
            f"no {key.name!r}.{did_you_mean(key.name, names)}",
            where=str(path),
            remedy="A sweep changes values that are there.",
        )
    if not any(reads(stage, key) for stage in pipeline.stages):
        raise SpaceError(
            f"no stage depends on {key.name!r}, so no trial would differ",
            where=str(path),
            remedy="Add it to `params` of the stage in dvc.yaml; `mlnb lint` shows such gaps.",
        )


def _names(value: Any, above: str = "") -> Iterator[str]:
    """Yield the dotted name of every value, of mappings too."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            name = f"{above}.{key}" if above else str(key)
            yield name
            yield from _names(item, name)


def _misfits(pipeline: Pipeline, dimension: Dimension) -> Iterator[MlnbError]:
    """Yield each value that a notebook would refuse."""
    key = dimension.key
    document = content(pipeline.project.root / key.file)
    for stage in pipeline.stages:
        if stage.notebook is None or not reads(stage, key):
            continue
        declared = contract.read(notebook.read(stage.notebook))
        for value in dimension.ends():
            for name, given in _given(stage, key, _replaced(document, key.name, value)).items():
                if name in declared.names:
                    where = declared.where(declared[name])
                    try:
                        contract.check(declared[name], given, where=where, source=f"{key}=…")
                    except MlnbError as error:
                        yield error


def _replaced(document: Any, name: str, value: Any) -> Any:
    document = copy.deepcopy(document)
    *above, last = name.split(".")
    here = document
    for part in above:
        here = here[part]
    here[last] = value
    return document


def _given(stage: Stage, key: Key, document: Any) -> dict[str, Any]:
    """Return what ``stage`` gets from the params file of ``key``, by parameter."""
    found: dict[str, Any] = {}
    for file, name in stage.params:
        if file != key.file:
            continue
        here = document
        for part in name.split(".") if name else ():
            here = here.get(part) if isinstance(here, Mapping) else None
        found |= here if isinstance(here, Mapping) else {name.rpartition(".")[2]: here}
    return found


def _refuse_metric(found: Scope, space: Sequence[Dimension], metric: str) -> None:
    known = found.candidate.metrics
    if metric not in known:
        raise SpaceError(
            f"no metric {metric!r}.{did_you_mean(metric, known)}",
            where="--metric",
            remedy=f"Metrics: {', '.join(sorted(known)) or 'none'}.",
        )
    owner = next(state.name for state in found.candidate.stages if metric in state.metrics)
    if owner not in [stage.name for stage in found.stages]:
        keys = ", ".join(str(dimension.key) for dimension in space)
        raise SpaceError(
            f"{metric} does not depend on {keys}, so no trial would change it",
            where="--metric",
            remedy=f"Stages that a trial runs: {', '.join(s.name for s in found.stages)}.",
        )
