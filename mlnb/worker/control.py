"""Being a worker, and looking after the workers of a project."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlnb.project import Project
from mlnb.worker import address, client
from mlnb.worker.preload import Preload
from mlnb.worker.server import Server

_LISTENER = 3
_FIRST = ("psutil", "threadpoolctl")
"""What looking after children needs."""


def serve(
    project: Project,
    path: Path,
    *,
    command: Callable[[Sequence[str]], int],
    first: Sequence[str] = (),
    later: Sequence[str] = (),
) -> None:
    """Be the worker of ``project`` at the socket ``path``, which the client has opened.

    Args:
        project: the project.
        path: where the socket lies.
        command: runs the words of a command in a child and returns the exit code.
        first: modules to import before the first command.
        later: modules to import when there is nothing to do.
    """
    listener = socket.socket(fileno=_LISTENER)
    preload = Preload(
        project.root,
        [*(project.root / name for name in project.settings.notebooks), *project.sources],
        first=(*_FIRST, *first),
        chosen=project.settings.preload,
        later=later,
        notes=path.with_suffix(".notes"),
    )
    server = Server(
        listener,
        path,
        project.root,
        command=command,
        preload=preload,
        idle=project.settings.worker_idle,
    )
    server.serve()


def status(project: Project) -> list[dict[str, Any]]:
    """Return what the workers of the project say of themselves; there may be none."""
    return [found for path in _sockets(project) if (found := client.ask(str(path), "status"))]


def stop(project: Project) -> str:
    """End the workers of the project and what runs in them; say in words what was done."""
    pids = [int(found["pid"]) for found in status(project)]
    for path in _sockets(project):
        client.ask(str(path), "stop")
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    return f"stopped {', '.join(map(str, pids))}" if pids else "no worker was running"


def log(project: Project) -> str:
    """Return what the workers of the project have written."""
    logs = sorted(_folder(project).glob("*.log"), key=lambda path: path.stat().st_mtime)
    return "".join(path.read_text("utf-8", errors="replace") for path in logs)


def told(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the status of workers for people."""
    if not found:
        return "no worker is running; the next `mlnb run` starts one"
    lines = []
    for one in found:
        memory = one["memory"]
        lines.append(
            f"worker {one['pid']}: up {_time(one['seconds'])}, {one['served']} commands, "
            f"{_size(memory.get('proportional', 0))} of memory"
        )
        lines += [
            f"  {child['pid']} {' '.join(child['words'])}: {_time(child['seconds'])}, "
            f"{_size(child['memory'].get('private', 0))} of its own"
            for child in one["children"]
        ]
        if not one["children"]:
            left = one["leaves_after"] - one["idle"]
            lines.append(f"  idle; leaves in {_time(left)}" if one["leaves_after"] else "  idle")
        if one["importing"]:
            lines.append("  still importing what notebooks need")
        lines += [f"  without {name}: {why}" for name, why in one["left_out"].items()]
    return "\n".join(lines)


def _folder(project: Project) -> Path:
    return Path(address.folder(str(project.root.resolve())))


def _sockets(project: Project) -> list[Path]:
    return sorted(_folder(project).glob("*.sock"))


def _time(seconds: float) -> str:
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
