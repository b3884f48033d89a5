"""Log a candidate: one run with a nested run for each notebook stage, once per digest.

A run of a candidate is FINISHED only when everything is in it, and everything that could be
wrong with the project is read before it begins. An attempt that was killed stays behind as
RUNNING; the next one, which holds the lock and so knows that nobody writes there, marks it KILLED
and starts anew.
"""

from __future__ import annotations

import datetime
import json
import posixpath
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb import files
from mlnb.project import Project
from mlnb.tracking import provenance
from mlnb.tracking.candidates import Candidate, StageState, candidate, verify
from mlnb.tracking.context import EXECUTION, STAGE
from mlnb.tracking.history import CANDIDATE, FINISHED, finished, search
from mlnb.tracking.store import TrackingError, alone, ensure_store, experiment, reaching

if TYPE_CHECKING:
    from mlnb.pipeline import Pipeline, Stage

_PARENT = "mlflow.parentRunId"
_IMAGES = (".png", ".jpg", ".jpeg", ".svg", ".gif", ".webp")
_LONGEST_VALUE = 6000
_LONGEST_NAME = 250
_TOGETHER = 100
"""How many parameters, tags or metrics go to MLflow in one call; its limit for the first two."""


@dataclass(frozen=True)
class _Enclosure:
    """A file or folder to keep with a run, and its folder there."""

    source: Path
    folder: str


@dataclass(frozen=True)
class _Part:
    """A notebook stage with what is known of its execution; ``record`` is empty if nothing is."""

    stage: Stage
    state: StageState
    copy: Path | None
    record: Mapping[str, Any]


def track(project: Project, pipeline: Pipeline) -> Candidate:
    """Log the present candidate, unless it is in the store, and write reports/candidate.json.

    Safe to repeat, to kill and to run several times at once: one candidate is one finished run.

    Raises:
        CandidateError: a stage never ran, or what lies there is not what dvc.lock records.
        TrackingError: the store cannot be used.
    """
    found = candidate(pipeline)
    uri = ensure_store(project)
    with alone(project.state / "track.lock"), reaching(uri) as client:
        home = _experiment(client, experiment(project))
        if not any(finished(client, home, digest=found.digest)):
            _log(client, home, project, pipeline, found)
    files.write_json(project.reports / "candidate.json", found.document())
    return found


def _experiment(client: Any, name: str) -> str:
    """Return the experiment's id; a server may not have it yet."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            # Another machine was first, or the server refuses: then there is still none.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"the experiment {name!r} was deleted",
            where=name,
            remedy=f"Run `mlflow experiments restore -x {found.experiment_id}`,"
            " or set `experiment` in [tool.mlnb] of pyproject.toml.",
        )
    return str(found.experiment_id)


def _log(client: Any, home: str, project: Project, pipeline: Pipeline, found: Candidate) -> None:
    parts = [_part(project, pipeline.stage(state.name), state) for state in found.stages]
    enclosures = list(_enclosures(project, pipeline, parts))
    tags = _origin(pipeline)
    packages = provenance.installed()

    _retire(client, home, found.digest)
    run = client.create_run(home, run_name=f"candidate {found.digest[:12]}", tags={CANDIDATE: found.digest} | tags)
    run_id = run.info.run_id
    _batch(client, run_id, found.params, found.metrics, {f"mlnb.data.{k}": v for k, v in found.data.items()})
    texts = {
        "candidate.json": json.dumps(found.document(), indent=2, sort_keys=True) + "\n",
        "environment.json": json.dumps(provenance.machine() | {"packages": packages}, indent=2) + "\n",
        "requirements.txt": "".join(f"{name}=={version}\n" for name, version in packages.items()),
    }
    for name, text in texts.items():
        client.log_text(run_id, text, name)
    for enclosure in enclosures:
        _enclose(client, run_id, enclosure)
    for part in parts:
        if part.stage.notebook:
            _log_stage(client, home, run_id, part, tags)
    client.set_terminated(run_id, FINISHED)


def _log_stage(client: Any, home: str, parent: str, part: _Part, tags: Mapping[str, str]) -> None:
    """Log a notebook stage below its candidate, and put the notebook's own runs below it."""
    start, end = _times(part.record)
    status = {"mlnb.status": str(part.record["status"])} if part.record else {}
    run = client.create_run(
        home,
        start_time=start,
        run_name=part.state.name,
        tags={**tags, _PARENT: parent, STAGE: part.state.name, "mlnb.digest": part.state.digest, **status},
    )
    run_id = run.info.run_id
    seconds = {"seconds": float(part.record["seconds"])} if part.record else {}
    _batch(client, run_id, part.state.params, {**part.state.metrics, **seconds}, {})
    if part.copy:
        _enclose(client, run_id, _Enclosure(part.copy, _notebook_folder(part.state.name)))
    if execution := str(part.record.get("execution", "")):
        _adopt(client, home, run_id, execution)
    client.set_terminated(run_id, FINISHED, end)


def _adopt(client: Any, home: str, run_id: str, execution: str) -> None:
    """Put the runs that a notebook logged itself below its stage; those nested in one another stay."""
    own = {
        run.info.run_id: run
        for run in search(client, home, f"tags.`{EXECUTION}` = '{_quoted(execution)}'")
    }
    for id, run in own.items():
        if run.data.tags.get(_PARENT) not in own:
            client.set_tag(id, _PARENT, run_id)


def _retire(client: Any, home: str, digest: str) -> None:
    """Mark what killed attempts at this candidate left unfinished."""
    for run in list(search(client, home, f"tags.`{CANDIDATE}` = '{digest}' AND attributes.status = 'RUNNING'")):
        inside = f"tags.`{_PARENT}` = '{run.info.run_id}' AND attributes.status = 'RUNNING'"
        for nested in [*search(client, home, inside), run]:
            client.set_terminated(nested.info.run_id, "KILLED")


# --- what goes into a run -----------------------------------------------------------------------


def _part(project: Project, stage: Stage, state: StageState) -> _Part:
    path = project.executed / f"{stage.name}.ipynb"
    name = project.relative(path)
    if name in state.outs:
        verify(project, name, state.outs[name])
    copy = path if stage.notebook and path.is_file() else None
    return _Part(stage, state, copy, _record(project, stage, copy) if stage.notebook else {})


def _record(project: Project, stage: Stage, copy: Path | None) -> Mapping[str, Any]:
    """Return what ``mlnb run`` noted of the execution, if it is the one that made the candidate.

    DVC restores outputs without running anything; then the note tells of another execution. The
    digest of the executed notebook in it says so.
    """
    try:
        record = json.loads((project.root / ".mlnb" / "runs" / f"{stage.name}.json").read_bytes())
        float(record["seconds"]), datetime.datetime.fromisoformat(record["started"])
        fits = record["format"] == 1 and record["stage"] == stage.name and record["status"] == "passed"
        if fits and "copy" in record:
            fits = copy is not None and record["copy"] == files.digest_file(copy)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(record) if fits else {}


def _times(record: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return start and end in milliseconds, as MLflow counts; without a record, both are now."""
    if not record:
        return None, None
    start = int(datetime.datetime.fromisoformat(record["started"]).timestamp() * 1000)
    return start, start + int(float(record["seconds"]) * 1000)


def _origin(pipeline: Pipeline) -> dict[str, str]:
    return {
        "mlflow.user": provenance.user(),
        "mlflow.source.name": "mlnb track",
        "mlflow.source.type": "LOCAL",
        **provenance.commit(pipeline),
    }


def _enclosures(project: Project, pipeline: Pipeline, parts: Iterable[_Part]) -> Iterator[_Enclosure]:
    """Yield the executed notebooks, what one looks at, dvc.lock and the params files."""
    plain: dict[str, Path] = {}
    for part in parts:
        if part.copy:
            yield _Enclosure(part.copy, _notebook_folder(part.state.name))
        lock = part.stage.file.with_name("dvc.lock")
        plain[project.relative(lock)] = lock
        for name, _ in part.stage.params:
            plain[name] = project.root / name
        for out in part.stage.outs:
            if out.kind != "outs" or out.path.endswith(_IMAGES):
                plain[out.path] = verify(project, out.path, part.state.outs.get(out.path, ""))
    plain.setdefault("params.yaml", project.root / "params.yaml")
    for name, path in plain.items():
        if path.exists():
            yield _Enclosure(path, posixpath.dirname(name.replace("../", "").lstrip("/")))


def _notebook_folder(stage: str) -> str:
    return posixpath.dirname(f"notebooks/{stage}")


def _enclose(client: Any, run_id: str, enclosure: _Enclosure) -> None:
    client.log_artifact(run_id, str(enclosure.source), enclosure.folder or None)


def _batch(
    client: Any, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str]
) -> None:
    """Log in few calls: one by one costs MLflow a transaction each."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    kinds = {
        "params": [Param(_name(name), _text(value)) for name, value in params.items()],
        "metrics": [Metric(_name(name), value, now, 0) for name, value in metrics.items()],
        "tags": [RunTag(_name(name), value) for name, value in tags.items()],
    }
    rest = {kind: iter(entries) for kind, entries in kinds.items()}
    while any(chunk := {kind: list(islice(entries, _TOGETHER)) for kind, entries in rest.items()}.values()):
        client.log_batch(run_id, **chunk)


def _name(name: str) -> str:
    """Return ``name`` as MLflow accepts it: ``train@gbtree`` becomes ``train:gbtree``.

    The name itself stands in candidate.json. A long one ends in a digest, to stay unlike others.
    """
    made = re.sub(r"[^\w.\- :/]", ":", name)
    if posixpath.normpath(made) != made or made.startswith(("/", "..")):
        made = made.replace("/", ":")
    if len(made) > _LONGEST_NAME:
        made = f"{made[: _LONGEST_NAME - 9]}:{files.digest_bytes(name.encode())[:8]}"
    return made


def _text(value: Any) -> str:
    """Return a parameter as text; MLflow would cut a long one without a word."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    note = f"... (cut; all {len(text)} characters are in candidate.json)"
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - len(note)] + note


def _quoted(text: str) -> str:
    return text.replace("'", "")
