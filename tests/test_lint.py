"""`mlnb lint` tells everything in one pass, and `--fix` leaves a person's text alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mlnb import lint, pipeline
from mlnb.edits import Edit, EditError, Entry, NewStage, Value, edited
from mlnb.lint import Finding
from mlnb.mirror import write_all
from mlnb.project import find
from notebooks import Cell, code, parameters, project, write

GOOD = (
    parameters(
        'panel: "In" = "data/panel.csv"\nmodel: "Out" = "models/model.json"\nrate: float = 0.1'
    ),
    "open(model, 'w').write(open(panel).read())",
)
STAGES = """# The graph.
stages:
  code:
    cmd: mlnb code
    deps: [notebooks]   # all of them
    outs:
      - .mlnb/code/train.py: {cache: false, persist: true}

  # The model.
  train:
    cmd: >-
      mlnb run
      notebooks/train.ipynb
    deps:
      - .mlnb/code/train.py
      - "data/panel.csv"   # raw
    params: [train]
    outs:
    - models/model.json
    - reports/executed/train.ipynb
"""
PARAMS = "train:\n  rate: 0.2   # tuned by hand\n"


def look(
    root: Path, *cells: Cell | str, dvc: str = STAGES, params: str = PARAMS, mirrored: bool = True
) -> list[Finding]:
    """Return the findings in a project with one notebook, its mirror up to date."""
    project(root, dvc=dvc, params=params)
    write(root / "notebooks/train.ipynb", *(cells or GOOD))
    found = find(root)
    if mirrored:
        write_all(found)
    return lint.lint(found)


def rules(findings: list[Finding]) -> list[str]:
    """Return the rules of the findings, sorted."""
    return sorted(finding.rule for finding in findings)


def mend(root: Path) -> list[str]:
    """Make the edits of `fix` and return the files changed."""
    changes = lint.fix(find(root))
    for change in changes:
        change.path.write_bytes(change.after.encode())
    return [change.path.name for change in changes]


def test_agreement_has_no_findings(tmp_path: Path) -> None:
    """A project in which all agree has no findings, and says so."""
    found = look(tmp_path)
    assert found == []
    assert lint.render(found) == "notebooks, dvc.yaml and params.yaml agree"


@pytest.mark.parametrize(
    ("cell", "rule", "severity", "words"),
    [
        ("print(x)", "undefined-name", "error", "'x' is not defined"),
        ("open('/home/ann/a.csv')", "absolute-path", "error", "this machine only"),
        ("open('data/other.csv')", "undeclared-read", "error", "reads data/other.csv"),
        ("open('data/panel.csv', 'w')", "undeclared-write", "error", "writes data/panel.csv"),
        ("import nowhere_at_all", "missing-module", "error", "'nowhere_at_all'"),
        ("import sys\nsys.path.append('x')", "import-path", "warning", "sys.path"),
        ("x = = 1", "syntax", "error", "not Python"),
    ],
)
def test_findings_in_code(tmp_path: Path, cell: str, rule: str, severity: str, words: str) -> None:
    """What the code tells is placed at its cell and line."""
    found = look(tmp_path, *GOOD, "'fine'", cell)
    assert [(f.rule, f.severity, f.path, f.cell) for f in found] == [
        (rule, severity, "notebooks/train.ipynb", 4)
    ]
    assert words in found[0].message
    assert found[0].line >= 1


def test_text_of_a_finding(tmp_path: Path) -> None:
    """A finding starts with a place an editor can open, and ends with what helps."""
    text = lint.render(look(tmp_path, *GOOD, "\nopen('data/other.csv')"))
    assert text.splitlines() == [
        "notebooks/train.ipynb:cell 3:2: error[undeclared-read] `open` reads data/other.csv, "
        "which DVC does not know",
        "    Declare it in the parameters cell and use `other` here:",
        '        other: In = "data/other.csv"',
        "1 error",
    ]


def test_json_of_findings(tmp_path: Path) -> None:
    """Programs get every field, and whether `--fix` can mend it."""
    (found,) = json.loads(
        lint.render_json(look(tmp_path, dvc=STAGES.replace("    params: [train]\n", ""))[:1])
    )
    assert found["rule"] == "missing-value"
    assert found["fixable"] is True
    assert found["path"] == "notebooks/train.ipynb"


def test_stale_mirror(tmp_path: Path) -> None:
    """A mirror that does not hold the notebook's code is told with its command."""
    (found,) = look(tmp_path, mirrored=False)
    assert found.rule == "stale-mirror"
    assert "`mlnb code`" in found.remedy


def test_contract_error(tmp_path: Path) -> None:
    """A parameters cell that cannot be accepted is told at its line; the rest is checked on."""
    found = look(tmp_path, parameters("a = 1\nb = f()"), "print(x)")
    assert [(f.rule, f.cell, f.line) for f in found if f.rule == "contract"] == [("contract", 1, 2)]
    assert "undefined-name" in rules(found)


def test_execution_counts_out_of_order(tmp_path: Path) -> None:
    """Saved outputs that did not come from one run from the top are a warning."""
    look(tmp_path, *GOOD, "'a'")
    path = tmp_path / "notebooks/train.ipynb"
    saved = json.loads(path.read_text())
    for cell, count in zip(saved["cells"], (1, 7, 3), strict=True):
        cell["execution_count"] = count
    path.write_text(json.dumps(saved))
    (found,) = lint.lint(find(tmp_path))
    assert (found.rule, found.severity, found.cell) == ("execution-order", "warning", 3)
    assert "[3], cell 2 above it as [7]" in found.message


def test_notebooks_without_a_stage_or_parameters(tmp_path: Path) -> None:
    """Both are allowed, and told."""
    write(tmp_path / "notebooks/spare.ipynb", "1")
    bare = STAGES.replace("    params: [train]\n", "")
    found = look(tmp_path, "1", dvc=bare, params="x: 1\n")
    assert {(f.rule, f.severity) for f in found} == {
        ("unused-notebook", "info"),
        ("no-parameters", "info"),
    }


def test_undeclared_files_of_a_notebook_without_parameters(tmp_path: Path) -> None:
    """Without a contract, literal paths are compared with the stage's own lists."""
    bare = STAGES.replace("    params: [train]\n", "")
    found = look(
        tmp_path, "open('data/panel.csv')", "open('data/b.csv', 'w')", dvc=bare, params="x: 1\n"
    )
    assert rules(found) == ["no-parameters", "undeclared-write"]


def test_section_that_no_stage_uses(tmp_path: Path) -> None:
    """A section named like a stage that the stage does not list is a likely slip."""
    dvc = STAGES.replace("params: [train]", "params: [other]")
    found = look(tmp_path, dvc=dvc, params="other:\n  rate: 1.0\n\ntrain:\n  rate: 0.2\n")
    assert [(f.rule, f.path, f.line) for f in found] == [("unused-section", "params.yaml", 4)]
    used = STAGES.replace("params: [train]", "params: [other]").replace(
        "cmd: >-", "desc: ${train.rate}\n    cmd: >-"
    )
    assert look(tmp_path, dvc=used, params="other:\n  rate: 1.0\n\ntrain:\n  rate: 0.2\n") == []


def test_unreadable_notebook(tmp_path: Path) -> None:
    """A notebook that is cut off is one finding; the others are checked all the same."""
    look(tmp_path)
    (tmp_path / "notebooks/torn.ipynb").write_text('{"cells": [')
    (found,) = lint.lint(find(tmp_path))
    assert (found.rule, found.path) == ("unreadable-notebook", "notebooks/torn.ipynb")


def test_unreadable_pipeline(tmp_path: Path) -> None:
    """A dvc.yaml that DVC refuses is one finding; the notebooks are checked all the same."""
    found = look(tmp_path, *GOOD, "print(x)", dvc="stages:\n  train: [")
    assert rules(found) == ["pipeline", "undefined-name"]
    assert {f.path for f in found} == {"dvc.yaml", "notebooks/train.ipynb"}


def test_unreadable_params(tmp_path: Path) -> None:
    """A params.yaml that is not YAML is told, not raised."""
    assert "params" in rules(look(tmp_path, params="train: [\n"))


def test_two_stages_write_one_file(tmp_path: Path) -> None:
    """An output of two stages, or one inside another's, is told before DVC refuses it."""
    more = STAGES + "  other:\n    cmd: echo\n    outs: [models]\n"
    (found,) = look(tmp_path, dvc=more)
    assert found.rule == "two-writers"
    assert "models/model.json of 'train' and models of 'other' overlap" in found.message


def test_findings_are_sorted_and_single(tmp_path: Path) -> None:
    """The stages of a matrix share their findings."""
    dvc = """stages:
  code: {cmd: mlnb code, deps: [notebooks], outs: [{.mlnb/code/train.py: {cache: false}}]}
  train:
    matrix: {size: [1, 2, 3]}
    cmd: mlnb run notebooks/train.ipynb
    deps: [.mlnb/code/train.py]
    outs: ["reports/executed/train@${key}.ipynb"]
"""
    found = look(tmp_path, parameters("size: str = 'a'"), "x", "y", dvc=dvc, params="")
    assert [(f.cell, f.rule) for f in found] == [
        (1, "wrong-value"),
        (1, "wrong-value"),
        (1, "wrong-value"),
        (2, "undefined-name"),
        (3, "undefined-name"),
    ]
    found = look(tmp_path, parameters("size: int = 1\nextra: int = 1"), dvc=dvc)
    assert rules(found) == ["missing-value", "unused-section"]
    found = look(
        tmp_path,
        parameters("size: int = 1"),
        dvc=dvc.replace("    deps: [.mlnb/code/train.py]\n", ""),
    )
    assert rules(found) == ["missing-mirror", "unused-section"]


# --- fix ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        '      - "data/panel.csv"   # raw\n',
        "      - .mlnb/code/train.py\n",
        "    - models/model.json\n",
        "    - reports/executed/train.ipynb\n",
        "    params: [train]\n",
        "      - .mlnb/code/train.py: {cache: false, persist: true}\n",
        "    deps: [notebooks]   # all of them\n",
    ],
)
def test_fix_adds_one_line_and_touches_no_other(tmp_path: Path, line: str) -> None:
    """Comments, quotes, wrapping, mixed indentation and order survive; the line comes back."""
    assert line in STAGES
    before = STAGES.replace(line, "", 1).replace("    outs:\n\n", "\n")
    found = look(tmp_path, dvc=before)
    assert any(finding.fixes for finding in found)
    assert mend(tmp_path) == ["dvc.yaml"]
    after = (tmp_path / "dvc.yaml").read_text()
    kept = iter(after.splitlines())
    assert all(old in kept for old in before.splitlines()), after  # a subsequence: nothing moved
    assert len(after.splitlines()) <= len(before.splitlines()) + 2
    assert lint.lint(find(tmp_path)) == []
    assert mend(tmp_path) == []


def test_fix_writes_a_whole_code_stage(tmp_path: Path) -> None:
    """Without a stage that mirrors the code, fix writes one, with what it must watch."""
    (tmp_path / "src/shop").mkdir(parents=True)
    (tmp_path / "src/shop/__init__.py").write_text("")
    lines = STAGES.splitlines(keepends=True)
    dvc = "".join(lines[:2] + lines[8:])
    look(tmp_path, *GOOD, "import shop", dvc=dvc)
    assert mend(tmp_path) == ["dvc.yaml"]
    assert lint.lint(find(tmp_path)) == []
    (stage,) = [s for s in pipeline.load(find(tmp_path)).stages if s.tool == "code"]
    assert stage.deps == ("notebooks", "src/shop")
    assert (stage.outs[0].cache, stage.outs[0].persist) == (False, True)


def test_fix_writes_missing_values(tmp_path: Path) -> None:
    """Values that a section lacks are added with the notebook's defaults, after the others."""
    cells = (parameters("rate: float = 0.1\nsizes: list[int] = [1, 2]\nname: 'str | None' = None"),)
    dvc = STAGES.replace('      - "data/panel.csv"   # raw\n', "").replace(
        "    - models/model.json\n", ""
    )
    look(tmp_path, *cells, dvc=dvc)
    assert mend(tmp_path) == ["params.yaml"]
    assert (tmp_path / "params.yaml").read_text() == PARAMS + "  sizes: [1, 2]\n  name: null\n"
    assert lint.lint(find(tmp_path)) == []


def test_fix_makes_params_yaml(tmp_path: Path) -> None:
    """Without params.yaml and without `params` in the stage, both are written."""
    look(tmp_path, dvc=STAGES.replace("    params: [train]\n", ""), params="")
    assert sorted(mend(tmp_path)) == ["dvc.yaml", "params.yaml"]
    assert (tmp_path / "params.yaml").read_text() == "train:\n  rate: 0.1\n"
    assert lint.lint(find(tmp_path)) == []


def test_fix_moves_metrics(tmp_path: Path) -> None:
    """Metrics among the outputs are moved with the flags they have."""
    cells = (parameters('scores: "Metrics" = "a.json"\nrate: float = 0.1'),)
    dvc = STAGES.replace('      - "data/panel.csv"   # raw\n', "").replace(
        "    - models/model.json\n", "    - a.json: {cache: false, desc: ours}\n"
    )
    look(tmp_path, *cells, dvc=dvc)
    mend(tmp_path)
    stage = YAML(typ="safe").load(tmp_path / "dvc.yaml")["stages"]["train"]
    assert stage["metrics"] == [{"a.json": {"cache": False, "desc": "ours"}}]
    assert stage["outs"] == ["reports/executed/train.ipynb"]
    assert lint.lint(find(tmp_path)) == []


def test_fix_never_removes(tmp_path: Path) -> None:
    """What only dvc.yaml or params.yaml knows is left to a person."""
    dvc = STAGES.replace("    params: [train]\n", '      - "data/more.csv"\n    params: [train]\n')
    found = look(tmp_path, dvc=dvc, params=PARAMS + "  other: 1\n")
    assert rules(found) == ["unclaimed-dep", "unknown-parameter"]
    assert mend(tmp_path) == []


def test_fix_leaves_shared_lists_alone(tmp_path: Path) -> None:
    """A list that an anchor shares with another stage is not edited, nor said to be fixable."""
    dvc = """shared: &shared [.mlnb/code/train.py]
stages:
  code: {cmd: mlnb code, deps: [notebooks], outs: [{.mlnb/code/train.py: {cache: false}}]}
  train:
    cmd: mlnb run notebooks/train.ipynb
    deps: *shared
    params: [train]
    outs: [models/model.json, reports/executed/train.ipynb]
  other:
    cmd: echo
    deps: *shared
"""
    (found,) = look(tmp_path, dvc=dvc)
    assert found.rule == "missing-dep"
    assert not found.fixes
    assert lint.fix(find(tmp_path)) == []


def test_windows_line_ends_survive(tmp_path: Path) -> None:
    """A file with CRLF keeps it."""
    look(tmp_path, dvc=STAGES.replace("    - models/model.json\n", ""))
    path = tmp_path / "dvc.yaml"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    mend(tmp_path)
    assert b"models/model.json\r\n" in path.read_bytes()
    assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\r\n")


STAGE = Path("dvc.yaml")


@pytest.mark.parametrize(
    ("before", "edit", "after"),
    [
        (
            "stages:\n  a:\n    deps:\n    - x\n\n  # next\n  b: {cmd: y}\n",
            Entry(STAGE, "a", "deps", "z"),
            "stages:\n  a:\n    deps:\n    - x\n    - z\n\n  # next\n  b: {cmd: y}\n",
        ),
        (
            "stages:\n  a:\n    deps: [x,\n           y]  # two\n",
            Entry(STAGE, "a", "deps", "z"),
            "stages:\n  a:\n    deps: [x,\n           y, z]  # two\n",
        ),
        (
            "stages:\n  a: {cmd: b, deps: [x]}\n",
            Entry(STAGE, "a", "outs", "z", (("cache", False),)),
            "stages:\n  a: {cmd: b, deps: [x], outs: [{z: {cache: false}}]}\n",
        ),
        (
            "stages:\n  a:\n    cmd: |\n      b\n      c\n\n    outs: [x]\n",
            Entry(STAGE, "a", "deps", "z"),
            "stages:\n  a:\n    cmd: |\n      b\n      c\n    deps: [z]\n\n    outs: [x]\n",
        ),
        (
            "stages:\n  a:\n    outs:\n    - x:\n        cache: false  # git\n",
            Entry(STAGE, "a", "outs", "y z: 1"),
            "stages:\n  a:\n    outs:\n    - x:\n        cache: false  # git\n    - 'y z: 1'\n",
        ),
        (
            "stages:\n  a:\n    deps: []",
            Entry(STAGE, "a", "deps", "z"),
            "stages:\n  a:\n    deps: [z]\n",
        ),
        (
            "stages:\n  a:\n    outs:\n      - m.json\n    cmd: b\n",
            Entry(STAGE, "a", "metrics", "m.json", leaves="outs"),
            "stages:\n  a:\n    cmd: b\n    metrics:\n      - m.json\n",
        ),
        ("", Value(STAGE, "train", "rate", 0.5), "train:\n  rate: 0.5\n"),
        ("# none yet\n", Value(STAGE, "train", "rate", 0.5), "# none yet\ntrain:\n  rate: 0.5\n"),
        ("train:\n", Value(STAGE, "train", "on", "yes"), 'train:\n  "on": "yes"\n'),
        ("train: {a: 1}\n", Value(STAGE, "train", "b", [1]), "train: {a: 1, b: [1]}\n"),
        (
            "a:\n    b: 1\nz: 2\n",
            Value(STAGE, "a.c", "d", "x"),
            "a:\n    b: 1\n    c:\n        d: x\nz: 2\n",
        ),
        (
            "stages: {}\n",
            NewStage(STAGE, "a", {"cmd": "b", "deps": ["x"]}),
            "stages:\n  a:\n    cmd: b\n    deps:\n      - x\n",
        ),
        (
            "vars: [x.yaml]\n",
            NewStage(STAGE, "a", {"cmd": "b"}),
            "vars: [x.yaml]\n\nstages:\n  a:\n    cmd: b\n",
        ),
    ],
)
def test_edits_of_many_styles(before: str, edit: Edit, after: str) -> None:
    """An edit takes the style around it, and made again changes nothing."""
    assert edited(before, edit) == after
    assert edited(after, edit) == after


def test_edits_that_cannot_be_made() -> None:
    """An edit of what is not there is refused."""
    with pytest.raises(EditError):
        edited("stages:\n  a: {cmd: b}\n", Entry(STAGE, "other", "deps", "x"))
    with pytest.raises(EditError):
        edited("train: 3\n", Value(STAGE, "train", "rate", 1))


# --- cost --------------------------------------------------------------------------------------


def test_lint_is_light(tmp_path: Path) -> None:
    """Linting loads no data, tracking or notebook library."""
    look(tmp_path)
    heavy = ("numpy", "pandas", "mlflow", "nbformat", "papermill", "IPython", "pyarrow", "sklearn")
    script = (
        "import sys; from mlnb.cli import main; code = main(['lint']); "
        f"print([m for m in {heavy} if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(lint.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_dev_cells_are_not_linted(tmp_path: Path) -> None:
    """A cell that no run executes may do what it likes."""
    assert look(tmp_path, *GOOD, code("print(x); open('/home/ann/a')", "dev")) == []


def test_litter_in_a_watched_folder_is_foretold(tmp_path: Path) -> None:
    """Without the two lines in .dvcignore, a checkpoint or compiled module looks like new code."""
    project(tmp_path, dvc="stages:\n  code: {cmd: mlnb code, deps: [notebooks]}\n")
    write(tmp_path / "notebooks" / "a.ipynb", "1")
    (tmp_path / ".dvcignore").unlink()
    found = [f for f in lint.lint(find(tmp_path)) if f.rule == "litter"]
    assert [f.severity for f in found] == ["warning"]
    assert "__pycache__" in found[0].remedy
    (tmp_path / ".dvcignore").write_text("__pycache__\n.ipynb_checkpoints/\n")
    assert not any(f.rule == "litter" for f in lint.lint(find(tmp_path)))
