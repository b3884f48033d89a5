"""Verification: real DVC projects, run again in folders with what they declare."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnb import verify
from mlnb.project import find
from mlnb.verify import StageResult, Verification
from notebooks import parameters
from notebooks import write as notebook

ROOT = Path(__file__).parents[1]

SCRIPTS = {
    "good.py": """
        import json
        rows = open("data/raw.csv").read().splitlines()
        json.dump({"rows": len(rows)}, open("out/good.json", "w"))
    """,
    "near.py": """
        import json, os
        auc = 0.81 + 1e-12 * os.path.exists("data/raw.csv")
        json.dump({"auc": auc}, open("out/near.json", "w"))
    """,
    "moved.py": """
        import json, os
        auc = 0.8 if os.path.exists("data/raw.csv") else 0.7
        json.dump({"test": {"auc": auc, "n": 5}}, open("out/moved.json", "w"))
    """,
    "reads.py": """
        open("out/reads.txt", "w").write(open("data/extra.csv").read())
    """,
    "writes.py": """
        open("out/writes.txt", "w").write("a")
        open("out/more.txt", "w").write("b")
    """,
    "modifies.py": """
        open("data/list.txt", "a").write("once more\\n")
        open("out/modifies.txt", "w").write("a")
    """,
    "imports.py": """
        import features
        open("out/imports.txt", "w").write(features.NAME)
    """,
    "features.py": """
        NAME = "local"
    """,
    "param.py": """
        from ruamel.yaml import YAML
        values = YAML(typ="safe").load(open("params.yaml"))
        open("out/param.txt", "w").write(str(values["scale"] + values["model"]["secret"]))
    """,
    "missing.py": """
        import os
        if os.path.exists("data/raw.csv"):
            open("out/missing.txt", "w").write("a")
    """,
    "slow.py": """
        import os, time
        time.sleep(float(os.environ.get("MLNB_TEST_NAP", 0)))
        open("out/slow.txt", "w").write("a")
    """,
    "folder.py": """
        import os, sys
        name = sys.argv[1]
        os.makedirs(f"out/{name}")
        for i in range(3):
            open(f"out/{name}/{i}.csv", "w").write(f"x\\n{i}.5\\n")
    """,
}

PIPELINE = """
stages:
  good:
    cmd: python good.py
    deps: [good.py, data/raw.csv]
    outs: [out/good.json]
  next:
    cmd:
      - cp out/good.json out/copy.json
      - python -c "print('two lines')"
    deps: [out/good.json]
    outs: [out/copy.json]
  near: {cmd: python near.py, deps: [near.py], outs: [out/near.json]}
  moved:
    cmd: python moved.py
    deps: [moved.py]
    metrics: [{out/moved.json: {cache: false}}]
  reads: {cmd: python reads.py, deps: [reads.py], outs: [out/reads.txt]}
  writes: {cmd: python writes.py, deps: [writes.py], outs: [out/writes.txt]}
  modifies: {cmd: python modifies.py, deps: [modifies.py, data/list.txt], outs: [out/modifies.txt]}
  imports: {cmd: python imports.py, deps: [imports.py], outs: [out/imports.txt]}
  param: {cmd: python param.py, deps: [param.py], params: [scale], outs: [out/param.txt]}
  missing: {cmd: python missing.py, deps: [missing.py], outs: [out/missing.txt]}
  after: {cmd: cp out/missing.txt out/after.txt, deps: [out/missing.txt], outs: [out/after.txt]}
  slow: {cmd: python slow.py, deps: [slow.py], outs: [out/slow.txt]}
  folder:
    matrix: {name: [a, b]}
    cmd: python folder.py ${item.name}
    deps: [folder.py]
    outs: ["out/${item.name}"]
"""
PARAMS = "scale: 1e-3   # kept as written\nmodel:\n  secret: 5\n"


def shell(folder: Path, *words: str) -> None:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def dvc(folder: Path, *words: str) -> None:
    shell(folder, sys.executable, "-m", "dvc", *words)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    first = next((line for line in text.splitlines() if line.strip()), "")
    margin = len(first) - len(first.lstrip())
    path.write_text("\n".join(line[margin:] for line in text.splitlines()).lstrip("\n") + "\n")


@pytest.fixture(scope="module", autouse=True)
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put this interpreter and this mlnb on the PATH, as an activated environment would."""
    folder = tmp_path_factory.mktemp("bin")
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from mlnb.cli import entry; entry()"
    write(folder / "mlnb", f'#!/bin/sh\nexec "{sys.executable}" -c "{start}" "$@"')
    (folder / "mlnb").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        path = [str(Path(sys.executable).parent), str(folder), os.environ["PATH"]]
        patch.setenv("PATH", os.pathsep.join(path))
        yield


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name, text in SCRIPTS.items():
        write(folder / name, text)
    write(folder / "dvc.yaml", PIPELINE)
    write(folder / "params.yaml", PARAMS)
    write(folder / "data" / "raw.csv", "x\n1\n2")
    write(folder / "data" / "extra.csv", "x\n3")
    write(folder / "data" / "list.txt", "first")
    (folder / "out").mkdir()
    dvc(folder, "init", "--no-scm", "-q")
    dvc(folder, "repro", "-q")
    return folder


@pytest.fixture(scope="module")
def found(project: Path) -> Verification:
    return verify.verify(find(project))


def result(found: Verification, stage: str) -> StageResult:
    return next(r for r in found.results if r.stage == stage)


@pytest.mark.parametrize("stage", ["good", "next", "slow", "folder@a", "folder@b"])
def test_the_same_bytes(found: Verification, stage: str) -> None:
    """A stage that declares what it reads and writes gives the same bytes in its own folder."""
    assert result(found, stage).verdict == "identical"


def test_the_same_but_for_the_last_digits(found: Verification) -> None:
    """A difference in the last digits is told from none, and passes."""
    assert result(found, "near").verdict == "within tolerance"
    assert result(found, "near").passed


def test_moved(found: Verification) -> None:
    """A metric that depends on an undeclared file moves, and is named with both values."""
    moved = result(found, "moved")
    assert moved.verdict == "moved"
    assert [str(d) for d in moved.differences] == ["out/moved.json, test.auc: 0.8 became 0.7"]
    assert not found.passed


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("reads", "reads data/extra.csv, {}: add `- data/extra.csv` to `deps` of stage reads"),
        ("writes", "writes out/more.txt, {}: add `- out/more.txt` to `outs` of stage writes"),
        ("modifies", "changes its input data/list.txt"),
        ("imports", "reads features.py, {}: add `- features.py` to `deps` of stage imports"),
        ("param", "reads model of params.yaml, {}: add `- model` to `params` of stage param"),
        ("missing", "does not write out/missing.txt, which dvc.yaml declares"),
    ],
)
def test_undeclared(found: Verification, stage: str, told: str) -> None:
    """What dvc.yaml lacks is named with the line that mends it."""
    failed = result(found, stage)
    assert failed.verdict == "failed"
    told = told.format("which dvc.yaml does not declare")
    assert any(problem.startswith(told) for problem in failed.problems), failed.problems
    assert len([p for p in failed.problems if not p.startswith("its command ended")]) == 1


def test_a_stage_without_input_is_not_run(found: Verification) -> None:
    """A stage that reads what another one failed to write says so, and does not pass."""
    after = result(found, "after")
    assert (after.verdict, after.problems) == ("not run", ("stage missing gave no outputs",))
    assert not after.passed


def test_report(found: Verification) -> None:
    """The table has a line for each stage, and below it what is wrong."""
    lines = verify.format_verification(found).splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("moved "))
    assert lines[place + 1] == "    out/moved.json, test.auc: 0.8 became 0.7"
    assert lines[-1] == "6 of 14 stages give what the workspace has."


def test_the_workspace_is_untouched(project: Path, found: Verification) -> None:
    """Verification writes nothing in the project."""
    assert (project / "data" / "list.txt").read_text().count("once more") == 1
    assert found.kept is None
    dvc(project, "status", "-q")


def test_some_stages(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named stages read what the workspace has; a matrix is named as one; no folder is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lines: list[str] = []
    some = verify.verify(find(project), stages=["folder", "after"], progress=lines.append)
    assert [r.stage for r in some.results] == ["folder@a", "folder@b", "after"]
    assert some.passed
    assert lines[0] == "folder@a: running"
    assert not list(tmp_path.iterdir())


def test_deadline(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command past its deadline is ended with all it started."""
    monkeypatch.setenv("MLNB_TEST_NAP", "60")
    (slow,) = verify.verify(find(project), stages=["slow"], deadline=1).results
    assert slow.problems == ("its command was ended at the deadline",)
    assert slow.seconds < 30


def test_kept(project: Path) -> None:
    """The folders can be kept; a params file in them has what is declared, as it was written."""
    kept = verify.verify(find(project), stages=["param"], keep=True).kept
    assert kept is not None
    try:
        assert (kept / "param" / "params.yaml").read_text() == "scale: 1e-3   # kept as written\n"
        assert not (kept / "param" / "data").exists()
    finally:
        shutil.rmtree(kept)


def test_no_reference(project: Path, tmp_path: Path) -> None:
    """An output that is missing or edited, and a stale stage, cannot be verified."""
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    (copy / "out" / "good.json").unlink()
    (copy / "out" / "near.json").unlink()
    write(copy / "out" / "near.json", "{}")
    write(copy / "slow.py", "print(1)")
    with pytest.raises(verify.CannotVerifyError) as error:
        verify.verify(find(copy), stages=["good", "near", "slow"])
    message = str(error.value)
    assert "output out/good.json is deleted" in message and "dvc pull" in message
    assert "output out/near.json is modified" in message and "dvc checkout" in message
    assert "slow.py has changed since its last run" in message
    assert error.value.exit_code == 2


NOTEBOOKS = {
    "train": (
        'panel: "In" = "data/raw.csv"\nrate: float = 0.5\nmetrics: "Metrics" = "out/train.json"',
        "import json, local\nrows = len(open(panel).read().split())",
        'json.dump({"rate": rate * local.TWO}, open(metrics, "w"))\nprint(rows, rate)',
    ),
    "leaky": (
        'out: "Out" = "out/leaky.txt"',
        'open(out, "w").write(open("data/extra.csv").read())',
    ),
    "moody": (
        'out: "Out" = "out/moody.txt"',
        'open(out, "w").write("a")',
        "import os; print('loss', 0.5 if os.path.exists('data') else 0.25)",
    ),
}
STAGES = """
stages:
  code:
    cmd: mlnb code
    deps: [notebooks, src]
    outs:
      - .mlnb/code/train.py: {cache: false, persist: true}
      - .mlnb/code/leaky.py: {cache: false, persist: true}
      - .mlnb/code/moody.py: {cache: false, persist: true}
  train:
    cmd: mlnb run notebooks/train.ipynb
    deps: [.mlnb/code/train.py, data/raw.csv]
    params: [train]
    outs: [reports/executed/train.ipynb]
    metrics: [{out/train.json: {cache: false}}]
  leaky:
    cmd: mlnb run notebooks/leaky.ipynb
    deps: [.mlnb/code/leaky.py]
    outs: [out/leaky.txt, reports/executed/leaky.ipynb]
  moody:
    cmd: mlnb run notebooks/moody.ipynb
    deps: [.mlnb/code/moody.py]
    outs: [out/moody.txt, reports/executed/moody.ipynb]
"""


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Verification:
    folder = tmp_path_factory.mktemp("notebooks")
    for name, sources in NOTEBOOKS.items():
        notebook(folder / f"notebooks/{name}.ipynb", parameters(sources[0]), *sources[1:])
    write(folder / "src" / "local.py", "TWO = 2")
    write(folder / "dvc.yaml", STAGES)
    write(folder / "params.yaml", "train:\n  rate: 0.25\nother: 1")
    write(folder / "data" / "raw.csv", "x\n1\n2")
    write(folder / "data" / "extra.csv", "x\n3")
    dvc(folder, "init", "--no-scm", "-q")
    write(folder / ".dvcignore", "__pycache__\n.ipynb_checkpoints")
    dvc(folder, "repro", "-q")
    return verify.verify(find(folder))


def test_notebook_stages(notebooks: Verification) -> None:
    """A notebook runs again from its code, its local modules and its values, byte for byte."""
    assert result(notebooks, "code").verdict == "identical"
    assert result(notebooks, "train").verdict == "identical", notebooks


def test_notebook_that_reads_more(notebooks: Verification) -> None:
    """A read inside a cell is told as that of a script."""
    leaky = result(notebooks, "leaky")
    assert leaky.verdict == "failed"
    assert "reads data/extra.csv, which dvc.yaml does not declare" in leaky.problems[1]


def test_notebook_whose_output_moves(notebooks: Verification) -> None:
    """An output that differs is named by its cell, though every file agrees."""
    (difference,) = result(notebooks, "moody").differences
    assert difference.where == "reports/executed/moody.ipynb, cell 4 stdout, line 1"
