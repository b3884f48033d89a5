"""The agreement between dvc.yaml, params.yaml and one notebook's contract, both ways.

What a notebook declares and no file gives, and what a file gives and no notebook declares, are
both ways for DVC to record something other than what ran. `mlnb run` refuses to start on any of
them; `mlnb lint` lists them and offers the edit that mends them.
"""

from __future__ import annotations

from mlnb.agreement.case import Case, Disagreement, executed, place
from mlnb.agreement.code import (
    LITTER,
    MIRROR_FLAGS,
    code_stage,
    module_entry,
    new_code_stage,
    of_executed,
    of_mirror,
)
from mlnb.agreement.paths import bound_paths, of_paths
from mlnb.agreement.values import given_by, given_to_nobody, of_values
from mlnb.contract import Contract
from mlnb.mirror import Mirror
from mlnb.pipeline import Pipeline, Stage
from mlnb.project import Project

__all__ = [
    "LITTER",
    "MIRROR_FLAGS",
    "Disagreement",
    "bound_paths",
    "code_stage",
    "disagreements",
    "executed",
    "module_entry",
    "new_code_stage",
    "place",
]


def disagreements(
    project: Project, pipeline: Pipeline, stage: Stage, contract: Contract, mirror: Mirror
) -> list[Disagreement]:
    """Return everything that ``stage``, its values and its notebook disagree on."""
    case = Case(project, pipeline, stage, contract, mirror)
    found = [*of_mirror(case), *of_executed(case)]
    if contract.notebook.language != "python":
        return found
    given, unreadable = given_by(case)
    found += unreadable
    if contract.cell is None:
        return [*found, *given_to_nobody(case, given)]
    return [*found, *of_values(case, given), *of_paths(case, given)]
