"""A dvc.yaml as stages: DVC's own resolver for ``${}``, ``matrix`` and ``foreach``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlnb.pipeline.contents import content
from mlnb.pipeline.records import Output, PipelineError, Stage, notebook_of
from mlnb.project import Project

PARAMS = "params.yaml"
_LISTS = ("deps", "outs", "params", "metrics", "plots")
_PRUNED = {"node_modules", "__pycache__"}


def dvc_files(project: Project) -> Iterator[Path]:
    """Yield every dvc.yaml below the root that is the project's own."""
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


def stages_of(project: Project, file: Path) -> Iterator[Stage]:
    """Yield the stages of ``file``, fully resolved.

    Raises:
        PipelineError: DVC itself would refuse it.
    """
    data = content(file) or {}
    if not isinstance(data, Mapping) or not isinstance(data.get("stages", {}), Mapping):
        raise PipelineError("not a pipeline: `stages` must map names to stages", where=str(file))
    for name, definition in data.get("stages", {}).items():
        _refuse_unlisted(file, name, definition)
    if _is_plain(data):
        if (params := file.with_name(PARAMS)).is_file():
            content(params)  # DVC reads it, whether it is needed or not, and refuses what is torn
        for name, definition in data.get("stages", {}).items():
            yield _stage(project, file, str(name), definition, {})
        return

    from dvc.exceptions import DvcException
    from dvc.fs import LocalFileSystem
    from dvc.parsing import DataResolver

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


def _is_plain(data: Mapping[str, Any]) -> bool:
    """Whether there is nothing to resolve, which would cost more than all else that a run plans."""
    stages = data.get("stages", {}).values()
    made = any(key in definition for definition in stages for key in ("foreach", "matrix", "vars"))
    return not made and "vars" not in data and "${" not in str(data)


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
        notebook=notebook_of(cmd, wdir),
    )


def _flagged(entries: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (path, flags) of a list whose entries are paths or {path: flags}."""
    for entry in entries or ():
        if isinstance(entry, Mapping):
            for text, flags in entry.items():
                yield str(text), flags or {}
        else:
            yield str(entry), {}


def _param_keys(entries: Any, path: Callable[[Any], str]) -> Iterator[tuple[str, str]]:
    for entry in entries or ():
        if isinstance(entry, Mapping):
            for file, keys in entry.items():
                for key in keys or ("",):
                    yield path(file), str(key)
        else:
            yield path(PARAMS), str(entry)
