"""A move of an environment: begun by who may, signed, written down as one row, published."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlnb import files, trust
from mlnb.bundle import Bundle
from mlnb.bundle.manifest import canonical
from mlnb.people import Person, Policy
from mlnb.project import Project
from mlnb.promotion import after, allowed, mending, publish
from mlnb.promotion.errors import PromotionError, room
from mlnb.state import ConflictError, Entry, Version, locate, open_state
from mlnb.state.records import Move

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from mlnb.state.store import State


@dataclass(frozen=True)
class Asked:
    """A move that somebody asks for who may, and what it starts from.

    Attributes:
        project: whose.
        state: of the project.
        environment: that is to be moved.
        current: version that it is at; None for none.
        seen: what is published of it, None for nothing, and ``follows`` the digest of that file:
            the decision is on these, and holds only while they do.
        person: who asks, ``signer`` the key of theirs, and ``reason`` why.
        demands: what the environment asks for.
        notes: what was mended on the way.
    """

    project: Project
    state: State
    environment: str
    current: int | None
    seen: trust.Statement | None
    follows: str
    person: Person
    signer: Ed25519PrivateKey
    reason: str
    demands: Policy
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Draft:
    """What a statement says of a version."""

    version: Version
    bundle: Bundle
    verdict: str
    candidate: str
    commit: str


def begin(
    project: Project, verb: str, environment: str, reason: str, *, mend: bool = True
) -> Asked:
    """Return what a move starts from; refuse who may not, and what does not agree.

    Raises:
        RefusedError: this person may not.
        MlnbError: something is missing, or cannot be trusted.
    """
    person, demands = allowed.allowed(project, verb, environment, reason)
    publish.signed_tags(project)  # a wrong setting is told before anything is done
    signer = allowed.signer(project, person)
    state = open_state(locate(project))
    notes = tuple(mending.mend(project, state)) if mend else ()
    current, seen, follows = _agreed(project, state, environment)
    return Asked(
        project, state, environment, current, seen, follows, person, signer, reason, demands, notes
    )


def move(
    asked: Asked,
    kind: Move,
    draft: Draft,
    *,
    approvers: tuple[str, ...] = (),
    strategy: Mapping[str, Any] | None = None,
    previous: int | None = None,
    again: bool = False,
) -> Entry:
    """Sign, keep what was signed, and move the alias; return the row.

    Args:
        asked: what it starts from.
        kind: which way.
        draft: the version that the environment is to run.
        approvers: who agreed.
        strategy: how it is rolled out.
        previous: version that is said to have run before; by default the present one.
        again: whether the environment may be at that version already, to complete a roll-out.

    Raises:
        ConflictError: somebody else moved it meanwhile.
        MlnbError: it cannot be signed, kept or written down.
    """
    project, state, environment = asked.project, asked.state, asked.environment
    head = state.head()
    told = draft.bundle.manifest
    statement = trust.Statement(
        environment=environment,
        version=draft.version.number,
        counter=(asked.seen.counter if asked.seen else 0) + 1,
        bundle=draft.bundle.digest,
        candidate=draft.candidate,
        commit=draft.commit,
        data=f"sha256:{told.data.sha256.removeprefix('sha256:')}",
        parameters=f"sha256:{files.digest_bytes(canonical(dict(told.parameters)))}",
        verdict=draft.verdict,
        by=asked.person.name,
        reason=asked.reason,
        at=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        approvers=approvers,
        previous=asked.current if previous is None else previous,
        strategy=strategy or {},
        rollback=kind == "rollback",
        head=(head.number, head.hash) if head else None,
    )
    with room("the statement cannot be kept"):
        digest = publish.keep(project, trust.sign(statement, asked.signer))
    try:
        return state.move(
            environment,
            draft.version.number,
            expected=asked.current,
            kind=kind,
            who=asked.person.name,
            reason=asked.reason,
            verdict=draft.verdict,
            statement=digest,
            follows=asked.follows if asked.current is not None else "",
            again=again,
        )
    except ConflictError:
        # After another error it may be needed: a disk can fail when the row is already written.
        publish.forget(project, digest)
        raise


def done(project: Project, state: State, entry: Entry) -> Iterator[str]:
    """Publish a move that is decided; what fails from here on is told, and mended later."""
    with room(f"version {entry.version} is in {entry.alias}, but that is not published"):
        yield from publish.publish(project, state, entry)
    after.begin(project)


def said(version: int | None) -> str:
    """Return a version, or none, in words."""
    return "no version" if version is None else f"version {version}"


def _agreed(
    project: Project, state: State, environment: str
) -> tuple[int | None, trust.Statement | None, str]:
    """Return the version that the environment is at, if what is published here says so, too.

    Returns:
        The version, the statement, and the digest of its file.

    Raises:
        PromotionError: another one is published.
        TrustError: what is published cannot be trusted.
    """
    # The digest first: should the file be replaced now, it is that of an older statement, which
    # the state does not take as the last.
    digest = publish.digest(project, environment)
    move = publish.last_moves(state).get(environment)
    current = move.version if move else None
    found = publish.seen(project, state, environment) if move or digest else None
    here = found.version if found else None
    other = ""
    if here != current:
        other = f"names {said(here)}, but the state has {said(current)}"
    elif move and move.statement != digest:
        other = f"is not the statement that the state has of {said(current)}"
    if other:
        raise PromotionError(
            other,
            where=publish.file_of(environment),
            remedy="`git pull` the statement, or share the state: `state` in [tool.mlnb]."
            " `mlnb doctor` tells more.",
        )
    return current, found, digest
