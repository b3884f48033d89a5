"""`%load_ext mlnb` where notebooks are opened by hand: a real kernel in the notebook's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from notebooks import parameters, project, write

DVC = """
stages:
  train:
    cmd: mlnb run notebooks/train.ipynb
    params: [train]
    outs: [reports/executed/train.ipynb]
"""
PARAMS = 'train: {rate: 0.25, name: "it\'s"}\n'
CONTRACT = "rate: float = 0.5   # Step of each round\nname: str = 'x'"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one stage and its notebook."""
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True
    )
    project(tmp_path, dvc=DVC, params=PARAMS)
    (tmp_path / "beside_root.py").write_text("value = 1")
    write(
        tmp_path / "notebooks/train.ipynb",
        "%load_ext mlnb",
        parameters(CONTRACT),
        "import os, beside_root\nprint(os.getcwd(), rate, name)",
        "%stage",
    )
    return tmp_path


def text(found: list[Any]) -> str:
    """Return what a cell printed; kernels send it in pieces."""
    return "".join("".join(output["text"]) for output in found)


def outputs(
    path: Path,
    environment: Mapping[str, str] | None = None,
    edited: Mapping[int, str] | None = None,
) -> list[Any]:
    """Run a notebook as an editor does, in its own folder, and return the outputs by cell.

    ``edited`` are cells that were changed in the editor and not saved.
    """
    document = nbformat.read(path, as_version=4)
    for number, source in (edited or {}).items():
        document.cells[number].source = source
    before = path.read_bytes()
    client = nbclient.NotebookClient(document, resources={"metadata": {"path": str(path.parent)}})
    client.execute(env={**os.environ, **(environment or {})})
    assert path.read_bytes() == before
    return [cell.get("outputs", []) for cell in document.cells if cell.cell_type == "code"]


def test_the_stage_s_values_and_root_are_bound(root: Path) -> None:
    """After the parameters cell its names have the stage's values, and paths start at the root."""
    found = outputs(root / "notebooks/train.ipynb")
    assert text(found[2]) == f"{root} 0.25 it's\n"
    assert found[0] == found[1] == []


def test_an_interactive_session_is_told(root: Path) -> None:
    """In JupyterLab one line says which stage's values were bound."""
    found = outputs(root / "notebooks/train.ipynb", {"JPY_SESSION_NAME": "notebooks/train.ipynb"})
    assert "Stage train" in text(found[1])
    assert "rate=0.25" in text(found[1])


def test_stage_shows_the_contract(root: Path) -> None:
    """%stage shows names, types, values, where they come from and what they mean."""
    shown = outputs(root / "notebooks/train.ipynb")[3][0]["data"]
    for part in ("rate", "float", "0.25", "params.yaml: train", "Step of each round"):
        assert part in shown["text/plain"]
        assert part in shown["text/html"]
    assert "dvc repro would check or run again: train" in shown["text/plain"]


def test_ill_typed_values_fail_the_cell(root: Path) -> None:
    """A value that the contract refuses fails the parameters cell, never a silent default."""
    (root / "params.yaml").write_text("train: {rate: fast, name: x}\n")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="cannot be 'fast'"):
        outputs(root / "notebooks/train.ipynb")


def test_plain_papermill_overrides_what_the_extension_binds(root: Path) -> None:
    """papermill without mlnb sees the stage's values, and its own parameters win."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "papermill",
            "notebooks/train.ipynb",
            "out.ipynb",
            "-p",
            "rate",
            "0.75",
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads((root / "out.ipynb").read_bytes())
    printed = next(c["outputs"] for c in document["cells"] if "getcwd" in "".join(c["source"]))
    assert text(printed) == f"{root} 0.75 it's\n"


def test_a_notebook_without_a_stage_keeps_its_defaults(root: Path) -> None:
    """Names of a notebook that no stage runs stay as its own cell says."""
    path = write(
        root / "notebooks/free.ipynb", "%load_ext mlnb", parameters("k: int = 3"), "print(k)"
    )
    assert text(outputs(path)[2]) == "3\n"


def test_an_unsaved_parameters_cell_is_known(root: Path) -> None:
    """A parameters cell that was edited and not saved still gets the stage's values."""
    found = outputs(
        root / "notebooks/train.ipynb",
        {"JPY_SESSION_NAME": "train.ipynb"},
        {1: CONTRACT.replace("0.5", "0.9") + "\nnew: int = 7", 3: "print(new)"},
    )
    assert text(found[2]) == f"{root} 0.25 it's\n"
    assert text(found[3]) == "7\n"


def test_trying_another_value_by_hand_is_not_undone(root: Path) -> None:
    """A cell that assigns to the parameters' names is left to its person."""
    found = outputs(
        root / "notebooks/train.ipynb",
        {"JPY_SESSION_NAME": "train.ipynb"},
        {2: "rate = 0.9\nname = 'a:b'", 3: "print(rate, name)"},
    )
    assert text(found[3]) == "0.9 a:b\n"


@pytest.mark.parametrize("editor", ["JupyterLab", "VS Code"])
@pytest.mark.parametrize("name", ["one", "two"])
def test_the_editor_tells_twins_apart(root: Path, editor: str, name: str) -> None:
    """Of two notebooks with the same parameters cell, the one that is open counts."""
    project(
        root,
        dvc="stages:\n"
        "  first: {cmd: mlnb run notebooks/one.ipynb, params: [first]}\n"
        "  second: {cmd: mlnb run notebooks/two.ipynb, params: [second]}\n",
        params="first: {k: 1}\nsecond: {k: 2}\n",
    )
    for twin in ("one", "two"):
        path = root / f"notebooks/{twin}.ipynb"
        told = f"__vsc_ipynb_file__ = {str(path)!r}" if editor == "VS Code" else "pass"
        write(path, told, "%load_ext mlnb", parameters("k: int = 0"), "print(k)")
    session = {"JPY_SESSION_NAME": f"{name}.ipynb"} if editor == "JupyterLab" else {}
    found = outputs(root / f"notebooks/{name}.ipynb", session)
    assert text(found[3]) == {"one": "1\n", "two": "2\n"}[name]


def test_outside_a_project_the_extension_says_so(tmp_path: Path) -> None:
    """Without a project the first cell fails with what to do, and no long traceback."""
    path = write(tmp_path / "nb.ipynb", "%load_ext mlnb")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="dvc init") as caught:
        outputs(path)
    assert "project.py" not in str(caught.value)


@pytest.fixture(autouse=True)
def no_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of a surrounding run or editor reaches the kernels."""
    for name in ("MLNB_EXECUTION", "MLNB_STAGE", "JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD"):
        monkeypatch.delenv(name, raising=False)
    yield
