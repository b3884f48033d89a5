"""The command line: quick to say hello, and one kind of ending for each kind of trouble."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mlnb
from mlnb import cli
from notebooks import project, write

HEAVY = (
    "numpy",
    "pandas",
    "pydantic",
    "ruamel",
    "papermill",
    "nbformat",
    "IPython",
    "mlflow",
    "dvc",
)


def loaded(*arguments: str) -> set[str]:
    """Return the top-level modules that a command leaves loaded in a process of its own."""
    code = (
        "import sys\nfrom mlnb import cli\n"
        f"try:\n    cli.main({list(arguments)!r})\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]], ids=" ".join)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    """Help needs the parser only; no command's libraries are loaded for it."""
    assert loaded(*arguments).isdisjoint(HEAVY)


def test_the_list_of_heavy_modules_is_real() -> None:
    """The control: a command that needs them is seen to load them."""
    assert not loaded("lint").isdisjoint(HEAVY)


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """`mlnb --version` prints the package's version."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"mlnb {mlnb.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run"],
        ["run", "nb.ipynb", "--deadline", "-1"],
        ["run", "nb.ipynb", "--deadline", "soon"],
        ["run", "nb.ipynb", "--unknown"],
        ["verify", "--rtol", "much"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str]) -> None:
    """A command, option or value that does not exist is bad input."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2


def test_no_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`mlnb` alone shows what there is, and ends with 2 as it did nothing."""
    assert cli.main([]) == 2
    assert "verify" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["code", "lint", "track", "report", "verify"])
def test_outside_a_project_every_command_says_so(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a project each command ends with 2 and says how to make one."""
    monkeypatch.chdir(tmp_path)
    assert cli.main([command]) == 2
    said = capsys.readouterr().err
    assert "no project here" in said
    assert "dvc init" in said


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """`mlnb lint | head -1` ends quietly."""
    project(tmp_path, dvc="stages: {}\n")
    for number in range(600):
        write(tmp_path / f"notebooks/n{number}.ipynb", "open('/home/somebody/data.csv')")
    command = f"{sys.executable} -m mlnb.cli lint | head -1"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_code_says_what_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`mlnb code` names each mirror it wrote or removed, and says when there was nothing to do."""
    monkeypatch.chdir(project(tmp_path))
    notebook = write(tmp_path / "notebooks/a.ipynb", "1")
    assert cli.main(["code"]) == 0
    assert capsys.readouterr().out == "updated .mlnb/code/a.py\n"
    assert cli.main(["code"]) == 0
    assert "up to date" in capsys.readouterr().out
    notebook.unlink()
    assert cli.main(["code"]) == 0
    assert capsys.readouterr().out == "removed .mlnb/code/a.py\n"
