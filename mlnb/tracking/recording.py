"""Log a candidate: one run with a nested run for each notebook stage, once per digest.

A run of a candidate is FINISHED only when everything is in it, and everything that could be
wrong with the project is read before it begins. An attempt that was killed leaves nothing in an
SQLite store; on a server it stays behind as RUNNING, and the next one, which holds the lock and so
knows that nobody writes there, marks it KILLED and starts anew.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb import files
from mlnb.project import Project
from mlnb.tracking.candidates import Candidate, candidate
from mlnb.tracking.contents import Enclosure, Part, enclosures, part
from mlnb.tracking.context import EXECUTION, STAGE
from mlnb.tracking.history import CANDIDATE, FINISHED, finished, search
from mlnb.tracking.store import TrackingError, alone, ensure_store, experiment, reaching
from mlnb.tracking.transaction import at_once, is_sqlite
from mlnb.tracking.verdict import Verdict, verdict

if TYPE_CHECKING:
    from mlnb.pipeline import Pipeline

_PARENT = "mlflow.parentRunId"
_LONGEST_VALUE = 6000
_LONGEST_NAME = 250
_TOGETHER = 100
"""How many parameters, tags or metrics go to MLflow in one call; its limit for the first two."""


@dataclass(frozen=True)
class Tracked:
    """A candidate, and MLflow's id of its run."""

    candidate: Candidate
    run: str


def track(
    project: Project, pipeline: Pipeline, *, origin: Mapping[str, str] | None = None
) -> Tracked:
    """Log the present candidate, unless it is in the store, and write reports/candidate.json.

    Safe to repeat, to kill and to run several times at once: one candidate is one finished run.

    Args:
        project: where it lies.
        pipeline: its stages.
        origin: tags that tell where it comes from; found out by default.

    Raises:
        CandidateError: a stage never ran, or what lies there is not what dvc.lock records.
        TrackingError: the store cannot be used.
    """
    found = candidate(pipeline)
    uri = ensure_store(project)
    with reaching(uri) as client, alone(project.state / "track.lock"):
        home = _experiment(client, experiment(project))
        run = _recorded(client, home, found.digest) or _log(client, home, pipeline, found, origin)
        _tell_verdict(client, run, verdict(pipeline))
    files.write_json(project.reports / "candidate.json", found.document())
    return Tracked(found, run)


def _tell_verdict(client: Any, run: str, told: Verdict | None) -> None:
    """Tag a run with what the gates said last, and keep it; a new champion may have changed it."""
    from mlflow.entities import RunTag

    if told is None:
        return
    known = client.get_run(run)
    now = known.data.tags
    if new := [RunTag(name, text) for name, text in told.tags.items() if now.get(name) != text]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "gates.json")
            path.write_bytes(told.document)
            _artifacts(client, known).log_artifact(str(path))
        client.log_batch(run, tags=new)


def warm_up(project: Project) -> None:
    """Do once what MLflow does at its first use, so that processes forked from here need not.

    An SQLite store sees a run come and go again unwritten, which compiles MLflow's statements. No
    connection is left open: one that a fork shared with its parent would break both.

    Raises:
        TrackingError: the store cannot be used.
    """
    from mlnb.tracking import provenance

    provenance.installed()
    with reaching(ensure_store(project)) as client:
        home = _experiment(client, experiment(project))
        _recorded(client, home, "")
        if is_sqlite(client):
            with contextlib.suppress(_UndoneError), at_once(client):
                run = client.create_run(home, tags={STAGE: "none", _PARENT: "none"})
                _batch(client, run.info.run_id, {"a": 1}, {"a": 1}, {"a": "1"})
                _adopt(client, home, {"none": run.info.run_id})
                client.set_terminated(run.info.run_id, FINISHED)
                raise _UndoneError
            client._tracking_client.store.engine.dispose()


class _UndoneError(Exception):
    """Takes back what was written at once."""


def _recorded(client: Any, home: str, digest: str) -> str:
    """Return the id of a candidate's finished run; empty if there is none."""
    return next((str(run.info.run_id) for run in finished(client, home, digest=digest)), "")


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


def _log(
    client: Any,
    home: str,
    pipeline: Pipeline,
    found: Candidate,
    origin: Mapping[str, str] | None,
) -> str:
    """Log a candidate with its stages; return the id of its run."""
    from mlnb.tracking import provenance

    project = pipeline.project
    parts = [part(project, pipeline.stage(state.name), state) for state in found.stages]
    enclosed = enclosures(project, pipeline, parts)
    tags = provenance.origin(pipeline) if origin is None else origin
    with at_once(client):
        return _log_all(client, home, found, parts, enclosed, tags)


def _log_all(
    client: Any,
    home: str,
    found: Candidate,
    parts: Sequence[Part],
    enclosed: Sequence[Enclosure],
    tags: Mapping[str, str],
) -> str:
    from mlnb.tracking import provenance

    packages = provenance.installed()
    _retire(client, home, found.digest)
    run = client.create_run(
        home, run_name=f"candidate {found.digest[:12]}", tags={CANDIDATE: found.digest, **tags}
    )
    run_id = str(run.info.run_id)
    artifacts = _artifacts(client, run)
    data = {f"mlnb.data.{path}": checksum for path, checksum in found.data.items()}
    _batch(client, run_id, found.params, found.metrics, data)
    pins = "".join(f"{name}=={version}\n" for name, version in packages.items())
    texts = {
        "candidate.json": _json(found.document()),
        "environment.json": _json({**provenance.machine(), "packages": dict(packages)}),
        "requirements.txt": pins,
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        artifacts.log_artifacts(folder)
    for enclosure in enclosed:
        _enclose(artifacts, enclosure)
    below = {
        one.execution: _log_stage(client, home, run_id, one, tags)
        for one in parts
        if one.stage.notebook
    }
    _adopt(client, home, below)
    client.set_terminated(run_id, FINISHED)
    return run_id


def _log_stage(client: Any, home: str, parent: str, part: Part, tags: Mapping[str, str]) -> str:
    """Log a notebook stage below its candidate; return the id of its run."""
    start, end = part.times
    known = {"mlnb.status": part.record["status"]} if part.record else {}
    seconds = {"seconds": part.record["seconds"]} if part.record else {}
    run = client.create_run(
        home,
        start_time=start,
        run_name=part.state.name,
        tags={**tags, _PARENT: parent, STAGE: part.state.name, **known},
    )
    run_id = str(run.info.run_id)
    _batch(client, run_id, part.state.params, {**part.state.metrics, **seconds}, {})
    artifacts = _artifacts(client, run)
    for enclosure in part.notebook():
        _enclose(artifacts, enclosure)
    client.set_terminated(run_id, FINISHED, end)
    return run_id


def _adopt(client: Any, home: str, below: Mapping[str, str]) -> None:
    """Put the runs that notebooks logged themselves below their stages.

    Nested ones stay below theirs.

    Args:
        client: of the store.
        home: the experiment.
        below: the run of each stage, by the execution that made it.
    """
    for execution, run_id in below.items():
        if not execution:
            continue
        own = {
            run.info.run_id: run
            for run in search(client, home, f"tags.`{EXECUTION}` = '{_quoted(execution)}'")
        }
        for id, run in own.items():
            if run.data.tags.get(_PARENT) not in own:
                client.set_tag(id, _PARENT, run_id)


def _retire(client: Any, home: str, digest: str) -> None:
    """Mark what killed attempts at this candidate left unfinished."""
    running = "attributes.status = 'RUNNING'"
    for run in list(search(client, home, f"tags.`{CANDIDATE}` = '{digest}' AND {running}")):
        below = f"tags.`{_PARENT}` = '{run.info.run_id}' AND {running}"
        for left in [*search(client, home, below), run]:
            client.set_terminated(left.info.run_id, "KILLED")


def _artifacts(client: Any, run: Any) -> Any:
    """Return where the artifacts of ``run`` go; MLflow's client would ask for the run again."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri)


def _enclose(artifacts: Any, enclosure: Enclosure) -> None:
    source, folder = enclosure.source, enclosure.folder
    if source.is_dir():
        artifacts.log_artifacts(str(source), posixpath.join(folder, source.name))
    else:
        artifacts.log_artifact(str(source), folder or None)


def _batch(
    client: Any,
    run_id: str,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> None:
    """Log in few calls: one by one costs MLflow a transaction each."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    kinds: dict[str, list[Any]] = {
        "params": [Param(_name(name), _text(value)) for name, value in params.items()],
        "metrics": [Metric(_name(name), value, now, 0) for name, value in metrics.items()],
        "tags": [RunTag(_name(name), value) for name, value in tags.items()],
    }
    for at in range(0, max(map(len, kinds.values())), _TOGETHER):
        some = {kind: entries[at : at + _TOGETHER] for kind, entries in kinds.items()}
        client.log_batch(run_id, **some)


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


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _quoted(text: str) -> str:
    return text.replace("'", "")
