"""What goes into the run of a candidate besides numbers: files, and how each stage was executed."""

from __future__ import annotations

import datetime
import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb import files
from mlnb.project import Project
from mlnb.tracking.candidates import StageState
from mlnb.tracking.evidence import verify

if TYPE_CHECKING:
    from mlnb.pipeline import Pipeline, Stage

_IMAGES = (".png", ".jpg", ".jpeg", ".svg", ".gif", ".webp")
_RECORD_FORMAT = 1


@dataclass(frozen=True)
class Enclosure:
    """A file or folder to keep with a run, and its folder there; empty for the top."""

    source: Path
    folder: str = ""


@dataclass(frozen=True)
class Part:
    """One stage of a candidate.

    Attributes:
        stage: as dvc.yaml has it.
        state: as dvc.lock has it.
        copy: the executed notebook, if there is one.
        record: what ``mlnb run`` noted of the execution; empty if nothing is known of it.
    """

    stage: Stage
    state: StageState
    copy: Path | None
    record: Mapping[str, Any]

    @property
    def execution(self) -> str:
        """What tells this execution from others; empty if unknown."""
        return str(self.record.get("execution", ""))

    @property
    def times(self) -> tuple[int | None, int | None]:
        """Start and end in milliseconds, as MLflow counts; None for now."""
        if not self.record:
            return None, None
        start = int(datetime.datetime.fromisoformat(self.record["started"]).timestamp() * 1000)
        return start, start + int(self.record["seconds"] * 1000)

    def notebook(self) -> Iterator[Enclosure]:
        """Yield the executed notebook, if there is one."""
        if self.copy:
            yield Enclosure(self.copy, posixpath.dirname(f"notebooks/{self.state.name}"))


def part(project: Project, stage: Stage, state: StageState) -> Part:
    """Return the stage with what lies in the working tree of its execution.

    Raises:
        CandidateError: the executed notebook is not the one that dvc.lock records.
    """
    if not stage.notebook:
        return Part(stage, state, None, {})
    path = project.executed / f"{stage.name}.ipynb"
    name = project.relative(path)
    if name in state.outs:
        verify(project, name, state.outs)
    copy = path if path.is_file() else None
    return Part(stage, state, copy, _record(project, stage, copy))


def enclosures(project: Project, pipeline: Pipeline, parts: Iterable[Part]) -> list[Enclosure]:
    """Return the executed notebooks, plots, images and metrics, dvc.lock and the params files.

    Raises:
        CandidateError: one of them is missing, or has changed since its stage ran.
    """
    named = {"params.yaml": project.root / "params.yaml"}
    notebooks: list[Enclosure] = []
    for one in parts:
        notebooks += one.notebook()
        lock = one.stage.file.with_name("dvc.lock")
        named[project.relative(lock)] = lock
        named |= {file: project.root / file for file, _ in one.stage.params}
        for out in one.stage.outs:
            if (out.kind != "outs" or out.path.endswith(_IMAGES)) and "://" not in out.path:
                named[out.path] = verify(project, out.path, one.state.outs)
    return notebooks + [
        Enclosure(path, posixpath.dirname(name.replace("../", "").lstrip("/")))
        for name, path in named.items()
        if path.exists()
    ]


def _record(project: Project, stage: Stage, copy: Path | None) -> Mapping[str, Any]:
    """Return the note of ``mlnb run``, if it tells of the execution that made the candidate.

    DVC restores outputs without running anything; then the note is of another execution. The
    digest of the executed notebook in it, ``copy``, shows that.
    """
    try:
        path = project.root / ".mlnb" / "runs" / f"{stage.name}.json"
        record = dict(json.loads(path.read_bytes()))
        datetime.datetime.fromisoformat(record["started"])
        record["seconds"] = float(record["seconds"])
        told = record["format"], record["stage"], record["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    digest = files.digest_file(copy) if copy else ""
    fits = told == (_RECORD_FORMAT, stage.name, "passed") and record.get("copy", digest) == digest
    return record if fits else {}
