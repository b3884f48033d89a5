"""All candidates as typed columns, and which of them each environment runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlnb import people, tracking
from mlnb.errors import MlnbError, did_you_mean
from mlnb.project import Project
from mlnb.promotion import publish
from mlnb.tracking import Runs

CHAMPION = "production"
VERDICTS = {"pass": "pass", "blocked": "fail", "error": "error"}
"""What a person is told of a candidate, by what the gates said of all."""
_DATA = "mlnb.data."


class ComparisonError(MlnbError):
    """A candidate that there is not, or two that cannot be compared."""


@dataclass(frozen=True)
class Place:
    """What an environment runs, as its signed statement says.

    Attributes:
        environment: which.
        version: number of the model's version.
        candidate: its digest.
        bundle: digest of the bundle.
        at: when, by whom and why it was promoted.
    """

    environment: str
    version: int
    candidate: str
    bundle: str
    at: str
    by: str
    reason: str


@dataclass(frozen=True)
class Table:
    """All candidates, the oldest first.

    Attributes:
        runs: as they were tracked.
        metrics: numbers by name; None where a run has none.
        params: values by name, as what they are in params.yaml.
        verdicts: ``pass``, ``fail``, ``error``, or empty for one that was not judged.
        gates: verdict of each rule, by the rule's id, of each run.
        places: what environments run, those that run something.
        problems: environments that could not be read, and why.
    """

    runs: Runs
    metrics: Mapping[str, Sequence[float | None]]
    params: Mapping[str, Sequence[Any]]
    verdicts: Sequence[str]
    gates: Mapping[str, Sequence[str]]
    places: Sequence[Place]
    problems: Sequence[str] = field(default=())

    @property
    def champion(self) -> int:
        """Row of the candidate that production runs; -1 if none does, or it was not tracked."""
        found = [place for place in self.places if place.environment == CHAMPION]
        return self.row_of(found[0].candidate) if found else -1

    def row_of(self, digest: str) -> int:
        """Return the row of a candidate's digest; -1 if there is none."""
        with contextlib.suppress(ValueError):
            return self.runs.digests.index(digest)
        return -1

    def find(self, name: str) -> int:
        """Return the row that a person means: a run or candidate by the beginning of its digest, a
        version by its number, or an environment by its name.

        Raises:
            ComparisonError: none, or several.
        """
        for place in self.places:
            if name == place.environment or name in (str(place.version), f"v{place.version}"):
                if (row := self.row_of(place.candidate)) >= 0:
                    return row
                raise ComparisonError(f"the candidate of version {place.version} was not tracked")
        lower = name.lower().removeprefix("candidate ").strip()
        found = {
            row
            for row, ids in enumerate(zip(self.runs.ids, self.runs.digests, strict=True))
            if len(lower) >= 4 and any(each.startswith(lower) for each in ids)
        } | {row for row, each in enumerate(self.runs.names) if each == name}
        if len(found) == 1:
            return found.pop()
        if found:
            raise ComparisonError(
                f"{name!r} is the beginning of {len(found)} runs: write more of it"
            )
        known = [*self.runs.names, *(place.environment for place in self.places)]
        raise ComparisonError(
            f"no run {name!r}.{did_you_mean(name, known)}",
            remedy="`mlnb compare` lists them; a run is told by the beginning of its digest.",
        )

    def places_of(self, row: int) -> list[Place]:
        """Return what runs the candidate of a row."""
        digest = self.runs.digests[row]
        return [place for place in self.places if place.candidate == digest]

    def data_of(self, row: int) -> dict[str, str]:
        """Return the checksums of the data that a candidate was made of, by path."""
        tags = self.runs.row(row, "tag")
        return {n.removeprefix(_DATA): v for n, v in tags.items() if n.startswith(_DATA)}


def table(project: Project, *, anew: bool = False) -> Table:
    """Return all candidates of ``project``.

    Args:
        project: whose.
        anew: read all of the store again.

    Raises:
        MlnbError: the store cannot be used, or this person may not look.
    """
    people.admit(project, "compare")
    runs = tracking.all_runs(project, anew=anew)
    count = len(runs.ids)
    metrics = {n: v for (kind, n), v in runs.columns.items() if kind == "metric"}
    params = {n: _values(v) for (kind, n), v in runs.columns.items() if kind == "param"}
    said = runs.columns.get(("tag", "mlnb.verdict"), [None] * count)
    told = runs.columns.get(("tag", "mlnb.gates"), [None] * count)
    gates: dict[str, list[str]] = {}
    for row, text in enumerate(told):
        for rule, verdict in _rules(text).items():
            gates.setdefault(rule, [""] * count)[row] = verdict
    there, problems = places(project)
    return Table(
        runs,
        metrics,
        params,
        [VERDICTS.get(each or "", "") for each in said],
        gates,
        there,
        problems,
    )


def goal_of(name: str) -> Literal["", "max", "min"]:
    """Return whether more or less of a metric is better, by the name that it ends in."""
    from mlnb.statistics import METRICS

    metric = METRICS.get(name.rpartition(".")[2])
    if metric is None or metric.better == "zero":
        return ""
    return "max" if metric.better == "higher" else "min"


def _values(texts: Sequence[str | None]) -> list[Any]:
    """Return values that MLflow keeps as text as what they were: all numbers, or all text."""
    found: list[Any] = []
    for text in texts:
        try:
            value = None if text is None else json.loads(text)
        except ValueError:
            return list(texts)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            return list(texts)
        found.append(value)
    return found


def _rules(text: str | None) -> dict[str, str]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def places(project: Project) -> tuple[list[Place], list[str]]:
    """Return what environments run, and why others could not be read."""
    found, problems = [], []
    for path in sorted((project.home / "deployments").glob("*.json")):
        if path.stem == "test-sets":
            continue
        try:
            said = publish.published(project, path.stem)
        except MlnbError as error:
            problems.append(str(error))
            continue
        if said:
            found.append(
                Place(
                    said.environment,
                    said.version,
                    said.candidate,
                    said.bundle,
                    said.at,
                    said.by,
                    said.reason,
                )
            )
    return found, problems
