"""`mlnb add` proposes a stage that plain DVC runs and lint has nothing against."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlnb import lint, pipeline
from mlnb.add import AddError, Proposal, propose
from mlnb.add.observe import observe
from mlnb.mirror import write_all
from mlnb.notebook import read
from mlnb.project import Project, find
from notebooks import Cell, code, parameters, write

PREPARE = (
    parameters(
        "from mlnb import In, Metrics, Out\n"
        'raw: In = "data/raw.csv"\n'
        'clean: Out = "data/clean.csv"\n'
        'scores: Metrics = "reports/metrics/prepare.json"\n'
        "rows: int = 2\n"
    ),
    "import json\n"
    "lines = open(raw).readlines()[:rows]\n"
    'open(clean, "w").writelines(lines)\n'
    'json.dump({"rows": len(lines)}, open(scores, "w"))\n',
    code("this_is_left_out", "dev"),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A git project with one raw file, as the working directory."""
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw.csv").write_text("a\nb\nc\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return find(tmp_path)


def add(here: Project, name: str, *cells: Cell | str, run: bool = False) -> Proposal:
    """Write a notebook, write what is proposed for it and its mirror, and return the proposal."""
    path = write(here.root / f"notebooks/{name}.ipynb", *cells)
    made = propose(here, path, observe=run)
    for change in made.changes:
        change.path.write_text(change.after)
    write_all(here)
    return made


def test_the_contract_becomes_a_stage(here: Project) -> None:
    """Paths, values and the mirror of a declared notebook make a stage that lint accepts."""
    made = add(here, "prepare", *PREPARE)
    assert made.stage == "prepare"
    assert made.notes == ()
    assert lint.lint(here) == []
    assert (here.root / "dvc.yaml").read_text() == (
        "stages:\n"
        "  code:\n"
        "    cmd: mlnb code\n"
        "    deps:\n"
        "      - notebooks\n"
        "    outs:\n"
        "      - .mlnb/code/prepare.py: {cache: false, persist: true}\n"
        "\n"
        "  prepare:\n"
        "    cmd: mlnb run notebooks/prepare.ipynb\n"
        "    deps:\n"
        "      - .mlnb/code/prepare.py\n"
        "      - data/raw.csv\n"
        "    params:\n"
        "      - prepare\n"
        "    outs:\n"
        "      - data/clean.csv\n"
        "      - reports/executed/prepare.ipynb\n"
        "    metrics:\n"
        "      - reports/metrics/prepare.json: {cache: false}\n"
    )
    assert (here.root / "params.yaml").read_text() == "prepare:\n  rows: 2\n"


def test_dvc_runs_what_was_proposed(here: Project) -> None:
    """Two added notebooks run by plain `dvc repro`, once, and are then up to date."""
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "-f"], check=True)
    add(here, "prepare", *PREPARE)
    add(
        here,
        "count",
        parameters('"""Count."""\nclean: "In" = "data/clean.csv"\ntotal: "Out" = "data/total.txt"'),
        "open(total, 'w').write(str(len(open(clean).readlines())))",
    )
    assert lint.lint(here) == []
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    for said in ("Running stage 'count'", "Data and pipelines are up to date."):
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "repro"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert said in done.stdout
    assert (here.root / "data/total.txt").read_text() == "2"


def test_a_second_notebook_keeps_what_is_there(here: Project) -> None:
    """A person's dvc.yaml and params.yaml gain lines and lose none."""
    add(here, "prepare", *PREPARE)
    for name, comment in (("dvc.yaml", "# ours\n"), ("params.yaml", "# values\n")):
        path = here.root / name
        path.write_text(comment + path.read_text())
    before = [(here.root / name).read_text() for name in ("dvc.yaml", "params.yaml")]
    add(here, "other", parameters("depth: int = 3"), "print(depth)")
    for name, old in zip(("dvc.yaml", "params.yaml"), before, strict=True):
        kept = iter((here.root / name).read_text().splitlines())
        assert all(line in kept for line in old.splitlines())
    assert lint.lint(here) == []


def test_local_packages_are_watched(here: Project) -> None:
    """The code stage gains the package that the notebook imports."""
    (here.root / "src/shop").mkdir(parents=True)
    (here.root / "src/shop/__init__.py").write_text("")
    add(here, "prepare", *PREPARE, "import shop")
    assert pipeline.load(here).stage("code").deps == ("notebooks", "src/shop")
    assert lint.lint(here) == []


def test_an_observed_run_sees_what_the_code_hides(here: Project) -> None:
    """Reads and writes by computed paths are proposed, and named in a note."""
    (here.root / "data/parts").mkdir()
    for part in "abc":
        (here.root / f"data/parts/{part}.csv").write_text(part)
    made = add(
        here,
        "hidden",
        "folder = 'data/'\n"
        "parts = [open(f'{folder}parts/{p}.csv').read() for p in 'abc']\n"
        "raw = open(folder + 'raw.csv').read()\n"
        "open(folder + 'sum' + '.txt', 'w').write(raw)",
        run=True,
    )
    stage = pipeline.load(here).stage("hidden")
    assert stage.deps == (".mlnb/code/hidden.py", "data/parts", "data/raw.csv")
    assert [out.path for out in stage.outs] == ["data/sum.txt", "reports/executed/hidden.ipynb"]
    assert any("no parameters cell" in note for note in made.notes)
    assert not (here.root / "data/sum.txt").exists(), "the run was in a copy"
    assert {f.severity for f in lint.lint(here)} == {"info"}


def test_undeclared_paths_are_named(here: Project) -> None:
    """A notebook with a contract is told the line that it lacks."""
    made = add(here, "partly", parameters("n: int = 1"), "open('data/raw.csv').read()")
    (note,) = made.notes
    assert 'raw: In = "data/raw.csv"' in note
    assert {f.rule for f in lint.lint(here)} == {"unclaimed-dep", "undeclared-read"}


def test_compiled_readers_are_seen_or_said_to_be_unseen(here: Project) -> None:
    """Parquet is read past Python's `open`; where access times tell nothing, that is said."""
    path = write(
        here.root / "notebooks/prepare.ipynb",
        "import pyarrow as pa, pyarrow.parquet as pq\n"
        "name = 'data/a' + '.parquet'\n"
        "print(pq.read_table(name))",
    )
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import pandas as pd; pd.DataFrame({'a': [1]}).to_parquet('data/a.parquet')",
        ],
        check=True,
    )
    seen = observe(here, read(path))
    assert seen.failure == ""
    assert ("data/a.parquet" in seen.reads) is seen.saw_all_reads


def test_a_failing_run_is_said(here: Project) -> None:
    """An observed run that ends early still gives a proposal, and says what stopped it."""
    made = add(here, "broken", *PREPARE, "1 / 0", run=True)
    assert any("ZeroDivisionError" in note for note in made.notes)
    assert pipeline.load(here).stage("broken").reads("data/raw.csv")


def test_ignore_files(here: Project) -> None:
    """What the tools need ignored is proposed once."""
    made = add(here, "prepare", *PREPARE)
    assert {c.path.name for c in made.changes} == {
        "dvc.yaml",
        "params.yaml",
        ".gitignore",
        ".dvcignore",
    }
    ignored = (here.root / ".gitignore").read_text().splitlines()
    assert ignored[:3] == ["/.mlnb/*", "!/.mlnb/code/", "/reports/failed/"]
    again = add(here, "other", "1")
    assert {c.path.name for c in again.changes} == {"dvc.yaml"}
    mirror = [".mlnb/code/prepare.py"]
    told = subprocess.run(
        ["git", "check-ignore", *mirror], capture_output=True, text=True, check=False
    )
    assert told.stdout == ""


def test_refusals(here: Project) -> None:
    """A notebook with a stage, a taken or bad name, and a notebook elsewhere are refused."""
    add(here, "prepare", *PREPARE)
    path = here.root / "notebooks/prepare.ipynb"
    with pytest.raises(AddError, match="stage 'prepare' runs this notebook already"):
        propose(here, path, observe=False)
    other = write(here.root / "notebooks/sub/prepare.ipynb", "1")
    with pytest.raises(AddError, match="has a stage 'prepare' for something else"):
        propose(here, other, observe=False)
    with pytest.raises(AddError, match="cannot be called"):
        propose(here, other, name="a@b", observe=False)
    with pytest.raises(AddError, match="none of the project's notebook folders"):
        propose(here, write(here.root / "elsewhere.ipynb", "1"), observe=False)


def test_names_with_spaces(here: Project) -> None:
    """A notebook whose name no stage can have gets one that is near, and a quoted command."""
    add(here, "My first try", "1")
    (stage,) = pipeline.load(here).running(here.root / "notebooks/My first try.ipynb")
    assert stage.name == "My-first-try"
    assert {f.rule for f in lint.lint(here)} == {"no-parameters"}


def test_nothing_is_written_by_proposing(here: Project) -> None:
    """Proposing, with a run, leaves the project as it was."""
    path = write(here.root / "notebooks/prepare.ipynb", *PREPARE)
    before = {p: p.read_bytes() for p in here.root.rglob("*") if p.is_file()}
    assert propose(here, path).changes
    assert {p: p.read_bytes() for p in here.root.rglob("*") if p.is_file()} == before
    assert json.loads(path.read_text())["cells"][1]["outputs"] == []


def test_what_a_run_changes_is_no_input(here: Project) -> None:
    """A file that was there before and is written again is an output, though it was read."""
    path = write(
        here.root / "notebooks/append.ipynb",
        "text = open('data/raw.csv').read()\nopen('data/raw.csv', 'w').write(text + 'd')",
    )
    seen = observe(here, read(path))
    assert (seen.reads, seen.writes) == ((), ("data/raw.csv",))
    assert (here.root / "data/raw.csv").read_text() == "a\nb\nc\n"
