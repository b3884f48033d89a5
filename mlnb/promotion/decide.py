"""The three decisions: promote, roll back, approve.

Each is judged, allowed, signed and written down before anything is published, and the write is one
row of the journal, taken only if the alias is still where it was when it was decided.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlnb import events, files, gate, people, pipeline, tracking, trust
from mlnb.bundle import Bundle, open_bundle
from mlnb.bundle.manifest import canonical
from mlnb.errors import MlnbError
from mlnb.gates import Judgement, verdicts
from mlnb.people import Person, Policy
from mlnb.people.roles import OWNER, listed, rank
from mlnb.project import Project
from mlnb.promotion import after, git, publish, rollouts
from mlnb.state import ConflictError, Entry, Version, locate, open_state
from mlnb.state.records import Move
from mlnb.store import open_store
from mlnb.trust.keys import keyid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from mlnb.state.store import State


class PromotionError(MlnbError):
    """A decision that cannot be taken."""


class BlockedError(PromotionError):
    """A candidate that must not be promoted, or not yet."""

    exit_code = 1


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
    person, demands = _allowed(project, "promote", environment, reason)
    publish.signed_tags(project)  # a wrong setting is told before anything is done
    signer = _signer(project, person)
    state = open_state(locate(project))
    notes = [] if dry_run else publish.mend(project, state)
    current = _agreed(project, state, environment)
    plan = rollouts.planned(project, environment, strategy)
    facts = _candidate(project, write=not dry_run)
    known = next((v for v in state.versions() if v.bundle == facts.bundle.digest), None)
    _is_meant(what, facts, known)
    if known and known.number == current:
        words = (*notes, f"version {current} is in {environment} already")
        return Change(environment, current, current, known.bundle, words)
    if known and current and known.number < current:
        raise PromotionError(
            f"version {known.number} is older than {current}, which {environment} runs",
            remedy=f"To go back: `mlnb rollback --to {environment} {known.number}`.",
        )
    if dry_run:
        words = tuple(_planned(project, state, facts, known, current, demands, person))
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
    approvers = _approvers(project, state, version.number, environment, person)
    _enough(version.number, environment, demands, person, approvers)
    draft = _Draft(version, facts.bundle, facts.verdict, facts.candidate, facts.commit)
    entry = _move(
        project, state, "promote", environment, draft, current, signer, person, reason, approvers,
        strategy=rollouts.beside(project, state, plan, environment) if current else {},
    )  # fmt: skip
    notes += _done(project, state, entry)
    return Change(environment, version.number, current, version.bundle, tuple(notes), entry)


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
    person, _ = _allowed(project, "rollback", environment, reason)
    publish.signed_tags(project)
    signer = _signer(project, person)
    state = open_state(locate(project))
    notes = publish.mend(project, state)
    current = _agreed(project, state, environment)
    promoted = [e for e in state.journal() if e.kind == "promote" and e.alias == environment]
    if current is None or not promoted:
        raise PromotionError(f"nothing is in {environment}, so there is nothing to go back from")
    if version is None:
        # Completing a roll-out promotes a version where it is already.
        moves = (e for e in reversed(promoted) if e.version == current != e.previous)
        version = next((e.previous for e in moves), None)
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
    draft = _Draft(found, bundle, row.verdict, found.candidate, found.commit)
    entry = _move(
        project, state, "rollback", environment, draft, current, signer, person, reason, ()
    )
    notes += _done(project, state, entry)
    return Change(environment, version, current, found.bundle, tuple(notes), entry)


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
    person, _ = _allowed(project, verb, environment, reason)
    publish.signed_tags(project)
    signer = _signer(project, person)
    state = open_state(locate(project))
    notes = publish.mend(project, state)
    current = _agreed(project, state, environment)
    said = publish.published(project, environment)
    if (
        said is None
        or not said.strategy.get("from")
        or publish.digest(project, environment) != follows
    ):
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
    draft = _Draft(found, bundle, verdict, found.candidate, found.commit)
    entry = _move(
        project, state, "promote" if good else "rollback", environment, draft, current, signer,
        person, reason, said.approvers if good else (),
        previous=said.previous if good else None, follows=follows,
    )  # fmt: skip
    notes += _done(project, state, entry)
    return Change(environment, number, current, found.bundle, tuple(notes), entry)


def approve(project: Project, version: int, environment: str, *, reason: str) -> Entry:
    """Write down that whoever asks wants ``version`` in ``environment``; again changes nothing.

    Raises:
        RefusedError: this person may not.
        MlnbError: no such version or environment.
    """
    person, _ = _allowed(project, "approve", environment, reason)
    state = open_state(locate(project))
    publish.mend(project, state)
    head = state.head()
    entry = state.approve(version, environment, who=person.name, reason=reason)
    if head is None or entry.number > head.number:
        with _room("the approval is written down, but nobody is told of it"):
            publish.tell(project, entry)
        after.begin(project)
    return entry


# --- What is decided on ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Candidate:
    """What lies in the project: the bundle, what it is judged, and where it comes from."""

    bundle: Bundle
    judgement: Judgement
    candidate: str
    commit: str

    @property
    def verdict(self) -> str:
        return f"sha256:{files.digest_bytes(verdicts.to_text(self.judgement).encode())}"


@dataclass(frozen=True)
class _Draft:
    """What a statement says of a version."""

    version: Version
    bundle: Bundle
    verdict: str
    candidate: str
    commit: str


def _allowed(project: Project, verb: str, environment: str, reason: str) -> tuple[Person, Policy]:
    """Return who asks and what the environment demands; refuse what is wrong before all else."""
    demands = people.policy(project, environment)
    person = people.admit(project, verb, environment)
    events.hooks(project)
    if not reason.strip():
        raise PromotionError("a decision needs a reason", remedy='Give it: --reason "…"')
    if project.root != project.home:
        raise PromotionError("this is a copy of the project", where=str(project.root))
    return person, demands


def _signer(project: Project, person: Person) -> Ed25519PrivateKey:
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


def _agreed(project: Project, state: State, environment: str) -> int | None:
    """Return the version that the environment is at, if what is published here says so, too.

    Raises:
        PromotionError: another one is published.
        TrustError: what is published cannot be trusted.
    """
    current = state.aliases().get(environment)
    said = None
    if current is not None or (project.root / publish.file_of(environment)).exists():
        found = publish.seen(project, state, environment)
        said = found.version if found else None
    if said != current:
        raise PromotionError(
            f"names {_at(said)}, but the state has {_at(current)}",
            where=publish.file_of(environment),
            remedy="`git pull` the statement, or share the state: `state` in [tool.mlnb]."
            " `mlnb doctor` tells more.",
        )
    return current


def _is_revoked(project: Project, environment: str) -> bool:
    """Whether what runs must be signed anew, since the key that signed it was revoked."""
    try:
        publish.published(project, environment)
    except trust.RevokedError:
        return True
    return False


def _candidate(project: Project, *, write: bool) -> _Candidate:
    """Judge what lies in the project now, and return it if it passes.

    Raises:
        BlockedError: it does not; each rule that it does not pass is named.
        PromotionError: the commit does not tell what it was made of.
    """
    line = pipeline.load(project)
    found = tracking.candidate(line)
    dirty = [
        name
        for name in git.changed(project.root)
        if not name.startswith("deployments/") and not any(s.writes(name) for s in line.stages)
    ]
    if dirty:
        raise PromotionError(
            f"the commit does not hold what is here: {', '.join(dirty)}",
            where=str(project.root),
            remedy="Commit it, so that the version can be made again.",
        )
    with _room("the verdict cannot be written"):
        judgement = gate.gate(project) if write else gate.check(project)
    if judgement.verdict != "pass":
        raise BlockedError("\n".join(_why(judgement)), remedy="`mlnb gate explain RULE` says why.")
    name = gate.gates(project).bundle
    bundle = open_bundle(project.root / name)
    if judgement.inputs.get(name) != bundle.digest:
        raise PromotionError("changed while it was judged", where=name, remedy="Try again.")
    return _Candidate(bundle, judgement, found.digest, git.head(project.root))


def _why(judgement: Judgement) -> Iterator[str]:
    """Yield what keeps a candidate back: each rule that it does not pass, with its figures."""
    yield {"blocked": "the candidate is blocked", "error": "the candidate cannot be judged"}[
        judgement.verdict
    ]
    for finding in judgement.integrity:
        if finding.verdict != "pass":
            yield f"  {finding.verdict}  {finding.subject}: {finding.words}"
    for ruling in judgement.rulings:
        if ruling.verdict == "error" or (ruling.blocks and ruling.verdict != "pass"):
            yield f"  {ruling.verdict}  {ruling.id}: {ruling.asks}"
            for finding in ruling.findings:
                if finding.verdict != "pass":
                    yield f"      {finding.subject}: {finding.words}"


def _is_meant(what: str, facts: _Candidate, known: Version | None) -> None:
    """Refuse if the candidate here is another than ``what``."""
    number = known.number if known else None
    digest = facts.bundle.digest.removeprefix("sha256:")
    if what.isdecimal() and len(what) < 8:
        fits = number == int(what)
    else:
        sought = what.removeprefix("sha256:")
        fits = not what or (
            len(sought) >= 7 and any(d.startswith(sought) for d in (digest, facts.candidate))
        )
    if not fits:
        raise PromotionError(
            f"{what} is not what lies here: that is {f'version {number}' if number else 'new'},"
            f" candidate {facts.candidate[:12]}, bundle {digest[:12]}",
            remedy="`mlnb models` has the commit of each version: `git checkout` it, `dvc checkout`"
            " its files, then promote.",
        )


# --- Approvals ---------------------------------------------------------------------------------


def _approvers(
    project: Project, state: State, version: int, environment: str, person: Person
) -> tuple[str, ...]:
    """Return who else approved, and may still do so."""
    may = {each.name for each in listed(project) if rank(each.role) >= rank(OWNER)}
    given = [entry.who for entry in state.approvals(version, environment)]
    return tuple(sorted({who for who in given if who != person.name and who in may}))


def _enough(
    version: int, environment: str, demands: Policy, person: Person, approvers: tuple[str, ...]
) -> None:
    missing = demands.persons - 1 - len(approvers)
    if missing > 0:
        raise BlockedError(
            f"version {version} passes its gates, but {environment} takes {demands.persons} people:"
            f" {', '.join((person.name, *approvers))} agree, {missing} more must",
            remedy=f"Another approver: `mlnb approve {version} --to {environment}`. Then promote"
            " again.",
        )


# --- Doing it ----------------------------------------------------------------------------------


def _move(
    project: Project,
    state: State,
    kind: Move,
    environment: str,
    draft: _Draft,
    current: int | None,
    signer: Ed25519PrivateKey,
    person: Person,
    reason: str,
    approvers: tuple[str, ...],
    *,
    strategy: Mapping[str, Any] | None = None,
    previous: int | None = None,
    follows: str = "",
) -> Entry:
    """Sign, keep what was signed, and move the alias; return the row.

    ``follows`` is the statement that this one ends, if it ends a roll-out.
    """
    head = state.head()
    known = current is not None or (project.home / publish.file_of(environment)).exists()
    seen = publish.seen(project, state, environment) if known else None
    told = draft.bundle.manifest
    statement = trust.Statement(
        environment=environment,
        version=draft.version.number,
        counter=(seen.counter if seen else 0) + 1,
        bundle=draft.bundle.digest,
        candidate=draft.candidate,
        commit=draft.commit,
        data=f"sha256:{told.data.sha256.removeprefix('sha256:')}",
        parameters=f"sha256:{files.digest_bytes(canonical(dict(told.parameters)))}",
        verdict=draft.verdict,
        by=person.name,
        reason=reason,
        at=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        approvers=approvers,
        previous=current if previous is None else previous,
        strategy=strategy or {},
        rollback=kind == "rollback",
        head=(head.number, head.hash) if head else None,
    )
    with _room("the statement cannot be kept"):
        digest = publish.keep(project, trust.sign(statement, signer))
    try:
        return state.move(
            environment,
            draft.version.number,
            expected=current,
            kind=kind,
            who=person.name,
            reason=reason,
            verdict=draft.verdict,
            statement=digest,
            follows=follows,
        )
    except ConflictError:
        # After another error it may be needed: a disk can fail when the row is already written.
        publish.forget(project, digest)
        raise


def _done(project: Project, state: State, entry: Entry) -> Iterator[str]:
    """Publish a move that is decided; what fails from here on is told, and mended later."""
    with _room(f"version {entry.version} is in {entry.alias}, but that is not published"):
        yield from publish.publish(project, state, entry)
    after.begin(project)


@contextlib.contextmanager
def _room(what: str) -> Iterator[None]:
    """Say as one of our errors that the disk is full, or takes no file."""
    try:
        yield
    except OSError as error:
        failed = PromotionError(
            f"{what}: {error.strerror or error}",
            where=str(error.filename or ""),
            remedy="Make room, then `mlnb doctor` finishes what was begun.",
        )
        failed.exit_code = 1
        raise failed from error


def _planned(
    project: Project,
    state: State,
    facts: _Candidate,
    known: Version | None,
    current: int | None,
    demands: Policy,
    person: Person,
) -> Iterator[str]:
    """Yield what a promotion would change."""
    environment = demands.environment
    new = known.number if known else (max((v.number for v in state.versions()), default=0) + 1)
    yield f"{environment} would go from {_at(current)} to version {new}"
    yield f"  bundle     {facts.bundle.digest}"
    yield f"  candidate  {facts.candidate}, commit {facts.commit[:12] or 'none'}"
    for verdict in dict.fromkeys(ruling.verdict for ruling in facts.judgement.rulings):
        found = [ruling.id for ruling in facts.judgement.rulings if ruling.verdict == verdict]
        warns = "" if verdict == "pass" else " (warns only)"
        yield f"  gates      {verdict}: {', '.join(found)}{warns}"
    others = _approvers(project, state, known.number, environment, person) if known else ()
    yield f"  people     {', '.join((person.name, *others))} of {demands.persons} that it takes"
    yield f"  target     {publish.file_of(environment)}"


def _at(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"
