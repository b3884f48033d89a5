"""The pipeline as plain data: the stages of dvc.yaml with their templates resolved.

``dvc.yaml`` owns the graph and ``params.yaml`` the values; this package reads them and never
writes. Paths of a stage are relative to the project root, wherever its dvc.yaml lies.

* ``records`` says what a stage is; ``dvcyaml`` makes stages of a dvc.yaml, with DVC's own resolver.
* ``contents`` reads one file as DVC would.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mlnb.errors import did_you_mean
from mlnb.pipeline.contents import content
from mlnb.pipeline.dvcyaml import PARAMS, dvc_files, stages_of
from mlnb.pipeline.records import Given, Output, PipelineError, Stage, covers
from mlnb.project import Project, place

__all__ = [
    "PARAMS",
    "Given",
    "Output",
    "Pipeline",
    "PipelineError",
    "Stage",
    "content",
    "covers",
    "current",
    "load",
]


@dataclass(frozen=True)
class Pipeline:
    """All stages of a project, in dvc.yaml's order."""

    project: Project
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        """Return the stage of that name.

        Raises:
            PipelineError: there is none.
        """
        for stage in self.stages:
            if name in (stage.name, stage.target):
                return stage
        names = [stage.name for stage in self.stages]
        raise PipelineError(
            f"no stage {name!r} in dvc.yaml.{did_you_mean(name, names)}",
            where=str(self.project.root),
            remedy=f"Stages: {', '.join(names) or 'none'}.",
        )

    def running(self, notebook: Path) -> list[Stage]:
        """Return the stages that run ``notebook``."""
        wanted = place(notebook)
        return [s for s in self.stages if s.notebook is not None and place(s.notebook) == wanted]

    def upstream(self, stage: Stage) -> list[Stage]:
        """Return the stages whose outputs ``stage`` reads directly."""
        return [
            other
            for other in self.stages
            if other != stage
            and any(
                covers(dep, out.path) or covers(out.path, dep)
                for out in other.outs
                for dep in stage.deps
            )
        ]

    def downstream(self, stage: Stage) -> list[Stage]:
        """Return every stage that follows ``stage``, directly or not, in order."""
        found: list[Stage] = []
        for other in self.ordered():
            if any(above == stage or above in found for above in self.upstream(other)):
                found.append(other)
        return found

    def ordered(self) -> list[Stage]:
        """Return the stages so that each follows what it reads.

        Raises:
            PipelineError: the stages form a circle.
        """
        done: list[Stage] = []
        left = list(self.stages)
        while left:
            ready = [s for s in left if all(above in done for above in self.upstream(s))]
            if not ready:
                names = ", ".join(s.name for s in left)
                raise PipelineError(
                    f"stages read each other's outputs in a circle: {names}",
                    where=str(self.project.root),
                    remedy="Run `dvc dag` and take one dependency out.",
                )
            done += ready
            left = [s for s in left if s not in ready]
        return done

    def given(self, stage: Stage, names: Container[str] | None = None) -> dict[str, Given]:
        """Return the values that params files and matrix give to the stage's parameters, by name.

        ``params: [train]`` gives every key of the section ``train``; ``params: [train.rate]``
        gives ``rate``. A matrix or foreach item offers its own keys, and wins: a stage may need
        them for its paths only, so those that are not among the declared ``names`` are left out.

        Raises:
            PipelineError: a params file or key is missing.
        """
        found: dict[str, Given] = {}
        for file, key in stage.params:
            value = _lookup(self.project, stage, file, key)
            origin = f"{file}: {key}" if key else file
            if isinstance(value, Mapping):
                found |= {str(name): Given(item, origin) for name, item in value.items()}
            else:
                found[key.rpartition(".")[2]] = Given(value, file)
        offered = {name: Given(value, "matrix") for name, value in stage.item.items()}
        return found | {n: g for n, g in offered.items() if names is None or n in names}

    def locked(self, stage: Stage) -> dict[str, Any] | None:
        """Return what dvc.lock records of the stage, or None if it never ran.

        Raises:
            PipelineError: dvc.lock is torn.
        """
        lock = stage.file.with_name("dvc.lock")
        if not lock.is_file():
            return None
        data = content(lock) or {}
        stages = data.get("stages", {}) if isinstance(data, Mapping) else None
        entry = stages.get(stage.key, {}) if isinstance(stages, Mapping) else None
        if not isinstance(entry, Mapping):
            raise PipelineError(
                "torn: it does not map stages to what they read and wrote",
                where=str(lock),
                remedy="Restore it by `git checkout -- dvc.lock`, or delete it and `dvc repro`.",
            )
        return dict(entry) if entry else None


def load(project: Project) -> Pipeline:
    """Return the project's pipeline: every dvc.yaml below the root.

    Raises:
        PipelineError: a dvc.yaml that DVC itself would refuse.
    """
    return Pipeline(
        project, tuple(s for file in dvc_files(project) for s in stages_of(project, file))
    )


def current(pipeline: Pipeline, notebook: Path, address: str) -> Stage:
    """Return the stage that DVC is running now.

    Args:
        pipeline: the project's pipeline.
        notebook: the notebook on the command line.
        address: ``DVC_STAGE``; relative to where ``dvc`` was started, so only its name is sure.

    Raises:
        PipelineError: no stage of that name runs this notebook here.
    """
    name = address.rpartition(":")[2]
    here = Path(os.path.realpath(Path.cwd()))
    found = [
        s
        for s in pipeline.running(notebook)
        if s.key == name and Path(os.path.realpath(s.wdir)) == here
    ]
    if len(found) > 1:
        # Relative to where dvc was started: past the steps upwards it ends the file's own path.
        file = PurePosixPath(
            *(p for p in PurePosixPath(address.rpartition(":")[0]).parts if p != "..")
        )
        found = [
            s for s in found if s.file.parts[len(s.file.parts) - len(file.parts) :] == file.parts
        ]
    if len(found) == 1:
        return found[0]
    if found:
        raise PipelineError(
            f"stage {address!r} may be any of {', '.join(s.target for s in found)}",
            where=str(pipeline.project.root),
            remedy="Start dvc at the project root, or give one of them another name.",
        )
    raise PipelineError(
        f"stage {address!r} does not run {notebook} as far as dvc.yaml says",
        where=str(pipeline.project.root),
        remedy="Its `cmd` should be `mlnb run NOTEBOOK`, with nothing around it.",
    )


def _lookup(project: Project, stage: Stage, file: str, key: str) -> Any:
    """Return what ``file`` holds at ``key``, on which ``stage`` depends."""
    here = content(project.root / file)
    for part in key.split(".") if key else ():
        if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            here = here[int(part)]
            continue
        if not isinstance(here, Mapping) or part not in here:
            known = list(here) if isinstance(here, Mapping) else []
            hint = did_you_mean(part, map(str, known))
            owner = project.relative(stage.file)
            raise PipelineError(
                f"no {key!r}, which stage {stage.name!r} depends on.{hint}",
                where=str(project.root / file),
                remedy=f"Add it there, or take it out of `params` in {owner}.",
            )
        here = here[part]
    return here
