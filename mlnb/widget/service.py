"""What the page asks, answered: one function for the state and one for all verbs.

The notebook's widget and the Jupyter server call these. A page knows ids and words only; what it
asks is looked at as if a stranger had sent it, and each deed is decided anew by
:mod:`mlnb.promotion`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from mlnb import comparison, people, promotion
from mlnb.comparison import ComparisonError, Table
from mlnb.comparison.facts import environments, is_here, one
from mlnb.comparison.runs import CHAMPION, goal_of, places
from mlnb.comparison.stages import start
from mlnb.errors import MlnbError
from mlnb.project import Project
from mlnb.tracking.columns import FORMAT, Column, pack
from mlnb.widget.rollouts import rollouts

DEEDS = ("promote", "rollback", "approve")
"""Verbs after which what is shown has changed."""
_LETTERS = {"pass": "p", "fail": "f", "inconclusive": "i", "error": "e", "": "-"}
_SHOWN_TAGS = {
    "mlflow.source.git.commit": "commit",
    "mlflow.source.git.branch": "branch",
    "mlflow.user": "who",
}
_LONGEST = 500
_PAIRED = 4
"""How many candidates are paired with the model in production whenever the page is drawn."""


_DETAILED = 200
"""How many candidates a page of its own tells all of."""


class MessageError(MlnbError):
    """A message that is not one of ours."""


def state(project: Project, *, details: bool = False) -> tuple[dict[str, Any], list[bytes]]:
    """Return all candidates: a header as JSON holds it, and the buffers of its columns.

    Args:
        project: whose.
        details: also all of the last candidates, for a page that cannot ask.

    Raises:
        MlnbError: the store cannot be used, or this person may not look.
    """
    table = comparison.table(project)
    columns, buffers = pack(_columns(table), len(table.runs.ids))
    header = {
        "format": FORMAT,
        "rows": len(table.runs.ids),
        "columns": columns,
        "gates": [
            {"name": rule, "key": "", "letters": "".join(_LETTERS.get(v, "e") for v in verdicts)}
            for rule, verdicts in table.gates.items()
        ],
        "champion": table.champion,
        "champion_environment": CHAMPION,
        "environments": _environments(project, table),
        "differences": _differences(project, table),
        "problems": list(table.problems),
        "taken_at": time.time(),
    }
    if details:
        last = range(len(table.runs.ids))[-_DETAILED:]
        header["details"] = {
            table.runs.ids[row]: comparison.facts(project, table, row) for row in last
        }
    return header, buffers


def answer(project: Project, message: Any) -> dict[str, Any]:
    """Return what came of a message ``{"verb": …, "words": {…}}``.

    Raises:
        MessageError: it is none of ours.
        MlnbError: what was asked for is not possible, or not allowed.
    """
    if not isinstance(message, Mapping) or set(message) - {"verb", "words"}:
        raise MessageError("a message has a verb and words, and nothing else")
    verb, words = message.get("verb"), message.get("words") or {}
    known = _VERBS.get(verb) if isinstance(verb, str) else None
    if known is None or not isinstance(words, Mapping):
        raise MessageError(f"no verb {verb!r}")
    function, kinds = known
    given: dict[str, Any] = {}
    for name, value in words.items():
        if name in kinds and (value is None or _fits(value, kinds[name])):
            given[name] = value
        elif name in kinds:
            raise MessageError(f"{name} of {verb} cannot be {value!r:.40}")
    if missing := [name for name in kinds if given.get(name) is None and name not in _OPTIONAL]:
        raise MessageError(f"{verb} needs {', '.join(missing)}")
    return function(project, **given)


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    return not isinstance(value, str) or 0 < len(value.strip()) <= _LONGEST


# --- the state -------------------------------------------------------------------------------


def _columns(table: Table) -> list[Column]:
    runs = table.runs
    count = len(runs.ids)
    versions: list[Any] = [None] * count
    for row in range(count):
        if there := table.places_of(row):
            versions[row] = ", ".join(f"{p.environment} v{p.version}" for p in there)
    verdicts = [verdict or None for verdict in table.verdicts]
    columns = [
        Column("hidden", "run", runs.ids),
        Column("meta", "name", [name.removeprefix("candidate ") for name in runs.names]),
        Column("meta", "verdict", verdicts),
        Column("meta", "runs in", versions),
    ]
    goals = {name: goal_of(name) for name in table.metrics}
    ordered = sorted(table.metrics, key=lambda name: not goals[name])
    columns += [
        Column("metric", n, table.metrics[n], goal=goals[n], optional=n.count(".") > 1)
        for n in ordered
    ]
    columns += [Column("param", name, values) for name, values in table.params.items()]
    columns.append(Column("meta", "started", runs.started, format="moment"))
    for key, name in _SHOWN_TAGS.items():
        if values := runs.columns.get(("tag", key)):
            shown = [v and v[:12] for v in values] if name == "commit" else values
            columns.append(Column("meta", name, shown, optional=name == "branch"))
    columns.append(Column("meta", "data", [_data(table, row) for row in range(count)]))
    return columns


def _data(table: Table, row: int) -> str | None:
    """Return one short word for the data of a candidate: equal for equal data."""
    import hashlib

    told = sorted(table.data_of(row).items())
    return hashlib.sha256(repr(told).encode()).hexdigest()[:12] if told else None


def _environments(project: Project, table: Table) -> list[dict[str, Any]]:
    places = {place.environment: place for place in table.places}
    found = []
    for name in dict.fromkeys([*environments(project), *places]):
        place = places.get(name)
        row = table.row_of(place.candidate) if place else -1
        found.append(
            {
                "name": name,
                "version": place.version if place else None,
                "run": table.runs.ids[row] if row >= 0 else None,
            }
        )
    return found


def _differences(project: Project, table: Table) -> dict[str, dict[str, list[float]]]:
    """Return paired differences of the last few candidates, by column and row."""
    champion = table.champion
    if champion < 0:
        return {}
    rows = [row for row in range(len(table.runs.ids)) if row != champion][-_PAIRED:]
    rows += [row for row in range(len(table.runs.ids)) if is_here(project, table, row)]
    found: dict[str, dict[str, list[float]]] = {}
    for row in dict.fromkeys(rows):
        if row == champion:
            continue
        with contextlib.suppress(MlnbError, OSError, KeyError):
            told = comparison.paired(project, table.runs.ids[row], table.runs.ids[champion])
            for metric, difference in told.items():
                for name in table.metrics:
                    # STAGE.METRIC is of all rows; STAGE.SLICE.METRIC is not.
                    if name.rpartition(".")[2] == metric and name.count(".") == 1:
                        found.setdefault(f"metrics.{name}", {})[str(row)] = list(difference)
    return found


# --- the verbs --------------------------------------------------------------------------------


def _details(project: Project, *, run: str) -> dict[str, Any]:
    table = comparison.table(project)
    return comparison.facts(project, table, one(table, run))


def _plan(project: Project, *, run: str, environment: str, reason: str) -> dict[str, Any]:
    table = comparison.table(project)
    row = one(table, run)
    try:
        change = promotion.promote(
            project, environment, what=table.runs.digests[row], reason=reason, dry_run=True
        )
    except MlnbError as error:
        return {"allowed": False, "words": str(error).splitlines(), "gates": [], "current": None}
    gates = [
        {"name": each["name"], "verdict": each["verdict"]}
        for each in comparison.facts(project, table, row)["gates"]
    ]
    return {
        "allowed": True,
        "words": list(change.words),
        "gates": gates,
        "current": change.current,
    }


def _promote(
    project: Project, *, run: str, environment: str, reason: str, expected: int | None = None
) -> dict[str, Any]:
    table = comparison.table(project)
    row = one(table, run)
    now = next((p.version for p in table.places if p.environment == environment), None)
    if now != expected:
        raise ComparisonError(
            f"{environment} is at version {now} now: somebody changed it since this was planned",
            remedy="Look at what runs there, and plan again.",
        )
    change = promotion.promote(project, environment, what=table.runs.digests[row], reason=reason)
    where = f"{environment} is at version {change.version}."
    return {"words": [where, *change.words]}


def _approve(project: Project, *, version: int, environment: str, reason: str) -> dict[str, Any]:
    entry = promotion.approve(project, version, environment, reason=reason)
    return {"words": [f"{entry.who} agrees to version {entry.version} in {entry.alias}."]}


def _ask(project: Project, *, run: str, environment: str, reason: str) -> dict[str, Any]:
    """Tell others that an approval is wanted: registers the version, and says what they do."""
    table = comparison.table(project)
    try:
        promotion.promote(
            project, environment, what=table.runs.digests[one(table, run)], reason=reason
        )
    except promotion.BlockedError as error:
        return {"words": [str(error)]}
    return {"words": ["No further approval was needed: it is promoted."]}


def _rollback(project: Project, *, environment: str, version: int, reason: str) -> dict[str, Any]:
    change = promotion.rollback(project, environment, version=version, reason=reason)
    return {"words": [f"{environment} is at version {change.version}.", *change.words]}


def _history(project: Project, *, environment: str) -> dict[str, Any]:
    entries = promotion.history(project, environment=environment)
    current = promotion.at(project, "9999-12-31", environment=environment).get(environment)
    ran = {each.version for each in entries if each.kind in ("promote", "rollback", "adopt")}
    told, seen = [], set()
    for each in reversed(entries):
        is_now = current is not None and each.number == current.number
        first = each.version not in seen and each.version in ran
        seen.add(each.version)
        told.append(
            {
                "at": each.at[:16].replace("T", " "),
                "kind": each.kind,
                "version": each.version,
                "who": each.who,
                "reason": each.reason,
                "current": is_now,
                "can_return": bool(
                    not is_now and first and current and each.version != current.version
                ),
            }
        )
    return {"entries": told}


def _diff(project: Project, *, a: str, b: str) -> dict[str, Any]:
    table = comparison.table(project)
    return {"files": comparison.changes(project, table, one(table, a), one(table, b))}


def _pipeline(project: Project) -> dict[str, Any]:
    people.admit(project, "compare")
    return {"stages": comparison.stages(project), "words": ""}


def _run(project: Project, *, stage: str) -> dict[str, Any]:
    people.admit(project, "repro")
    return {"words": [start(project, stage)]}


def _rollout(project: Project) -> dict[str, Any]:
    """Return the roll-outs that go on, and which version each environment is at."""
    people.admit(project, "compare")
    now, _ = places(project)
    return {
        "rollouts": rollouts(project),
        "versions": {place.environment: place.version for place in now},
    }


_OPTIONAL = ("expected",)
_VERBS: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, type]]] = {
    "details": (_details, {"run": str}),
    "plan": (_plan, {"run": str, "environment": str, "reason": str}),
    "promote": (_promote, {"run": str, "environment": str, "reason": str, "expected": int}),
    "ask": (_ask, {"run": str, "environment": str, "reason": str}),
    "approve": (_approve, {"version": int, "environment": str, "reason": str}),
    "rollback": (_rollback, {"environment": str, "version": int, "reason": str}),
    "history": (_history, {"environment": str}),
    "diff": (_diff, {"a": str, "b": str}),
    "pipeline": (_pipeline, {}),
    "run": (_run, {"stage": str}),
    "rollout": (_rollout, {}),
}
