"""The decisions: promote, roll back, end a roll-out, approve.

Each is judged, allowed, signed and written down before anything is published, and the write is one
row of the journal, taken only if the alias is still where it was when it was decided.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlnb import trust
from mlnb.project import Project
from mlnb.promotion import after, allowed, mending, moves, publish, rollouts
from mlnb.promotion.candidate import Candidate, is_meant, judged
from mlnb.promotion.errors import PromotionError, room
from mlnb.promotion.moves import Asked, Draft
from mlnb.state import ConflictError, Entry, Version, locate, open_state
from mlnb.store import open_store


@dataclass(frozen=True)
class Change:
    """A decision that was taken, or would be.

    Attributes:
        environment: that it is on.
        version: that it moves to; None for a bundle that is not registered yet.
        current: version that it is at; None for none.
        bundle: digest of the bundle.
        words: what was found on the way, for a person to read.
        entry: the row of the journal; None for a dry run, or where nothing was to be done.
    """

    environment: str
    version: int | None
    current: int | None
    bundle: str
    words: tuple[str, ...]
    entry: Entry | None = None


def promote(
    project: Project,
    environment: str,
    *,
    what: str = "",
    reason: str,
    dry_run: bool = False,
    strategy: str = "",
) -> Change:
    """Judge the candidate that is here, and make it what ``environment`` runs.

    Args:
        project: where the candidate is.
        environment: such as ``production``.
        what: the version, or the beginning of the digest of the candidate or the bundle, that is
            meant; it must be the one that is here. Empty for that one, whatever it is.
        reason: why.
        dry_run: say what would be done; judge, but write nothing.
        strategy: kind of the roll-out; empty for what the settings say.

    Raises:
        RefusedError: this person may not.
        BlockedError: the gates, or the approvals that are missing, do not let it through.
        ConflictError: somebody else moved the environment meanwhile.
        MlnbError: something is missing, changed, or cannot be trusted.
    """
    asked = moves.begin(project, "promote", environment, reason, mend=not dry_run)
    state, current, person = asked.state, asked.current, asked.person
    plan = rollouts.planned(project, environment, strategy)
    facts = judged(project, write=not dry_run)
    known = next((v for v in state.versions() if v.bundle == facts.bundle.digest), None)
    is_meant(what, facts, known)
    if known and known.number == current:
        words = (*asked.notes, f"version {current} is in {environment} already")
        return Change(environment, current, current, known.bundle, words)
    if known and current and known.number < current:
        raise PromotionError(
            f"version {known.number} is older than {current}, which {environment} runs",
            remedy=f"To go back: `mlnb rollback --to {environment} {known.number}`.",
        )
    if dry_run:
        words = tuple(_planned(asked, facts, known))
        words += (f"  strategy   {plan.words() if current else 'at-once, being the first'}",)
        number = known.number if known else None
        return Change(environment, number, current, facts.bundle.digest, words)
    open_store(project).put(facts.bundle)
    version = known or state.register(
        bundle=facts.bundle.digest,
        candidate=facts.candidate,
        commit=facts.commit,
        verdict=facts.verdict,
        by=person.name,
    )
    approvers = allowed.approvers(project, state, version.number, environment, person)
    allowed.enough(version.number, environment, asked.demands, person, approvers)
    entry = moves.move(
        asked,
        "promote",
        Draft(version, facts.bundle, facts.verdict, facts.candidate, facts.commit),
        approvers=approvers,
        strategy=rollouts.beside(project, state, plan, environment) if current else {},
    )
    return _decided(asked, entry)


def rollback(
    project: Project, environment: str, *, version: int | None = None, reason: str
) -> Change:
    """Make an older version what ``environment`` runs; it is not judged again, for it ran there.

    The present version can be signed anew so, after the key that signed it was revoked.

    Args:
        project: whose.
        environment: such as ``production``.
        version: that ran there before; by default the one before the present.
        reason: why.

    Raises:
        RefusedError: this person may not.
        PromotionError: it never ran there, or nothing did before.
        MlnbError: something is missing, changed, or cannot be trusted.
    """
    asked = moves.begin(project, "rollback", environment, reason)
    state, current = asked.state, asked.current
    promoted = [e for e in state.journal() if e.is_forward and e.alias == environment]
    if current is None or not promoted:
        raise PromotionError(f"nothing is in {environment}, so there is nothing to go back from")
    if version is None:
        # Completing a roll-out promotes a version where it is already.
        forward = (e for e in reversed(promoted) if e.version == current != e.previous)
        version = next((e.previous for e in forward), None)
        if version is None:
            raise PromotionError(f"nothing was in {environment} before version {current}")
    row = next((e for e in reversed(promoted) if e.version == version), None)
    if row is None or version > current - (not _is_revoked(project, environment)):
        known = sorted({e.version for e in promoted if e.version < current})
        raise PromotionError(
            f"version {version} did not run in {environment} before version {current}",
            remedy=f"These did: {', '.join(map(str, known)) or 'none'}.",
        )
    found = state.version(version)
    bundle = open_store(project).get(found.bundle)
    draft = Draft(found, bundle, row.verdict, found.candidate, found.commit)
    return _decided(asked, moves.move(asked, "rollback", draft))


def end_rollout(
    project: Project, environment: str, *, good: bool, follows: str, reason: str, verb: str
) -> Change:
    """End the roll-out that is published: the candidate is all that runs, or what ran before is.

    Nothing is judged: who promoted the candidate decided on it, and what ran before did run.

    Args:
        project: whose.
        environment: such as ``production``.
        good: complete it; otherwise go back.
        follows: digest of the statement that the roll-out is of; no other one is ended.
        reason: why, with the figures.
        verb: the command that ends it, which must be allowed.

    Raises:
        RefusedError: this person may not, or its key is not trusted.
        ConflictError: another statement is published by now.
        MlnbError: nothing is rolled out, or something cannot be trusted.
    """
    asked = moves.begin(project, verb, environment, reason)
    state, current = asked.state, asked.current
    said = publish.published(project, environment)
    if said is None or not said.strategy.get("from") or asked.follows != follows:
        raise ConflictError(
            f"that roll-out in {environment} is over",
            where=publish.file_of(environment),
            remedy=f"`mlnb history --to {environment}` tells who decided what.",
        )
    number = said.version if good else said.previous
    if number is None:
        raise PromotionError(f"nothing was in {environment} before version {current}")
    found = state.version(number)
    if not good and found.bundle != said.strategy["from"]:
        raise PromotionError(
            f"version {number} is not the bundle that answers beside the candidate",
            where=publish.file_of(environment),
        )
    bundle = open_store(project).get(found.bundle)
    rows = [e for e in state.journal() if e.kind in publish.MOVES and e.alias == environment]
    verdict = next(e.verdict for e in reversed(rows) if e.version == number)
    entry = moves.move(
        asked,
        "promote" if good else "rollback",
        Draft(found, bundle, verdict, found.candidate, found.commit),
        approvers=said.approvers if good else (),
        previous=said.previous if good else None,
        again=good,
    )
    return _decided(asked, entry)


def approve(project: Project, version: int, environment: str, *, reason: str) -> Entry:
    """Write down that whoever asks wants ``version`` in ``environment``; again changes nothing.

    Raises:
        RefusedError: this person may not.
        MlnbError: no such version or environment.
    """
    person, _ = allowed.allowed(project, "approve", environment, reason)
    state = open_state(locate(project))
    mending.mend(project, state)
    head = state.head()
    entry = state.approve(version, environment, who=person.name, reason=reason)
    if head is None or entry.number > head.number:
        with room("the approval is written down, but nobody is told of it"):
            publish.tell(project, entry)
        after.begin(project)
    return entry


def _decided(asked: Asked, entry: Entry) -> Change:
    """Publish what was decided, and return it."""
    notes = (*asked.notes, *moves.done(asked.project, asked.state, entry))
    return Change(entry.alias, entry.version, asked.current, entry.bundle, notes, entry)


def _is_revoked(project: Project, environment: str) -> bool:
    """Whether what runs must be signed anew, since the key that signed it was revoked."""
    try:
        publish.published(project, environment)
    except trust.RevokedError:
        return True
    return False


def _planned(asked: Asked, facts: Candidate, known: Version | None) -> Iterator[str]:
    """Yield what a promotion would change."""
    environment, person, state = asked.environment, asked.person, asked.state
    new = known.number if known else (max((v.number for v in state.versions()), default=0) + 1)
    yield f"{environment} would go from {moves.said(asked.current)} to version {new}"
    yield f"  bundle     {facts.bundle.digest}"
    yield f"  candidate  {facts.candidate}, commit {facts.commit[:12] or 'none'}"
    for verdict in dict.fromkeys(ruling.verdict for ruling in facts.judgement.rulings):
        found = [ruling.id for ruling in facts.judgement.rulings if ruling.verdict == verdict]
        warns = "" if verdict == "pass" else " (warns only)"
        yield f"  gates      {verdict}: {', '.join(found)}{warns}"
    agree = [person.name]
    if known:
        agree += allowed.approvers(asked.project, state, known.number, environment, person)
    yield f"  people     {', '.join(agree)} of {asked.demands.persons} that it takes"
    yield f"  target     {publish.file_of(environment)}"
