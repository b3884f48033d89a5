"""One trial: its folder, its stages, its candidate."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlnb import files, pipeline, tracking
from mlnb.pipeline import Stage, content
from mlnb.project import Project
from mlnb.sweep.memory import Parsed
from mlnb.sweep.record import FINISHED, Spec, Trial
from mlnb.sweep.scope import Scope
from mlnb.sweep.space import Dimension, same
from mlnb.sweep.stages import Run, Stages
from mlnb.sweep.workspace import Workspace


@dataclass(frozen=True)
class Bench:
    """What the trials of one sweep share, made ready before the first is forked.

    Attributes:
        name: the sweep's.
        spec: what it looks for.
        workspace: makes the trials' folders.
        run: runs a notebook in this process.
        parsed: what YAML texts hold.
        locks: the checkout's dvc.lock files, by their path relative to the root.
        origin: tags of a run of MLflow that tell where it comes from.
        values: what the checkout has in the place of a trial's values.
    """

    name: str
    spec: Spec
    workspace: Workspace
    run: Run
    parsed: Parsed
    locks: Mapping[str, Lock]
    origin: Mapping[str, str]
    values: Mapping[str, Any]

    def perform(self, trial: Trial) -> Trial:
        """Run ``trial`` to its end, in a process of its own; its folder is gone then.

        Raises:
            MlnbError: it failed; the folder is left for a look.
        """
        started = time.monotonic()
        with self.parsed.used():
            project = self.workspace.make(trial.number, trial.values)
            os.chdir(project.root)
            os.environ["DVC_SITE_CACHE_DIR"] = str(project.root / ".dvc" / "tmp" / "site")
            lines = pipeline.load(project)
            stages = Stages(project.root, brief=True)
            scope = self.workspace.scope
            computed = [s.name for s in scope.stages if stages.reproduce(s, self.run)]
            self._write_locks(project, stages)
            tracked = tracking.track(project, lines, origin=self._tags(trial))
            if scope.tracker:
                stages.keep(scope.tracker)
        os.chdir(self.workspace.folder)
        shutil.rmtree(project.root, ignore_errors=True)
        return Trial(
            trial.number,
            trial.values,
            FINISHED,
            value=tracked.candidate.metrics[self.spec.metric],
            seconds=round(time.monotonic() - started, 3),
            computed=tuple(computed),
            candidate=tracked.candidate.digest,
            run=tracked.run,
        )

    def _write_locks(self, project: Project, stages: Stages) -> None:
        """Write dvc.lock: what was kept and what was made; nothing of what is now out of date."""
        made: dict[str, dict[str, Any]] = {path: {} for path in self.locks}
        for stage in self.workspace.scope.stages:
            made[lock_of(self.workspace.scope, stage)][stage.key] = stages.entry(stage)
        for path, lock in self.locks.items():
            text, data = lock.with_entries(made[path])
            files.write_text(project.root / path, text)
            self.parsed.know(text, data)

    def _tags(self, trial: Trial) -> dict[str, str]:
        tags = {
            **self.origin,
            "mlflow.source.name": "mlnb sweep",
            "mlnb.sweep": self.name,
            "mlnb.trial": str(trial.number),
        }
        if "mlnb.git.dirty" in tags and not same(dict(trial.values), dict(self.values)):
            tags["mlnb.git.dirty"] = "true"
        return tags


@dataclass(frozen=True)
class Lock:
    """A dvc.lock of the checkout without the stages that a trial makes or does without.

    Attributes:
        data: what stays.
        text: the same as DVC writes it.
    """

    data: Mapping[str, Any]
    text: str

    def with_entries(self, entries: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the lock with the entries of further stages, as text and as data."""
        data = {**self.data, "stages": {**self.data["stages"], **entries}}
        return self.text + "".join(_block(key, entry) for key, entry in entries.items()), data


def locks(scope: Scope) -> dict[str, Lock]:
    """Return the checkout's dvc.lock files as trials begin with them, by relative path."""
    from dvc.utils.serialize import dumps_yaml

    found: dict[str, Lock] = {}
    kept = [stage.name for stage in (*scope.kept, *_before(scope))]
    for stage in scope.pipeline.stages:
        path = lock_of(scope, stage)
        if path in found:
            continue
        here = [
            s.key for s in scope.pipeline.stages if lock_of(scope, s) == path and s.name in kept
        ]
        lock = scope.pipeline.project.root / path
        entries = (content(lock) or {}).get("stages", {}) if lock.is_file() else {}
        entries = {key: entry for key, entry in entries.items() if key in here}
        text = dumps_yaml({"schema": "2.0"}) + "stages:\n"
        text += "".join(_block(key, entry) for key, entry in entries.items())
        found[path] = Lock({"schema": "2.0", "stages": entries}, text)
    return found


def lock_of(scope: Scope, stage: Stage) -> str:
    """Return the path of the dvc.lock that tells of ``stage``, relative to the root."""
    return scope.pipeline.project.relative(stage.file.with_name("dvc.lock"))


def current_values(scope: Scope, space: tuple[Dimension, ...]) -> dict[str, Any]:
    """Return what the checkout's params files hold in the places that a sweep changes."""
    found: dict[str, Any] = {}
    for dimension in space:
        here: Any = content(scope.pipeline.project.root / dimension.key.file)
        for part in dimension.key.name.split("."):
            here = here[part]
        found[str(dimension.key)] = here
    return found


def _before(scope: Scope) -> list[Stage]:
    """Return stages outside the candidate that no trial changes, such as ``mlnb code``."""
    reached = [*scope.stages, *(s for one in scope.stages for s in scope.pipeline.downstream(one))]
    return [stage for stage in scope.pipeline.stages if stage not in reached]


def _block(key: str, entry: Any) -> str:
    from dvc.utils.serialize import dumps_yaml

    return str(dumps_yaml({"stages": {key: entry}}).partition("\n")[2])
