"""The outbox: what is still to be told, one small file for each event and hook."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlnb.events.hook import Event, EventError, Hook
from mlnb.files import write_json

FORMAT = 1
PAUSES = (0.0, 1.0, 5.0, 25.0)
"""Seconds before each attempt."""


@dataclass(frozen=True)
class Failure:
    """An event that a hook did not take yet, and why."""

    hook: str
    event: Event
    why: str


def post(folder: Path, hooks: Iterable[Hook], event: Event) -> None:
    """Put ``event`` into the outbox for each hook that wants it; again does no harm."""
    for hook in hooks:
        if event.kind in hook.on:
            path = folder / f"{event.number:010d}-{hook.name}.json"
            write_json(path, {"format": FORMAT, "hook": hook.name, "event": asdict(event)})


def deliver(
    folder: Path, hooks: Sequence[Hook], *, root: Path, pauses: Sequence[float] = PAUSES
) -> list[Failure]:
    """Tell what is in the outbox, and return what was not taken and stays there.

    One process at a time does this; another one leaves it to that, and returns what is left.

    Args:
        folder: the outbox.
        hooks: those of the settings; what was meant for others is dropped.
        root: of the project, where commands run.
        pauses: seconds before each attempt.
    """
    known = {hook.name: hook for hook in hooks}
    with _alone(folder) as alone:
        failures = waiting(folder)
        for pause in pauses if alone and failures else ():
            time.sleep(pause)
            # What is put there meanwhile is told as well.
            while not (failures := list(_round(folder, known, root))) and waiting(folder):
                pass
            if not failures:
                break
    return failures


def waiting(folder: Path) -> list[Failure]:
    """Return what is in the outbox."""
    found = (_read(path) for path in sorted(folder.glob("*.json")))
    return [Failure(name, event, "is not told yet") for name, event in filter(None, found)]


def _round(folder: Path, known: dict[str, Hook], root: Path) -> Iterator[Failure]:
    """Try each event once; a hook that fails gets no later event before that one."""
    failed: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        found = _read(path)
        hook = known.get(found[0]) if found else None
        if found is None or hook is None:
            path.unlink(missing_ok=True)
            continue
        name, event = found
        if name not in failed:
            try:
                hook.tell(event, root=root)
            except EventError as error:
                failed[name] = error.what
            else:
                path.unlink(missing_ok=True)
                continue
        yield Failure(name, event, failed[name])


def _read(path: Path) -> tuple[str, Event] | None:
    """Return the hook and the event of a file; None if it is of another format, or gone."""
    try:
        content = json.loads(path.read_bytes())
        if content["format"] == FORMAT:
            return str(content["hook"]), Event(**content["event"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Yield whether nobody else delivers now."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
