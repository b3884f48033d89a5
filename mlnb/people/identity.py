"""Who asks.

A token names a person and nobody else does then: one that does not count is refused, never passed
over. JupyterHub tells a notebook server whose it is. Else it is whom git would name as the author
of a commit. The last two are what the account says of itself, as in every commit; what proves a
promotion is the key that signs it.
"""

from __future__ import annotations

import datetime
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from mlnb.people import tokens
from mlnb.people.roles import (
    OWNER,
    RULES,
    Listed,
    PeopleError,
    RefusedError,
    listed,
    policy,
    rank,
)
from mlnb.project import Project

TOKEN, HUB = "MLNB_TOKEN", "JUPYTERHUB_USER"
_RUNS = ("MLNB_EXECUTION", "DVC_STAGE")
_OF_ENVIRONMENT = ("promote", "rollback", "deploy abort", "deploy promote", "deploy rollback")
"""What takes the role that the environment demands; applying only ends what it was let begin."""
_LOOKS_ON = ("viewer", "")


@dataclass(frozen=True)
class Person:
    """Who asks.

    Attributes:
        name: in ``[tool.mlnb.people]``; without such a table, the git address or the hub's name.
        source: how that is known: ``token``, ``jupyter`` or ``git``.
        role: what the person may do; empty for nothing.
    """

    name: str
    source: str
    role: str


def admit(project: Project, verb: str, environment: str = "") -> Person:
    """Return who asks, if that person may do ``verb`` to ``environment``.

    Args:
        project: whose people, policy and tokens count.
        verb: a command, with its action if it has some: ``promote``, ``keys new``.
        environment: that it would change; empty if none.

    Raises:
        RefusedError: the role is too low, the token does not count, there is no rule for this
            command, or a run of a notebook asks, which decides nothing.
        PeopleError: nobody is known, or the settings are wrong.
    """
    if verb not in RULES:
        raise RefusedError(f"no rule says who may `mlnb {verb}`, so nobody may")
    wanted = RULES[verb]
    if environment and verb in _OF_ENVIRONMENT:
        wanted = max(wanted, policy(project, environment).role, key=rank)
    if wanted not in _LOOKS_ON and any(each in os.environ for each in _RUNS):
        raise RefusedError(
            f"a run cannot `mlnb {verb}`: what is judged does not decide",
            remedy="Do it in a terminal, after the run.",
        )
    person = who(project)
    if rank(person.role) < rank(wanted):
        raise RefusedError(
            f"{person.name} ({person.role or 'no role'}) may not `mlnb {verb}`"
            + (f" to {environment}" if environment else "")
            + f": that takes the role {wanted}",
            remedy="Roles are in [tool.mlnb.people] of pyproject.toml.",
        )
    return person


def who(project: Project) -> Person:
    """Return who asks.

    Raises:
        RefusedError: by a token that does not count.
        PeopleError: nobody is known, or the settings are wrong.
    """
    people = listed(project)
    if (text := os.environ.get(TOKEN)) is not None:
        # An empty one, too: so does CI pass on a secret that it does not have.
        name = tokens.holder(project, text, now=datetime.datetime.now(datetime.UTC))
        return _person(people, "token", name, lambda each: each.name == name)
    if name := os.environ.get(HUB, ""):
        return _person(people, "jupyter", name, lambda each: each.jupyter == name)
    address = _address(project)
    if not address:
        raise PeopleError(
            "nobody is known here",
            remedy=f'Tell git who you are: `git config user.email "you@example.org"`; or set'
            f" {TOKEN}.",
        )
    return _person(people, "git", address, lambda each: address.lower() in each.git)


def _person(
    people: tuple[Listed, ...], source: str, name: str, fits: Callable[[Listed], bool]
) -> Person:
    if not people:
        return Person(name, source, OWNER)
    found = next((each for each in people if fits(each)), None)
    return Person(found.name, source, found.role) if found else Person(name, source, "")


def _address(project: Project) -> str:
    """Return the address that git puts into commits; empty if it has none."""
    if told := os.environ.get("GIT_AUTHOR_EMAIL", ""):
        return told
    try:
        done = subprocess.run(
            ["git", "config", "user.email"],
            cwd=project.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
