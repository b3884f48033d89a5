"""`mlnb gate`: a verdict that belongs to what is here, its page, and exit codes to build on."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from statements import publish
from test_gates import AUC, OWN, PRODUCTION, SECTION, STORE, packed, predict, settled
from test_reports_browser import CHROMIUM, CONTRAST

import notebooks
from mlnb import cli
from mlnb.files import write_json
from mlnb.gates import Finding, Judgement, Ruling, Wear, verdicts
from mlnb.gates import judge as judging
from mlnb.reports.gates import render
from mlnb.reports.safety import POLICY

VERDICT, PAGE, WEAR = "reports/gates.json", "reports/gates.html", "deployments/test-sets.json"
HIGH: dict[str, Any] = {"id": "high", "metric": "roc_auc", "min": 0.99}
RULES: list[dict[str, Any]] = [
    AUC,
    {"id": "naive", "metric": "roc_auc", "against": "baseline", "gain": 0},
    {"id": "champion", "metric": "roc_auc", "against": "champion", "tolerance": 0.01},
    {"id": "race", "metric": "recall", "groups": ["race"], "max_difference": 0.4},
    {"id": "own", "check": "gates_of_commands:fine"},
    {"id": "schema", "schema": "rows.yaml"},
]
PACKAGE = {
    "model": "binary-logistic.skops",
    "task": "binary",
    "rows": "rows.parquet",
    "target": "yes",
    "group": "household",
    "train": {"split": ["train"]},
    "test": {"split": ["test"]},
}
STAGES = {
    "package": {
        "cmd": "mlnb package",
        "deps": ["binary-logistic.skops", "rows.parquet"],
        "params": ["package"],
        "outs": ["models/bundle"],
    },
    "gate": {
        "cmd": "mlnb gate",
        "deps": ["models/bundle", "predictions.parquet", "rows.parquet", PRODUCTION],
        "params": ["gates", "evaluate.threshold"],
        "outs": [
            PAGE,
            {VERDICT: {"cache": False}},
            {WEAR: {"cache": False, "persist": True}},
        ],
    },
}
COLUMNS = {"age": {"dtype": "float64", "greater_than_or_equal_to": 0}}


def write_params(root: Path, *rules: dict[str, Any], threshold: float = 0.5, **more: Any) -> None:
    """Write params.yaml with these rules."""
    section = SECTION | {"threshold": "evaluate.threshold", "metrics": "figures.json"}
    section |= more | {"rules": list(rules)}
    values = {"package": PACKAGE, "evaluate": {"threshold": threshold}, "gates": section}
    (root / "params.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was packed, and judged to pass, by the commands; no test changes it."""
    root = settled(tmp_path_factory.mktemp("gate") / "project")
    shutil.rmtree(root / "models")
    notebooks.project(root, dvc=yaml.safe_dump({"stages": STAGES}))
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    (root / "gates_of_commands.py").write_text(OWN)
    (root / "rows.yaml").write_text(
        yaml.safe_dump({"schema_type": "dataframe", "api": "pandas", "columns": COLUMNS})
    )
    write_params(root, *RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert cli.main(["package"]) == 0
        predict(root)
        said = pd.read_parquet(root / "predictions.parquet")
        write_json(root / "figures.json", {"brier": float(((said.score - said.yes) ** 2).mean())})
        assert cli.main(["gate"]) == 0
    return root


@pytest.fixture
def project(judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to change, and the working directory."""
    root = Path(shutil.copytree(judged, tmp_path / "project"))
    monkeypatch.chdir(root)
    return root


def ruled(root: Path) -> dict[str, Any]:
    """Return what the verdict's file says."""
    found: dict[str, Any] = json.loads((root / VERDICT).read_text())
    return found


# --- Judging ---------------------------------------------------------------------------------


def test_a_pass_is_told_and_written(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has each rule, the file and the page the verdict; the check passes too."""
    assert cli.main(["gate"]) == 0
    printed = capsys.readouterr().out
    for rule in RULES:
        assert f"  {rule['id']}" in printed
    assert "candidate 1 judged on this test set" in printed
    assert printed.endswith("pass: the candidate may be promoted\n")
    assert ruled(project)["verdict"] == "pass"
    assert "The candidate passes" in (project / PAGE).read_text()
    assert cli.main(["gate", "--check"]) == 0


def test_judged_again_it_is_the_same(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict, the page and the count of uses are the same bytes, in any process."""
    rules = [*RULES, {"id": "golden", "golden": "exact"}, {"id": "fast", "latency": "5 s"}]
    write_params(project, *rules)
    assert cli.main(["gate"]) == 0
    assert "one row took " in capsys.readouterr().out
    kept = {name: (project / name).read_bytes() for name in (VERDICT, PAGE, WEAR)}
    subprocess.run([sys.executable, "-m", "mlnb", "gate"], check=True, capture_output=True)
    assert {name: (project / name).read_bytes() for name in kept} == kept
    (fast,) = (each for each in ruled(project)["rulings"] if each["id"] == "fast")
    assert fast["findings"] == [
        {"most": 5000.0, "subject": "one row", "verdict": "pass", "words": "within 5 s"}
    ]


def test_a_blocked_candidate_lets_the_pipeline_finish(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Judging exits 0 and writes why; the check exits 1."""
    write_params(project, HIGH, AUC)
    assert cli.main(["gate"]) == 0
    printed = capsys.readouterr().out
    assert "fail          high" in printed and "breaks 0.99" in printed
    assert "blocked; reports/gates.html shows why" in printed
    assert ruled(project)["verdict"] == "blocked"
    assert "The candidate is blocked" in (project / PAGE).read_text()
    assert cli.main(["gate", "--check"]) == 1
    write_params(project, HIGH | {"on_fail": "warn"}, AUC)
    assert cli.main(["gate"]) == 0
    assert "warns only" in capsys.readouterr().out
    assert cli.main(["gate", "--check"]) == 0


def test_an_error_is_no_verdict(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One rule in error, even one that only warns: exit code 2, from the check as well."""
    write_params(
        project, AUC, {"id": "own", "check": "gates_of_commands:broken", "on_fail": "warn"}
    )
    assert cli.main(["gate"]) == 2
    out, err = capsys.readouterr()
    assert "raised KeyError: 'aeg'" in out and "cannot be judged" in out and "Traceback" not in err
    assert ruled(project)["verdict"] == "error"
    assert "The candidate cannot be judged" in (project / PAGE).read_text()
    assert cli.main(["gate", "--check"]) == 2


@pytest.mark.parametrize(
    ("section", "messages"),
    [
        (None, ["no rules in section `gates`"]),
        ({}, ["no rules in section `gates`"]),
        (SECTION | {"rules": []}, ["no rules in section `gates`"]),
        (
            SECTION | {"rules": [AUC, AUC, HIGH | {"metric": "auc"}], "threshold": "none.such"},
            ["two rules have the id 'auc'", "rule 'high': metric cannot be 'auc'"],
        ),
    ],
)
def test_wrong_rules_are_no_verdict(
    section: Any, messages: list[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All faults are told, exit code 2, no traceback, and no former verdict is left behind."""
    (project / "params.yaml").write_text(yaml.safe_dump({"gates": section}))
    assert cli.main(["gate", "--check"]) == 2
    assert (project / VERDICT).exists()
    capsys.readouterr()
    assert cli.main(["gate"]) == 2
    err = capsys.readouterr().err
    for message in messages:
        assert message in err
    assert "Traceback" not in err
    assert not (project / VERDICT).exists() and not (project / PAGE).exists()
    assert cli.main(["gate", "--check"]) == 2


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "predictions.parquet").unlink(), "predictions.parquet: cannot be"),
        (lambda root: _cut(root / "predictions.parquet"), "predictions.parquet: is not a table"),
        (lambda root: shutil.rmtree(root / "models"), "models/bundle"),
        (lambda root: _cut(root / "models/bundle/model.skops"), "model.skops"),
        (lambda root: (root / "rows.parquet").unlink(), "rows.parquet: cannot be read"),
        (lambda root: (root / PRODUCTION).unlink(), f"{PRODUCTION}: cannot be read"),
        (lambda root: (root / "figures.json").unlink(), "figures.json: cannot be read"),
        (lambda root: (root / "figures.json").write_text('{"brier": 0.01}'), "brier is 0.01 there"),
        (lambda root: (root / WEAR).write_text("{"), "does not count uses of test sets"),
    ],
)
def test_what_cannot_be_read_is_an_error(
    spoil: Callable[[Path], Any], message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is missing, damaged or edited: exit code 2, and the verdict says error."""
    spoil(project)
    assert cli.main(["gate"]) == 2
    out, err = capsys.readouterr()
    assert message in out and "Traceback" not in err
    assert ruled(project)["verdict"] == "error"
    assert cli.main(["gate", "--check"]) == 2


def test_the_champion_is_read_from_the_store(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is found by its digest; a byte that changed there is an error, never the first run."""
    bundle = packed(project, "binary-xgboost", "champion")
    publish(project, bundle)
    write_params(
        project, {"id": "it", "metric": "roc_auc", "against": "champion", "tolerance": 0.5}
    )
    assert cli.main(["gate"]) == 0
    assert ruled(project)["champion"] == "3" and ruled(project)["verdict"] == "pass"
    assert "In production: version 3" in (project / PAGE).read_text()
    kept = project / STORE / bundle.digest.removeprefix("sha256:") / "golden.json"
    kept.write_bytes(kept.read_bytes() + b" ")
    capsys.readouterr()
    assert cli.main(["gate"]) == 2
    assert "golden.json" in capsys.readouterr().out


def test_uses_of_the_test_set_are_counted(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each candidate counts once; from `warn` on the terminal and the page say so."""
    limit = {"file": WEAR, "warn": 2}
    write_params(project, AUC, wear=limit)
    assert cli.main(["gate"]) == 0
    assert "candidate 1 judged on this test set\n" in capsys.readouterr().out
    packed(project, "binary-forest")
    predict(project)
    write_params(project, AUC, wear=limit, metrics=None)
    for _ in range(2):
        assert cli.main(["gate"]) == 0
        assert "candidate 2 judged on this test set: too many" in capsys.readouterr().out
    assert "2 candidates were judged on this test set" in (project / PAGE).read_text()
    assert [len(each) for each in json.loads((project / WEAR).read_text())["sets"].values()] == [2]


# --- The check -------------------------------------------------------------------------------


def test_the_check_computes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads and compares; nothing is judged and nothing written."""
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("judged")

    monkeypatch.setattr(judging, "judge", never)
    monkeypatch.setattr(judging, "evidence_of", never)
    assert cli.main(["gate", "--check"]) == 0
    now = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert now == before


def _append(name: str, text: str = " ") -> Callable[[Path], Any]:
    def spoil(root: Path) -> None:
        with (root / name).open("a") as file:
            file.write(text)

    return spoil


def _replace(name: str, old: str, new: str) -> Callable[[Path], Any]:
    def spoil(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return spoil


def _shuffle(root: Path) -> None:
    said = pd.read_parquet(root / "predictions.parquet")
    said["score"] = said["score"].to_numpy()[::-1]
    said.to_parquet(root / "predictions.parquet", index=False)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_shuffle, "predictions.parquet changed since"),
        (_append("rows.parquet"), "rows.parquet changed since"),
        (_append("models/bundle/model.skops"), "models/bundle"),
        (lambda root: packed(root, "binary-forest"), "models/bundle changed since"),
        (lambda root: shutil.rmtree(root / "models"), "models/bundle"),
        (_append("figures.json"), "figures.json changed since"),
        (lambda root: (root / "figures.json").unlink(), "figures.json changed since"),
        (_append(PRODUCTION), f"{PRODUCTION} changed since"),
        (_append("rows.yaml"), "rows.yaml changed since"),
        (_append("gates_of_commands.py"), "gates_of_commands.py changed since"),
        (_replace("params.yaml", "min: 0.6", "min: 0.5"), "gates changed since"),
        (lambda root: write_params(root, *RULES, threshold=0.4), "gates changed since"),
        (_replace(VERDICT, '"verdict": "pass"', '"verdict":  "pass"'), ""),
        (_replace(VERDICT, '"rows": 600', '"rows": 601'), f"{VERDICT}: was edited"),
        (lambda root: (root / VERDICT).unlink(), f"{VERDICT}: cannot be read"),
        (lambda root: (root / VERDICT).write_text("{}"), f"{VERDICT}: is not a judgement"),
    ],
)
def test_a_verdict_on_something_else_is_refused(
    spoil: Callable[[Path], Any], message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever it rests on that changed since is named, exit code 2; spaces change nothing."""
    spoil(project)
    assert cli.main(["gate", "--check"]) == (2 if message else 0)
    assert message in capsys.readouterr().err


# --- Explaining, and the schema --------------------------------------------------------------


def test_a_rule_is_explained(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows, clusters, method and what could have been seen; a near miss gets a suggestion."""
    assert cli.main(["gate", "explain", "naive"]) == 0
    said = capsys.readouterr().out
    for words in ("naive passes", "600 rows of 200 clusters", "by paired", "four times in five"):
        assert words in said
    assert cli.main(["gate", "explain", "naiv"]) == 2
    assert "Did you mean 'naive'?" in capsys.readouterr().err
    assert cli.main(["gate", "explain"]) == 2
    assert "One of auc, naive, champion" in capsys.readouterr().err
    (project / VERDICT).unlink()
    assert cli.main(["gate", "explain", "naive"]) == 2


def test_the_schema_is_printed_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An editor gets it without a project."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["gate", "schema"]) == 0
    assert "gates" in json.loads(capsys.readouterr().out)["properties"]
    assert cli.main(["gate"]) == 2


# --- DVC -------------------------------------------------------------------------------------


def test_dvc_keeps_the_verdict(
    project: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As a stage: pass, blocked and error; an edit with a new seal is not what dvc.lock records."""
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(tmp_path_factory.mktemp("site")),
    }

    def dvc(*words: str) -> int:
        return subprocess.run(["dvc", *words], env=env, capture_output=True).returncode

    assert dvc("repro") == 0
    assert cli.main(["gate", "--check"]) == 0
    uses = (project / WEAR).read_bytes()
    lock = (project / "dvc.lock").read_bytes()
    assert dvc("repro", "--force", "--single-item", "gate") == 0
    assert (project / "dvc.lock").read_bytes() == lock
    assert (project / WEAR).read_bytes() == uses

    found = verdicts.parse((project / VERDICT).read_text(), where=VERDICT)
    better = dataclasses.replace(found.rulings[0], asks="roc_auc at least 0.9")
    forged = dataclasses.replace(found, rulings=(better, *found.rulings[1:]))
    (project / VERDICT).write_text(verdicts.to_text(forged))
    capsys.readouterr()
    assert cli.main(["gate", "--check"]) == 2
    assert f"{VERDICT}: is not what dvc.lock records" in capsys.readouterr().err

    write_params(project, HIGH)
    assert dvc("repro") == 0
    assert cli.main(["gate", "--check"]) == 1
    write_params(project, {"id": "own", "check": "gates_of_commands:leaves"})
    assert dvc("repro") != 0
    assert ruled(project)["verdict"] == "error"
    assert cli.main(["gate", "--check"]) == 2
    assert cli.main(["gate", "explain", "own"]) == 0  # though dvc.lock has the verdict before it


# --- The page --------------------------------------------------------------------------------

HOSTILE = "</td><script>window.f=1</script><img src=x onerror='window.f=1'>\"'"


def hostile() -> Judgement:
    """Return a judgement with hostile text wherever a project can bring text, of every verdict."""
    numbers = {"value": 0.8, "low": 0.7, "high": 0.9, "least": 0.75, "most": 0.85}
    findings = [
        Finding(HOSTILE, verdict, HOSTILE, **numbers, rows=600, clusters=200, method=HOSTILE,
                detectable=0.05)
        for verdict in verdicts.WORST
    ]  # fmt: skip
    rulings = [
        Ruling(f"{HOSTILE}{n}", HOSTILE, n != 1, (f,), (HOSTILE,)) for n, f in enumerate(findings)
    ]
    return Judgement(
        (*rulings, Ruling("all", "x", True, tuple(findings))),
        tuple(findings),
        {HOSTILE: "sha256:" + "0" * 64, "missing": ""},
        champion=HOSTILE,
        wear=Wear("sha256:0", 30, 20),
    )


def test_the_page_shows_what_was_found(judged: Path) -> None:
    """The verdict on top, each rule with its interval as a drawing, rows, and what it rests on."""
    page = (judged / PAGE).read_text()
    assert "<h1>The candidate passes</h1>" in page
    (auc,) = (each for each in ruled(judged)["rulings"] if each["id"] == "auc")
    (seen,) = auc["findings"]
    for text in (
        f'aria-label="{seen["value"]:.4g}  [{seen["low"]:.4g}, {seen["high"]:.4g}]"',
        "600 rows of 200 clusters; would see a difference of",
        "an interval of 90%",
        "Can it be judged?",
        "What it rests on",
    ):
        assert text in page
    assert f'content="{POLICY}"' in unescape(page)
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_the_page_escapes_all_text() -> None:
    """No rule, word, column value, champion or path brings markup into the page."""
    page = render(hostile())
    assert "<script>window" not in page and "<img" not in page
    assert page.count("&lt;script&gt;") > 20


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--no-first-run", "--disable-gpu"]
        )
        yield launched
        launched.close()


def test_a_browser_shows_the_page(browser: Any, judged: Path) -> None:
    """In light and dark, wide and narrow: nothing runs, loads or is cut, and all is legible."""
    for scheme in ("light", "dark"):
        for width in (1280, 375):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            called: list[str] = []
            page.on("request", lambda request, called=called: called.append(request.url))
            for html in ((judged / PAGE).read_text(), render(hostile())):
                page.set_content(html)
                wide = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
                assert wide[0] <= wide[1]
                assert page.evaluate(CONTRAST) == []
                assert page.evaluate("window.f") is None
                assert page.locator("svg.interval:visible").count() >= 3
            assert called == []
            page.close()
