"""The doctor: what does not agree with the state, and mending what can be mended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlnb import people
from mlnb.errors import MlnbError
from mlnb.project import Project
from mlnb.promotion import after, mending, publish
from mlnb.promotion.look import audit
from mlnb.state import locate, open_state
from mlnb.store import open_store
from mlnb.tracking import registry


@dataclass(frozen=True)
class Finding:
    """Something that was not as it should be, and whether it is now."""

    what: str
    mended: bool = False


def doctor(project: Project) -> Iterator[Finding]:
    """Look at all that belongs to the state; mend what needs nobody's decision; yield the rest too.

    Raises:
        MlnbError: this person may not, or the state cannot be used.
    """
    people.admit(project, "doctor")
    state = open_state(locate(project))
    for note in mending.mend(project, state):
        yield Finding(note, mended=note.startswith(("repaired", "adopted")))
    for environment, move in publish.last_moves(state).items():
        name = publish.file_of(environment)
        if not publish.is_published(project, move):
            yield Finding(f"{name} {_instead(project, environment)}, not version {move.version}")
    store = open_store(project)
    for version in state.versions():
        if version.number in state.aliases().values():
            try:
                store.get(version.bundle)
            except MlnbError as error:
                yield Finding(f"the bundle of version {version.number}: {error}")
    for fault in audit(project).faults:
        yield Finding(f"row {fault.number} of the journal {fault.what}")
    yield from _mirrored(project)
    for note in after.finish(project, pauses=(0.0,)):
        yield Finding(note)


def _instead(project: Project, environment: str) -> str:
    """Return what an environment's file says."""
    try:
        found = publish.published(project, environment)
    except MlnbError as error:
        return f"cannot be trusted ({error.what})"
    return f"names version {found.version}" if found else "names none"


def _mirrored(project: Project) -> Iterator[Finding]:
    """Yield aliases of MLflow's that somebody moved there; they are put back afterwards."""
    try:
        for alias in registry.mirrored(project):
            if alias.at != alias.put:
                there = f"at version {alias.at}" if alias.at else "gone"
                yield Finding(
                    f"MLflow's alias {alias.name} was moved behind our back: it is {there}, and"
                    f" mlnb put it at version {alias.put}",
                    mended=True,
                )
    except MlnbError as error:
        yield Finding(f"MLflow's registry: {error.what}")
