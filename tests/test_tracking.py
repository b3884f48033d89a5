"""Tracking, on real DVC projects, real MLflow on SQLite, and processes that are really killed.

What is in a store is read with sqlite3, not with the code that wrote it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mlnb import files, pipeline, project, tracking
from mlnb.pipeline import Pipeline
from mlnb.project import Project, Settings
from mlnb.tracking import CandidateError, TrackingError

REPOSITORY = Path(__file__).parent.parent

DVC_YAML = """
stages:
  code:
    cmd: mlnb code
    deps: [notebooks]
    outs:
      - .mlnb/code/train.py: {cache: false, persist: true}
  prepare:
    cmd: cp data/raw.csv data/clean.csv
    deps: [data/raw.csv]
    outs: [data/clean.csv]
  train:
    cmd: mlnb run notebooks/train.ipynb
    deps: [.mlnb/code/train.py, data/clean.csv]
    params: [train]
    outs: [models/model.txt, reports/executed/train.ipynb]
    metrics:
      - reports/metrics/train.json: {cache: false}
    plots: [reports/plots/roc.csv]
  evaluate:
    matrix:
      group: [old, young]
    cmd: mlnb run notebooks/evaluate.ipynb
    deps: [models/model.txt]
    params: [train.rate]
    outs: ["reports/executed/evaluate@${item.group}.ipynb"]
    metrics:
      - "reports/metrics/evaluate-${item.group}.json": {cache: false}
  track:
    cmd: mlnb track
    deps:
      - reports/metrics/train.json
      - reports/metrics/evaluate-old.json
      - reports/metrics/evaluate-young.json
    outs:
      - reports/candidate.json: {cache: false}
  report:
    cmd: mlnb report
    deps: [reports/candidate.json]
    outs: [reports/index.html]
"""

PARAMS_YAML = 'train:\n  rate: 0.05\n  layers: {first: 8, second: [4, 2]}\n  day: "2024-05-01"\n'

MLNB = """#!{python}
# Stands in for `mlnb`: a run writes what a run writes, and `track` is the real one.
import json, os, pathlib, sys
sys.path.insert(0, {repository!r})

def write(path, text):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

stage = os.environ["DVC_STAGE"]
tool = sys.argv[1]
if tool == "track":
    from mlnb import pipeline, project, tracking
    found = project.find()
    tracking.track(found, pipeline.load(found))
elif tool == "code":
    write(".mlnb/code/train.py", "x = 1\\n")
elif tool == "report":
    write("reports/index.html", "<html></html>")
else:
    told = {{"format": 1, "stage": stage, "status": "passed", "parameters": []}}
    copy = {{"cells": [], "metadata": {{"mlnb": told}}, "nbformat": 4, "nbformat_minor": 5}}
    write(f"reports/executed/{{stage}}.ipynb", json.dumps(copy))
    record = {{"format": 1, "stage": stage, "status": "passed", "execution": "e-" + stage,
              "started": "2024-05-01T10:00:00+00:00", "seconds": 12.5}}
    write(f".mlnb/runs/{{stage}}.json", json.dumps(record))
    if stage == "train":
        write("models/model.txt", "model")
        write("reports/plots/roc.csv", "x,y\\n0,0\\n1,1\\n")
        write("reports/metrics/train.json", '{{"auc": 0.75, "fold": [0.5, 1], "kind": "tree"}}')
    else:
        group = stage.rpartition("@")[2]
        write(f"reports/metrics/evaluate-{{group}}.json", '{{"roc": {{"auc": 0.5}}}}')
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where all projects of this module have their store: each has its own experiment."""
    return tmp_path_factory.mktemp("store") / "mlflow.db"


@pytest.fixture(scope="module")
def reproduced(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project that `dvc repro` has run once, `mlnb track` included."""
    root = tmp_path_factory.mktemp("projects") / "wages"
    (root / "notebooks").mkdir(parents=True)
    (root / "data").mkdir()
    (root / "notebooks" / "train.ipynb").write_text("{}")
    (root / "data" / "raw.csv").write_text("a,b\n1,2\n")
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "params.yaml").write_text(PARAMS_YAML)
    (root / "pyproject.toml").write_text(f'[tool.mlnb]\ntracking-uri = "sqlite:///{shared}"\n')
    (root / ".gitignore").write_text("/.mlnb/*\n!/.mlnb/code/\n/bin/\n")
    command = root / "bin" / "mlnb"
    command.parent.mkdir()
    command.write_text(MLNB.format(python=sys.executable, repository=str(REPOSITORY)))
    command.chmod(0o755)
    _run(root, "git", "init", "-q", "-b", "main")
    _run(root, "dvc", "init", "-q")
    _run(root, "dvc", "config", "core.analytics", "false")
    _run(root, "dvc", "repro")
    _run(root, "git", "add", "-A")
    _run(root, "git", "commit", "-q", "-m", "all")
    return project.find(root)


@pytest.fixture
def copy(reproduced: Project, tmp_path: Path) -> Project:
    """Return a clone in another folder, whose experiment is empty."""
    root = tmp_path / f"copy-{time.monotonic_ns()}"
    shutil.copytree(reproduced.root, root, symlinks=True)
    return project.find(root)


def _run(root: Path, *command: str) -> str:
    names = {"GIT_CONFIG_GLOBAL": "/dev/null"} | {
        f"GIT_{who}_{what}": f"ada{'@example.org' if what == 'EMAIL' else ''}"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    path = os.pathsep.join(
        [str(root / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, **names, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _load(found: Project) -> Pipeline:
    return pipeline.load(found)


def _track(found: Project) -> tracking.Candidate:
    return tracking.track(found, _load(found)).candidate


def _rewrite(found: Project, path: str, text: str) -> None:
    """Write a file as its stage would have, with dvc.lock agreeing."""
    import hashlib

    file = found.root / path
    old = hashlib.md5(file.read_bytes()).hexdigest()
    file.unlink()  # DVC may have linked it to its cache
    file.write_text(text)
    new = hashlib.md5(text.encode()).hexdigest()
    _edit_lock(found, old, new)


def _edit_lock(found: Project, old: str, new: str) -> None:
    lock = found.root / "dvc.lock"
    text = lock.read_text()
    assert old in text
    lock.write_text(text.replace(old, new))


# --- reading a store without the code that wrote it ---------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """One run, from the tables."""

    id: str
    name: str
    status: str
    start: int
    end: int
    artifacts: Path
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


def _rows(store: Path, experiment: str) -> list[Row]:
    connection = sqlite3.connect(store)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    def pairs(table: str, run: str) -> dict[str, Any]:
        return dict(
            connection.execute(f"SELECT key, value FROM {table} WHERE run_uuid = ?", (run,))
        )

    try:
        return [
            Row(
                id=row[0],
                name=row[1],
                status=row[2],
                start=row[3],
                end=row[4],
                artifacts=Path(row[5]),
                tags=pairs("tags", row[0]),
                params=pairs("params", row[0]),
                metrics=pairs("latest_metrics", row[0]),
            )
            for row in connection.execute(
                "SELECT run_uuid, r.name, status, start_time, end_time, artifact_uri FROM runs r "
                "JOIN experiments e USING (experiment_id) "
                "WHERE e.name = ? AND r.lifecycle_stage = 'active'",
                (experiment,),
            )
        ]
    finally:
        connection.close()


def _parents(rows: list[Row], status: str = "FINISHED") -> list[Row]:
    return [row for row in rows if "mlnb.candidate" in row.tags and row.status == status]


def _children(rows: list[Row], parent: Row) -> dict[str, Row]:
    return {
        row.tags["mlnb.stage"]: row
        for row in rows
        if row.tags.get("mlflow.parentRunId") == parent.id
    }


# --- processes that start warm and may be killed ------------------------------------------------

WARM = f"""
import json, os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY)!r})
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import mlflow.store.tracking.sqlalchemy_store
from mlflow import MlflowClient
from mlnb import pipeline, project, tracking
from mlnb.tracking import store

root = Path(sys.argv[1])

def fork(work, gate=None):
    pid = os.fork()
    if pid:
        return pid
    try:
        if gate:
            os.close(gate[1])
            os.read(gate[0], 1)   # returns when the parent closes the other end: for all at once
        work()
    except BaseException as error:
        print(type(error).__name__, error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)

def crowd(count, work):
    gate = os.pipe()
    pids = [fork(work, gate) for _ in range(count)]
    time.sleep(0.2)
    os.close(gate[1])
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _warm(root: Path, program: str) -> Any:
    """Return what ``program`` prints as JSON; it runs where MLflow is imported, and may fork."""
    done = subprocess.run(
        [sys.executable, "-c", WARM + program, str(root)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- the candidate ------------------------------------------------------------------------------


def test_a_candidate_is_the_same_in_another_folder(reproduced: Project, copy: Project) -> None:
    """A clone elsewhere is the same candidate, whoever made it and whenever."""
    assert tracking.candidate(_load(copy)) == tracking.candidate(_load(reproduced))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rate: 0.05", "rate: 0.06"),
        ("cmd: cp data/raw.csv", "cmd: cp -p data/raw.csv"),
        ("path: data/raw.csv", "path: data/new.csv"),
        ("path: models/model.txt", "path: models/other.txt"),
    ],
)
def test_a_candidate_changes_with_what_its_stages_did(copy: Project, old: str, new: str) -> None:
    """A parameter, a command, a dependency or an output that differs makes another candidate."""
    before = tracking.candidate(_load(copy)).digest
    _edit_lock(copy, old, new)
    assert tracking.candidate(_load(copy)).digest != before


@pytest.mark.parametrize("path", ["data/raw.csv", "data/clean.csv", "models/model.txt"])
def test_a_candidate_changes_with_checksums(copy: Project, path: str) -> None:
    """Other bytes in or out make another candidate."""
    before = tracking.candidate(_load(copy)).digest
    _rewrite(copy, path, "other")
    assert tracking.candidate(_load(copy)).digest != before


def test_a_candidate_ignores_who_looks_on(copy: Project) -> None:
    """Executed notebooks and mlnb's own stages show a result; they are no part of it."""
    before = tracking.candidate(_load(copy)).digest
    _rewrite(copy, "reports/executed/train.ipynb", "{}")
    _edit_lock(copy, "cmd: mlnb report", "cmd: mlnb report --all")
    _edit_lock(copy, "cmd: mlnb code", "cmd: mlnb code -q")
    found = tracking.candidate(_load(copy))
    assert found.digest == before
    assert [state.name for state in found.stages] == [
        "prepare", "train", "evaluate@old", "evaluate@young"
    ]  # fmt: skip


def test_a_candidate_tells_params_metrics_and_data(reproduced: Project) -> None:
    """Names are dotted; data is what no stage writes."""
    found = tracking.candidate(_load(reproduced))
    assert found.params == {
        "train.rate": 0.05,
        "train.layers.first": 8,
        "train.layers.second": [4, 2],
        "train.day": "2024-05-01",
        "evaluate@old.group": "old",
        "evaluate@young.group": "young",
    }
    assert found.metrics == {
        "train.auc": 0.75,
        "train.fold.0": 0.5,
        "train.fold.1": 1.0,
        "evaluate@old.roc.auc": 0.5,
        "evaluate@young.roc.auc": 0.5,
    }
    assert list(found.data) == ["data/raw.csv"]


def test_a_stage_that_never_ran_is_named(copy: Project) -> None:
    """Half a pipeline is no candidate; `dvc repro` is the way out."""
    _edit_lock(copy, "  prepare:", "  gone:")
    with pytest.raises(CandidateError, match=r"never ran: prepare\n.*dvc repro"):
        tracking.candidate(_load(copy))
    (copy.root / "dvc.lock").unlink()
    with pytest.raises(CandidateError, match="dvc repro"):
        tracking.candidate(_load(copy))


def test_a_stage_beside_the_track_stage_is_no_part(copy: Project) -> None:
    """DVC may run it after `track`, so that its state cannot be told then."""
    before = tracking.candidate(_load(copy)).digest
    with (copy.root / "dvc.yaml").open("a") as file:
        file.write("  beside:\n    cmd: echo\n    deps: [data/clean.csv]\n")
    assert tracking.candidate(_load(copy)).digest == before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"auc": NaN}', "'auc' is nan"),
        ('{"a": {"b": [1, Infinity]}}', "'a.b.1' is inf"),
        ('{"auc": 1e999}', "'auc' is inf"),
        ('{"auc": null}', "'auc' is None"),
        ('{"a.b": 1, "a": {"b": 2}}', "there twice"),
        ("[1]", "JSON object"),
        ('{"auc": 0.', "not JSON"),
    ],
)
def test_metrics_that_cannot_be_judged_are_refused(copy: Project, text: str, reason: str) -> None:
    """A number that is missing or not finite stops tracking before anything is logged."""
    _rewrite(copy, "reports/metrics/train.json", text)
    with pytest.raises(CandidateError, match=reason):
        tracking.candidate(_load(copy))


def test_metrics_of_another_state_are_refused(copy: Project) -> None:
    """What was edited, switched or never fetched is not what dvc.lock records."""
    path = copy.root / "reports" / "metrics" / "train.json"
    path.write_text('{"auc": 0.99}')
    with pytest.raises(CandidateError, match=r"changed since[^$]*dvc repro"):
        tracking.candidate(_load(copy))
    path.unlink()
    with pytest.raises(CandidateError, match=r"not there[^$]*dvc pull"):
        tracking.candidate(_load(copy))


def test_one_parameter_has_one_value(copy: Project) -> None:
    """Two stages locked with different values of one parameter are no single candidate."""
    text = (copy.root / "dvc.lock").read_text()
    at = text.index("train.rate: 0.05")
    (copy.root / "dvc.lock").write_text(text[:at] + text[at:].replace("0.05", "0.5"))
    with pytest.raises(CandidateError, match=r"'train.rate' was"):
        tracking.candidate(_load(copy))


# --- the run ------------------------------------------------------------------------------------


def test_dvc_repro_logs_the_candidate(reproduced: Project, shared: Path) -> None:
    """`mlnb track` inside `dvc repro` makes one run with a nested run for each notebook stage."""
    found = tracking.candidate(_load(reproduced))
    rows = _rows(shared, "wages")
    (parent,) = _parents(rows)
    assert parent.tags["mlnb.candidate"] == found.digest
    assert parent.metrics["train.auc"] == 0.75
    assert parent.metrics["evaluate:young.roc.auc"] == 0.5
    assert parent.params["train.layers.second"] == "[4, 2]"
    assert parent.params["train.day"] == "2024-05-01"
    assert parent.tags["mlnb.data.data/raw.csv"] == found.data["data/raw.csv"]
    assert parent.tags["mlflow.user"]
    assert "mlflow.source.git.commit" not in parent.tags  # there was no commit yet

    kept = {p.relative_to(parent.artifacts).as_posix() for p in files.walk(parent.artifacts)}
    assert kept == {
        "candidate.json",
        "dvc.lock",
        "environment.json",
        "notebooks/evaluate@old.ipynb",
        "notebooks/evaluate@young.ipynb",
        "notebooks/train.ipynb",
        "params.yaml",
        "reports/metrics/evaluate-old.json",
        "reports/metrics/evaluate-young.json",
        "reports/metrics/train.json",
        "reports/plots/roc.csv",
        "requirements.txt",
    }
    environment = json.loads((parent.artifacts / "environment.json").read_text())
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert (
        f"mlflow=={environment['packages']['mlflow']}\n"
        in (parent.artifacts / "requirements.txt").read_text()
    )

    children = _children(rows, parent)
    assert sorted(children) == ["evaluate@old", "evaluate@young", "train"]
    train = children["train"]
    assert (train.status, train.name, train.end - train.start) == ("FINISHED", "train", 12_500)
    assert train.metrics == {
        "train.auc": 0.75,
        "train.fold.0": 0.5,
        "train.fold.1": 1,
        "seconds": 12.5,
    }
    assert "evaluate:old.group" not in train.params
    assert [p.name for p in files.walk(train.artifacts)] == ["train.ipynb"]


def test_candidate_json_is_the_same_again(reproduced: Project, shared: Path, copy: Project) -> None:
    """It holds nothing of when, where or in which run; DVC sees the same bytes."""
    written = (reproduced.reports / "candidate.json").read_bytes()
    (copy.reports / "candidate.json").unlink()
    _track(copy)
    assert (copy.reports / "candidate.json").read_bytes() == written
    (parent,) = _parents(_rows(shared, copy.root.name))
    assert parent.id.encode() not in written
    assert json.loads(written)["candidate"] == parent.tags["mlnb.candidate"]
    assert "dvc.lock:" not in _run(copy.root, "dvc", "status")


def test_tracking_twice_logs_once(copy: Project, shared: Path) -> None:
    """What is in the store stays as it is; only the file is written again."""
    _track(copy)
    before = _rows(shared, copy.root.name)
    (copy.reports / "candidate.json").unlink()
    assert _track(copy).digest == before[0].tags["mlnb.candidate"]
    assert _rows(shared, copy.root.name) == before
    assert (copy.reports / "candidate.json").is_file()


def test_runs_lists_finished_candidates(copy: Project, shared: Path) -> None:
    """Readers see each finished candidate once, the newest first; never an unfinished attempt."""
    assert tracking.runs(copy) == []
    old = _track(copy)
    _edit_lock(copy, "rate: 0.05", "rate: 0.06")
    new = _track(copy)
    with sqlite3.connect(shared) as connection:  # an attempt that was killed, and a rival's twin
        _twin(connection, "attempt", status="RUNNING", digest="f" * 64)
        _twin(connection, "later", status="FINISHED", digest=new.digest)
    connection.close()
    found = tracking.runs(copy)
    assert [run.digest for run in found] == [new.digest, old.digest]
    assert [run.params["train.rate"] for run in found] == ["0.06", "0.05"]
    assert found[0].metrics["train.auc"] == 0.75
    assert "later" not in {run.id for run in found}


def _twin(connection: sqlite3.Connection, id: str, *, status: str, digest: str) -> None:
    """Copy the newest run in the store under another id, with a later start."""
    columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
    own = {"run_uuid": f"'{id}'", "status": f"'{status}'", "start_time": "start_time + 60000"}
    wanted = ", ".join(own.get(column, column) for column in columns)
    connection.execute(
        f"INSERT INTO runs SELECT {wanted} FROM runs WHERE run_uuid IN "
        "(SELECT run_uuid FROM tags WHERE key = 'mlnb.candidate') ORDER BY start_time DESC LIMIT 1"
    )
    connection.execute(
        "INSERT INTO tags (key, value, run_uuid) VALUES ('mlnb.candidate', ?, ?)", (digest, id)
    )


def test_nothing_is_logged_of_an_incomplete_project(copy: Project, shared: Path) -> None:
    """A plot that is not there stops tracking before a run begins."""
    (copy.root / "reports" / "plots" / "roc.csv").unlink()
    with pytest.raises(CandidateError, match=r"roc.csv[^$]*dvc checkout"):
        _track(copy)
    assert _rows(shared, copy.root.name) == []


def test_git_says_where_a_candidate_comes_from(copy: Project, shared: Path) -> None:
    """Commit and branch; dirty for an edit of a source, not for what the pipeline wrote itself."""
    head = _run(copy.root, "git", "rev-parse", "HEAD").strip()

    def tags(text: str) -> dict[str, str]:
        _edit_lock(copy, "rate: 0.05", "rate: 0.06") if text else None
        digest = _track(copy).digest
        return next(
            r.tags for r in _rows(shared, copy.root.name) if r.tags.get("mlnb.candidate") == digest
        )

    (copy.reports / "candidate.json").write_text("{}")
    clean = tags("")
    assert clean["mlflow.source.git.commit"] == head
    assert clean["mlflow.source.git.branch"] == "main"
    assert clean["mlnb.git.dirty"] == "false"
    (copy.root / "params.yaml").write_text(PARAMS_YAML.replace("0.05", "0.06"))
    assert tags("changed")["mlnb.git.dirty"] == "true"


def test_tracking_needs_no_git(
    copy: Project, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a repository, and without git itself, a candidate is tracked all the same."""
    shutil.rmtree(copy.root / ".git")
    _track(copy)
    monkeypatch.setenv("PATH", "")
    _edit_lock(copy, "rate: 0.05", "rate: 0.06")
    _track(copy)
    rows = _rows(shared, copy.root.name)
    assert len(_parents(rows)) == 2
    assert not any("git" in tag for row in rows for tag in row.tags)


def test_a_note_of_another_execution_is_left_out(copy: Project, shared: Path) -> None:
    """DVC restores outputs without a run; then the last run's duration is not this stage's."""
    note = copy.root / ".mlnb" / "runs" / "train.json"
    record = json.loads(note.read_text())
    note.write_text(json.dumps({**record, "copy": "0" * 64}))
    (copy.root / ".mlnb" / "runs" / "evaluate@old.json").write_text("{")
    _track(copy)
    rows = _rows(shared, copy.root.name)
    children = _children(rows, _parents(rows)[0])
    assert "seconds" not in children["train"].metrics
    assert "seconds" not in children["evaluate@old"].metrics
    assert children["evaluate@young"].metrics["seconds"] == 12.5


def test_long_and_odd_names_and_values(copy: Project, shared: Path) -> None:
    """MLflow's limits cost nothing in silence: a cut value says so, and the file has it whole."""
    long = "x" * 9000
    added = [f"text: {long}", f"{'n' * 300}: 1", "a+b//c: 2", "layers:"]
    line = next(x for x in (copy.root / "dvc.lock").read_text().splitlines() if "layers:" in x)
    _edit_lock(copy, "layers:", f"\n{line.partition('layers')[0]}".join(added))
    _track(copy)
    (parent,) = _parents(_rows(shared, copy.root.name))
    assert len(parent.params["train.text"]) == 6000
    assert parent.params["train.text"].endswith("all 9000 characters are in candidate.json)")
    assert parent.params["train.a:b::c"] == "2"
    (cut,) = (key for key in parent.params if key.startswith("train.nnn"))
    assert len(cut) == 250
    kept = json.loads((parent.artifacts / "candidate.json").read_text())
    assert kept["params"]["train.text"] == long


def test_many_values_go_in_few_calls(
    copy: Project, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More metrics than MLflow takes at once all arrive, and not one by one."""
    from mlflow import MlflowClient

    calls: list[str] = []
    real = MlflowClient.log_batch

    def counted(self: Any, *arguments: Any, **keywords: Any) -> Any:
        calls.append("")
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    _rewrite(copy, "reports/metrics/train.json", json.dumps({f"m{i}": i for i in range(1234)}))
    _track(copy)
    (parent,) = _parents(_rows(shared, copy.root.name))
    assert len([m for m in parent.metrics if m.startswith("train.m")]) == 1234
    assert len(calls) < 40


def test_rivals_track_one_candidate_once(copy: Project, shared: Path) -> None:
    """Processes that track the same candidate at the same time make one run."""
    codes = _warm(
        copy.root,
        """
def work():
    found = project.find(root)
    tracking.track(found, pipeline.load(found))
print(json.dumps(crowd(4, work)))
""",
    )
    assert codes == [0, 0, 0, 0]
    rows = _rows(shared, copy.root.name)
    assert [row.status for row in rows if "mlnb.candidate" in row.tags] == ["FINISHED"]
    assert len(rows) == 4


def test_a_killed_attempt_is_replaced(copy: Project, shared: Path) -> None:
    """Killed before any call to MLflow, an attempt leaves nothing at all; the next is whole."""
    told = _warm(
        copy.root,
        """
import sqlite3
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository as Artifacts
calls = [(MlflowClient, name) for name in ("create_run", "log_batch", "set_terminated")]
calls += [(Artifacts, name) for name in ("log_artifact", "log_artifacts")]
found = project.find(root)
lines = pipeline.load(found)

def work(fatal):
    count = 0
    def counted(real):
        def call(*arguments, **keywords):
            nonlocal count
            count += 1
            if count == fatal:
                die()
            return real(*arguments, **keywords)
        return call
    for owner, name in calls:
        setattr(owner, name, counted(getattr(owner, name)))
    tracking.track(found, lines)

def finished():
    with sqlite3.connect(found.settings.tracking_uri.removeprefix("sqlite:///")) as db:
        return db.execute(
            "SELECT COUNT(*) FROM runs JOIN tags USING (run_uuid) "
            "JOIN experiments e USING (experiment_id) "
            "WHERE key = 'mlnb.candidate' AND status = 'FINISHED' AND e.name = ?", (root.name,)
        ).fetchone()[0]

deaths = []
fatal = 1
while (code := wait(fork(lambda: work(fatal)))) == -signal.SIGKILL:
    deaths.append(finished())
    fatal += 4
print(json.dumps([code, deaths]))
""",
    )
    code, finished = told
    assert code == 0  # more calls were allowed than are made: this attempt came through
    assert len(finished) >= 6
    assert set(finished) == {0}
    rows = _rows(shared, copy.root.name)
    (parent,) = _parents(rows)
    assert len(_children(rows, parent)) == 3
    assert len(rows) == 4


def test_what_a_killed_attempt_left_on_a_server_is_retired(copy: Project, shared: Path) -> None:
    """A run of this candidate that was never finished is marked as killed when the next begins."""
    _track(copy)
    with sqlite3.connect(shared) as connection:
        connection.execute(
            "UPDATE runs SET status = 'RUNNING' WHERE experiment_id = "
            "(SELECT experiment_id FROM experiments WHERE name = ?)",
            (copy.root.name,),
        )
    connection.close()
    _track(copy)
    rows = _rows(shared, copy.root.name)
    assert sorted(row.status for row in rows) == ["FINISHED"] * 4 + ["KILLED"] * 4
    assert len(_parents(rows)) == len(_parents(rows, "KILLED")) == 1


def test_a_notebooks_own_runs_come_below_its_stage(copy: Project, shared: Path) -> None:
    """With `environment`, a notebook's own runs are tagged, and `track` puts them in place."""
    variables = tracking.environment(copy, "train", "e-train")
    assert variables == {
        "MLFLOW_TRACKING_URI": f"sqlite:///{shared}",
        "MLFLOW_EXPERIMENT_NAME": copy.root.name,
        "MLNB_STAGE": "train",
        "MLNB_EXECUTION": "e-train",
    }
    program = (
        "import mlflow\n"  # which finds our entry point by itself
        "with mlflow.start_run(run_name='outer'):\n"
        "    mlflow.log_metric('loss', 1)\n"
        "    with mlflow.start_run(run_name='inner', nested=True):\n"
        "        pass\n"
    )
    subprocess.run([sys.executable, "-c", program], env={**os.environ, **variables}, check=True)
    _track(copy)
    rows = _rows(shared, copy.root.name)
    (parent,) = _parents(rows)
    outer, inner = (next(row for row in rows if row.name == name) for name in ("outer", "inner"))
    assert outer.tags["mlnb.stage"] == "train"
    assert outer.tags["mlflow.parentRunId"] == _children(rows, parent)["train"].id
    assert inner.tags["mlflow.parentRunId"] == outer.id


def test_the_stage_context_is_silent_outside_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow asks it in every process; without mlnb's variables it has nothing to say."""
    from mlnb.tracking.context import StageContext

    monkeypatch.delenv("MLNB_STAGE", raising=False)
    monkeypatch.delenv("MLNB_EXECUTION", raising=False)
    assert not StageContext().in_context()
    assert StageContext().tags() == {}


# --- the store ----------------------------------------------------------------------------------


def test_importing_tracking_imports_no_tool(shared: Path, reproduced: Project) -> None:
    """Whoever only asks for a store that is there does not wait for MLflow."""
    program = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "before = set(sys.modules)\n"
        "from pathlib import Path\n"
        "from mlnb import project, tracking\n"
        f"found = project.find(Path({str(reproduced.root)!r}))\n"
        "print(tracking.ensure_store(found))\n"
        "heavy = {'mlflow', 'sqlalchemy', 'pandas', 'numpy', 'dvc', 'requests', 'mlnb.pipeline'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"sqlite:///{shared}\n", "")


def test_first_use_by_many_makes_one_store(tmp_path: Path) -> None:
    """Eight processes that need the store at the same moment all get it, whole."""
    root = tmp_path / "pröj # 1% of"
    (root / ".dvc").mkdir(parents=True)
    codes = _warm(
        root,
        """
def work():
    uri = tracking.ensure_store(project.find(root))
    made = MlflowClient(uri).get_experiment_by_name(root.name)
    assert made.artifact_location == f"{root}/.mlnb/artifacts", made
print(json.dumps(crowd(8, work)))
""",
    )
    assert codes == [0] * 8
    assert {p.name for p in (root / ".mlnb").iterdir()} == {"mlflow.db", ".mlflow.db.lock"}
    assert _rows(root / ".mlnb" / "mlflow.db", root.name) == []


def test_a_killed_creation_leaves_no_store(tmp_path: Path) -> None:
    """Killed at any size of the growing file, or around its rename, the next call repairs it."""
    root = tmp_path / "first"
    (root / ".dvc").mkdir(parents=True)
    codes = _warm(
        root,
        """
found = project.find(root)
path = found.state / "mlflow.db"

def growing():
    return max((p.stat().st_size for p in path.parent.glob(".*.new")), default=-1)

def killed_at(size):
    pid = fork(lambda: tracking.ensure_store(found))
    while growing() < size and not path.exists():
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    return wait(pid)

def dying_in(place, name):
    def work():
        setattr(place, name, die)
        tracking.ensure_store(found)
    return wait(fork(work))

codes = []
for size in (0, 100_000, 400_000, 700_000):
    codes.append(killed_at(size))
    assert not path.exists(), size
codes.append(dying_in(Path, "rename"))
assert not path.exists()
codes.append(dying_in(store, "_sync"))
assert path.exists()
assert wait(fork(lambda: tracking.ensure_store(found))) == 0
assert MlflowClient(tracking.ensure_store(found)).get_experiment_by_name("first")
print(json.dumps(codes))
""",
    )
    assert codes == [-9] * 6
    assert {p.name for p in (root / ".mlnb").iterdir()} == {"mlflow.db", ".mlflow.db.lock"}
    assert _rows(root / ".mlnb" / "mlflow.db", "first") == []


def _torn(shared: Path) -> bytes:
    return shared.read_bytes()[:20_000]


@pytest.mark.parametrize("kind", ["empty", "torn", "text", "another database", "half migrated"])
def test_a_broken_store_is_left_alone(
    tmp_path: Path, shared: Path, reproduced: Project, kind: str
) -> None:
    """A file that is no store is named, with a way out, and not one byte of it changes."""
    path = tmp_path / ".mlnb" / "mlflow.db"
    path.parent.mkdir()
    if kind in ("another database", "half migrated"):
        connection = sqlite3.connect(path)
        with connection:
            connection.execute("CREATE TABLE experiments (name TEXT)")
            if kind == "half migrated":
                connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.close()
    else:
        path.write_bytes({"empty": b"", "torn": _torn(shared), "text": b"no database at all"}[kind])
    before = path.read_bytes()
    with pytest.raises(TrackingError, match=r"mlflow.db: not a usable MLflow store[^$]*backup"):
        tracking.ensure_store(Project(tmp_path, Settings()))
    assert path.read_bytes() == before


def test_the_address_has_one_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting, then the environment; an SQLite path is taken from the project's root."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert tracking.ensure_store(Project(tmp_path, Settings())) == "http://127.0.0.1:9"
    chosen = Settings(tracking_uri="https://example.org")
    assert tracking.ensure_store(Project(tmp_path, chosen)) == "https://example.org"
    for uri in ("sqlite://", "sqlite:///:memory:", "sqlite:///x.db?mode=ro"):
        with pytest.raises(TrackingError, match="must be a file"):
            tracking.ensure_store(Project(tmp_path, Settings(tracking_uri=uri)))
    (tmp_path / "x.db").write_bytes(b"")
    with pytest.raises(TrackingError, match=rf"{tmp_path}/x\.db"):
        tracking.ensure_store(Project(tmp_path, Settings(tracking_uri="sqlite:///x.db")))


def test_an_experiment_copy_of_dvc_uses_the_projects_store(tmp_path: Path) -> None:
    """Queued experiments run in a folder that vanishes; their runs belong to the main checkout."""
    copy = Project(tmp_path / ".dvc" / "tmp" / "exps" / "tmpx", Settings())
    (tmp_path / ".mlnb").mkdir()
    (tmp_path / ".mlnb" / "mlflow.db").write_bytes(b"")
    with pytest.raises(TrackingError, match=rf"{tmp_path}/\.mlnb/mlflow\.db"):
        tracking.ensure_store(copy)


def test_a_server_that_is_away_is_named_without_its_password(
    copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that nobody answers is an error with a way out, soon."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = Settings(tracking_uri="http://ada:secret@127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"http://127.0.0.1:9: .*cannot be used") as caught:
        tracking.track(dataclasses.replace(copy, settings=away), _load(copy))
    assert "secret" not in str(caught.value)
    assert "MLFLOW_TRACKING_URI" in caught.value.remedy


def test_a_store_of_another_schema_is_named(tmp_path: Path, shared: Path, copy: Project) -> None:
    """After an upgrade of MLflow the command that migrates is the remedy."""
    path = tmp_path / "old.db"
    shutil.copy(shared, path)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = 'cc1f77228345'")
        connection.execute(
            "INSERT INTO experiments (name, lifecycle_stage) VALUES (?, 'active')",
            (copy.root.name,),
        )
    connection.close()
    old = dataclasses.replace(copy, settings=Settings(tracking_uri=f"sqlite:///{path}"))
    with pytest.raises(TrackingError, match=f"`mlflow db upgrade sqlite:///{path}`"):
        tracking.track(old, _load(copy))
