"""The pipeline as plain data: the stages of dvc.yaml with their templates resolved.

``dvc.yaml`` owns the graph and ``params.yaml`` the values; this module reads them, with DVC's
own resolver for ``${}``, ``matrix`` and ``foreach``, and never writes. Paths of a stage are
relative to the project root, wherever its dvc.yaml lies.
"""

from __future__ import annotations

import copy
import functools
import itertools
import os
import shlex
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

from mlnb import files
from mlnb.errors import MlnbError, did_you_mean
from mlnb.project import Project, place

PARAMS = "params.yaml"
_LISTS = ("deps", "outs", "params", "metrics", "plots")
_PRUNED = {"node_modules", "__pycache__"}


class PipelineError(MlnbError):
    """A dvc.yaml, params.yaml or dvc.lock that cannot be read, or a stage that is not there."""


@dataclass(frozen=True)
class Output:
    """One output of a stage.

    Attributes:
        path: relative to the root.
        kind: ``outs``, ``metrics`` or ``plots``.
        cache: DVC keeps it in its cache.
        persist: DVC does not delete it before the stage runs.
    """

    path: str
    kind: str
    cache: bool = True
    persist: bool = False


@dataclass(frozen=True)
class Given:
    """A value that the pipeline gives to a parameter, and where it comes from."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Stage:
    """One stage, fully resolved.

    Attributes:
        name: its name in reports: ``train``, ``train@gbtree-3``, ``sub/train``.
        target: its address for DVC commands given at the root.
        file: its dvc.yaml, absolute.
        wdir: where its command runs, absolute.
        cmd: the command; several are joined by newlines.
        deps: paths it reads.
        outs: what it writes.
        params: (file, key) pairs it depends on; an empty key means the whole file.
        item: what ``matrix`` or ``foreach`` gives it.
        notebook: the notebook that its ``mlnb run`` command names, absolute; else None.
    """

    name: str
    target: str
    file: Path
    wdir: Path
    cmd: str
    deps: tuple[str, ...]
    outs: tuple[Output, ...]
    params: tuple[tuple[str, str], ...]
    item: Mapping[str, Any] = field(default_factory=dict)
    notebook: Path | None = None

    @property
    def key(self) -> str:
        """Its name inside its own dvc.yaml and dvc.lock."""
        return self.target.rpartition(":")[2]

    @property
    def tool(self) -> str:
        """The mlnb command it runs (``code``, ``run``, ``track``), or an empty string."""
        words = _words(self.cmd)
        return words[1] if len(words) > 1 and Path(words[0]).name == "mlnb" else ""

    def reads(self, path: str) -> bool:
        """Whether ``path`` is, or lies in, a declared dependency."""
        return any(_covers(dep, path) for dep in self.deps)

    def writes(self, path: str) -> bool:
        """Whether ``path`` is, or lies in, a declared output."""
        return any(_covers(out.path, path) for out in self.outs)


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
                _covers(dep, out.path) or _covers(out.path, dep)
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
            values = content(self.project.root / file)
            value = _lookup(values, key, self.project, stage, file)
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
        project, tuple(s for file in _dvc_files(project) for s in _stages(project, file))
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


# --- reading dvc.yaml --------------------------------------------------------------------------


def _dvc_files(project: Project) -> Iterator[Path]:
    for folder, below, names in os.walk(project.root):
        here = Path(folder)
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".")
            and name not in _PRUNED
            and not (here / name / "pyvenv.cfg").exists()
            and not (here / name / ".dvc").is_dir()
        )
        if "dvc.yaml" in names:
            yield here / "dvc.yaml"


def _stages(project: Project, file: Path) -> Iterator[Stage]:
    from dvc.exceptions import DvcException
    from dvc.fs import LocalFileSystem
    from dvc.parsing import DataResolver

    data = content(file) or {}
    if not isinstance(data, Mapping) or not isinstance(data.get("stages", {}), Mapping):
        raise PipelineError("not a pipeline: `stages` must map names to stages", where=str(file))
    for name, definition in data.get("stages", {}).items():
        _refuse_unlisted(file, name, definition)
    # The resolver wants no more of a repository than its file system and parsing settings.
    repo = SimpleNamespace(fs=LocalFileSystem(), config={})
    try:
        resolver = DataResolver(repo, str(file.parent), dict(data))
        for name in resolver.get_keys():
            entry = resolver.resolve_one(name)[name]
            yield _stage(project, file, name, entry, _item(resolver, name))
    except (DvcException, AssertionError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise PipelineError(
            f"DVC cannot resolve it: {error or type(error).__name__}",
            where=str(file),
            remedy="`dvc stage list` shows what DVC makes of it.",
        ) from error


def _refuse_unlisted(file: Path, name: str, definition: Any) -> None:
    """Refuse text where a list must be, which would be taken letter by letter."""
    body = definition.get("do", definition) if isinstance(definition, Mapping) else None
    if not isinstance(body, Mapping):
        raise PipelineError(f"stage {name!r} must be a mapping", where=str(file))
    for key in _LISTS:
        if not isinstance(body.get(key, []), list):
            raise PipelineError(f"`{key}` of stage {name!r} must be a list", where=str(file))


def _item(resolver: Any, name: str) -> Mapping[str, Any]:
    """Return what matrix or foreach gives to the stage.

    Only what stands in the stage's name is given. DVC does not watch the rest: a changed field
    of a foreach item would leave the stage's name, command and dependencies as they were, and
    the stage would be skipped. Such fields come by ``params: [configs.${key}]``.
    """
    group, _, key = name.partition("@")
    definition = resolver.definitions[group]
    if not key:
        return {}
    item = _plain(definition.normalized_iterable[key])
    if hasattr(definition, "matrix_data"):
        return {str(k): v for k, v in item.items() if _is_scalar(v)}
    return {"item": item} if _is_scalar(item) else {"key": key}


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, Mapping | list)


def _plain(value: Any) -> Any:
    """Return a value without the nodes that DVC's resolver wraps it in."""
    if hasattr(value, "value"):
        return _plain(value.value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(v) for v in value]
    return value


def _stage(
    project: Project, file: Path, key: str, entry: Mapping[str, Any], item: Mapping[str, Any]
) -> Stage:
    wdir = Path(os.path.abspath(file.parent / str(entry.get("wdir", "."))))
    cmd = entry.get("cmd", "")
    cmd = cmd if isinstance(cmd, str) else "\n".join(str(line) for line in cmd)
    folder = project.relative(file.parent)
    inside = "" if folder == "." else f"{folder}/"

    def path(text: Any) -> str:
        return str(text) if "://" in str(text) else project.relative(wdir / str(text))

    outs = tuple(
        Output(path(text), kind, bool(flags.get("cache", True)), bool(flags.get("persist", False)))
        for kind in ("outs", "metrics", "plots")
        for text, flags in _flagged(entry.get(kind, ()))
    )
    return Stage(
        name=inside + key,
        target=f"{inside}dvc.yaml:{key}" if inside else key,
        file=file,
        wdir=wdir,
        cmd=cmd,
        deps=tuple(path(text) for text, _ in _flagged(entry.get("deps", ()))),
        outs=outs,
        params=tuple(_param_keys(entry.get("params", ()), path)),
        item=item,
        notebook=_notebook(cmd, wdir),
    )


def _flagged(entries: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (path, flags) of a list whose entries are paths or {path: flags}."""
    for entry in entries or ():
        if isinstance(entry, Mapping):
            for text, flags in entry.items():
                yield str(text), flags or {}
        else:
            yield str(entry), {}


def _param_keys(entries: Any, path: Any) -> Iterator[tuple[str, str]]:
    for entry in entries or ():
        if isinstance(entry, Mapping):
            for file, keys in entry.items():
                for key in keys or ("",):
                    yield path(file), str(key)
        else:
            yield path(PARAMS), str(entry)


def _notebook(cmd: str, wdir: Path) -> Path | None:
    """Return the notebook of an ``mlnb run NOTEBOOK`` command."""
    words = _words(cmd)
    if len(words) < 3 or Path(words[0]).name != "mlnb" or words[1] != "run":
        return None
    for before, word in itertools.pairwise(words[1:]):
        if (
            word.endswith(".ipynb")
            and not word.startswith("-")
            and before not in ("-p", "--parameter")
        ):
            return Path(os.path.abspath(wdir / word))
    return None


def _words(cmd: str) -> list[str]:
    try:
        return shlex.split(cmd)
    except ValueError:
        return []


def _covers(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def _lookup(values: Any, key: str, project: Project, stage: Stage, file: str) -> Any:
    here = values
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


def content(path: Path) -> Any:
    """Return the content of a params, pipeline or lock file, as DVC would read it.

    Raises:
        PipelineError: it is not there, or torn.
    """
    if not path.is_file():
        raise PipelineError("no such file", where=str(path))
    return copy.deepcopy(_parsed(path, files.version(path)))


@functools.lru_cache(maxsize=64)
def _parsed(path: Path, version: tuple[int, ...]) -> Any:
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import LOADERS

    try:
        return LOADERS[path.suffix.lower()](str(path))
    except (DvcException, ValueError, OSError, TypeError) as error:
        reason = error.__cause__ or error
        raise PipelineError(f"cannot be read: {reason}", where=str(path)) from error
