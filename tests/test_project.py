"""Where a project is, what its settings say, and which notebooks are its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlnb import project
from mlnb.errors import MlnbError, ProjectError
from mlnb.project import Project, Settings


def configured(root: Path, text: str = "") -> Project:
    """Return the project at ``root`` with ``text`` in its [tool.mlnb]."""
    (root / "pyproject.toml").write_text(f"[tool.mlnb]\n{text}\n")
    return project.find(root)


def test_found_by_dvc_from_anywhere_below(tmp_path: Path) -> None:
    """The root is the nearest folder above with .dvc, without any settings."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "a" / "b").mkdir(parents=True)
    found = project.find(tmp_path / "a" / "b")
    assert (found.root, found.settings) == (tmp_path, Settings())


def test_found_by_pyproject(tmp_path: Path) -> None:
    """A pyproject.toml is a root only with [tool.mlnb]; the nearest one wins."""
    assert configured(tmp_path).root == tmp_path
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("[tool.other]\n")
    assert project.find(inner).root == tmp_path
    assert configured(inner).root == inner


def test_no_project(tmp_path: Path) -> None:
    """Outside of any project the error says what makes one; a file .dvc does not."""
    (tmp_path / ".dvc").write_text("")
    with pytest.raises(ProjectError, match="dvc init"):
        project.find(tmp_path)


def test_settings(tmp_path: Path) -> None:
    """Every setting is read, dashes or underscores, in its type."""
    text = """
notebooks = ["nb", "more/nb"]
source = ["lib"]
run-deadline = 60
cell_deadline = 1.5
output-cap-mb = 0
tracking-uri = "sqlite:///x.db"
experiment = "e"
"""
    assert configured(tmp_path, text).settings == Settings(
        ("nb", "more/nb"), ("lib",), 60, 1.5, 0, "sqlite:///x.db", "e"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run-deadlin = 1", "unknown setting 'run-deadlin' in .* Did you mean 'run_deadline'"),
        ("run-deadline = true", "must be a finite number"),
        ("run-deadline = '5'", "must be a finite number"),
        ("run-deadline = -1", "must be a finite number"),
        ("run-deadline = nan", "must be a finite number"),
        ("run-deadline = inf", "must be a finite number"),
        ("notebooks = 'nb'", "must be a list of strings"),
        ("notebooks = [1]", "must be a list of strings"),
        ("experiment = 1", "must be a string"),
        ("notebooks = ['../nb']", "outside the project"),
        ("notebooks = ['/nb']", "outside the project"),
        ("notebooks = ['a/../../nb']", "outside the project"),
        ("broken", "not valid TOML"),
    ],
)
def test_bad_settings(tmp_path: Path, text: str, message: str) -> None:
    """A setting that cannot be meant is an error that names the file."""
    with pytest.raises(ProjectError, match=message) as caught:
        configured(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "pyproject.toml"))


def test_settings_that_are_no_table(tmp_path: Path) -> None:
    """``mlnb = 1`` below [tool] is an error, not a crash."""
    (tmp_path / "pyproject.toml").write_text("[tool]\nmlnb = 1\n")
    with pytest.raises(ProjectError, match="must be a table"):
        project.find(tmp_path)


def test_settings_are_read_again(tmp_path: Path) -> None:
    """An edit within one tick of the file system's clock is seen."""
    configured(tmp_path, "experiment = 'one'")
    stat = (tmp_path / "pyproject.toml").stat()
    (tmp_path / "pyproject.toml").write_text("[tool.mlnb]\nexperiment = 'other'\n")
    os.utime(tmp_path / "pyproject.toml", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert project.find(tmp_path).settings.experiment == "other"


@pytest.mark.parametrize(
    "copy",
    [
        ".dvc/tmp/exps/tmpabc",
        ".dvc/tmp/exps/standalone/tmpabc",
        ".dvc/tmp/exps/tmpabc/sub",
        ".mlnb/trials/depth/7",
    ],
)
def test_home(tmp_path: Path, copy: str) -> None:
    """A copy that DVC runs experiments in, or a sweep its trials, tracks to its checkout."""
    root = tmp_path / copy
    made = Project(root, Settings())
    assert (made.home, made.state) == (tmp_path, tmp_path / ".mlnb")
    assert (made.code, made.reports) == (root / ".mlnb" / "code", root / "reports")
    assert Project(tmp_path, Settings()).home == tmp_path


def test_relative(tmp_path: Path) -> None:
    """Paths are named from the root, also when a link led there; outside they stay absolute."""
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    made = configured(root)
    assert made.relative(root / "a" / ".." / "b.txt") == "b.txt"
    assert made.relative(tmp_path / "other") == str(tmp_path / "other")
    (tmp_path / "link").symlink_to("root")
    assert made.relative(tmp_path / "link" / "a" / "b.txt") == "a/b.txt"
    assert project.find(tmp_path / "link").relative(root / "a") == "a"
    (root / "a" / "alias").symlink_to(tmp_path / "other")
    assert made.relative(tmp_path / "link" / "a" / "alias") == "a/alias"


def test_notebooks(tmp_path: Path) -> None:
    """Notebooks are found in nested folders, once, without checkpoints and executed copies."""
    names = [
        "nb/b.ipynb",
        "nb/sub/a.ipynb",
        "nb/.ipynb_checkpoints/b-checkpoint.ipynb",
        "reports/executed/b.ipynb",
        "reports/failed/b.ipynb",
        ".venv/x.ipynb",
        "top.ipynb",
        "nb/notes.txt",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(folders: str) -> list[str]:
        made = configured(tmp_path, f"notebooks = {folders}")
        return [made.relative(path) for path in made.notebooks()]

    assert found("['nb', 'nb/sub', 'none']") == ["nb/b.ipynb", "nb/sub/a.ipynb"]
    assert found("['.']") == ["nb/b.ipynb", "nb/sub/a.ipynb", "top.ipynb"]


def test_sources_keep_links(tmp_path: Path) -> None:
    """Source folders are the existing ones, by the names a person gave them."""
    (tmp_path / "outside").mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "lib").symlink_to("../outside")
    made = configured(root, "source = ['lib', 'none', '.']")
    assert made.sources == (root / "lib", root)


def test_enter_root(tmp_path: Path) -> None:
    """After mlnb.here() the root is the working directory and its modules can be imported."""
    configured(tmp_path, "source = ['lib']")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "mine.py").write_text("x = 5\n")
    (tmp_path / "notebooks").mkdir()
    program = "import mlnb, os; print(mlnb.here()); import mine; print(os.getcwd(), mine.x)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "notebooks",
        env={**os.environ, "PYTHONPATH": str(Path(project.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{tmp_path}\n{tmp_path} 5\n"


def test_errors_join() -> None:
    """Several errors are told in one, each with its place and remedy."""
    errors = [MlnbError("one", where="a"), MlnbError("two", remedy="Do.")]
    assert str(MlnbError.join(errors)) == "a: one\ntwo\n  Do."
    assert MlnbError.join(errors[:1]) is errors[0]
