"""The cache of runs: it says what MLflow says, whatever was done to the store meanwhile.

MLflow's own search is the oracle.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlnb import tracking
from mlnb.project import Project, Settings
from mlnb.tracking import cache
from mlnb.tracking.store import experiment, reaching

HOSTILE = ["a'b", 'a"b', "train.lr", "<img onerror=1>", "נתונים", "a\u202eb", "%_'; --", " "]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with four runs; no test changes it."""
    root = tmp_path_factory.mktemp("begun") / "project"
    root.mkdir()
    project = Project(root, Settings(experiment="cars"))
    with client_of(project) as client:
        for number in range(4):
            log(client, project, number)
    return root


@pytest.fixture
def project(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of it to change."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = Path(shutil.copytree(begun, tmp_path / "project"))
    return Project(root, Settings(experiment="cars"))


def client_of(project: Project) -> Any:
    return reaching(tracking.ensure_store(project))


def log(client: Any, project: Project, number: int, *, status: str = "FINISHED") -> str:
    """Log a candidate; return MLflow's id."""
    from mlflow.entities import Metric, Param, RunTag

    home = client.get_experiment_by_name(experiment(project)).experiment_id
    run = client.create_run(home, start_time=1_700_000_000_000 + number, run_name=f"run {number}")
    digest = f"{number & 0xFFFF:04x}".ljust(64, "0")
    tags = {"mlnb.candidate": digest, "mlnb.data.raw": f"f{number:010d}f"}
    client.log_batch(
        run.info.run_id,
        metrics=[Metric("evaluate.auc", number / 10, 1, 0)],
        params=[Param("train.lr", json.dumps(number)), Param(f"only.{number}", "x")],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    client.set_terminated(run.info.run_id, status)
    return str(run.info.run_id)


def said(project: Project) -> list[tuple[Any, ...]]:
    """Return what MLflow says of the finished candidates."""
    with client_of(project) as client:
        home = client.get_experiment_by_name(experiment(project)).experiment_id
        found = client.search_runs([home], max_results=1000)
    told = []
    for run in found:
        data = run.data
        if run.info.status == "FINISHED" and "mlnb.candidate" in data.tags:
            metrics = {n: v for n, v in data.metrics.items() if math.isfinite(v)}
            told.append((run.info.run_id, run.info.run_name, metrics, data.params, ours(data.tags)))
    return sorted(told, key=lambda each: each[0])


def ours(tags: dict[str, str]) -> dict[str, str]:
    return {n: v for n, v in tags.items() if n.startswith("mlnb.")}


def kept(project: Project) -> list[tuple[Any, ...]]:
    """Return the same as the cache says it."""
    runs = tracking.all_runs(project)
    return sorted(
        (
            (
                run, runs.names[row], runs.row(row, "metric"), runs.row(row, "param"),
                ours(runs.row(row, "tag")),
            )
            for row, run in enumerate(runs.ids)
        ),
        key=lambda each: each[0],
    )  # fmt: skip


def ids(project: Project) -> list[str]:
    return list(tracking.all_runs(project).ids)


def a_new_run(client: Any, project: Project, runs: list[str]) -> None:
    log(client, project, 9)


def an_older_run_logged_late(client: Any, project: Project, runs: list[str]) -> None:
    log(client, project, -5000)


def one_that_goes_on(client: Any, project: Project, runs: list[str]) -> None:
    made = log(client, project, 9, status="RUNNING")
    assert made not in ids(project)
    log(client, project, 10)
    assert len(ids(project)) == 5
    client.set_terminated(made, "FINISHED")


def one_deleted(client: Any, project: Project, runs: list[str]) -> None:
    client.delete_run(runs[1])


def one_restored(client: Any, project: Project, runs: list[str]) -> None:
    client.delete_run(runs[1])
    log(client, project, 9)
    assert len(ids(project)) == 4
    client.restore_run(runs[1])


def a_tag_of_equal_length_and_ends(client: Any, project: Project, runs: list[str]) -> None:
    client.set_tag(runs[2], "mlnb.data.raw", "f9876543210f")


def two_tags_changed_for_each_other(client: Any, project: Project, runs: list[str]) -> None:
    client.set_tag(runs[2], "mlnb.data.raw", "f0000000003f")
    client.set_tag(runs[3], "mlnb.data.raw", "f0000000002f")


def a_tag_removed(client: Any, project: Project, runs: list[str]) -> None:
    client.delete_tag(runs[0], "mlnb.data.raw")


def no_candidate_any_more(client: Any, project: Project, runs: list[str]) -> None:
    client.delete_tag(runs[0], "mlnb.candidate")


def judged_again(client: Any, project: Project, runs: list[str]) -> None:
    client.set_tag(runs[0], "mlnb.verdict", "pass")
    assert kept(project) == said(project)
    client.set_tag(runs[0], "mlnb.verdict", "fail")


def a_metric_added_later(client: Any, project: Project, runs: list[str]) -> None:
    client.log_metric(runs[0], "evaluate.brier", 0.2)


def a_metric_logged_again(client: Any, project: Project, runs: list[str]) -> None:
    client.log_metric(runs[1], "evaluate.auc", 0.9, step=1)


def a_metric_that_is_no_number(client: Any, project: Project, runs: list[str]) -> None:
    client.log_metric(runs[1], "evaluate.odd", math.nan)
    client.log_metric(runs[2], "evaluate.odd", math.inf)
    client.log_metric(runs[3], "evaluate.odd", 1e300)


def a_zero_that_becomes_no_number(client: Any, project: Project, runs: list[str]) -> None:
    with sqlite3.connect(project.state / "mlflow.db") as store:
        store.execute("update latest_metrics set is_nan = 1 where value = 0")


def another_name(client: Any, project: Project, runs: list[str]) -> None:
    client.set_tag(runs[1], "mlflow.runName", "<b>'best'</b> שלום")


def hostile_values(client: Any, project: Project, runs: list[str]) -> None:
    for number, text in enumerate(HOSTILE):
        client.log_param(runs[0], f"hostile.{number}", text)
        client.set_tag(runs[0], f"mlnb.data.{number}", text)


def one_gone_for_good(client: Any, project: Project, runs: list[str]) -> None:
    with sqlite3.connect(project.state / "mlflow.db") as store:
        for table in ("tags", "params", "latest_metrics", "metrics", "runs"):
            store.execute(f"delete from {table} where run_uuid = ?", (runs[3],))
    log(client, project, 9)


CHANGES: list[Callable[[Any, Project, list[str]], None]] = [
    a_new_run,
    an_older_run_logged_late,
    one_that_goes_on,
    one_deleted,
    one_restored,
    a_tag_of_equal_length_and_ends,
    two_tags_changed_for_each_other,
    a_tag_removed,
    no_candidate_any_more,
    judged_again,
    a_metric_added_later,
    a_metric_logged_again,
    a_metric_that_is_no_number,
    a_zero_that_becomes_no_number,
    another_name,
    hostile_values,
    one_gone_for_good,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_is_done_to_a_store_is_seen(project: Project, change: Any) -> None:
    """After each change that MLflow allows, and some that it does not, both say the same."""
    assert kept(project) == said(project)
    with client_of(project) as client:
        change(client, project, ids(project))
    assert kept(project) == said(project)
    with client_of(project) as client:
        log(client, project, 77)
    assert kept(project) == said(project)


def test_many_changes_one_after_the_other(project: Project) -> None:
    """New runs among deletions leave nothing where it does not belong, however many looks."""
    with client_of(project) as client:
        for number in range(10, 20):
            made = log(client, project, number)
            if number % 3 == 0:
                client.delete_run(made)
            assert len(ids(project)) == len(said(project))
    assert kept(project) == said(project)


def test_nothing_is_read_where_nothing_changed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second look opens no table."""
    before = kept(project)

    def read(*_: Any) -> Any:
        raise AssertionError("the store was read")

    monkeypatch.setattr(cache, "_read", read)
    assert kept(project) == before


def test_only_what_is_new_is_read(project: Project) -> None:
    """What the cache holds is believed for runs that are as they were."""
    ids(project)
    path = project.state / "runs.db"
    assert path.stat().st_mode & 0o777 == 0o600
    known = cache._load(path, tracking.ensure_store(project), experiment(project))
    assert known is not None
    marked = [f"marked {name}" for name in known.runs.columns["param", "train.lr"]]
    columns = {**known.runs.columns, ("param", "train.lr"): marked}
    runs = cache.Runs(
        known.runs.ids, known.runs.names, known.runs.digests, known.runs.started, columns
    )
    uri = tracking.ensure_store(project)
    cache._save(path, uri, experiment(project), cache._Kept(runs, known.stamp))
    with client_of(project) as client:
        log(client, project, 9)
    found = tracking.all_runs(project).columns["param", "train.lr"]
    assert [str(each).startswith("marked") for each in found] == [True] * 4 + [False]


@pytest.mark.parametrize("part", ["nothing", "half", "noise", "format", "no columns"])
def test_a_damaged_cache_is_made_anew(project: Project, part: str) -> None:
    """A cache that is cut, noise, of another format or empty is replaced without a word."""
    before = kept(project)
    path = project.state / "runs.db"
    data = path.read_bytes()
    if part == "nothing":
        path.write_bytes(b"")
    elif part == "half":
        path.write_bytes(data[: len(data) // 2])
    elif part == "noise":
        path.write_bytes(os.urandom(4096))
    else:
        with sqlite3.connect(path) as store:
            if part == "format":
                about = json.loads(store.execute("select text from about").fetchone()[0])
                store.execute("update about set text = ?", (json.dumps(about | {"format": 99}),))
            else:
                store.execute("delete from columns")
    assert kept(project) == before
    assert path.stat().st_size > len(data) // 2


def test_a_flipped_bit_shows_no_wrong_number(project: Project) -> None:
    """Of caches with one byte changed anywhere, none makes a run say what it did not."""
    before = kept(project)
    path = project.state / "runs.db"
    data = path.read_bytes()
    for at in range(0, len(data), 211):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
        assert kept(project) == before, f"byte {at}"


def test_a_cache_that_cannot_be_written_is_only_slow(project: Project) -> None:
    """A folder in its place costs time, not the answer."""
    (project.state / "runs.db").mkdir()
    assert kept(project) == said(project)


def test_looking_imports_no_mlflow(project: Project) -> None:
    """Neither MLflow nor pandas is imported to read an SQLite store."""
    code = (
        "import sys; from pathlib import Path; from mlnb import tracking;"
        "from mlnb.project import Project, Settings;"
        "runs = tracking.all_runs(Project(Path(sys.argv[1]), Settings(experiment='cars')));"
        "print(len(runs.ids), [n for n in ('mlflow', 'pandas', 'sqlalchemy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(project.root)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "4 []"


def test_without_a_store_there_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that was never tracked has no runs, and looking makes no store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert ids(Project(tmp_path, Settings())) == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """MLflow's parts warn of each other."""
    with warnings.catch_warnings(action="ignore"):
        yield
