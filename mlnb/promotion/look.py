"""Looking back: what is where, what was when, and whether the record can be believed."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterator
from pathlib import Path

from mlnb import people, trust
from mlnb.bundle import open_bundle
from mlnb.errors import MlnbError
from mlnb.files import digest_bytes
from mlnb.project import Project
from mlnb.promotion import git, mending, publish
from mlnb.promotion.errors import PromotionError
from mlnb.state import Entry, Fault, Report, Version, locate, open_state
from mlnb.store import open_store
from mlnb.trust import Statement, TrustError


def models(project: Project) -> tuple[list[Version], dict[str, int]]:
    """Return the registered versions, and where each alias is.

    Raises:
        MlnbError: this person may not look, or the state cannot be used.
    """
    people.admit(project, "models")
    state = open_state(locate(project))
    mending.mend(project, state)
    return state.versions(), state.aliases()


def history(project: Project, *, environment: str = "") -> list[Entry]:
    """Return the journal, the oldest first; of one environment, its moves and approvals.

    Raises:
        MlnbError: this person may not look, no such environment, or the state cannot be used.
    """
    people.admit(project, "history")
    if environment:
        people.policy(project, environment)
    state = open_state(locate(project))
    mending.mend(project, state)
    return [entry for entry in state.journal() if environment in ("", entry.alias)]


def at(project: Project, moment: str, *, environment: str = "") -> dict[str, Entry | None]:
    """Return the move by which each environment had its version at a moment.

    Args:
        project: whose.
        moment: ISO 8601; a date alone means its end, a time without its zone that of this machine.
        environment: only this one.

    Raises:
        PromotionError: no moment.
        MlnbError: as :func:`history`.
    """
    try:
        asked = datetime.datetime.fromisoformat(moment)
        if len(moment) <= len("2026-11-01"):
            asked = datetime.datetime.combine(asked.date(), datetime.time.max)
    except ValueError as error:
        raise PromotionError(
            f"{moment!r} is no date", remedy="Write it as 2026-11-01, or 2026-11-01T09:30."
        ) from error
    asked = asked.astimezone(datetime.UTC)
    moves = [e for e in history(project, environment=environment) if e.kind in publish.MOVES]
    found: dict[str, Entry | None] = dict.fromkeys(sorted({e.alias for e in moves}))
    for entry in moves:
        if datetime.datetime.fromisoformat(_moved_at(project, entry)) <= asked:
            found[entry.alias] = entry
    return found


def _moved_at(project: Project, entry: Entry) -> str:
    """Return when an environment was moved; of a move that was adopted, its statement says it."""
    if entry.kind == "adopt":
        with contextlib.suppress(MlnbError, OSError):
            data = publish.kept(project, entry.statement).read_bytes()
            return trust.verify(data, publish.keys(project), environment=entry.alias).at
    return entry.at


def audit(project: Project) -> Report:
    """Verify the journal against itself and against every signed statement that there is.

    Each row's hash is computed again. What is published, in the working tree and in git's history,
    is an anchor: a signature on a row's hash, which nobody who can write the journal can forge.

    Raises:
        MlnbError: this person may not look, or the state cannot be used.
    """
    people.admit(project, "audit")
    state = open_state(locate(project))
    mending.mend(project, state)
    rows = state.journal()
    public = dict(_statements(project, rows))
    signed = {**dict(_kept(project, rows)), **public}
    # What a statement from elsewhere was published with is a row of another journal.
    adopted = {row.statement for row in rows if row.kind == "adopt"}
    own = [said for digest, said in signed.items() if digest not in adopted]
    found = state.verify([said.head for said in own if said.head])
    faults = [*found.faults, *_unsigned(rows, signed), *_unknown(rows, signed, public)]
    return Report(found.rows, found.head, found.aliases, len(signed), tuple(faults))


def verify_bundle(project: Project, what: str) -> tuple[str, list[tuple[Statement, str]]]:
    """Verify every byte of a bundle; return its digest, and the statements that name it.

    Args:
        project: whose keys count.
        what: a folder, or the digest of a bundle in the store.

    Returns:
        The digest, and each published statement on it with the file that it is in.

    Raises:
        TrustError: no published statement names it.
        MlnbError: it is not what it says.
    """
    folder = Path(what)
    named = what if what.startswith("sha256:") else f"sha256:{what}"
    if folder.is_dir():
        bundle = open_bundle(folder, allow_marks=True)
    else:
        bundle = open_store(project).get(named, allow_marks=True)
    found = []
    for path in _published(project):
        name = project.relative(path)
        statement = trust.read_published(path, publish.keys(project), where=name)
        if statement and statement.bundle == bundle.digest:
            found.append((statement, name))
    if not found:
        raise NamedByNobodyError(
            f"every byte is what the manifest of {bundle.digest} says, but no statement that is"
            " published here names it",
            where=what,
        )
    return bundle.digest, found


class NamedByNobodyError(TrustError):
    """A bundle that is sound, and that nobody signed for."""

    exit_code = 1


def _statements(project: Project, rows: list[Entry]) -> Iterator[tuple[str, Statement]]:
    """Yield each statement that is published, or was in some commit, by its digest."""
    known = publish.keys(project)
    names = {publish.file_of(row.alias) for row in rows if row.alias}
    names |= {f"deployments/{path.name}" for path in _published(project)}
    for name in sorted(names):
        path = project.root / name
        now = [path.read_bytes()] if path.exists() else []
        for data in [*now, *git.versions(project.root, name)]:
            with contextlib.suppress(MlnbError):
                yield _digest(data), trust.verify(data, known, environment=path.stem)


def _kept(project: Project, rows: list[Entry]) -> Iterator[tuple[str, Statement]]:
    """Yield each statement of a move that was signed on this machine, committed or not."""
    known = publish.keys(project)
    for row in rows:
        if row.kind in publish.MOVES:
            with contextlib.suppress(MlnbError, OSError):
                data = publish.kept(project, row.statement).read_bytes()
                yield _digest(data), trust.verify(data, known, environment=row.alias)


def _digest(data: bytes) -> str:
    return f"sha256:{digest_bytes(data)}"


def _unsigned(rows: list[Entry], signed: dict[str, Statement]) -> Iterator[Fault]:
    """Yield moves that no trusted statement says, and those that it says otherwise."""
    for row in rows:
        if row.kind not in publish.MOVES:
            continue
        said = signed.get(row.statement)
        if said is None:
            yield Fault(row.number, f"moves {row.alias}, and no signed statement says so")
        elif (said.version, said.bundle, said.by, said.reason, said.verdict) != (
            row.version,
            row.bundle,
            row.who,
            row.reason,
            row.verdict,
        ):
            yield Fault(row.number, "says something else than its signed statement")


def _unknown(
    rows: list[Entry], signed: dict[str, Statement], public: dict[str, Statement]
) -> Iterator[Fault]:
    """Yield statements of moves that the journal does not have: its end was cut off.

    Not those from before a state that only adopts came to know the environment, and not those that
    lost against one from elsewhere: of their counter it has another.
    """
    known = {row.statement for row in rows}
    counters: dict[str, set[int]] = {}
    for row in rows:
        if said := signed.get(row.statement):
            counters.setdefault(row.alias, set()).add(said.counter)
    adopting = {row.alias for row in rows if row.kind == "adopt"}
    for digest, said in public.items():
        if digest not in known and not (
            said.environment in adopting
            and (
                said.counter in counters[said.environment]
                or said.counter < min(counters[said.environment])
            )
        ):
            number = said.head[0] + 1 if said.head else 1
            yield Fault(
                number,
                f"is missing: {said.by} signed version {said.version} for {said.environment}",
            )


def _published(project: Project) -> Iterator[Path]:
    """Yield the files in deployments/ that say what an environment runs, or that it runs nothing.

    Other files lie there, too; one that is damaged counts, so that it is seen.
    """
    for path in sorted((project.root / "deployments").glob("*.json")):
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError):
            content = {"payload": None}
        if isinstance(content, dict) and ("payload" in content or path.stem in content):
            yield path
