"""Stages through DVC's own objects: whether they are current, and how a trial reproduces them.

Hashes, cache, run cache and lock entries are DVC's. A trial does without the rest of ``dvc
repro``: nobody shares its folder, so nothing is locked; its stages are known, so no graph is
built; and dvc.yaml is parsed once for all trials.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlnb import files, mirror, notebook
from mlnb.errors import MlnbError
from mlnb.pipeline import Stage, content
from mlnb.project import Project
from mlnb.reproduce.commands import is_ours
from mlnb.sweep.memory import states_in_memory
from mlnb.sweep.scope import Scope
from mlnb.sweep.space import Key

Run = Callable[[list[str]], None]
"""Runs ``mlnb WORDS`` in this process; raises an MlnbError if it does not pass."""


class StaleError(MlnbError):
    """A checkout that is not up to date, so that trials would build on something else."""

    exit_code = 1


class StageError(MlnbError):
    """A stage of a trial that failed."""

    exit_code = 1


class Stages:
    """The stages of one folder.

    Args:
        root: its root.
        brief: it will soon be gone, so DVC need not write down what it knows of the files in it.
    """

    def __init__(self, root: Path, *, brief: bool = False) -> None:
        from dvc.repo import Repo
        from tqdm import tqdm

        tqdm.monitor_interval = (
            0  # DVC's bars would start a thread, and trials are forked from here
        )
        logging.getLogger("dvc").setLevel(logging.WARNING)
        self.root = root
        with states_in_memory() if brief else contextlib.nullcontext():
            self.repo = Repo(str(root))
        self._files: dict[str, Any] = {}
        self._stages: dict[str, Any] = {}

    def get(self, stage: Stage) -> Any:
        """Return DVC's object for ``stage``, which may be another folder's."""
        from dvc.dvcfile import ProjectFile

        if stage.name not in self._stages:
            path = stage.target.rpartition(":")[0] or "dvc.yaml"
            if path not in self._files:
                self._files[path] = ProjectFile(self.repo, str(self.root / path))
            self._stages[stage.name] = self._files[path].stages[stage.key]
        return self._stages[stage.name]

    def changes(self, stage: Stage) -> list[str]:
        """Return what has changed since ``stage`` ran, in DVC's words."""
        with self.repo.lock:
            status = self.get(stage).status()
        found: list[str] = []
        for entry in (entry for entries in status.values() for entry in entries):
            if isinstance(entry, str):
                found += [entry] if entry != "always changed" else []
                continue
            for paths in entry.values():
                found += [f"{path} is {state}" for path, state in paths.items()]
        return found

    def reproduce(self, stage: Stage, run: Run) -> bool:
        """Make what ``stage`` makes, from the run cache or by its command; whether that ran.

        Raises:
            MlnbError: its command failed, or it changed what it was to read.
        """
        from dvc.stage.cache import RunCacheNotFoundError

        made = self.get(stage)
        before = self._inputs(stage)
        try:
            with self.repo.lock:
                self.repo.stage_cache.restore(made)
            computed = False
        except RunCacheNotFoundError:
            self._run(made, stage, run)
            computed = True
        if changed := [path for path, old in self._inputs(stage).items() if before[path] != old]:
            raise StageError(
                f"stage {stage.name!r} changed what it reads: {', '.join(changed)}",
                remedy="Let it write to a file of its own; here, only a copy was harmed.",
            )
        self.keep(stage, computed=computed)
        return computed

    def keep(self, stage: Stage, *, computed: bool = True) -> None:
        """Bring what ``stage`` has made to the cache, and to the run cache if it was computed."""
        made = self.get(stage)
        # As in DVC: a plain output outside the cache could not come back from the run cache.
        whole = all(out.use_cache or out.is_metric or out.is_plot for out in made.outs)
        made.save(run_cache=computed and whole)
        for out in made.outs:
            out.commit()

    def entry(self, stage: Stage) -> dict[str, Any]:
        """Return what dvc.lock is to say of ``stage`` as it is now."""
        from dvc.stage.serialize import to_single_stage_lockfile

        return dict(json.loads(json.dumps(to_single_stage_lockfile(self.get(stage)), default=str)))

    def base(self, scope: Scope, keys: list[Key]) -> str:
        """Return a digest of all that a trial depends on besides the values of ``keys``."""
        swept = {(key.file, key.name) for key in keys}
        stages = {
            stage.name: {
                "cmd": stage.cmd,
                "deps": {
                    path: dep.get_hash().value
                    for dep in self.get(stage).deps
                    if not hasattr(dep, "params")
                    and not scope.writes(path := os.path.relpath(dep.fs_path, self.root))
                },
                "params": {
                    f"{file}:{name}": _without(self.root / file, file, name, swept)
                    for file, name in stage.params
                },
            }
            for stage in scope.stages
        }
        kept = {state.name: state.digest for state in scope.candidate.stages}
        known = {"stages": stages, "kept": {s.name: kept[s.name] for s in scope.kept}}
        return files.digest_bytes(json.dumps(known, sort_keys=True, default=str).encode())

    def _inputs(self, stage: Stage) -> dict[str, Any]:
        """Return the state of each file that ``stage`` reads."""
        found: dict[str, Any] = {}
        for dep in stage.deps:
            path = self.root / dep
            for file in files.walk(path) if path.is_dir() else [path]:
                if "__pycache__" not in file.parts:
                    found[os.path.relpath(file, self.root)] = (
                        files.version(file) if file.exists() else None
                    )
        return found

    def _run(self, made: Any, stage: Stage, run: Run) -> None:
        """Run each line of the command: ``mlnb`` in this process, others in a shell."""
        from dvc.stage import run as dvc
        from dvc.stage.exceptions import StageCmdFailedError

        settings = dvc.prepare_kwargs(made)
        for line in dvc._enforce_cmd_list(made.cmd):
            print(f"> {line}", flush=True)
            if is_ours(line, settings["env"]):
                with _inside(settings["cwd"], settings["env"]):
                    run(shlex.split(line)[1:])
                continue
            try:
                dvc._run(dvc.get_executable(), line, **settings)
            except StageCmdFailedError as error:
                raise StageError(f"stage {stage.name!r}: {error}") from error


def _without(path: Path, file: str, name: str, swept: set[tuple[str, str]]) -> Any:
    """Return what stands at ``name``, without what the sweep changes."""

    def pruned(value: Any, at: str) -> Any:
        if (file, at) in swept:
            return None
        if isinstance(value, Mapping):
            return {str(k): pruned(v, f"{at}.{k}" if at else str(k)) for k, v in value.items()}
        return value

    here: Any = content(path)
    for part in name.split(".") if name else ():
        here = here.get(part) if isinstance(here, Mapping) else None
    return pruned(here, name)


@contextlib.contextmanager
def _inside(folder: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Be in ``folder``, with ``environment``, while the block lasts."""
    here, old = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(old)


def refuse_stale(scope: Scope, stages: Stages) -> None:
    """Refuse a checkout in which something that trials build on is not up to date.

    Raises:
        StaleError: naming the stages and what changed.
    """
    found = [
        f"{stage.name}: {', '.join(changes)}"
        for stage in scope.kept
        if (changes := stages.changes(stage))
    ]
    project = scope.pipeline.project
    found += [
        f"{stage.name}: {project.relative(stage.notebook)} was edited"
        for stage in (*scope.kept, *scope.stages)
        if stage.notebook and not _is_mirrored(project, stage.notebook)
    ]
    if found:
        raise StaleError(
            "the pipeline is not up to date, and trials build on it:\n  " + "\n  ".join(found),
            remedy="Run `dvc repro` first.",
        )


def _is_mirrored(project: Project, path: Path) -> bool:
    return mirror.mirror(project, notebook.read(path)).is_current
