"""Which local files a notebook runs by importing them: none missed, none of another's."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mlnb import modules
from mlnb.notebook import Cell, Notebook


def cell(source: str) -> Cell:
    """Return a code cell."""
    return Cell(1, "code", source, ())


def closure(root: Path, *sources: str, language: str = "python") -> set[str]:
    """Return the files that a notebook in ``notebooks`` imports, relative to ``root``."""
    folders = [root / "notebooks", root, root / "src"]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    source = Notebook(folders[0] / "nb.ipynb", language, "", tuple(cell(s) for s in sources))
    return {p.relative_to(root).as_posix() for p in modules.closure(source, folders)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with a package, a namespace package, a module beside and a script."""
    contents = {
        "notebooks/beside.py": "import deep",
        "src/deep.py": "",
        "src/pkg/__init__.py": "",
        "src/pkg/mod.py": "from . import other\nfrom .sub.leaf import x",
        "src/pkg/other.py": "import pkg.mod",
        "src/pkg/sub/__init__.py": "",
        "src/pkg/sub/leaf.py": "from ..up import y\nfrom ... import too_far",
        "src/pkg/up.py": "",
        "src/pkg/alone.py": "",
        "src/ns/a/b/leaf.py": "",
        "src/broken.py": "import deep\ndef (",
        "notebooks/pkg/data.txt": "",
        "notebooks/ns/here.py": "",
        "script.py": "import deep",
        "mlnb/__init__.py": "",
        "unused.py": "",
    }
    for name, text in contents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


BESIDE = {"notebooks/beside.py", "src/deep.py"}
INIT = "src/pkg/__init__.py"
PKG = {INIT, "src/pkg/mod.py", "src/pkg/other.py", "src/pkg/up.py"} | {
    "src/pkg/sub/__init__.py",
    "src/pkg/sub/leaf.py",
}
IMPORTS: dict[str, set[str]] = {
    "import beside": BESIDE,
    "import beside as b": BESIDE,
    "from beside import *": BESIDE,
    "import os, beside": BESIDE,
    "def f():\n    import beside": BESIDE,
    "try:\n    import beside\nexcept ImportError:\n    beside = None": BESIDE,
    "if False:\n    from beside import x": BESIDE,
    "await f()\nimport beside": BESIDE,
    "import importlib\nm = importlib.import_module('beside')": BESIDE,
    "__import__('beside')": BESIDE,
    "import pkg.mod as m": PKG,
    "from pkg import mod": PKG,
    "from pkg.mod import name": PKG,
    "import pkg": {INIT},
    "from pkg import name": {INIT},
    "import pkg.alone": {INIT, "src/pkg/alone.py"},
    "import ns.a.b.leaf": {"src/ns/a/b/leaf.py"},
    "from ns.a.b import leaf": {"src/ns/a/b/leaf.py"},
    "import ns.here": {"notebooks/ns/here.py"},
    "import broken": {"src/broken.py"},
    "import mlnb, numpy, none_such": set(),
    "# import beside": set(),
    "x = 'import beside'": set(),
    "%matplotlib inline\nimport beside": BESIDE,
    "x = !ls\nimport beside": BESIDE,
    "files[0] = !ls *.py\nimport beside": BESIDE,
    "!pip install \\\n  -q thing's\nimport beside": BESIDE,
    "!echo (\nimport beside": BESIDE,
    "import beside\nbeside?": BESIDE,
    "?beside\nimport beside": BESIDE,
    "beside.f??\nimport beside": BESIDE,
    "%time import beside": BESIDE,
    "if True:\n    %time y = beside.f()\n    import beside": BESIDE,
    "%timeit -n 3 f()\nimport beside": BESIDE,
    "%%time\nimport beside": BESIDE,
    "\n%%capture out\n!ls\nimport beside": BESIDE,
    "%%some_magic of_ours\nimport beside": BESIDE,
    "%%bash\nimport beside": set(),
    "%%writefile x.py\nimport beside": set(),
    "%%html\n<b>": set(),
    "y = (7\n  % 5)\n%cd .\nimport beside": BESIDE,
    "s = '''\n%d\n'''\n%cd .\nimport beside": BESIDE,
    "f <- 5\nimport beside": BESIDE,
    "  import beside\n  x = 1": BESIDE,
    "%run script.py": {"script.py", "src/deep.py"},
    "%run -i 'script.py' --flag 3": {"script.py", "src/deep.py"},
    "%run ../script": {"script.py", "src/deep.py"},
    "%run -m pkg.alone": {INIT, "src/pkg/alone.py"},
    "%load_ext beside": BESIDE,
}


@pytest.mark.parametrize("source", IMPORTS, ids=lambda source: source.replace("\n", ";")[:40])
def test_closure(root: Path, source: str) -> None:
    """Every local file that the cell makes Python run is found, and no other."""
    assert closure(root, source) == IMPORTS[source]


def test_regular_goes_before_namespace(root: Path) -> None:
    """A folder of that name in a nearer place does not hide a module, as in Python."""
    (root / "notebooks" / "deep").mkdir()
    (root / "notebooks" / "deep" / "x.py").write_text("")
    assert closure(root, "import deep.x") == {"src/deep.py"}


def test_nearer_module_wins(root: Path) -> None:
    """Of two modules of one name the one in the notebook's folder is imported."""
    (root / "notebooks" / "deep.py").write_text("")
    assert closure(root, "import deep") == {"notebooks/deep.py"}


def test_an_edit_of_a_module_is_seen(root: Path) -> None:
    """What a module imports is read again when it changes."""
    assert closure(root, "import beside") == BESIDE
    (root / "notebooks" / "beside.py").write_text("import unused")
    assert closure(root, "import beside") == {"notebooks/beside.py", "unused.py"}


def test_nesting_beyond_measure(root: Path) -> None:
    """A module that Python's parser gives up on counts by its bytes."""
    (root / "src" / "deep.py").write_text("-" * 100_000 + "1")
    assert closure(root, "import deep") == {"src/deep.py"}
    assert closure(root, "x = " + "-" * 100_000 + "1\nimport deep") == {"src/deep.py"}


def test_another_language_imports_no_python(root: Path) -> None:
    """A word that looks like an import in another language is none."""
    assert closure(root, "import beside", language="julia") == set()


def test_python_keeps_lines_and_what_is_python() -> None:
    """Magics are blanked in place; a cell without them comes back as it is, to the letter."""
    plain = "s = '''\n%d\n!x\n'''\ny = (7\n  % 5)\r\nz = '\u2028'\n"
    assert modules.python(cell(plain)) == plain
    assert modules.python(cell("%time x = 1\n!ls \\\n  -l\n  \nif x:\n  %cd .\n")).split("\n") == [
        "x = 1",
        "pass",
        "",
        "  ",
        "if x:",
        "  pass",
        "",
    ]
    assert modules.parse(cell("def (")) is None
    assert modules.parse(cell("%%time\ndef (")) is None


def test_warnings_of_the_parser_are_not_ours() -> None:
    """A bad escape in a cell is neither shown nor, under -W error, an error."""
    assert modules.parse(cell("'\\d'")) is not None


@pytest.mark.parametrize(
    ("source", "package", "expected"),
    [
        ("import a.b as c, d", "", ["a.b", "d"]),
        ("from a import b, c", "", ["a", "a.b", "a.c"]),
        ("from . import x", "p.q", ["p.q", "p.q.x"]),
        ("from .. import x", "p.q", ["p", "p.x"]),
        ("from ..m import x", "p.q", ["p.m", "p.m.x"]),
        ("from ... import x", "p.q", ["x"]),
        ("from ..... import x", "p.q", ["x"]),
        ("from . import x", "", ["x"]),
    ],
)
def test_imports(source: str, package: str, expected: list[str]) -> None:
    """Relative imports are resolved against the package, and never below it by mistake."""
    assert [i.module for i in modules.imports(ast.parse(source), package)] == expected
