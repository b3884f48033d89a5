"""Where a candidate comes from: commit, person, machine and packages."""

from __future__ import annotations

import functools
import getpass
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlnb.pipeline import Pipeline

_GIT_DEADLINE = 60
_WRITTEN_BY_DVC = ("dvc.lock", ".gitignore")


def origin(pipeline: Pipeline) -> dict[str, str]:
    """Return the tags that tell who logged a run, and of which commit."""
    return {
        "mlflow.user": _user(),
        "mlflow.source.name": "mlnb track",
        "mlflow.source.type": "LOCAL",
        **_commit(pipeline),
    }


@functools.cache
def installed() -> Mapping[str, str]:
    """Return the versions of all installed packages by name; read once."""
    from importlib import metadata

    found = {str(each.name).lower(): each.version for each in metadata.distributions()}
    return dict(sorted(found.items()))


def machine() -> dict[str, Any]:
    """Return what the interpreter and the platform are."""
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "machine": platform.machine(),
    }


def _user() -> str:
    """Return the name of the account; a container may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def _commit(pipeline: Pipeline) -> dict[str, str]:
    """Return tags of the git commit; none where git is absent, refuses, or has no commit yet.

    A working tree is dirty when a tracked file differs from the commit and no stage writes it:
    the outputs of a new candidate always differ, and say nothing about what made them.
    """
    root = pipeline.project.root
    head = _git(root, "rev-parse", "--verify", "HEAD")
    top = _git(root, "rev-parse", "--show-toplevel")
    changed = _git(root, "diff", "--name-only", "--no-renames", "-z", "HEAD")
    if not head or not top or changed is None:
        return {}
    tags = {
        "mlflow.source.git.commit": head,
        "mlnb.git.dirty": str(_is_dirty(pipeline, Path(top), changed.split("\0"))).lower(),
    }
    branch = _git(root, "symbolic-ref", "--short", "-q", "HEAD")
    return tags | ({"mlflow.source.git.branch": branch} if branch else {})


def _is_dirty(pipeline: Pipeline, top: Path, changed: list[str]) -> bool:
    root = os.path.realpath(pipeline.project.root)
    for name in filter(None, changed):
        path = Path(os.path.relpath(top / name, root)).as_posix()
        written = any(stage.writes(path) for stage in pipeline.stages)
        if not written and Path(name).name not in _WRITTEN_BY_DVC:
            return True
    return False


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git says, or None when it fails; it takes no lock that a person could meet."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_DEADLINE,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout).rstrip("\n") if done.returncode == 0 else None
