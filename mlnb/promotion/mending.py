"""What every command does first: publish what a kill left undone, adopt what came from elsewhere.

Machines that have a state each meet in git. Who pushes first has decided; the others pull, and
their journals take over what was published, a row for each signed statement. Its version, bundle
and person are those that the statement names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlnb import files, trust
from mlnb.errors import MlnbError
from mlnb.project import Project
from mlnb.promotion import git, publish
from mlnb.state import StateError, locate
from mlnb.trust import Statement

if TYPE_CHECKING:
    from mlnb.state.store import State


def mend(project: Project, state: State) -> list[str]:
    """Publish what a killed command did not, adopt what another state published, and return what a
    person should know.
    """
    notes = []
    for entry in publish.last_moves(state).values():
        if publish.is_due(project, entry):
            name = publish.file_of(entry.alias)
            notes += [f"repaired: {name} names version {entry.version} now"]
            notes += publish.publish(project, state, entry)
    if isinstance(locate(project), Path):  # a state that all share has all moves
        for path in sorted((project.home / "deployments").glob("*.json")):
            notes += _adopted(project, state, path.stem)
    return notes


def _adopted(project: Project, state: State, environment: str) -> Iterator[str]:
    """Adopt what was published of an environment elsewhere; yield what a person should know.

    Nothing is adopted that this state once knew: then it is the journal that lost something.
    """
    move = publish.last_moves(state).get(environment)
    if move and publish.is_published(project, move):
        return
    try:
        if publish.published(project, environment) is None:
            return
    except MlnbError:
        return  # another file, or one that nobody should trust
    rows = state.journal()
    known = {row.statement for row in rows}
    own = {(row.number, row.hash) for row in rows}
    lineage = {digest: (said, data) for digest, said, data in _lineage(project, environment)}
    counter = 0
    if move:
        with contextlib.suppress(OSError, MlnbError):
            data = publish.kept(project, move.statement).read_bytes()
            lineage[move.statement] = _read(project, environment, data), data
        if move.statement not in lineage:
            return
        counter = lineage[move.statement][0].counter
    new = [
        (said, digest, data)
        for digest, (said, data) in lineage.items()
        if digest not in known and said.counter >= counter
    ]
    if any(said.head in own or publish.kept(project, digest).exists() for said, digest, _ in new):
        return
    current = move.version if move else None
    for said, digest, data in sorted(new, key=lambda each: each[0].counter):
        try:
            state.adopt(
                environment, said.version, expected=current, bundle=said.bundle,
                candidate=said.candidate, commit=said.commit, verdict=said.verdict,
                statement=digest, who=said.by, reason=said.reason,
            )  # fmt: skip
        except StateError as error:
            yield f"{publish.file_of(environment)} is not adopted: {error}"
            return
        publish.keep(project, data)
        current = said.version
        yield f"adopted: {said.by} made version {current} what {environment} runs, elsewhere"


def _lineage(project: Project, environment: str) -> Iterator[tuple[str, Statement, bytes]]:
    """Yield each statement that led to the one that is published here, with digest and bytes.

    Of a merge git follows the side whose file was taken: what lost there is not among them.
    """
    name = publish.file_of(environment)
    now = (project.home / name).read_bytes()
    for data in (now, *git.versions(project.home, name, everywhere=False)):
        with contextlib.suppress(MlnbError):
            yield f"sha256:{files.digest_bytes(data)}", _read(project, environment, data), data


def _read(project: Project, environment: str, data: bytes) -> Statement:
    return trust.verify(data, publish.keys(project), environment=environment)
