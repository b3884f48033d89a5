"""Paths: what the notebook reads and writes, and what its stage lists."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from mlnb import contract as contracts
from mlnb.agreement.case import Case, Disagreement, executed, is_foreach, written
from mlnb.contract import Contract, ContractError, Parameter
from mlnb.edits import Entry
from mlnb.pipeline import Given, Output, content, covers
from mlnb.project import Project

_SECTION = {
    "in": "deps",
    "out": "outs",
    "predictions": "outs",
    "metrics": "metrics",
    "plots": "plots",
}
_ENVIRONMENT = re.compile(
    r"pyproject\.toml|uv\.lock|poetry\.lock|pixi\.lock|conda-lock\.yml|environment\.ya?ml|"
    r"requirements[\w.-]*\.(txt|lock|in)|Dockerfile|\.python-version"
)
"""Files that say what is installed: a stage may depend on them, no notebook reads them."""


def bound_paths(
    project: Project, contract: Contract, given: Mapping[str, Given]
) -> dict[str, list[str]]:
    """Return the paths of each path parameter, relative to the root, with ``given`` in place.

    Values that cannot be bound are left out, and paths that need them too.
    """
    sound: dict[str, Any] = {}
    for parameter in contract.parameters:
        if parameter.name in given:
            try:
                contracts.check(parameter, given[parameter.name].value, where="", source="")
            except ContractError:
                continue
            sound[parameter.name] = given[parameter.name].value
    known = tuple(p for p in contract.parameters if p.name in sound or not p.required)
    names = {p.name for p in known}
    known = tuple(p for p in known if all(text in names for text, is_name in p.template if is_name))
    values = dataclasses.replace(contract, parameters=known).bind(sound, source="")
    return {
        p.name: [
            _normal(project, path) for path in (values[p.name] if p.many else [values[p.name]])
        ]
        for p in known
        if p.is_path
    }


def _normal(project: Project, path: str) -> str:
    return path if "://" in path else project.relative(project.root / PurePosixPath(path))


def of_paths(case: Case, given: Mapping[str, Given]) -> Iterator[Disagreement]:
    """Yield the paths that the notebook names and the stage does not list, and the reverse."""
    bound = bound_paths(case.project, case.contract, given)
    for parameter in case.contract.parameters:
        for path in bound.get(parameter.name, ()):
            yield from _path(case, parameter, path)
    if re.search(r"\n|&&|\|\||[;|]", case.stage.cmd):
        return  # other commands of the stage may read and write the rest
    declared = [(case.contract[name], path) for name, paths in bound.items() for path in paths]
    if len(bound) == sum(p.is_path for p in case.contract.parameters):
        yield from _unclaimed_deps(case, [path for p, path in declared if not p.writes])
        yield from _unclaimed_outs(case, [path for p, path in declared if p.writes])


def _path(case: Case, parameter: Parameter, path: str) -> Iterator[Disagreement]:
    section, name = _SECTION[parameter.kind], case.stage.name
    template = _template(case, parameter) or path
    out = next((o for o in case.stage.outs if covers(o.path, path)), None)
    if parameter.kind == "in":
        if not case.stage.reads(path):
            what = (
                f"{path} ({parameter.name}), which the notebook reads, is no dependency of {name!r}"
            )
            yield case.missing(what, "missing-dep", section, path, template)
    elif out is None:
        what = f"{path} ({parameter.name}), which the notebook writes, is no output of {name!r}"
        yield case.missing(what, "missing-out", section, path, template)
    elif (
        section in ("metrics", "plots") and out.kind != section and not _at_top(case, section, path)
    ):
        what = (
            f"{path} ({parameter.name}) is {section} for the notebook and `{out.kind}` for {name!r}"
        )
        wrong = case.missing(what, "wrong-list", section, path, template)
        move = Entry(
            case.stage.file,
            case.group,
            section,
            written(case.project, case.stage, path),
            leaves=out.kind,
        )
        remedy = f"Move it from `{out.kind}` to `{section}` of stage {case.group!r} in {case.file}."
        safe = not case.is_template and out.path == path
        yield dataclasses.replace(wrong, remedy=remedy, fixes=(move,) if safe else ())


def _at_top(case: Case, section: str, path: str) -> bool:
    """Whether dvc.yaml names ``path`` in a list of its own, outside the stages."""
    listed = (content(case.stage.file) or {}).get(section) or ()
    folder = case.stage.file.parent
    names = [n for entry in listed for n in (entry if isinstance(entry, Mapping) else [entry])]
    return any(covers(case.project.relative(folder / str(name)), path) for name in names)


def _template(case: Case, parameter: Parameter) -> str:
    """Return the path as a templated stage would write it, or an empty string."""
    if not parameter.template:
        return ""
    foreach = case.is_template and is_foreach(case)
    parts = []
    for text, is_name in parameter.template:
        if is_name and text not in case.stage.item:
            return ""
        parts.append(text if not is_name else f"${{{text}}}" if foreach else f"${{item.{text}}}")
    return "".join(parts)


def _unclaimed_deps(case: Case, declared: list[str]) -> Iterator[Disagreement]:
    project = case.project
    own = [
        project.relative(p)
        for p in (case.mirror.path, case.contract.notebook.path, *case.mirror.modules)
    ]
    own += [file for file, _ in case.stage.params]
    for dep in case.stage.deps:
        if any(covers(dep, path) or covers(path, dep) for path in (*declared, *own)):
            continue
        if not _ENVIRONMENT.fullmatch(PurePosixPath(dep).name):
            yield _unclaimed(case, "deps", dep, "reads", "In")


def _unclaimed_outs(case: Case, declared: list[str]) -> Iterator[Disagreement]:
    known = [*declared, executed(case.project, case.stage)]
    for out in case.stage.outs:
        if not any(covers(out.path, path) or covers(path, out.path) for path in known):
            yield _unclaimed(case, out.kind, out.path, "writes", _marker(out))


def _marker(out: Output) -> str:
    return {"metrics": "Metrics", "plots": "Plots"}.get(out.kind, "Out")


def _unclaimed(case: Case, section: str, path: str, verb: str, marker: str) -> Disagreement:
    name = re.sub(r"\W", "_", PurePosixPath(path).name.partition(".")[0]) or "path"
    name = f"_{name}" if name[0].isdigit() else name
    return Disagreement(
        f"stage {case.stage.name!r} lists {path} under `{section}`, and no parameter names it",
        case.where,
        f"If the notebook {verb} it, declare it in the parameters cell, "
        f'`{name}: {marker} = "{path}"`; else take it out of `{section}`.',
        f"unclaimed-{'dep' if section == 'deps' else 'out'}",
    )
