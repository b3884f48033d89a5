"""`mlnb run` as a stage of real DVC: matrix, foreach, a subfolder, and what DVC then knows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from notebooks import parameters, project, write

DVC = """
stages:
  code:
    cmd: mlnb code
    deps: [notebooks]
    outs:
      - .mlnb/code/one.py: {cache: false, persist: true}
      - .mlnb/code/two.py: {cache: false, persist: true}
  grid:
    matrix: {booster: [gbtree, dart], depth: [1, 2]}
    cmd: mlnb run notebooks/one.ipynb
    deps: [.mlnb/code/one.py]
    params: [common]
    outs:
      - models/${item.booster}-${item.depth}.txt
      - reports/executed/grid@${key}.ipynb
  each:
    foreach: [north, south]
    do:
      cmd: mlnb run notebooks/two.ipynb
      deps: [.mlnb/code/two.py]
      params: ["sites.${item}"]
      outs:
        - sites/${item}.txt
        - reports/executed/each@${item}.ipynb
"""
SUB = """
stages:
  last:
    cmd: mlnb run ../notebooks/two.ipynb
    deps: [../.mlnb/code/two.py]
    params:
      - ../params.yaml: [sites.east]
    outs:
      - ../sites/east.txt
      - ../reports/executed/sub/last.ipynb
"""
PARAMS = """
common: {rate: 1e-3, seed: 7}   # a comment
sites:
  north: {item: north, weight: 2}
  south: {item: south, weight: 3}
  east: {item: east, weight: 4}
"""


def run(root: Path, *command: str, code: int = 0) -> str:
    """Run a command in ``root`` and return what it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    done = subprocess.run(
        command,
        cwd=root,
        env=kept
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": tempfile.gettempdir() + "/mlnb-test-site",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of templated stages after `dvc repro`."""
    root = tmp_path_factory.mktemp("stages")
    run(root, "dvc", "init", "--no-scm", "--quiet")
    project(root, dvc=DVC, params=PARAMS)
    (root / "sub").mkdir()
    (root / "sub/dvc.yaml").write_text(SUB)
    write(
        root / "notebooks/one.ipynb",
        parameters(
            "rate: float = 0.5\nseed: int = 0\nbooster: str = 'gbtree'\ndepth: int = 0\n"
            "model: 'Out' = f'models/{booster}-{depth}.txt'"
        ),
        "open(model, 'w').write(f'{booster} {depth} {rate} {seed}') and None",
    )
    write(
        root / "notebooks/two.ipynb",
        parameters("item: str = 'x'\nweight: int = 0\nout: 'Out' = f'sites/{item}.txt'"),
        "import os\nopen(out, 'w').write(f'{item} {weight}') and None\nos.getcwd()",
    )
    run(root, "mlnb", "code")
    run(root, "mlnb", "lint")
    run(root, "dvc", "repro", "--all-pipelines")
    return root


def test_lint_and_repro_agree_on_templates(built: Path) -> None:
    """Templated stages pass lint, run, and are up to date afterwards."""
    run(built, "mlnb", "lint")
    assert "up to date" in run(built, "dvc", "status")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("models/gbtree-1.txt", "gbtree 1 0.001 7"),
        ("models/dart-2.txt", "dart 2 0.001 7"),
        ("sites/north.txt", "north 2"),
        ("sites/south.txt", "south 3"),
        ("sites/east.txt", "east 4"),
    ],
)
def test_each_stage_got_its_own_values_and_paths(built: Path, path: str, text: str) -> None:
    """Matrix, foreach and a dvc.yaml in a subfolder each bind what belongs to that stage."""
    assert (built / path).read_text() == text


def test_a_subfolder_stage_runs_at_the_root(built: Path) -> None:
    """Wherever its dvc.yaml lies, a notebook's working directory is the project root."""
    copy = json.loads((built / "reports/executed/sub/last.ipynb").read_bytes())
    assert str(built) in copy["cells"][-1]["outputs"][-1]["data"]["text/plain"]
    assert copy["metadata"]["mlnb"]["stage"] == "sub/last"


def test_a_subfolder_stage_runs_when_dvc_starts_there(built: Path) -> None:
    """DVC names a stage relative to where it was started; the run finds it all the same."""
    assert "Running stage 'last'" in run(built / "sub", "dvc", "repro", "--force", "last")


def test_by_hand_a_stage_must_be_chosen(built: Path) -> None:
    """A notebook that several stages run asks for --stage, and takes it."""
    said = run(built, "mlnb", "run", "notebooks/one.ipynb", code=2)
    assert "--stage" in said
    assert "grid@dart-2" in said
    run(built, "mlnb", "run", "notebooks/one.ipynb", "--stage", "grid@dart-2", "-p", "rate=0.25")
    assert (built / "models/dart-2.txt").read_text() == "dart 2 0.25 7"
    assert "models/dart-2.txt" in run(built, "dvc", "status")
    run(built, "dvc", "checkout", "--force")


def test_by_hand_a_misspelt_value_is_refused_too(built: Path) -> None:
    """Outside DVC a name in params.yaml that the notebook lacks is no silent default either."""
    try:
        (built / "params.yaml").write_text(PARAMS.replace("rate: 1e-3", "rat: 1e-3"))
        said = run(built, "mlnb", "run", "notebooks/one.ipynb", "--stage", "grid@dart-2", code=2)
        assert "Did you mean 'rate'?" in said
    finally:
        (built / "params.yaml").write_text(PARAMS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate: 1e-3", "rat: 1e-3", "Did you mean 'rate'?"),
        ("rate: 1e-3", "rate: fast", "cannot be 'fast'"),
        (", seed: 7", "", "seed"),
    ],
    ids=["misspelt", "ill-typed", "missing"],
)
def test_values_that_do_not_fit_stop_the_stage(
    built: Path, old: str, new: str, message: str
) -> None:
    """A value that the contract does not declare, or declares otherwise, stops the stage."""
    try:
        (built / "params.yaml").write_text(PARAMS.replace(old, new))
        said = run(built, "dvc", "repro", "grid@dart-1", code=255)
        assert message in said
        assert "notebooks/one.ipynb" in said
        assert "Traceback" not in said
    finally:
        (built / "params.yaml").write_text(PARAMS)
        run(built, "dvc", "checkout", "--force")


def test_an_output_that_dvc_does_not_know_stops_the_stage(built: Path) -> None:
    """A declared path that dvc.yaml lacks is refused with the line to add."""
    text = (built / "dvc.yaml").read_text()
    try:
        (built / "dvc.yaml").write_text(
            text.replace("- models/${item.booster}", "- model/${item.booster}")
        )
        said = run(built, "dvc", "repro", "grid@dart-1", code=255)
        assert "models/dart-1.txt" in said
        assert "outs" in said
    finally:
        (built / "dvc.yaml").write_text(text)
        run(built, "dvc", "checkout", "--force")
