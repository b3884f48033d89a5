"""Publishing: the signed statement becomes ``deployments/ENV.json``, and others are told.

The statement is kept in ``.mlnb/statements`` before the state changes, named by its digest, and the
row of the journal names that digest. So after a kill between the two, the next command finds what
is to be published, and needs no key for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlnb import events, files, trust
from mlnb.errors import MlnbError
from mlnb.project import Project
from mlnb.promotion import git
from mlnb.state import Entry, records
from mlnb.trust import Statement

if TYPE_CHECKING:
    from mlnb.state.store import State

MOVES = records.MOVES
_TAGS = {"": None, "plain": False, "signed": True}


def file_of(environment: str) -> str:
    """Return the file that says what is to run in ``environment``, relative to the root."""
    return f"deployments/{environment}.json"


def keys(project: Project) -> dict[str, trust.PublicKey]:
    """Return the public keys of the project, by id."""
    return trust.trusted(project.home / "deployments" / "keys")


def published(project: Project, environment: str) -> Statement | None:
    """Return the statement that lies where it belongs, verified; None if that says nothing runs.

    Raises:
        TrustError: there is none, or it cannot be trusted.
    """
    name = file_of(environment)
    return trust.read_published(project.home / name, keys(project), where=name)


def seen(project: Project, state: State, environment: str) -> Statement | None:
    """Return what is published; also if its key was revoked, where our journal names these bytes.

    Nothing is loaded by it then, but a new statement can follow it.

    Raises:
        TrustError: there is none, or it cannot be trusted.
    """
    try:
        return published(project, environment)
    except trust.RevokedError as error:
        entry = last_moves(state).get(environment)
        if entry and is_published(project, entry):
            return error.statement
        raise


def digest(project: Project, environment: str) -> str:
    """Return the digest of the file that is published; empty if there is none."""
    path = project.home / file_of(environment)
    return f"sha256:{files.digest_file(path)}" if path.is_file() else ""


def counter(project: Project, environment: str) -> int:
    """Return the counter of what is published; 0 where nothing is.

    Raises:
        TrustError: it cannot be trusted.
    """
    found = None
    if (project.home / file_of(environment)).exists():
        found = published(project, environment)
    return found.counter if found else 0


def keep(project: Project, envelope: bytes) -> str:
    """Keep a signed statement until it is published; return its digest."""
    digest = f"sha256:{files.digest_bytes(envelope)}"
    files.write_bytes(kept(project, digest), envelope)
    return digest


def forget(project: Project, digest: str) -> None:
    """Throw a statement away that came to nothing."""
    kept(project, digest).unlink(missing_ok=True)


def is_published(project: Project, entry: Entry) -> bool:
    """Whether the statement of a move lies where it belongs."""
    path = project.home / file_of(entry.alias)
    return path.is_file() and digest(project, entry.alias) == entry.statement


def is_due(project: Project, entry: Entry) -> bool:
    """Whether the statement of a move is here, and is to be published.

    Never in the place of one that is as new: then it is the journal that lost something.
    """
    if is_published(project, entry):
        return False
    try:
        envelope = kept(project, entry.statement).read_bytes()
        mine = trust.verify(envelope, keys(project), environment=entry.alias)
    except (OSError, MlnbError):
        return False
    try:
        return counter(project, entry.alias) < mine.counter
    except MlnbError:
        return True  # what lies there is none that anybody could trust


def last_moves(state: State) -> dict[str, Entry]:
    """Return the last move of each alias."""
    return {entry.alias: entry for entry in state.journal() if entry.kind in MOVES}


def publish(project: Project, state: State, entry: Entry) -> Iterator[str]:
    """Publish the move ``entry``, unless a newer one is; yield what a person should know.

    Others are told first: should this be killed, the statement is still to be published then, and
    all of it is done again.

    Raises:
        OSError: the file cannot be written.
    """
    tell(project, entry)
    with _alone(project):
        if last_moves(state)[entry.alias] != entry or not is_due(project, entry):
            return
        name = file_of(entry.alias)
        files.write_bytes(project.home / name, kept(project, entry.statement).read_bytes())
        done = {"promote": "Promote", "rollback": "Roll back to"}.get(entry.kind, "Publish again")
        message = f"{done} version {entry.version} in {entry.alias}\n\n{entry.reason}\n"
        if why := git.commit(project.home, name, message):
            yield f"{name} is not committed: {why}; commit it yourself"
        yield from _tagged(project, state, entry, message)


def signed_tags(project: Project) -> bool | None:
    """Return whether git is to sign the tags that it gets; None if it gets none.

    Raises:
        MlnbError: the setting says something else.
    """
    wanted = project.settings.release_tags
    if wanted not in _TAGS:
        raise MlnbError(
            f"release-tags is {wanted!r}; it may be {' or '.join(filter(None, _TAGS))}",
            where="[tool.mlnb] in pyproject.toml",
        )
    return _TAGS[wanted]


def _tagged(project: Project, state: State, entry: Entry, message: str) -> Iterator[str]:
    """Tag the commit of the version as GTO does, if the project wants that: NAME@v4.0.0 for the
    version, NAME#production#7 for the move; yield what a person should know.
    """
    signed = signed_tags(project)
    commit = state.version(entry.version).commit
    if signed is None or not commit:
        return
    artifact = re.sub(
        r"[^a-z0-9-]+", "-", (project.settings.experiment or project.home.name).lower()
    )
    numbers = [name.rpartition("#")[2] for name in git.tags(project.home, f"{artifact}#*")]
    number = max((int(each) for each in numbers if each.isdecimal()), default=0) + 1
    for name in (f"{artifact}@v{entry.version}.0.0", f"{artifact}#{entry.alias}#{number}"):
        if why := git.tag(project.home, name, commit, message, signed=signed):
            yield f"no tag {name}: {why}"


def tell(project: Project, entry: Entry) -> None:
    """Put a change into the outbox of the hooks."""
    told = events.Event(
        id=entry.hash,
        number=entry.number,
        kind=entry.kind,
        project=project.settings.experiment or project.home.name,
        environment=entry.alias,
        version=entry.version,
        previous=entry.previous,
        bundle=entry.bundle,
        who=entry.who,
        reason=entry.reason,
        verdict=entry.verdict,
        at=entry.at,
    )
    events.post(outbox(project), events.hooks(project), told)


def outbox(project: Project) -> Path:
    """Return the folder of events that are still to be told."""
    return project.state / "outbox"


def kept(project: Project, digest: str) -> Path:
    """Return where a statement is kept that was signed on this machine."""
    return project.state / "statements" / f"{digest.removeprefix('sha256:')}.json"


@contextlib.contextmanager
def _alone(project: Project) -> Iterator[None]:
    """Let no older statement overtake a newer one."""
    project.state.mkdir(parents=True, exist_ok=True)
    with (project.state / "publish.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
