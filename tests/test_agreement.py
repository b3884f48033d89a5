"""dvc.yaml, params.yaml and a notebook's contract must agree, both ways."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlnb import contract, mirror, notebook, pipeline
from mlnb.agreement import Disagreement, disagreements
from mlnb.project import Project, find
from notebooks import Cell, code, parameters, project, write

CELL = """from mlnb import In, Metrics, Out, Plots
panel: In = "data/panel.csv"
model: Out = "models/model.json"
scores: Metrics = "reports/metrics/train.json"
curve: Plots = "reports/plots/curve.csv"
rate: float = 0.1
rounds: int = 5
"""
STAGES = """stages:
  code:
    cmd: mlnb code
    deps:
      - notebooks
    outs:
      - .mlnb/code/train.py: {cache: false, persist: true}
  train:
    cmd: mlnb run notebooks/train.ipynb
    deps:
      - .mlnb/code/train.py
      - data/panel.csv
    params:
      - train
    outs:
      - models/model.json
      - reports/executed/train.ipynb
    metrics:
      - reports/metrics/train.json: {cache: false}
    plots:
      - reports/plots/curve.csv: {cache: false}
"""
PARAMS = "train:\n  rate: 0.2\n  rounds: 7\n"


def check(
    root: Path,
    *,
    dvc: str = STAGES,
    params: str = PARAMS,
    cells: tuple[Cell | str, ...] = (parameters(CELL),),
    stage: str = "train",
) -> list[Disagreement]:
    """Return what one stage of a project disagrees on."""
    project(root, dvc=dvc, params=params)
    write(root / "notebooks/train.ipynb", *cells)
    found: Project = find(root)
    lines = pipeline.load(found)
    source = notebook.read(root / "notebooks/train.ipynb")
    made = mirror.mirror(found, source)
    return disagreements(found, lines, lines.stage(stage), contract.read(source), made)


def one(found: list[Disagreement], rule: str) -> Disagreement:
    """Return the only disagreement, which must be of ``rule``."""
    assert [d.rule for d in found] == [rule]
    return found[0]


def test_agreement_is_silent(tmp_path: Path) -> None:
    """A stage that lists what its notebook declares, and nothing else, has no disagreement."""
    assert check(tmp_path) == []


@pytest.mark.parametrize(
    ("line", "rule", "section"),
    [
        ("      - data/panel.csv\n", "missing-dep", "deps"),
        ("      - models/model.json\n", "missing-out", "outs"),
        ("      - .mlnb/code/train.py\n", "missing-mirror", "deps"),
        ("      - reports/executed/train.ipynb\n", "missing-executed", "outs"),
        ("      - reports/metrics/train.json: {cache: false}\n", "missing-out", "metrics"),
        ("      - reports/plots/curve.csv: {cache: false}\n", "missing-out", "plots"),
        ("      - .mlnb/code/train.py: {cache: false, persist: true}\n", "code-stage", "outs"),
        ("      - notebooks\n", "code-stage", "deps"),
    ],
)
def test_missing_line(tmp_path: Path, line: str, rule: str, section: str) -> None:
    """Each line taken out of dvc.yaml is missed, and the remedy shows it letter by letter."""
    assert line in STAGES
    left = re.sub(r"^( +)\w+:\n(?!\1 )", "", STAGES.replace(line, "", 1), flags=re.MULTILINE)
    found = one(check(tmp_path, dvc=left), rule)
    assert f"`{section}`" in found.remedy
    assert line.strip() in found.remedy
    assert found.fixes


def test_folder_covers_what_lies_in_it(tmp_path: Path) -> None:
    """A dependency or output that is a folder covers the files declared inside it."""
    dvc = STAGES.replace("data/panel.csv", "data").replace("models/model.json", "models")
    assert check(tmp_path, dvc=dvc) == []


def test_dependency_nobody_declares(tmp_path: Path) -> None:
    """A dependency without a parameter may be read unseen, so only a person can settle it."""
    found = one(
        check(
            tmp_path,
            dvc=STAGES.replace("- data/panel.csv", "- data/panel.csv\n      - data/extra.csv"),
        ),
        "unclaimed-dep",
    )
    assert 'extra: In = "data/extra.csv"' in found.remedy
    assert not found.fixes


def test_output_nobody_declares(tmp_path: Path) -> None:
    """An output without a parameter is one that no run would check."""
    found = one(
        check(
            tmp_path,
            dvc=STAGES.replace("- models/model.json", "- models/model.json\n      - models/log"),
        ),
        "unclaimed-out",
    )
    assert 'log: Out = "models/log"' in found.remedy


def test_requirements_and_other_commands_may_depend_on_more(tmp_path: Path) -> None:
    """Requirement files, and the files of a second command of the stage, need no parameter."""
    more = STAGES.replace("- data/panel.csv", "- data/panel.csv\n      - requirements.txt")
    assert check(tmp_path, dvc=more) == []
    chained = STAGES.replace("train.ipynb\n", "train.ipynb && python after.py\n", 1)
    chained = chained.replace("- data/panel.csv", "- data/panel.csv\n      - after.py")
    assert check(tmp_path, dvc=chained) == []


def test_metrics_among_outs(tmp_path: Path) -> None:
    """Metrics listed as plain outputs are told and can be moved."""
    line = "    metrics:\n      - reports/metrics/train.json: {cache: false}\n"
    dvc = STAGES.replace(line, "").replace(
        "      - models/model.json\n",
        "      - models/model.json\n      - reports/metrics/train.json\n",
    )
    found = one(check(tmp_path, dvc=dvc), "wrong-list")
    assert "Move it from `outs` to `metrics`" in found.remedy
    assert found.fixes


def test_plots_at_the_top_of_dvc_yaml(tmp_path: Path) -> None:
    """A plot that is an output and named in dvc.yaml's own `plots` is declared."""
    line = "    plots:\n      - reports/plots/curve.csv: {cache: false}\n"
    dvc = STAGES.replace(line, "").replace(
        "      - models/model.json\n",
        "      - models/model.json\n      - reports/plots/curve.csv\n",
    )
    assert check(tmp_path, dvc=dvc + "plots:\n  - reports/plots/curve.csv:\n      x: a\n") == []


def test_unknown_value(tmp_path: Path) -> None:
    """A value that the notebook does not declare is refused with the name it may mean."""
    found = one(check(tmp_path, params=PARAMS + "  ratee: 1\n"), "unknown-parameter")
    assert "Did you mean 'rate'?" in found.what
    assert "ratee: int = 1" in found.remedy
    assert not found.fixes


def test_missing_value(tmp_path: Path) -> None:
    """A parameter without a value in params.yaml would silently run with its default."""
    found = one(check(tmp_path, params="train:\n  rate: 0.2\n"), "missing-value")
    assert "train:\n      rounds: 5" in found.remedy
    assert found.where == "notebooks/train.ipynb, cell 1, line 7"


def test_no_params_at_all(tmp_path: Path) -> None:
    """A stage that lists no params is shown both the section and the line in dvc.yaml."""
    found = check(tmp_path, dvc=STAGES.replace("    params:\n      - train\n", ""))
    assert [d.rule for d in found] == ["missing-value", "missing-value"]
    assert "params:\n      - train" in found[0].remedy


def test_section_that_is_not_there(tmp_path: Path) -> None:
    """A section that params.yaml lacks is told, with the values that belong there."""
    rules = [d.rule for d in check(tmp_path, params="other: 1\n")]
    assert rules == ["missing-section", "missing-value", "missing-value"]


def test_wrong_type(tmp_path: Path) -> None:
    """Every ill-typed value is told, where the notebook declares it."""
    found = check(tmp_path, params="train: {rate: '0.2', rounds: 1.5}\n")
    assert [d.rule for d in found] == ["wrong-value", "wrong-value"]
    assert found[0].where == "notebooks/train.ipynb, cell 1, line 6"
    assert "Accepted: float" in found[0].remedy


def test_single_keys_and_whole_files(tmp_path: Path) -> None:
    """Values may come key by key, or as a whole file."""
    single = STAGES.replace("      - train\n", "      - train.rate\n      - train.rounds\n")
    assert check(tmp_path, dvc=single) == []
    (tmp_path / "values.yaml").write_text("rate: 0.2\nrounds: 7\n")
    assert check(tmp_path, dvc=STAGES.replace("      - train\n", "      - values.yaml:\n")) == []


def test_one_name_from_two_sections(tmp_path: Path) -> None:
    """A name that two sections give has no telling value."""
    dvc = STAGES.replace("      - train\n", "      - train\n      - other\n")
    found = one(
        check(tmp_path, dvc=dvc, params=PARAMS + "other:\n  rate: 0.2\n"), "ambiguous-value"
    )
    assert "`params.yaml: train.rate`" in found.what
    assert "`params.yaml: other.rate`" in found.what


MATRIX = """stages:
  code: {cmd: mlnb code, deps: [notebooks], outs: [{.mlnb/code/train.py: {cache: false}}]}
  train:
    matrix:
      booster: [tree, line]
    cmd: mlnb run notebooks/train.ipynb
    deps: [.mlnb/code/train.py]
    params: [train]
    outs:
      - models/${item.booster}.json
      - reports/executed/train@${key}.ipynb
"""
MATRIX_CELL = 'booster: str = "tree"\nrate: float = 0.1\nmodel: "Out" = f"models/{booster}.json"\n'


def test_matrix(tmp_path: Path) -> None:
    """Paths are compared with the matrix values of each stage in place."""
    for stage in ("train@tree", "train@line"):
        cells = (parameters(MATRIX_CELL),)
        assert (
            check(tmp_path, dvc=MATRIX, params="train: {rate: 1.0}\n", cells=cells, stage=stage)
            == []
        )


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("      - models/${item.booster}.json\n", "missing-out"),
        ("      - reports/executed/train@${key}.ipynb\n", "missing-executed"),
    ],
)
def test_templates_are_left_to_a_person(tmp_path: Path, line: str, rule: str) -> None:
    """In a templated stage the remedy shows the template's line, and no edit is offered."""
    found = one(
        check(
            tmp_path,
            dvc=MATRIX.replace(line, ""),
            params="train: {rate: 1.0}\n",
            cells=(parameters(MATRIX_CELL),),
            stage="train@line",
        ),
        rule,
    )
    assert line.strip() in found.remedy
    assert not found.fixes


def test_notebook_without_parameters(tmp_path: Path) -> None:
    """Without a parameters cell only the mirror and the executed copy are asked for."""
    bare = STAGES.replace("    params:\n      - train\n", "")
    assert check(tmp_path, dvc=bare, cells=("print(1)",)) == []
    found = check(tmp_path, cells=("print(1)",))
    assert one(found, "unknown-parameter").what.startswith("stage 'train' gives rate, rounds")
    found = check(
        tmp_path, dvc=bare.replace("      - .mlnb/code/train.py\n", "", 1), cells=("print(1)",)
    )
    assert one(found, "missing-mirror")


def test_other_languages(tmp_path: Path) -> None:
    """A notebook in another language is not asked for types."""
    project(tmp_path, dvc=STAGES, params=PARAMS)
    path = write(tmp_path / "notebooks/train.ipynb", parameters("rate <- 0.1"))
    path.write_text(path.read_text().replace('"language": "python"', '"language": "R"'))
    found = find(tmp_path)
    lines = pipeline.load(found)
    source = notebook.read(path)
    assert (
        disagreements(
            found, lines, lines.stage("train"), contract.read(source), mirror.mirror(found, source)
        )
        == []
    )


def test_mirror_that_git_cannot_hold(tmp_path: Path) -> None:
    """A mirror that DVC caches is git-ignored by DVC, so a clone would lack it."""
    dvc = STAGES.replace("train.py: {cache: false, persist: true}", "train.py")
    assert "cached by DVC" in one(check(tmp_path, dvc=dvc), "code-stage").what


def test_local_modules_are_watched(tmp_path: Path) -> None:
    """A package that the notebook imports must be a dependency of the code stage."""
    (tmp_path / "src/shop").mkdir(parents=True)
    (tmp_path / "src/shop/__init__.py").write_text("")
    cells = (parameters(CELL), code("import shop"))
    found = one(check(tmp_path, cells=cells), "code-stage")
    assert "- src/shop" in found.remedy
    watched = STAGES.replace("      - notebooks\n", "      - notebooks\n      - src\n")
    assert check(tmp_path, dvc=watched, cells=cells) == []


def test_subfolder_pipelines(tmp_path: Path) -> None:
    """A dvc.yaml below the root writes its paths relative to its own folder."""
    lines = STAGES.splitlines(keepends=True)
    at = lines.index("  train:\n")
    project(tmp_path, dvc="".join(lines[:at]))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/dvc.yaml").write_text(
        "stages:\n  train:\n    cmd: mlnb run ../notebooks/train.ipynb\n"
        "    deps: [../.mlnb/code/train.py]\n"
    )
    path = write(tmp_path / "notebooks/train.ipynb", "print(1)")
    found = find(tmp_path)
    pipe = pipeline.load(found)
    source = notebook.read(path)
    told = one(
        disagreements(
            found,
            pipe,
            pipe.stage("sub/train"),
            contract.read(source),
            mirror.mirror(found, source),
        ),
        "missing-executed",
    )
    assert "- ../reports/executed/sub/train.ipynb" in told.remedy
    assert told.where == "sub/dvc.yaml, line 2"
