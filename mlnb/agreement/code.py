"""A notebook's code: its mirror, the stage that writes mirrors, and the executed copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlnb.agreement.case import (
    NO_CACHE,
    Case,
    Disagreement,
    executed,
    place,
    placeholder,
    written,
)
from mlnb.edits import Edit, Entry, NewStage, item
from mlnb.pipeline import Pipeline, Stage, covers
from mlnb.project import Project

MIRROR_FLAGS = (("cache", False), ("persist", True))
"""A mirror is committed to git, and `mlnb code` rewrites only those that changed."""

LITTER = (".ipynb_checkpoints", "__pycache__")
"""What editors and Python leave in folders that DVC watches."""


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


def of_mirror(case: Case) -> Iterator[Disagreement]:
    """Yield what keeps an edit of the notebook, or of what it imports, from running it again."""
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
        entry = written(project, code, out.path if out else path)
        flags = MIRROR_FLAGS if out is None else NO_CACHE
        what = (
            f"no stage writes {path}, so an edit of the notebook would not run it again"
            if out is None
            else f"{path} is cached by DVC, so that git cannot hold it"
        )
        yield _in_code_stage(
            case, code, exists, what, Entry(code.file, code.key, "outs", entry, flags), new
        )
    source = project.relative(case.contract.notebook.path)
    if not any(covers(folder, source) for folder in project.settings.notebooks):
        yield Disagreement(
            "the notebook lies in none of the notebook folders, so that `mlnb code` mirrors it not",
            case.in_notebook(),
            "Move it there, or name its folder in pyproject.toml: [tool.mlnb] notebooks = [...].",
            "code-stage",
        )
    for watched, dependency in _watched(case):
        if not code.reads(watched) and not any(covers(dep, watched) for dep in code.deps):
            what = (
                f"stage {code.name!r} does not depend on {watched}, so its edits would run nothing"
            )
            edit = Entry(code.file, code.key, "deps", written(project, code, dependency))
            yield _in_code_stage(case, code, exists, what, edit, new)


def _watched(case: Case) -> Iterator[tuple[str, str]]:
    """Yield (file that the mirror is made from, the dependency that covers it)."""
    source = case.project.relative(case.contract.notebook.path)
    folders = (f for f in case.project.settings.notebooks if covers(f, source))
    yield source, next(folders, source)
    for module in case.mirror.modules:
        yield case.project.relative(module), module_entry(case.project, case.pipeline, module)


def _in_code_stage(
    case: Case, code: Stage, exists: bool, what: str, edit: Entry, new: tuple[Edit, ...]
) -> Disagreement:
    where = place(case.project, code) if exists else case.file
    line = f"- {item(edit.path, edit.flags)}"
    file = case.project.relative(code.file)
    remedy = (
        f"Add to `{edit.section}` of stage {code.key!r} (`cmd: {code.cmd}`) in {file}:\n    {line}"
    )
    return Disagreement(what, where, remedy, "code-stage", () if "@" in code.key else (*new, edit))


def of_executed(case: Case) -> Iterator[Disagreement]:
    """Yield that the executed copy is no output of the stage."""
    path = executed(case.project, case.stage)
    if not case.stage.writes(path):
        template = path.replace(case.stage.key, f"{case.group}@{placeholder(case)}")
        what = f"stage {case.stage.name!r} does not declare its executed notebook"
        yield case.missing(what, "missing-executed", "outs", path, template)
