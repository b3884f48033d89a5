"""One stage beside its notebook, and how to speak about what they disagree on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from mlnb.contract import Contract, Parameter
from mlnb.edits import Edit, Entry, item
from mlnb.mirror import Mirror
from mlnb.pipeline import Pipeline, Stage, content
from mlnb.project import Project

NO_CACHE = (("cache", False),)


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


@dataclass(frozen=True)
class Case:
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
        """File and line of the stage."""
        return place(self.project, self.stage)

    @property
    def file(self) -> str:
        """Its dvc.yaml, relative to the root."""
        return self.project.relative(self.stage.file)

    def in_notebook(self, parameter: Parameter | None = None) -> str:
        """Return cell and line of the parameter, or of the parameters cell."""
        return shown(self.project, self.contract.where(parameter))

    def missing(
        self, what: str, rule: str, section: str, path: str, template: str = ""
    ) -> Disagreement:
        """Return a disagreement that one more entry in a list of the stage mends."""
        flags = NO_CACHE if section in ("metrics", "plots") else ()
        text = template if self.is_template and template else path
        text = text if section == "params" else written(self.project, self.stage, text)
        entry = Entry(self.stage.file, self.group, section, text, flags)
        line = f"- {item(text, flags)}"
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


def executed(project: Project, stage: Stage) -> str:
    """Return where the executed notebook of ``stage`` goes, relative to the root."""
    return project.relative(project.executed / f"{stage.name}.ipynb")


def written(project: Project, stage: Stage, path: str) -> str:
    """Return ``path`` as the stage's dvc.yaml writes it, relative to its working directory."""
    if "://" in path or stage.wdir == project.root:
        return path
    return Path(os.path.relpath(project.root / path, stage.wdir)).as_posix()


def shown(project: Project, where: str) -> str:
    """Return a place with its path relative to the root."""
    return where.replace(f"{project.root}{os.sep}", "")


def placeholder(case: Case) -> str:
    """Return what stands for the part of a templated stage's name that differs."""
    return "${item}" if is_foreach(case) and "item" in case.stage.item else "${key}"


def is_foreach(case: Case) -> bool:
    """Whether the stage is one of a ``foreach``, not of a ``matrix``."""
    stages = (content(case.stage.file) or {}).get("stages", {})
    return "foreach" in stages.get(case.group, {})
