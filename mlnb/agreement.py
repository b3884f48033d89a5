"""The agreement between dvc.yaml, params.yaml and one notebook's contract, both ways.

What a notebook declares and no file gives, and what a file gives and no notebook declares, are
both ways for DVC to record something other than what ran. `mlnb run` refuses to start on any of
them; `mlnb lint` lists them and offers the edit that mends them.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mlnb import contract as contracts
from mlnb.contract import ABSENT, Contract, ContractError, Parameter
from mlnb.edits import Edit, Entry, NewStage, Value, item, scalar
from mlnb.errors import did_you_mean
from mlnb.mirror import Mirror
from mlnb.pipeline import PARAMS, Given, Output, Pipeline, PipelineError, Stage, content
from mlnb.project import Project

MIRROR_FLAGS = (("cache", False), ("persist", True))
"""A mirror is committed to git, and `mlnb code` rewrites only those that changed."""

_NO_CACHE = (("cache", False),)
_SECTION = {"in": "deps", "out": "outs", "predictions": "outs", "metrics": "metrics", "plots": "plots"}
_ENVIRONMENT = re.compile(
    r"pyproject\.toml|uv\.lock|poetry\.lock|pixi\.lock|conda-lock\.yml|environment\.ya?ml|"
    r"requirements[\w.-]*\.(txt|lock|in)|Dockerfile|\.python-version"
)
"""Files that say what is installed: a stage may depend on them, no notebook reads them."""


@dataclass(frozen=True)
class Disagreement:
    """Something that two of dvc.yaml, params.yaml and a notebook do not agree on.

    Attributes:
        what: what it is, in one sentence.
        where: file and line, or notebook, cell and line; relative to the root.
        remedy: the exact line or command that helps.
        rule: its short name.
        fixes: the edits that mend it together; empty where only a person can tell.
    """

    what: str
    where: str
    remedy: str
    rule: str
    fixes: tuple[Edit, ...] = ()


def disagreements(
    project: Project, pipeline: Pipeline, stage: Stage, contract: Contract, mirror: Mirror
) -> list[Disagreement]:
    """Return everything that ``stage``, its values and its notebook disagree on."""
    case = _Case(project, pipeline, stage, contract, mirror)
    found = [*_mirror(case), *_executed(case)]
    if contract.notebook.language != "python":
        return found
    given, unreadable = _given(case)
    found += unreadable
    if contract.cell is None:
        return [*found, *_given_to_nobody(case, given)]
    return [*found, *_values(case, given), *_paths(case, given)]


@dataclass(frozen=True)
class _Case:
    """One stage, its notebook, and how to speak about them."""

    project: Project
    pipeline: Pipeline
    stage: Stage
    contract: Contract
    mirror: Mirror

    @property
    def group(self) -> str:
        """The stage's name in dvc.yaml, without what matrix or foreach appends."""
        return self.stage.key.partition("@")[0]

    @property
    def is_template(self) -> bool:
        """Whether dvc.yaml writes the stage once for several; no edit is safe there."""
        return "@" in self.stage.key

    @property
    def where(self) -> str:
        return place(self.project, self.stage)

    @property
    def file(self) -> str:
        return self.project.relative(self.stage.file)

    def in_notebook(self, parameter: Parameter | None = None) -> str:
        return _shown(self.project, self.contract.where(parameter))

    def missing(self, what: str, rule: str, section: str, path: str, template: str = "") -> Disagreement:
        """Return a disagreement that one more entry in a list of the stage mends."""
        flags = _NO_CACHE if section in ("metrics", "plots") else ()
        written = template if self.is_template and template else path
        written = written if section == "params" else _written(self.project, self.stage, written)
        entry = Entry(self.stage.file, self.group, section, written, flags)
        line = f"- {item(written, flags)}"
        return Disagreement(
            what,
            self.where,
            f"Add to `{section}` of stage {self.group!r} in {self.file}:\n    {line}",
            rule,
            () if self.is_template else (entry,),
        )


def place(project: Project, stage: Stage) -> str:
    """Return file and line where ``stage`` is written."""
    name = project.relative(stage.file)
    group = re.escape(stage.key.partition("@")[0])
    try:
        lines = stage.file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return name
    inside = False
    for number, line in enumerate(lines, 1):
        inside = inside or line.startswith("stages")
        if inside and re.match(rf"\s+(['\"]?){group}\1\s*:", line):
            return f"{name}, line {number}"
    return name


def code_stage(project: Project, pipeline: Pipeline, mirror: str = "") -> tuple[Stage, bool]:
    """Return the stage that writes mirrors, and whether it exists; else what it should be.

    Args:
        project: the project.
        pipeline: its stages.
        mirror: the mirror in question, where several stages write mirrors.
    """
    found = [stage for stage in pipeline.stages if stage.tool == "code"]
    if found:
        return next((s for s in found if mirror and s.writes(mirror)), found[0]), True
    name = "code" if all(s.key != "code" for s in pipeline.stages) else "mlnb-code"
    file = project.root / "dvc.yaml"
    folders = tuple(f for f in project.settings.notebooks if (project.root / f).is_dir())
    return Stage(name, name, file, project.root, "mlnb code", folders, (), ()), False


def new_code_stage(stage: Stage) -> NewStage:
    """Return the edit that writes what `code_stage` proposed."""
    return NewStage(stage.file, stage.key, {"cmd": stage.cmd, "deps": list(stage.deps)})


def executed(project: Project, stage: Stage) -> str:
    """Return where the executed notebook of ``stage`` goes, relative to the root."""
    return project.relative(project.executed / f"{stage.name}.ipynb")


def module_entry(project: Project, pipeline: Pipeline, module: Path) -> str:
    """Return the dependency that covers a local module: its package's folder, or the file.

    A folder that a stage writes into cannot be one: the pipeline would be a circle.
    """
    for source in sorted(project.sources, key=lambda p: len(p.parts), reverse=True):
        inside = module.relative_to(source).parts if module.is_relative_to(source) else ()
        if len(inside) > 1:
            folder = project.relative(source / inside[0])
            outs = [out.path for stage in pipeline.stages for out in stage.outs]
            if not any(covers(folder, out) or covers(out, folder) for out in outs):
                return folder
    return project.relative(module)


def covers(outer: str, inner: str) -> bool:
    """Whether path ``inner`` is, or lies in, ``outer``."""
    return inner == outer or inner.startswith(outer.rstrip("/") + "/") or outer == "."


def _written(project: Project, stage: Stage, path: str) -> str:
    """Return ``path`` as the stage's dvc.yaml writes it, relative to its working directory."""
    if "://" in path or stage.wdir == project.root:
        return path
    return Path(os.path.relpath(project.root / path, stage.wdir)).as_posix()


def _shown(project: Project, where: str) -> str:
    return where.replace(f"{project.root}{os.sep}", "")


# --- the mirror and the executed copy ----------------------------------------------------------


def _mirror(case: _Case) -> Iterator[Disagreement]:
    project, path = case.project, case.project.relative(case.mirror.path)
    if not case.stage.reads(path):
        yield case.missing(
            f"stage {case.stage.name!r} does not depend on its notebook's code mirror",
            "missing-mirror",
            "deps",
            path,
        )
    code, exists = code_stage(project, case.pipeline, path)
    new = () if exists else (new_code_stage(code),)
    out = next((o for o in code.outs if covers(o.path, path)), None)
    if out is None or out.cache:
        entry = _written(project, code, out.path if out else path)
        flags = MIRROR_FLAGS if out is None else _NO_CACHE
        what = (
            f"no stage writes {path}, so an edit of the notebook would not run it again"
            if out is None
            else f"{path} is cached by DVC, so that git cannot hold it"
        )
        yield _in_code_stage(case, code, exists, what, Entry(code.file, code.key, "outs", entry, flags), new)
    for watched, dependency in _watched(case):
        if not code.reads(watched) and not any(covers(dep, watched) for dep in code.deps):
            what = f"stage {code.name!r} does not depend on {watched}, so an edit of it would run nothing"
            edit = Entry(code.file, code.key, "deps", _written(project, code, dependency))
            yield _in_code_stage(case, code, exists, what, edit, new)


def _watched(case: _Case) -> Iterator[tuple[str, str]]:
    """Yield (file that the mirror is made from, the dependency that covers it)."""
    source = case.project.relative(case.contract.notebook.path)
    folders = (f for f in case.project.settings.notebooks if covers(f, source))
    yield source, next(folders, source)
    for module in case.mirror.modules:
        yield case.project.relative(module), module_entry(case.project, case.pipeline, module)


def _in_code_stage(
    case: _Case, code: Stage, exists: bool, what: str, edit: Entry, new: tuple[Edit, ...]
) -> Disagreement:
    where = place(case.project, code) if exists else case.file
    line = f"- {item(edit.path, edit.flags)}"
    file = case.project.relative(code.file)
    remedy = f"Add to `{edit.section}` of stage {code.key!r} (`cmd: {code.cmd}`) in {file}:\n    {line}"
    return Disagreement(what, where, remedy, "code-stage", () if "@" in code.key else (*new, edit))


def _executed(case: _Case) -> Iterator[Disagreement]:
    path = executed(case.project, case.stage)
    if not case.stage.writes(path):
        template = path.replace(case.stage.key, f"{case.group}@{_placeholder(case)}")
        what = f"stage {case.stage.name!r} does not declare its executed notebook"
        yield case.missing(what, "missing-executed", "outs", path, template)


def _placeholder(case: _Case) -> str:
    """Return what stands for the part of a templated stage's name that differs."""
    return "${item}" if _is_foreach(case) and "item" in case.stage.item else "${key}"


def _is_foreach(case: _Case) -> bool:
    stages = (content(case.stage.file) or {}).get("stages", {})
    return "foreach" in stages.get(case.group, {})


# --- values ------------------------------------------------------------------------------------


def _given(case: _Case) -> tuple[dict[str, Given], list[Disagreement]]:
    """Return the values the stage gives, and what is wrong with how it gives them."""
    given: dict[str, Given] = {}
    keys: dict[str, str] = {}
    found: list[Disagreement] = []
    for file, key in case.stage.params:
        part = dataclasses.replace(case.stage, params=((file, key),), item={})
        try:
            values = case.pipeline.given(part)
        except PipelineError as error:
            where = _shown(case.project, error.where)
            found.append(Disagreement(error.what, where, error.remedy, "missing-section"))
            continue
        for name, value in values.items():
            full = f"{file}: {key}" if key.rpartition(".")[2] == name else f"{file}: {key}.{name}".replace(" .", " ")
            if keys.setdefault(name, full) != full:
                found.append(_ambiguous(case, name, keys[name], full))
            given[name] = value
    given |= case.pipeline.given(dataclasses.replace(case.stage, params=()))
    return given, found


def _ambiguous(case: _Case, name: str, first: str, second: str) -> Disagreement:
    return Disagreement(
        f"stage {case.stage.name!r} gets {name!r} twice, from `{first}` and from `{second}`",
        case.where,
        f"Take one of the two out of `params` of stage {case.group!r} in {case.file}.",
        "ambiguous-value",
    )


def _given_to_nobody(case: _Case, given: Mapping[str, Given]) -> Iterator[Disagreement]:
    if given:
        yield Disagreement(
            f"stage {case.stage.name!r} gives {', '.join(given)}, but the notebook has no parameters cell",
            case.in_notebook(),
            "Assign them in one code cell and give it the tag `parameters` (JupyterLab: property inspector).",
            "unknown-parameter",
        )


def _values(case: _Case, given: Mapping[str, Given]) -> Iterator[Disagreement]:
    contract = case.contract
    for name, value in given.items():
        if name not in contract.names:
            yield Disagreement(
                f"{value.origin} gives {name!r} to stage {case.stage.name!r}, but the notebook declares no such "
                f"parameter.{did_you_mean(name, contract.names)}",
                case.in_notebook(),
                f"Declare it in the parameters cell, `{name}: {_type_of(value.value)} = {value.value!r}`, "
                "or take it out there.",
                "unknown-parameter",
            )
    for parameter in contract.parameters:
        if parameter.name in given:
            value = given[parameter.name]
            try:
                contracts.check(parameter, value.value, where="", source=value.origin)
            except ContractError as error:
                yield Disagreement(error.what, case.in_notebook(parameter), error.remedy, "wrong-value")
        elif not parameter.is_path or parameter.required:
            yield _not_given(case, parameter)


def _type_of(value: Any) -> str:
    return "str" if value is None else type(value).__name__


def _not_given(case: _Case, parameter: Parameter) -> Disagreement:
    file, section, listed = _section(case)
    default = None if parameter.default is ABSENT else _plain(parameter.default)
    value = scalar(default) if parameter.default is not ABSENT else f"...  # {parameter.annotation}"
    line = f"{section}:\n      {parameter.name}: {value}" if section else f"{parameter.name}: {value}"
    remedy = f"Add to {file}:\n    {line}"
    edits: list[Edit] = []
    if not listed:
        remedy += f"\n  and to stage {case.group!r} in {case.file}:\n    params:\n      - {section}"
        edits.append(Entry(case.stage.file, case.group, "params", section))
    if not _holds(case.project.root / file, section, parameter.name):
        edits.append(Value(case.project.root / file, section, parameter.name, default))
    elif listed:
        edits = []
    can = parameter.default is not ABSENT and not (case.is_template and not listed)
    return Disagreement(
        f"parameter {parameter.name!r} gets no value from stage {case.stage.name!r}",
        case.in_notebook(parameter),
        remedy,
        "missing-value",
        tuple(edits) if can and Path(file).suffix in (".yaml", ".yml") else (),
    )


def _section(case: _Case) -> tuple[str, str, bool]:
    """Return (params file, section, whether the stage lists it) where the stage's values belong."""
    whole = [(file, key) for file, key in case.stage.params if _is_section(case.project.root / file, key)]
    near = [pair for pair in whole if pair[1].rpartition(".")[2] in (case.group, case.contract.notebook.path.stem)]
    if whole:
        return *(near or whole)[0], True
    return case.project.relative(case.stage.wdir / PARAMS), case.group, False


def _is_section(file: Path, key: str) -> bool:
    """Whether ``key`` names a section, or nothing yet."""
    here, found = _at(file, key)
    return not found or here is None or isinstance(here, Mapping)


def _holds(file: Path, section: str, name: str) -> bool:
    return _at(file, f"{section}.{name}" if section else name)[1]


def _at(file: Path, key: str) -> tuple[Any, bool]:
    """Return (what stands at ``key``, whether anything does)."""
    try:
        here = content(file)
    except PipelineError:
        return None, False
    for part in key.split(".") if key else ():
        if not isinstance(here, Mapping) or part not in here:
            return None, False
        here = here[part]
    return here, True


def _plain(value: Any) -> Any:
    """Return a default as YAML holds it."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value.as_posix() if isinstance(value, Path) else value


# --- paths -------------------------------------------------------------------------------------


def bound_paths(project: Project, contract: Contract, given: Mapping[str, Given]) -> dict[str, list[str]]:
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
        p.name: [_normal(project, path) for path in (values[p.name] if p.many else [values[p.name]])]
        for p in known
        if p.is_path
    }


def _normal(project: Project, path: str) -> str:
    return path if "://" in path else project.relative(project.root / PurePosixPath(path))


def _paths(case: _Case, given: Mapping[str, Given]) -> Iterator[Disagreement]:
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


def _path(case: _Case, parameter: Parameter, path: str) -> Iterator[Disagreement]:
    section = _SECTION[parameter.kind]
    template = _template(case, parameter) or path
    out = next((o for o in case.stage.outs if covers(o.path, path)), None)
    if parameter.kind == "in":
        if not case.stage.reads(path):
            what = f"the notebook reads {path} ({parameter.name}), which stage {case.stage.name!r} does not depend on"
            yield case.missing(what, "missing-dep", section, path, template)
    elif out is None:
        what = f"the notebook writes {path} ({parameter.name}), which stage {case.stage.name!r} does not declare"
        yield case.missing(what, "missing-out", section, path, template)
    elif section in ("metrics", "plots") and out.kind != section and not _at_top(case, section, path):
        what = f"{path} is declared as {section} by the notebook ({parameter.name}), under `{out.kind}` in {case.file}"
        wrong = case.missing(what, "wrong-list", section, path, template)
        move = Entry(
            case.stage.file, case.group, section, _written(case.project, case.stage, path), leaves=out.kind
        )
        remedy = f"Move it from `{out.kind}` to `{section}` of stage {case.group!r} in {case.file}."
        safe = not case.is_template and out.path == path
        yield dataclasses.replace(wrong, remedy=remedy, fixes=(move,) if safe else ())


def _at_top(case: _Case, section: str, path: str) -> bool:
    """Whether dvc.yaml names ``path`` in a list of its own, outside the stages."""
    listed = (content(case.stage.file) or {}).get(section) or ()
    folder = case.stage.file.parent
    names = [n for entry in listed for n in (entry if isinstance(entry, Mapping) else [entry])]
    return any(covers(case.project.relative(folder / str(name)), path) for name in names)


def _template(case: _Case, parameter: Parameter) -> str:
    """Return the path as a templated stage would write it, or an empty string."""
    if not parameter.template:
        return ""
    foreach = case.is_template and _is_foreach(case)
    parts = []
    for text, is_name in parameter.template:
        if is_name and text not in case.stage.item:
            return ""
        parts.append(text if not is_name else f"${{{text}}}" if foreach else f"${{item.{text}}}")
    return "".join(parts)


def _unclaimed_deps(case: _Case, declared: list[str]) -> Iterator[Disagreement]:
    project = case.project
    own = [project.relative(p) for p in (case.mirror.path, case.contract.notebook.path, *case.mirror.modules)]
    own += [file for file, _ in case.stage.params]
    for dep in case.stage.deps:
        if any(covers(dep, path) or covers(path, dep) for path in (*declared, *own)):
            continue
        if not _ENVIRONMENT.fullmatch(PurePosixPath(dep).name):
            yield _unclaimed(case, "deps", dep, "reads", "In")


def _unclaimed_outs(case: _Case, declared: list[str]) -> Iterator[Disagreement]:
    known = [*declared, executed(case.project, case.stage)]
    for out in case.stage.outs:
        if not any(covers(out.path, path) or covers(path, out.path) for path in known):
            yield _unclaimed(case, out.kind, out.path, "writes", _marker(out))


def _marker(out: Output) -> str:
    return {"metrics": "Metrics", "plots": "Plots"}.get(out.kind, "Out")


def _unclaimed(case: _Case, section: str, path: str, verb: str, marker: str) -> Disagreement:
    name = re.sub(r"\W", "_", PurePosixPath(path).name.partition(".")[0]) or "path"
    name = f"_{name}" if name[0].isdigit() else name
    return Disagreement(
        f"stage {case.stage.name!r} lists {path} under `{section}`, but no parameter of the notebook names it",
        case.where,
        f'If the notebook {verb} it, declare it in the parameters cell: `{name}: {marker} = "{path}"`; '
        f"else take it out of `{section}`.",
        f"unclaimed-{'dep' if section == 'deps' else 'out'}",
    )
