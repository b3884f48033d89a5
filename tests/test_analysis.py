"""What a notebook's code tells without being run."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlnb import notebook
from mlnb.analysis import Analysis, analyse
from notebooks import Cell, code, parameters, write


def look(root: Path, *cells: Cell | str, kernel: str = "python3") -> Analysis:
    """Return what a notebook of ``cells`` tells."""
    path = write(root / "notebooks/nb.ipynb", *cells, kernel=kernel)
    return analyse(notebook.read(path), [root / "notebooks", root])


def missed(root: Path, *cells: Cell | str) -> list[tuple[str, int, str]]:
    """Return (name, cell, reason) of the names that a run would not find."""
    return [(u.name, u.cell, u.reason) for u in look(root, *cells).undefined]


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (("print(x)", "x = 1"), [("x", 1, "later")]),
        (("print(x)",), [("x", 1, "never")]),
        ((code("x = 1", "dev"), "print(x)"), [("x", 2, "dev")]),
        (("x = 1", "del x", "print(x)"), [("x", 3, "deleted")]),
        (("x = x + 1",), [("x", 1, "below")]),
        (("x += 1",), [("x", 1, "below")]),
        (("x: int",), []),
        (("x: int", "print(x)"), [("x", 2, "never")]),
        (("y = [x for z in range(3)]",), [("x", 1, "never")]),
        (("y = [z for z in range(3)]", "print(z)"), [("z", 2, "never")]),
        (("def f():\n    return x",), [("x", 1, "never")]),
        (("def f(a=x): ...",), [("x", 1, "never")]),
        (("@x\ndef f(): ...",), [("x", 1, "never")]),
        (("class A(x): ...",), [("x", 1, "never")]),
        (("class A:\n    b = 1\n    def f(self):\n        return b",), [("b", 1, "never")]),
        (("for i in range(3):\n    print(x)",), [("x", 1, "never")]),
        (("print(__file__)",), [("__file__", 1, "never")]),
        (("panel: Metrics = 'a.json'",), [("Metrics", 1, "never")]),
        (("f = lambda: x",), [("x", 1, "never")]),
        (("try:\n    x\nexcept ValueError:\n    pass",), [("x", 1, "never")]),
    ],
)
def test_names_that_a_run_would_not_find(
    tmp_path: Path, cells: tuple[Cell | str, ...], found: list[tuple[str, int, str]]
) -> None:
    """A name used outside functions must be bound above; inside, anywhere in the notebook."""
    assert missed(tmp_path, *cells) == found


@pytest.mark.parametrize(
    "cells",
    [
        ("def f():\n    return x", "x = 1\nf()"),
        ("import os.path\nprint(os)",),
        ("import numpy as np\nprint(np)",),
        ("try:\n    import ujson as json\nexcept ImportError:\n    import json\njson",),
        ("try:\n    x\nexcept NameError:\n    x = 1",),
        ("from os.path import *\nprint(join)",),
        ("exec('x = 1')\nprint(x)",),
        ("with open('a') as file:\n    file.read()",),
        ("if (n := 3) > 2:\n    print(n)",),
        ("y = [last := i for i in range(3)]\nprint(last)",),
        ("match [1, 2]:\n    case [a, *rest]:\n        print(a, rest)",),
        ("match {'a': 1}:\n    case {'a': b, **more} as whole:\n        print(b, more, whole)",),
        ("for i in range(3):\n    if i:\n        print(last)\n    last = i",),
        ("class A:\n  b = 1\n  c = [b for _ in range(2)]\n  def f(self):\n    return __class__",),
        ("def f():\n    global x\n    x = 1", "f()\nprint(x)"),
        ("def f():\n  x = 1\n  def g():\n    nonlocal x\n    x += 1\n    return x\n  return g",),
        ("def f(n):\n    return f(n - 1)",),
        ("def f(*a, k=1, **b):\n    return a, k, b",),
        ("try:\n    1\nexcept ValueError as error:\n    print(error)",),
        ("from __future__ import annotations", "def f(x: Later) -> Later: ...", "class Later: ..."),
        ("get_ipython(), display, In, Out, _, __, _1, _i2, exit, quit",),
        ("%load_ext mlnb\n%matplotlib inline\nx = 1", "x"),
        ("files = !ls", "print(files)"),
        ("%%capture out\nprint(1)", "print(out)"),
        ("%%bash\necho $x",),
        ("%run other.py", "print(defined_there)"),
        ("%time x = 1", "print(x)"),
        (code("print(x)", "raises-exception"),),
        ("await_ = 1\nasync def f():\n    async for i in g():\n        print(i)", "def g(): ..."),
        ("import pandas as pd\ndel pd\nimport pandas as pd\npd",),
        (parameters("rate = 0.1"), "print(rate)"),
        ("sorted([1], key=lambda k: k)",),
        ("[[x for x in row] for row in [[1]]]",),
        ("(a, [b, *c]), d = (1, [2, 3]), 4\nprint(a, b, c, d)",),
    ],
)
def test_names_that_are_there(tmp_path: Path, cells: tuple[Cell | str, ...]) -> None:
    """Python's and IPython's ways to bind a name give no false alarm."""
    assert missed(tmp_path, *cells) == []


def test_each_name_once_per_cell(tmp_path: Path) -> None:
    """A name missed twice in a cell is told once, at its first line."""
    found = look(tmp_path, "a = 1", "x\nx\n\ny").undefined
    assert [(u.name, u.cell, u.line) for u in found] == [("x", 2, 1), ("y", 2, 4)]


def test_syntax_errors_silence_the_names(tmp_path: Path) -> None:
    """A cell that is not Python is told; what it would have bound is not held against others."""
    found = look(tmp_path, "x = = 1", "print(x)")
    assert [(b.cell, b.line) for b in found.syntax] == [(1, 1)]
    assert found.undefined == ()


# --- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("pd.read_csv('data/a.csv')", [("data/a.csv", False)]),
        ("pd.read_parquet(path='data/a.parquet')", [("data/a.parquet", False)]),
        ("frame.to_parquet('data/b.parquet')", [("data/b.parquet", True)]),
        ("frame.to_csv()", []),
        ("open('a.txt')", [("a.txt", False)]),
        ("open('a.txt', 'w')", [("a.txt", True)]),
        ("open('a.txt', mode='rb')", [("a.txt", False)]),
        ("open('a.txt', 'r+')", [("a.txt", True)]),
        ("Path('a.txt').open('w')", [("a.txt", True)]),
        ("Path('a.txt').read_text()", [("a.txt", False)]),
        ("(Path('d') / 'a.txt').write_text('x')", [("d/a.txt", True)]),
        ("json.load(open('a.json'))", [("a.json", False)]),
        ("json.dump(x, open('a.json', 'w'))", [("a.json", True)]),
        ("joblib.dump(model, 'm.joblib')", [("m.joblib", True)]),
        ("np.save('a.npy', x)\nnp.load('a.npy')", [("a.npy", True), ("a.npy", False)]),
        ("torch.save(x, 'a.pt')", [("a.pt", True)]),
        ("plt.savefig('a.png')", [("a.png", True)]),
        (
            "booster.save_model('m.ubj')\nbooster.load_model('m.ubj')",
            [("m.ubj", True), ("m.ubj", False)],
        ),
        ("save_model(model, 'm.skops')", [("m.skops", True)]),
        (
            "pq.write_table(t, 'a.parquet')\npq.read_table('a.parquet')",
            [("a.parquet", True), ("a.parquet", False)],
        ),
        ("pa.DataFrameSchema.from_yaml('s.yaml')", [("s.yaml", False)]),
        ("DATA = Path('data')\npd.read_csv(DATA / 'a.csv')", [("data/a.csv", False)]),
        ("D = 'data'\npd.read_csv(f'{D}/a.csv')", [("data/a.csv", False)]),
        ("pd.read_csv(os.path.join('data', 'a.csv'))", [("data/a.csv", False)]),
        ("D = 'a.csv'\nD = 'b.csv'\npd.read_csv(D)", []),
        ("def f(p):\n    return open(p)", []),
        ("p = 'a'\nfor p in names:\n    open(p)", []),
        ("shutil.copy('a.csv', 'b.csv')", [("a.csv", False), ("b.csv", True)]),
        ("glob.glob('data/*.csv')", [("data", False)]),
        ("list(Path('data').glob('*.csv'))", [("data", False)]),
        ("pd.read_csv('https://example.org/a.csv')", []),
        ("mlflow.load_model('models:/a/1')", []),
        ("sqlite3.connect(':memory:')", []),
        ("pd.read_json('{\"a\": 1}')", []),
        ("yaml.load('a: 1')", []),
        ("open('/dev/null')", []),
        ("frame.load('train')", []),
    ],
)
def test_files_by_literal_paths(tmp_path: Path, source: str, found: list[tuple[str, bool]]) -> None:
    """A path that can be known without running is told with the call that opens it."""
    told = look(tmp_path, source).accesses
    assert [(a.path, a.writes) for a in told] == found


def test_names_of_the_parameters_cell_are_the_contracts(tmp_path: Path) -> None:
    """A path that comes from the parameters cell is declared, whatever its default."""
    assert look(tmp_path, parameters("panel: 'In' = 'a.csv'"), "open(panel)").accesses == ()


@pytest.mark.parametrize(
    "path",
    [
        "/home/ann/a.csv",
        "/Users/ann/My Data/a.csv",
        "/mnt/share",
        "/tmp/x",
        "~/a.csv",
        "~ann/a.csv",
        "C:\\data\\a.csv",
        "D:/a.csv",
        "/data/a.csv",
        "\\\\server\\share\\a.csv",
    ],
)
def test_paths_of_one_machine(tmp_path: Path, path: str) -> None:
    """A string that can only be a path of one machine is told, wherever it stands."""
    told = look(tmp_path, "x = 1", f"FOLDER = {path!r}").machine_paths
    assert [(p.path, p.cell, p.line) for p in told] == [(path, 2, 1)]


@pytest.mark.parametrize(
    "source",
    [
        "'/'",
        "'/api/v1'",
        "'/data'",
        "'/data/items'",
        "client.get('/home/page')",
        "'a / b'",
        "'~'",
        "'~0.5'",
        "'c: d'",
        "'https://example.org/home/a'",
        "'x/home/a'",
        '"""See /home/ann/a.csv"""',
        "'/home is where the heart is'",
    ],
)
def test_strings_that_are_no_paths(tmp_path: Path, source: str) -> None:
    """Routes, docstrings and prose are not taken for paths."""
    assert (
        look(tmp_path, f"x = {source}" if not source.startswith('"""') else source).machine_paths
        == ()
    )


def test_absolute_paths_in_calls_and_f_strings(tmp_path: Path) -> None:
    """What a call opens is judged by being absolute alone; an f-string by its beginning."""
    assert [p.path for p in look(tmp_path, "open('/etc/x')").machine_paths] == ["/etc/x"]
    assert [
        p.path
        for p in look(
            tmp_path, "n = 1\nf'/home/ann/{n}.csv'\nx = f'/home/ann/{n}.csv'"
        ).machine_paths
    ]


# --- imports -----------------------------------------------------------------------------------


def test_modules_that_are_nowhere(tmp_path: Path) -> None:
    """An import of what is neither installed nor local is told once."""
    found = look(tmp_path, "import json, nowhere_to_be_found.part", "import nowhere_to_be_found")
    assert [(m.module, m.cell, m.line) for m in found.missing] == [("nowhere_to_be_found", 1, 1)]


def test_modules_that_are_somewhere(tmp_path: Path) -> None:
    """Installed, local and guarded imports, and those of other kernels, are left alone."""
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "space/inner").mkdir(parents=True)
    (tmp_path / "space/inner/deep.py").write_text("")
    assert look(tmp_path, "import numpy, helper, space.inner.deep, mlnb, __main__").missing == ()
    assert (
        look(tmp_path, "try:\n    import nowhere_at_all\nexcept ImportError:\n    pass").missing
        == ()
    )
    assert look(tmp_path, "if TYPE_CHECKING:\n    import nowhere_at_all").missing == ()
    assert look(tmp_path, "import nowhere_at_all", kernel="other-env").missing == ()


def test_looking_does_not_import(tmp_path: Path) -> None:
    """A local module with an effect is found without being run."""
    (tmp_path / "effect.py").write_text("raise SystemExit")
    assert look(tmp_path, "import effect").missing == ()


def test_import_paths(tmp_path: Path) -> None:
    """A change of sys.path is told, and silences what only it could find."""
    found = look(tmp_path, "import sys\nsys.path.append('../lib')\nimport in_lib")
    assert [(p.cell, p.line) for p in found.import_paths] == [(1, 2)]
    assert found.missing == ()


def test_other_languages(tmp_path: Path) -> None:
    """Nothing is claimed of a notebook that is not Python."""
    path = write(tmp_path / "nb.ipynb", "x <- y")
    path.write_text(path.read_text().replace('"language": "python"', '"language": "R"'))
    assert analyse(notebook.read(path), []) == Analysis()
