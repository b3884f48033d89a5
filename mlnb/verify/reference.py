"""What the stages are compared with: the workspace, as far as dvc.lock records it."""

from __future__ import annotations

import filecmp
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlnb import files
from mlnb.errors import MlnbError
from mlnb.pipeline import Stage
from mlnb.project import Project

_REPRO = "Run `dvc repro` first."
_REMEDIES = {
    "deleted": "`dvc pull` fetches what was made elsewhere; `dvc repro` makes it.",
    "modified": "`dvc checkout` restores what was recorded; `dvc repro` makes it anew.",
    "new": _REPRO,
}
_HARMLESS = ("always changed", "not in cache")


class CannotVerifyError(MlnbError):
    """There is nothing to compare with."""


def check(project: Project, stages: Sequence[Stage]) -> None:
    """Make sure that the workspace is what dvc.lock records of the stages.

    Raises:
        CannotVerifyError: all that is missing or has changed since the last run.
    """
    status = _status(project)
    errors = [
        CannotVerifyError(what, where=f"stage {stage.name!r}", remedy=remedy)
        for stage in stages
        for what, remedy in _changes(status.get(stage.target, ()))
    ]
    if errors:
        raise CannotVerifyError.join(errors)


def same_bytes(old: Path, new: Path) -> bool:
    """Whether two files, or all files of two folders, are equal byte for byte."""
    if old.is_file() and new.is_file():
        return filecmp.cmp(old, new, shallow=False)
    return old.is_dir() and new.is_dir() and files.digest_tree(old) == files.digest_tree(new)


def _status(project: Project) -> Mapping[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = None
    if done.returncode or not isinstance(found, dict):
        raise CannotVerifyError(
            f"`dvc status` fails: {done.stderr.strip() or done.stdout.strip()}",
            where=str(project.root),
        )
    return found


def _changes(entries: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Yield (what, remedy) for each entry of a stage in ``dvc status --json``."""
    for entry in entries:
        if isinstance(entry, str):
            if entry not in _HARMLESS:
                yield f"{entry} since its last run", _REPRO
            continue
        for kind, paths in entry.items():
            for path, state in paths.items():
                if state in _HARMLESS:
                    continue
                if kind == "changed outs":
                    yield f"output {path} is {state}", _REMEDIES.get(state, _REPRO)
                else:
                    yield f"{path} has changed since its last run", _REPRO
