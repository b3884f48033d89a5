"""All of one candidate: what the gates found, where it comes from, what may be done with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlnb import gate, people
from mlnb.comparison.paired import artifact
from mlnb.comparison.runs import CHAMPION, ComparisonError, Table
from mlnb.errors import MlnbError
from mlnb.people.roles import ENVIRONMENTS, rank
from mlnb.project import Project

_SIGNS = {"least": "at least", "most": "at most"}


def facts(project: Project, table: Table, row: int) -> dict[str, Any]:
    """Return what a page shows of one candidate, as JSON holds it.

    Args:
        project: whose.
        table: all candidates.
        row: which.
    """
    judged, why = _judgement(project, table, row)
    return {
        "gates": [_told(each) for each in judged.get("rulings", ())] if judged else [],
        "judged": why,
        "lineage": _lineage(project, table, row),
        "actions": [_action(project, table, row, name) for name in environments(project)],
    }


def environments(project: Project) -> list[str]:
    """Return the environments that the project has, production first."""
    names = [*ENVIRONMENTS, *project.settings.policy]
    return sorted(dict.fromkeys(names), key=lambda name: (name != CHAMPION, names.index(name)))


def is_here(project: Project, table: Table, row: int) -> bool:
    """Whether the working tree holds the candidate of a row, so that it can be judged again."""
    try:
        told = json.loads((project.reports / "candidate.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and told.get("candidate") == table.runs.digests[row]


def _judgement(project: Project, table: Table, row: int) -> tuple[Mapping[str, Any] | None, str]:
    path: Path = project.root / gate.VERDICT
    if not is_here(project, table, row) or not table.verdicts[row]:
        try:
            path = artifact(project, table.runs.ids[row], "gates.json")
        except MlnbError:
            return (
                None,
                "No gate has judged this run. Make it the one that is here, and `dvc repro`.",
            )
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        return None, f"The verdict cannot be read: {error}"
    return found, ""


def _told(ruling: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule as a page shows it: the finding that decided."""
    found = list(ruling.get("findings", ()))
    verdict = ruling.get("verdict", "error")
    worst: Mapping[str, Any] = next((each for each in found if each.get("verdict") == verdict), {})
    asked = [f"{_SIGNS[key]} {worst[key]:.4g}" for key in _SIGNS if worst.get(key) is not None]
    more = len(found) - 1
    words = ": ".join(filter(None, [worst.get("subject", ""), worst.get("words", "")]))
    return {
        "id": ruling.get("id", ""),
        "name": ruling.get("asks", ruling.get("id", "")),
        "verdict": "warning" if verdict != "pass" and not ruling.get("blocks", True) else verdict,
        "value": worst.get("value"),
        "low": worst.get("low"),
        "high": worst.get("high"),
        "threshold": ", ".join(asked),
        "reason": f"{words} (and {more} more)" if more > 0 and verdict != "pass" else words,
    }


def _lineage(project: Project, table: Table, row: int) -> dict[str, Any]:
    runs = table.runs
    tags = runs.row(row, "tag")
    commit = str(tags.get("mlflow.source.git.commit", ""))
    dirty = " with changes" if tags.get("mlnb.git.dirty") == "true" else ""
    branch = tags.get("mlflow.source.git.branch", "")
    there = table.places_of(row)
    here = is_here(project, table, row)
    report = project.reports / "index.html"
    lineage: dict[str, Any] = {
        "Runs in": ", ".join(f"{p.environment} as version {p.version}" for p in there),
        "Candidate": runs.digests[row],
        "Run": runs.ids[row],
        "Commit": f"{commit[:12]}{dirty}{f' on {branch}' if branch else ''}" if commit else "",
        "By": tags.get("mlflow.user", ""),
        **{f"Data {name}": value for name, value in table.data_of(row).items()},
        "Bundle": tags.get("mlnb.bundle", ""),
    }
    if here and report.is_file():
        lineage["Report"] = {
            "href": report.relative_to(project.home).as_posix(),
            "text": "rendered notebooks",
        }
    return lineage


def _action(project: Project, table: Table, row: int, environment: str) -> dict[str, Any]:
    """Return whether this person may promote this candidate there, and if not, why."""
    told: dict[str, Any] = {"environment": environment, "allowed": False, "version": None}
    try:
        demands = people.policy(project, environment)
        person = people.admit(project, "compare")
    except MlnbError as error:
        return told | {"why": str(error)}
    if any(place.environment == environment for place in table.places_of(row)):
        return told | {"why": f"It is in {environment} already."}
    verdict = table.verdicts[row]
    if not is_here(project, table, row):
        why = (
            "Another candidate lies in this folder. Make this one the present: check its commit"
            " out, or `mlnb sweep apply`, then `dvc repro`."
        )
    elif rank(person.role) < rank(demands.role):
        why = f"{environment} needs the role {demands.role}, and {person.name} is {person.role}."
    elif verdict == "pass":
        return told | {
            "allowed": True,
            "why": "",
            "ask": demands.persons > 1,
            "approve": demands.persons > 1,
            "version": _version(project, table, row),
        }
    elif not verdict:
        why = "No gate has judged it: `dvc repro`."
    else:
        bad = [rule for rule, each in table.gates.items() if each[row] not in ("", "pass")]
        why = f"The gates say {verdict}: {', '.join(bad) or 'see the report'}."
    return told | {"why": why}


def _version(project: Project, table: Table, row: int) -> int | None:
    from mlnb.state import locate, open_state

    try:
        versions = open_state(locate(project)).versions()
    except MlnbError:
        return None
    digest = table.runs.digests[row]
    return next((each.number for each in reversed(versions) if each.candidate == digest), None)


def one(table: Table, run: Any) -> int:
    """Return the row of MLflow's id of a run.

    Raises:
        ComparisonError: there is no such run.
    """
    if isinstance(run, str) and run in table.runs.ids:
        return table.runs.ids.index(run)
    raise ComparisonError("no such run; it may have been deleted since: look again")
