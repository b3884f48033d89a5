"""Comparison with a tolerance: what is the same, what is not, and in which words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.tolerance import (
    Tolerance,
    compare,
    compare_frames,
    compare_notebooks,
    compare_text,
    compare_values,
    snap_text,
    snap_value,
)
from mlnb.tolerance.notebooks import final

SAME = [
    ("auc 0.81", "auc 0.8100000001"),
    ("81.2%", "81.20000001%"),
    ("-1e-17", "3e-18"),
    ("[1. 0.5]", "[1.         0.49999999999]"),
    ("[ 1. -0.]", "[1. 0.]"),
    ("   score\n0    0.5", "      score\n0  0.50000001"),
    ("x\n---\n0.5", "x\n----------\n0.50000001"),
    ("loss 1", "loss 0.99999999"),
    ("0.5+0.2j", "0.5+0.20000001j"),
    ("loss nan, 0.5.", "loss nan, 0.50000001."),
    ("<td>0.5</td>", "<td>0.50000001</td>"),
    ("<a.B at 0x7f0000000001>", "<a.B at 0x7f00000000ff>"),
    ("#T_0a1b2_row0 0.5", "#T_ffa1b_row0 0.5"),
]
MOVED = [
    ("auc 0.81", "auc 0.83", "line 1: 0.81 became 0.83"),
    ("a\nn = 1000000", "a\nn = 1000001", "line 2: 1000000 became 1000001"),
    ("loss 0.5", "loss nan", "line 1: 'loss 0.5' became 'loss nan'"),
    ("loss 0.5", "cost 0.5", "line 1: 'loss 0.5' became 'cost 0.5'"),
    ("version 1.2.3", "version 1.2.30000001", "line 1: 'version 1.2.3' became"),
    ("0x10", "0x11", "line 1: '0x10' became '0x11'"),
    ("a  b", "a b", "line 1: 'a  b' became 'a b'"),
    ("a\nb 0.5", "a", "line 2: 'b 0.5' is gone"),
    ("a", "a\n0.5 0.6", "line 2: '0.5 0.6' is new"),
    ("1e400", "1e401", "line 1: 1e400 became 1e401"),
    ("2024-01-05", "2024-01-06", "line 1: 05 became 06"),
    ("0.5 s", "-0.5 s", "line 1: 0.5 became -0.5"),
]


@pytest.mark.parametrize(("reference", "result"), SAME)
def test_same_text(reference: str, result: str) -> None:
    """Numbers near each other, and the alignment they cause, are no difference, either way."""
    assert compare_text(reference, result) is None
    assert compare_text(result, reference) is None
    assert snap_text(reference, result) == reference


@pytest.mark.parametrize(("reference", "result", "told"), MOVED)
def test_moved_text(reference: str, result: str, told: str) -> None:
    """Counts, words and far numbers are a difference, told with line and both values."""
    assert str(compare_text(reference, result)).startswith(told)
    assert compare_text(result, reference) is not None
    assert snap_text(reference, result) != reference


def test_snapping_leaves_what_moved() -> None:
    """Only what is near is written as in the reference, so the rest can be shown alone."""
    old, new = "a 0.5\nb 0.81 0.1\nc", "a 0.50000001\nb 0.83 0.10000001\nc d"
    assert snap_text(old, new) == "a 0.5\nb 0.83 0.1\nc d"
    assert snap_value({"a": [0.5, 0.81]}, {"a": [0.50000001, 0.83], "b": 1}) == {
        "a": [0.5, 0.83],
        "b": 1,
    }


@given(st.floats(-1e300, 1e300), st.floats(-1, 1))
def test_tolerance_of_any_number(number: float, share: float) -> None:
    """A number moved by less than the tolerance passes; by more than twice, it does not."""
    tolerance = Tolerance(rtol=1e-6, atol=1e-9)
    limit = 1e-9 + 1e-6 * abs(number)
    assert tolerance.close(number, number + 0.99 * share * limit)
    assert not tolerance.close(number, number + 2.5 * limit)


def test_special_numbers() -> None:
    """NaN is NaN and infinity is infinity, and neither is near anything else."""
    tolerance = Tolerance()
    nan, inf = float("nan"), float("inf")
    assert tolerance.close(nan, nan) and tolerance.close(inf, inf)
    for pair in ((nan, 1.0), (1.0, nan), (inf, 1.0), (1.0, inf), (inf, -inf)):
        assert not tolerance.close(*pair)


@given(st.text(alphabet="ab01.e-+ \n%", max_size=40))
def test_any_text_equals_itself(text: str) -> None:
    """Every text is the same as itself, and differs from itself with a word more."""
    assert compare_text(text, text) is None
    assert compare_text(text, text + " word") is not None
    assert snap_text(text, text) == text


@pytest.mark.parametrize(
    ("reference", "result", "told"),
    [
        ({"a": {"auc": 0.81}}, {"a": {"auc": 0.83}}, ["a.auc: 0.81 became 0.83"]),
        ({"a": 0.81}, {"a": 0.8100000001}, []),
        ({"a": float("nan")}, {"a": float("nan")}, []),
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": True}, ["a: 1 became True"]),
        ({"a": 1000000}, {"a": 1000001}, ["a: 1000000 became 1000001"]),
        ({"a": "1.0"}, {"a": "1.00"}, ["a: '1.0' became '1.00'"]),
        ({"a": 1}, {"b": 2}, ["a: is gone, was 1", "b: is new, 2"]),
        ({"a": [1, 2]}, {"a": [1]}, ["a: 2 items became 1"]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, ["a[0].b: 1 became 2"]),
        ({"a": None}, {"a": 0.0}, ["a: None became 0.0"]),
    ],
)
def test_values(reference: Any, result: Any, told: list[str]) -> None:
    """JSON values are compared leaf by leaf, each with its path."""
    assert [str(difference) for difference in compare_values(reference, result)] == told


FRAME = pd.DataFrame(
    {
        "score": [0.5, np.nan, 0.25],
        "count": pd.array([1, 2, None], dtype="Int64"),
        "name": ["a", None, "c"],
        "kind": pd.Categorical(["u", "v", "u"]),
        "when": pd.to_datetime(["2024-01-01", "2024-01-02", "NaT"]),
        "list": [[0.5], [1, 2], []],
    }
)


def changed(**columns: Any) -> pd.DataFrame:
    return FRAME.assign(**columns)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (FRAME, []),
        (changed(score=FRAME["score"] + 1e-9, list=[[0.50000001], [1, 2], []]), []),
        (
            changed(score=[0.5, 0.7, 0.26]),
            ["column score, row 1: nan became 0.7 (and 1 more rows)"],
        ),
        (changed(count=pd.array([1, 3, None], dtype="Int64")), ["column count, row 1: 2 became 3"]),
        (changed(name=["a", None, "d"]), ["column name, row 2: 'c' became 'd'"]),
        (changed(list=[[0.5], [1, 3], []]), ["column list, row 1: [1, 2] became [1, 3]"]),
        (FRAME.head(2), ["3 rows became 2"]),
        (FRAME.drop(columns="name"), ["column name: is gone"]),
        (changed(more=1), ["column more: is new"]),
        (FRAME.set_axis([5, 6, 7]), ["index, row 0: 0 became 5 (and 2 more rows)"]),
    ],
)
def test_frames(result: pd.DataFrame, told: list[str]) -> None:
    """Tables are compared by columns, rows, types, index and values; NaN equals NaN."""
    assert [str(difference) for difference in compare_frames(FRAME, result)] == told


def test_frame_shape_and_types() -> None:
    """The order of columns and their types are part of a table."""
    reordered = FRAME[[*FRAME.columns[1:], "score"]]
    assert compare_frames(FRAME, reordered)[0].where == "order of columns"
    retyped = FRAME.astype({"score": "float32"})
    assert [d.where for d in compare_frames(FRAME, retyped)] == ["column score"]


def cell(*outputs: Mapping[str, Any], source: str = "x") -> dict[str, Any]:
    return {"cell_type": "code", "source": [source], "outputs": list(outputs)}


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def shown(mime: str, value: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {mime: value}, "metadata": {}}


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], *, images: bool = True
) -> list[str]:
    first: dict[str, Any] = {"cell_type": "markdown", "source": "prose"}
    found = compare_notebooks({"cells": [first, old]}, {"cells": [first, new]}, images=images)
    return [str(difference) for difference in found]


def test_streams_of_notebooks() -> None:
    """How streams are cut, mixed and overwritten is no difference; what they say is."""
    old = cell(stream("a 0.5\nb\n"), stream("e\n", "stderr"))
    cut = [
        stream("e", "stderr"),
        stream("x\ra 0.5"),
        stream("\n", "stderr"),
        stream("0000001\nb\n"),
    ]
    assert differences(old, cell(*cut)) == []
    assert differences(old, cell(stream("a 0.6\nb\n"), stream("e\n", "stderr"))) == [
        "cell 2 stdout, line 1: 0.5 became 0.6"
    ]
    assert differences(old, cell(stream("a 0.5\nb\n"))) == ["cell 2 stderr, line 1: 'e' is gone"]
    assert differences(cell(), cell(stream(""))) == []


def test_outputs_of_notebooks() -> None:
    """Each output is compared as what it is, pictures by their bytes unless told otherwise."""
    text, html = shown("text/plain", "0.81"), shown("text/html", ["<td>", "0.81</td>"])
    assert differences(cell(text, html), cell(shown("text/plain", "0.8100000001"), html)) == []
    assert differences(cell(text, html), cell(text, shown("text/html", "<td>0.83</td>"))) == [
        "cell 2 output 2 text/html, line 1: 0.81 became 0.83"
    ]
    assert differences(cell(text), cell(text, text)) == ["cell 2: 1 outputs became 2"]
    old, new = shown("application/json", {"a": [0.81]}), shown("application/json", {"a": [0.83]})
    assert differences(cell(old), cell(new)) == [
        "cell 2 output 1 application/json, a[0]: 0.81 became 0.83"
    ]
    png = [cell(shown("image/png", data)) for data in ("AAAA\n", "AAAB\n")]
    assert differences(*png) == ["cell 2 output 1 image/png: the picture changed"]
    assert differences(*png, images=False) == []
    widgets = [cell(shown("application/vnd.jupyter.widget-view+json", {"id": i})) for i in (1, 2)]
    assert differences(*widgets) == []


def test_cells_of_notebooks() -> None:
    """Another number of cells, another source and another error are differences."""
    assert differences(cell(source="a = 0.5"), cell(source="a = 0.50000001")) == [
        "cell 2 source, line 1: 0.5 became 0.50000001"
    ]
    assert str(compare_notebooks({"cells": [cell()]}, {"cells": []})[0]) == "1 cells became 0"
    error = {"output_type": "error", "ename": "ValueError", "evalue": "bad", "traceback": ["x"]}
    assert differences(cell(error), cell({**error, "traceback": ["y"]})) == []
    assert differences(cell(error), cell({**error, "ename": "KeyError"})) == [
        "cell 2 output 1, line 1: 'ValueError' became 'KeyError'"
    ]


@pytest.mark.parametrize(
    ("stream", "screen"),
    [
        ("10%\r100%\n", "100%\n"),
        ("a\r\nb", "a\nb"),
        ("ab\bc", "ac"),
        ("a\r", "a\r"),
        ("\b\ba", "a"),
    ],
)
def test_final(stream: str, screen: str) -> None:
    """A stream is compared as a screen shows it in the end."""
    assert final(stream) == screen


def saved(folder: Path, name: str, value: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if name.endswith(".parquet"):
        value.to_parquet(path)
    elif name.endswith((".csv", ".csv.gz")):
        value.to_csv(path, index=False)
    elif name.endswith(".npy"):
        np.save(path, value)
    elif name.endswith(".npz"):
        np.savez(path, a=value)
    elif isinstance(value, bytes):
        path.write_bytes(value)
    else:
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


TABLE = pd.DataFrame({"score": [0.5, 0.81], "n": [1, 2], "name": ["NA", "b"]})
FILES = [
    ("m.json", {"auc": 0.81}, {"auc": 0.8100000001}, {"auc": 0.83}, "auc: 0.81 became 0.83"),
    ("t.csv", TABLE, TABLE.assign(score=[0.5, 0.8100000001]), TABLE.assign(score=[0.5, 0.83]),
     "column score, row 1: 0.81 became 0.83"),
    ("t.csv.gz", TABLE, TABLE.assign(score=[0.50000001, 0.81]), TABLE.assign(name=["", "b"]),
     "column name, row 0: NA became "),
    ("t.parquet", TABLE, TABLE.assign(score=[0.5, 0.8100000001]), TABLE.assign(n=[1, 3]),
     "column n, row 1: 2 became 3"),
    ("a.npy", np.array([0.5, np.nan]), np.array([0.50000001, np.nan]), np.array([0.5, 1]),
     "[1]: nan became 1.0"),
    ("a.npz", np.array([[1, 2]]), np.array([[1, 2]]), np.array([[1, 3]]), "a[0, 1]: 2 became 3"),
    ("r.md", "auc 0.81", "auc 0.8100000001", "auc 0.83", "line 1: 0.81 became 0.83"),
    ("l.jsonl", '{"a": 0.5}\n', '{"a": 0.50000001}\n', '{"a": 0.6}\n', "[0].a: 0.5 became 0.6"),
    ("m.skops", b"\0\1", b"\0\1", b"\0\2", "bytes differ, 2 as before"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "old", "near", "far", "told"), FILES)
def test_files(tmp_path: Path, name: str, old: Any, near: Any, far: Any, told: str) -> None:
    """A file is compared as what its name says; what moved is named."""
    reference = saved(tmp_path / "old", name, old)
    assert compare(reference, saved(tmp_path / "near", name, near)) == []
    (difference,) = compare(reference, saved(tmp_path / "far", name, far))
    assert str(difference) == told
    assert compare(reference, tmp_path / "far" / name, rtol=1, atol=1) == [] or name in (
        "t.csv.gz", "t.parquet", "a.npy", "a.npz", "m.skops",
    )  # fmt: skip


def test_folders(tmp_path: Path) -> None:
    """Folders are compared file by file, what is gone and what is new included."""
    for side, names in (("old", ("a.json", "b.json")), ("new", ("a.json", "c.json"))):
        for name in names:
            saved(tmp_path / side / "in", name, {"side": side})
    found = [str(d) for d in compare(tmp_path / "old", tmp_path / "new")]
    assert found == [
        "in/a.json, side: 'old' became 'new'",
        "in/b.json: is gone",
        "in/c.json: is new",
    ]
    assert str(compare(tmp_path / "old", tmp_path / "new" / "in" / "a.json")[0]) == (
        "a folder became a file"
    )


def test_torn_file(tmp_path: Path) -> None:
    """A file that cannot be read differs."""
    old, new = saved(tmp_path / "a", "m.json", {"a": 1}), saved(tmp_path / "b", "m.json", '{"a"')
    (difference,) = compare(old, new)
    assert difference.what.startswith("cannot be read as .json")


def test_import_is_light() -> None:
    """The comparison itself needs the standard library only."""
    heavy = "{'numpy', 'pandas', 'nbformat'}"
    code = f"import sys, mlnb.tolerance; sys.exit(len({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0
