"""`mlnb compare`: the table, Markdown, JSON and differences, with values that are meant to hurt.

The store is MLflow's on SQLite. How two models are paired is the statistics' to test.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from promotion_acts import git
from test_run_cache import log

from mlnb import cli, comparison, tracking
from mlnb.comparison import ComparisonError, Difference, Table, terminal
from mlnb.comparison.runs import Place
from mlnb.project import Project, find
from mlnb.tracking.store import reaching

HTML = "<img src=x onerror=alert(1)>|a`b`"
QUOTED = """train.quoted 'x' "y".z"""
HEBREW = "שלום\u202eevil"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with five candidates; the one of number 3 has hostile values."""
    root = tmp_path_factory.mktemp("compare") / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / "pyproject.toml").write_text("[tool.mlnb]\nexperiment = 'cars'\n")
    (root / "dvc.yaml").write_text("stages: {}\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.email", "ada@example.org")
    git(root, "config", "user.name", "Ada")
    project = find(root)
    with reaching(tracking.ensure_store(project)) as client:
        for number in range(1, 6):
            run = log(client, project, number)
            client.log_metric(run, "evaluate.roc_auc", 0.5 + number / 100)
            client.log_metric(run, "evaluate.brier", 0.5 - number / 100)
            client.log_metric(run, "evaluate.same", 1.0)
            client.log_param(run, "train.kind", HTML if number == 3 else "tree")
            client.log_param(run, "train.quoted", HEBREW if number == 3 else "plain")
            client.log_param(run, "train.bound", "NaN" if number == 2 else "1.5")
            if number != 4:
                client.log_metric(run, "evaluate.f1", number / 10)
            client.set_tag(run, "mlnb.verdict", ["pass", "blocked", "error"][number % 3])
        client.set_tag(run, "mlflow.runName", "<b>five</b>")
    with sqlite3.connect(project.state / "mlflow.db") as store:  # MLflow itself refuses quotes
        store.execute("update params set key = ? where key = 'train.quoted'", (QUOTED,))
    store.close()
    return root


@pytest.fixture
def project(root: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(root)
    for name in ("MLNB_TOKEN", "JUPYTERHUB_USER", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return find()


def told(capsys: Any, *words: str) -> str:
    assert cli.main(["compare", *words]) == 0
    return str(capsys.readouterr().out)


def with_champion(table: Table, row: int) -> Table:
    place = Place("production", 7, table.runs.digests[row], "sha256:0", "2026", "ada", "best")
    return dataclasses.replace(table, places=[place])


def test_only_what_differs_is_shown(project: Project, capsys: Any) -> None:
    """A metric that all share is left out and counted; --all shows it."""
    text = told(capsys)
    assert "evaluate.roc_auc" in text and "evaluate.same" not in text
    assert "columns in which all are equal are left out" in text
    assert "evaluate.same" in told(capsys, "--all")


def test_the_best_has_a_star(project: Project, capsys: Any) -> None:
    """The largest of what is better large, the smallest of what is better small, once each."""
    assert told(capsys, "--metric", "roc_auc").count("0.55 *") == 1
    assert told(capsys, "--metric", "brier").count("0.45 *") == 1


@pytest.mark.parametrize(
    ("column", "order"),
    [
        ("roc_auc", [5, 4, 3, 2, 1]),
        ("-roc_auc", [1, 2, 3, 4, 5]),
        ("brier", [5, 4, 3, 2, 1]),
        ("f1", [5, 3, 2, 1, 4]),
        ("-f1", [1, 2, 3, 5, 4]),
        ("train.lr", [1, 2, 3, 4, 5]),
        ("started", [5, 4, 3, 2, 1]),
    ],
)
def test_missing_values_are_last(project: Project, column: str, order: list[int]) -> None:
    """The best comes first, turned round or not; a run without the value stays last."""
    table = comparison.table(project)
    rows = terminal.view(project, table, sort=column).rows
    assert [int(table.runs.digests[row][0:4], 16) for row in rows] == order


def test_hostile_values_are_text(project: Project, capsys: Any) -> None:
    """HTML and signs of Markdown are escaped there, and nothing turns the direction anywhere."""
    plain, marked = told(capsys), told(capsys, "--md")
    assert HTML in plain
    assert "<img" not in marked and "<b>" not in marked
    widths = {line.replace("\\|", "").count("|") for line in marked.splitlines() if "|" in line}
    assert len(widths) == 1
    for text in (plain, marked):
        assert "\u202e" not in text and "u202e" in text and "שלום" in text


def test_json_is_whole_and_strict(project: Project, capsys: Any) -> None:
    """Each value is there as it is, missing ones as null, NaN as text that JSON can hold."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads(told(capsys, "--json", "--all"), parse_constant=refuse)
    assert (found["format"], found["champion"], len(found["runs"])) == (1, None, 5)
    third, fourth = found["runs"][2], found["runs"][3]
    assert third["params"]["train.kind"] == HTML
    assert third["params"][QUOTED] == HEBREW
    assert fourth["metrics"]["evaluate.f1"] is None
    assert found["runs"][1]["params"]["train.bound"] == "nan"
    assert [run["verdict"] for run in found["runs"]] == ["fail", "error", "pass", "fail", "error"]


def test_differences_say_which_way_is_better(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less of a loss is better; an interval around zero says neither; a reason is told."""
    table = with_champion(comparison.table(project), 0)
    ids = table.runs.ids
    found = {
        ids[1]: {"roc_auc": Difference(0.1, 0.05, 0.2), "brier": Difference(-0.1, -0.2, -0.05)},
        ids[2]: {"roc_auc": Difference(-0.1, -0.2, -0.05), "brier": Difference(0.0, -0.1, 0.1)},
    }

    def paired(_: Project, run: str, champion: str) -> dict[str, Difference]:
        assert champion == ids[0]
        if run not in found:
            raise ComparisonError("the predictions are gone")
        return found[run]

    monkeypatch.setattr(terminal, "paired", paired)
    shown = terminal.view(project, table)
    text = terminal.markdown(shown)
    for each in ("▲ +0.1", "▲ -0.1", "▼ -0.1", "≈ +0"):
        assert each in text
    assert text.count("the predictions are gone") == 1
    assert "production v7" in text


def test_production_is_beside_the_last(project: Project) -> None:
    """The run in production is shown though it is not among the newest."""
    table = with_champion(comparison.table(project), 0)
    assert terminal.view(project, table, last=2).rows == [0, 3, 4]


def test_runs_are_told_by_digest_version_and_environment(project: Project) -> None:
    """Each way of naming a run finds it once; what may be several is refused."""
    table = with_champion(comparison.table(project), 1)
    names = ["0003", table.runs.ids[3][:12], "production", "v7", "7", "<b>five</b>"]
    assert list(terminal.view(project, table, names).rows) == [2, 3, 1, 4]
    with pytest.raises(ComparisonError, match="no run 'nothing'"):
        table.find("nothing")


def test_one_run_and_none(project: Project, tmp_path: Path, capsys: Any) -> None:
    """One run is shown with all it has and no star; without any the command says how to get one."""
    text = told(capsys, "0003", "--json")
    assert len(json.loads(text)["runs"][0]["metrics"]) == 5
    assert " *" not in told(capsys, "0003")
    table = comparison.table(Project(tmp_path, project.settings))
    shown = terminal.view(project, table)
    terminal.draw(shown)
    assert "no run yet" in capsys.readouterr().out
    assert terminal.document(project, shown)["runs"] == []


def test_what_differs_between_two(project: Project, capsys: Any) -> None:
    """Parameters and data are told as a difference; a fence is longer than any in it."""
    text = told(capsys, "--diff", "0002", "0003")
    assert "=== parameters" in text and "+train.kind: <img" in text and "=== data" in text
    fenced = terminal.text_of([{"name": "a", "lines": ["+```", "+````"]}], fenced=True)
    assert fenced.startswith("`````diff\n") and fenced.endswith("`````\n")


@pytest.mark.parametrize(
    "words",
    [["--metric", "rocauc"], ["--sort", "nothing"], ["gone"], ["--diff", "0002"],
     ["--sweep", "none"]],
)  # fmt: skip
def test_bad_words_are_refused(project: Project, words: list[str], capsys: Any) -> None:
    """What there is not is named, with exit code 2 and no traceback."""
    assert cli.main(["compare", *words]) == 2
    assert capsys.readouterr().err.startswith("mlnb: ")
