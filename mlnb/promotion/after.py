"""What follows a change and holds nobody up: MLflow's mirror, and the hooks.

It runs in a process of its own, which the command does not wait for. What that one does not get
done, the next change or ``mlnb doctor`` does.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlnb import events
from mlnb.errors import MlnbError
from mlnb.events.outbox import PAUSES
from mlnb.project import Project, find
from mlnb.promotion.publish import last_moves, outbox
from mlnb.state import locate, open_state
from mlnb.store import open_store
from mlnb.tracking import registry
from mlnb.tracking.store import exists

if TYPE_CHECKING:
    from mlnb.state.store import State

_DETACHED = '"$0" -P -m mlnb.promotion.after &'


def begin(project: Project) -> None:
    """Start it, if there is something to do, and do not wait."""
    if not exists(project) and not events.waiting(outbox(project)):
        return
    with contextlib.suppress(OSError):
        # The shell ends at once, so that nobody has to look after what it left running.
        subprocess.run(
            ["/bin/sh", "-c", _DETACHED, sys.executable],
            cwd=project.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def finish(project: Project, *, pauses: Sequence[float] = PAUSES) -> Iterator[str]:
    """Do it here, and yield what could not be done."""
    hooks = events.hooks(project)
    for failure in events.deliver(outbox(project), hooks, root=project.home, pauses=pauses):
        yield f"event hook {failure.hook}: {failure.why}; {failure.event.words}"
    try:
        mirror(project, open_state(locate(project)))
    except MlnbError as error:
        yield f"MLflow does not mirror it: {error.what}"


def mirror(project: Project, state: State) -> None:
    """Make MLflow's registry say what the state says.

    Raises:
        TrackingError: MLflow's store cannot be used.
    """
    moves, place = last_moves(state), open_store(project).name
    versions = [
        registry.Mirrored(
            number=version.number,
            source=f"{place}/{version.bundle.removeprefix('sha256:')}",
            candidate=version.candidate,
            tags={
                "mlnb.bundle": version.bundle,
                "mlnb.candidate": version.candidate,
                "mlnb.verdict": version.verdict,
                **{
                    f"mlnb.statement.{alias}": move.statement
                    for alias, move in moves.items()
                    if move.version == version.number
                },
            },
        )
        for version in state.versions()
    ]
    registry.mirror(project, versions, state.aliases())


def main() -> None:
    """Be the process of its own."""
    os.nice(5)
    project = find(Path.cwd())
    for _ in finish(project):
        pass


if __name__ == "__main__":
    main()
