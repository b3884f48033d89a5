"""What each role may do, and what an environment demands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlnb.errors import MlnbError, did_you_mean
from mlnb.project import Project

ROLES = ("viewer", "trainer", "approver")
"""Each may do what those before it may."""
OWNER = ROLES[-1]

RULES: Mapping[str, str] = {
    # What happens in one's own checkout only, anyone may do who has one.
    "add": "",
    "alerts": "",
    "code": "",
    "gate": "",
    "image": "",
    "lint": "",
    "loadtest": "",
    "manifests": "",
    "keys encryption": "",
    "package": "",
    "report": "",
    "repro": "",
    "run": "",
    "serve": "",
    "sweep": "",
    "track": "",
    "verify": "",
    "verify-bundle": "",
    "worker": "",
    # What was decided.
    "audit": "viewer",
    "compare": "viewer",
    "history": "viewer",
    "models": "viewer",
    "keys list": "viewer",
    "tokens list": "viewer",
    "deploy plan": "viewer",
    "deploy status": "viewer",
    # Decisions. An environment may demand more: see :func:`policy`.
    "deploy abort": "trainer",
    "deploy apply": "trainer",
    "deploy promote": "trainer",
    "deploy rollback": "trainer",
    "doctor": "trainer",
    "promote": "trainer",
    "rollback": "trainer",
    "keys new": "trainer",
    "approve": "approver",
    "keys revoke": "approver",
    "tokens new": "approver",
    "tokens revoke": "approver",
}
"""The role that each command asks for; empty for none. A command without a rule is refused."""

ENVIRONMENTS: Mapping[str, str] = {
    "development": "trainer",
    "staging": "trainer",
    "production": "approver",
}
"""The environments that every project has, and the role that changes each."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
"""An environment names a file, and an alias in the state and in MLflow's registry."""


class PeopleError(MlnbError):
    """Settings of people that cannot be used, or nobody known who asks."""


class RefusedError(MlnbError):
    """A person may not do this."""

    exit_code = 1


@dataclass(frozen=True)
class Policy:
    """What an environment demands of a promotion.

    Attributes:
        environment: its name.
        role: of whoever promotes to it or rolls it back.
        persons: how many must agree to a promotion, the one who promotes included.
    """

    environment: str
    role: str
    persons: int = 1


@dataclass(frozen=True)
class Listed:
    """A person of ``[tool.mlnb.people]``: the role, addresses in git, and JupyterHub's name."""

    name: str
    role: str
    git: tuple[str, ...]
    jupyter: str


def listed(project: Project) -> tuple[Listed, ...]:
    """Return the people of the project; none if it is one person's.

    Raises:
        PeopleError: an entry that says something else than it may.
    """
    found = tuple(_person(name, told) for name, told in project.settings.people.items())
    seen: dict[tuple[str, str], str] = {}
    for each in found:
        for known in [*(("git", address) for address in each.git), ("jupyter", each.jupyter)]:
            if seen.setdefault(known, each.name) != each.name:
                raise _wrong(
                    "people", each.name, f"{known[1]} is {seen[known]}'s: one person has one entry"
                )
    return found


def policy(project: Project, environment: str) -> Policy:
    """Return what ``environment`` demands.

    Raises:
        PeopleError: no such environment, or settings that say something else than they may.
    """
    told = project.settings.policy
    known = {**ENVIRONMENTS, **dict.fromkeys(told, "trainer")}
    if environment not in known:
        raise PeopleError(
            f"no environment {environment!r}.{did_you_mean(environment, known)}",
            remedy=f"Environments: {', '.join(known)}; [tool.mlnb.policy.NAME] makes another.",
        )
    mine = told.get(environment, {})
    if not _NAME.fullmatch(environment):
        raise _wrong("policy", environment, "a name has lower-case letters, digits and '-'")
    _only("policy", environment, mine, ("role", "persons"))
    role, persons = mine.get("role", known[environment]), mine.get("persons", 1)
    _role("policy", environment, role)
    if type(persons) is not int or persons < 1:
        raise _wrong("policy", environment, f"persons is 1 or more, not {persons!r}")
    if persons > 1 and len(listed(project)) < persons:
        raise _wrong(
            "policy", environment, f"persons = {persons} needs as many in [tool.mlnb.people]"
        )
    return Policy(environment, role, persons)


def rank(role: str) -> int:
    """Return how much a role may do; 0 for no role."""
    return ROLES.index(role) + 1 if role else 0


def _person(name: str, told: Any) -> Listed:
    _only("people", name, told, ("role", "git", "jupyter"))
    role, git, jupyter = told.get("role"), told.get("git", ()), told.get("jupyter", name)
    _role("people", name, role)
    addresses = (git,) if isinstance(git, str) else tuple(git)
    if not all(isinstance(each, str) and each for each in (*addresses, jupyter)):
        raise _wrong("people", name, "git and jupyter are texts; git may be a list of them")
    return Listed(name, role, tuple(each.lower() for each in addresses), jupyter)


def _only(table: str, name: str, told: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(told, Mapping):
        raise _wrong(table, name, f"must be a table of {', '.join(keys)}, not {told!r}")
    for key in told:
        if key not in keys:
            raise _wrong(table, name, f"{key} is unknown.{did_you_mean(key, keys)}")


def _role(table: str, name: str, role: Any) -> None:
    if role not in ROLES:
        raise _wrong(table, name, f"role is one of {', '.join(ROLES)}, not {role!r}")


def _wrong(table: str, name: str, what: str) -> PeopleError:
    return PeopleError(
        what, where=f"[tool.mlnb.{table}.{name}] of pyproject.toml", remedy="See docs/promotion.md."
    )
