"""Who may: the person who asks, the key to sign with, and who else agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlnb import events, people, trust
from mlnb.people import Person, Policy
from mlnb.people.roles import OWNER, listed, rank
from mlnb.project import Project
from mlnb.promotion import publish
from mlnb.promotion.errors import BlockedError, PromotionError
from mlnb.trust.keys import keyid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from mlnb.state.store import State


def allowed(project: Project, verb: str, environment: str, reason: str) -> tuple[Person, Policy]:
    """Return who asks and what the environment demands; refuse what is wrong before all else."""
    demands = people.policy(project, environment)
    person = people.admit(project, verb, environment)
    events.hooks(project)
    if not reason.strip():
        raise PromotionError("a decision needs a reason", remedy='Give it: --reason "…"')
    if project.root != project.home:
        raise PromotionError("this is a copy of the project", where=str(project.root))
    return person, demands


def signer(project: Project, person: Person) -> Ed25519PrivateKey:
    """Return the key to sign with, if the project trusts it; that of the person, if it has some."""
    key = trust.load_private()
    public = publish.keys(project).get(keyid(key.public_key()))
    if public is None or public.revoked:
        raise PromotionError(
            f"the key {public.name} was revoked" if public else "your key is not trusted here",
            where="deployments/keys",
            remedy="Make one: `mlnb keys new NAME`, and commit deployments/keys.",
        )
    if listed(project) and public.name != person.name:
        raise people.RefusedError(
            f"{person.name} cannot sign with the key of {public.name}",
            remedy="MLNB_KEY names the key to sign with, where there are several.",
        )
    return key


def approvers(
    project: Project, state: State, version: int, environment: str, person: Person
) -> tuple[str, ...]:
    """Return who else approved, and may still do so."""
    may = {each.name for each in listed(project) if rank(each.role) >= rank(OWNER)}
    given = [entry.who for entry in state.approvals(version, environment)]
    return tuple(sorted({who for who in given if who != person.name and who in may}))


def enough(
    version: int, environment: str, demands: Policy, person: Person, approvers: tuple[str, ...]
) -> None:
    """Refuse a version that too few people agree on."""
    missing = demands.persons - 1 - len(approvers)
    if missing > 0:
        raise BlockedError(
            f"version {version} passes its gates, but {environment} takes {demands.persons} people:"
            f" {', '.join((person.name, *approvers))} agree, {missing} more must",
            remedy=f"Another approver: `mlnb approve {version} --to {environment}`. Then promote"
            " again.",
        )
