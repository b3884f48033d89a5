"""A mirror changes exactly when a run would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlnb import cli, mirror, notebook, project
from mlnb.errors import MlnbError
from notebooks import code, document, parameters, prose, write

CELLS = (prose("# T"), parameters("x = 1"), "import lib\nprint(lib.y)", "x + 1  # why", "done = 1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a project with one notebook that imports one module, which imports another."""
    (tmp_path / ".dvc").mkdir()
    write(tmp_path / "notebooks" / "nb.ipynb", *CELLS)
    (tmp_path / "lib.py").write_text("from base import y\n")
    (tmp_path / "base.py").write_text("y = 2\n")
    return tmp_path


def digest(root: Path, name: str = "notebooks/nb.ipynb") -> str:
    """Return the digest of the mirror that a notebook should have now."""
    return mirror.mirror(project.find(root), notebook.read(root / name)).digest


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit the notebook's JSON."""
    path = root / "notebooks" / "nb.ipynb"
    made = json.loads(path.read_text())
    change(made)
    path.write_text(json.dumps(made))


STILL: dict[str, Callable[[dict[str, Any]], object]] = {
    "outputs": lambda d: d["cells"][2].update(
        outputs=[{"output_type": "stream", "name": "stdout", "text": "2"}]
    ),
    "execution count": lambda d: d["cells"][2].update(execution_count=7),
    "prose": lambda d: d["cells"][0].update(source="# Another"),
    "new prose": lambda d: d["cells"].insert(2, dict(d["cells"][0], id="new")),
    "cell id": lambda d: d["cells"][2].update(id="other"),
    "display name": lambda d: d["metadata"]["kernelspec"].update(display_name="My Python"),
    "Python version": lambda d: d["metadata"].update(language_info={"version": "3.99"}),
    "a tag for people": lambda d: d["cells"][2]["metadata"].update(tags=["hide-input"]),
    "an empty cell": lambda d: d["cells"].append(dict(d["cells"][2], id="new", source=" ")),
    "a dev cell": lambda d: d["cells"].append(
        dict(d["cells"][2], id="new", metadata={"tags": ["dev"]})
    ),
    "line breaks at the end": lambda d: d["cells"][3].update(source="x + 1  # why\n\n"),
}
CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "code": lambda d: d["cells"][3].update(source="x + 2  # why"),
    "a comment": lambda d: d["cells"][3].update(source="x + 1  # because"),
    "order": lambda d: d["cells"].append(d["cells"].pop(2)),
    "the dev tag": lambda d: d["cells"][3]["metadata"].update(tags=["dev"]),
    "the parameters tag": lambda d: d["cells"][1]["metadata"].update(tags=[]),
    "raises-exception": lambda d: d["cells"][2]["metadata"].update(tags=["raises-exception"]),
    "language": lambda d: d["metadata"]["kernelspec"].update(language="r"),
    "one cell of two": lambda d: d["cells"].__setitem__(
        slice(3, 5), [dict(d["cells"][3], source="x + 1  # why\n\n# %%\ndone = 1")]
    ),
    "a cell into prose": lambda d: d["cells"][3].update(cell_type="markdown"),
}


@pytest.mark.parametrize("name", STILL)
def test_does_not_change(root: Path, name: str) -> None:
    """What no run depends on does not touch the mirror."""
    before = digest(root)
    edit(root, STILL[name])
    assert digest(root) == before


@pytest.mark.parametrize("name", CHANGES)
def test_changes(root: Path, name: str) -> None:
    """What a run depends on, or shows, changes the mirror."""
    before = digest(root)
    edit(root, CHANGES[name])
    assert digest(root) != before


def test_marks_in_the_code_stay_apart(root: Path) -> None:
    """However cells hold the mark of a cell themselves, different cells give different mirrors."""
    texts = set()
    for cells in (["a\n\n# %%\nb"], ["a", "b"], ["a\n\n#  %%\nb"], ["a\n\n", "# %%\nb"]):
        write(root / "notebooks" / "nb.ipynb", *cells)
        texts.add(digest(root))
    assert len(texts) == 4


def test_modules(root: Path) -> None:
    """A changed module changes the mirror, however far it is imported; another file does not."""
    before = digest(root)
    (root / "unrelated.py").write_text("y = 3\n")
    assert digest(root) == before
    (root / "base.py").write_text("y = 3\n")
    assert digest(root) != before
    (root / "base.py").write_text("y = 2\n")
    os.utime(root / "base.py", (0, 0))
    assert digest(root) == before
    (root / "notebooks" / "base.py").write_text("y = 2\n")
    assert digest(root) != before


def test_the_same_on_every_machine(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The text names nothing of the machine: not the root, not a module outside it, no link."""
    elsewhere = tmp_path_factory.mktemp("other") / "clone"
    for place in (root, elsewhere):
        (place / "notebooks").mkdir(parents=True, exist_ok=True)
        write(place / "notebooks" / "nb.ipynb", "import shared_by_all")
        (place / "pyproject.toml").write_text("[tool.mlnb]\nsource = ['../shared']\n")
        (place.parent / "shared").mkdir()
        (place.parent / "shared" / "shared_by_all.py").write_text("")
    link = elsewhere.parent / "link"
    link.symlink_to("clone")
    assert digest(root) == digest(elsewhere) == digest(link)
    made = mirror.mirror(project.find(link), notebook.read(link / "notebooks" / "nb.ipynb"))
    assert "# imports ../shared/shared_by_all.py sha256:" in made.text


def test_text(root: Path) -> None:
    """The mirror is readable code in order, with tags, language and modules on top."""
    made = mirror.mirror(project.find(root), notebook.read(root / "notebooks" / "nb.ipynb"))
    lines = made.text.splitlines()
    assert lines[0].startswith("# Code of notebooks/nb.ipynb, written by `mlnb code`")
    assert lines[1] == "# mlnb-mirror: 1, language: python"
    assert [line.split(" sha256:")[0] for line in lines[2:4]] == [
        "# imports base.py",
        "# imports lib.py",
    ]
    assert lines[4:10] == ["", "# %% tags=['parameters']", "x = 1", "", "# %%", "import lib"]
    assert made.modules == (root / "base.py", root / "lib.py")
    compile(made.text, "mirror", "exec")


def names(root: Path) -> set[str]:
    """Return the mirrors on disk."""
    folder = root / ".mlnb" / "code"
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_write_all(root: Path) -> None:
    """Mirrors are written once, follow edits, nest as notebooks do and go with them."""
    made = project.find(root)
    write(root / "notebooks" / "sub" / "nb.ipynb", "x = 1")
    write(root / "notebooks" / ".ipynb_checkpoints" / "nb-checkpoint.ipynb", "x = 1")
    (root / "notebooks" / "alias.ipynb").symlink_to("nb.ipynb")
    code = root / ".mlnb" / "code"
    assert mirror.write_all(made) == [code / "alias.py", code / "nb.py", code / "sub" / "nb.py"]
    assert names(root) == {"nb.py", "alias.py", "sub/nb.py"}
    stamp = (code / "nb.py").stat()
    assert mirror.write_all(made) == []
    assert (code / "nb.py").stat() == stamp
    edit(root, CHANGES["code"])
    assert mirror.write_all(made) == [code / "alias.py", code / "nb.py"]
    (root / "notebooks" / "sub" / "nb.ipynb").unlink()
    (code / "old.py").write_text("")
    assert mirror.write_all(made) == [code / "old.py", code / "sub" / "nb.py"]
    assert names(root) == {"nb.py", "alias.py"}


def test_bad_notebooks_write_nothing(root: Path) -> None:
    """One torn notebook keeps all mirrors as they were, and every bad one is named."""
    made = project.find(root)
    mirror.write_all(made)
    edit(root, CHANGES["code"])
    (root / "notebooks" / "a.ipynb").write_text("{")
    (root / "notebooks" / "z.ipynb").symlink_to("gone.ipynb")
    write(root / "notebooks" / "new.ipynb", "x = 1")
    before = (root / ".mlnb" / "code" / "nb.py").read_bytes()
    with pytest.raises(MlnbError) as caught:
        mirror.write_all(made)
    assert "a.ipynb: not a notebook, or cut off" in str(caught.value)
    assert "z.ipynb: no such notebook" in str(caught.value)
    assert (root / ".mlnb" / "code" / "nb.py").read_bytes() == before
    assert names(root) == {"nb.py"}


def test_two_notebooks_of_one_mirror(root: Path) -> None:
    """Two folders of notebooks may not have one of the same name: one would hide the other."""
    (root / "pyproject.toml").write_text("[tool.mlnb]\nnotebooks = ['notebooks', 'more']\n")
    write(root / "more" / "nb.ipynb", "x = 1")
    with pytest.raises(MlnbError, match=r"nb\.py, which is that of more/nb\.ipynb") as caught:
        mirror.write_all(project.find(root))
    assert str(caught.value).startswith("notebooks/nb.ipynb: ")
    assert names(root) == set()


def test_a_missing_folder_takes_no_mirrors_with_it(root: Path) -> None:
    """A folder of notebooks that is misspelt or not checked out is an error."""
    mirror.write_all(project.find(root))
    (root / "notebooks").rename(root / "notebook")
    with pytest.raises(MlnbError, match="no such folder of notebooks"):
        mirror.write_all(project.find(root))
    assert names(root) == {"nb.py"}


def test_is_current(root: Path) -> None:
    """A mirror is current only while it holds the very text."""
    made = mirror.mirror(project.find(root), notebook.read(root / "notebooks" / "nb.ipynb"))
    states = [made.is_current]
    mirror.write_all(project.find(root))
    states.append(made.is_current)
    made.path.write_text(made.text + "\n")
    states.append(made.is_current)
    assert states == [False, True, False]


def test_command(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``mlnb code`` says what it did, and exits with 2 and the reason when it cannot."""
    monkeypatch.chdir(root / "notebooks")
    assert cli.main(["code"]) == 0
    assert cli.main(["code"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "updated .mlnb/code/nb.py",
        "code mirrors are up to date",
    ]
    (root / "notebooks" / "nb.ipynb").write_text("")
    assert cli.main(["code"]) == 2
    assert "git checkout" in capsys.readouterr().err


def test_command_imports_nothing_heavy(root: Path) -> None:
    """``mlnb code`` runs before every stage: it needs the standard library only."""
    program = (
        "import sys; from mlnb.cli import main; main(['code']);"
        "print({m.partition('.')[0] for m in sys.modules} - sys.stdlib_module_names)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(Path(mirror.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] in ("{'__main__', 'mlnb'}", "{'mlnb', '__main__'}")


def test_a_cell_of_carriage_returns(root: Path) -> None:
    """A source with foreign line ends is mirrored as it is and stays current."""
    made = document([code("x = 1\r\ny = 2\r\n")])
    (root / "notebooks" / "nb.ipynb").write_text(json.dumps(made))
    mirror.write_all(project.find(root))
    assert mirror.write_all(project.find(root)) == []
