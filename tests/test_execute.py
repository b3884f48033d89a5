"""What is kept of a run's outputs, and the judgement on its cells, as plain data."""

from __future__ import annotations

from typing import Any

import pytest

from mlnb.execute import judge
from mlnb.execute.outputs import make_valid, normalise
from mlnb.execute.parameters import literal


def stream(name: str, text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def display(**data: str) -> dict[str, Any]:
    kinds = {kind.replace("_", "/", 1): value for kind, value in data.items()}
    return {"output_type": "display_data", "data": kinds, "metadata": {}}


def test_streams_between_displays_are_joined_stdout_first() -> None:
    """How a kernel cut and mixed the streams by timing does not show; displays keep their place."""
    mixed = [
        stream("stderr", "e1\n"),
        stream("stdout", "o1\n"),
        stream("stderr", "e2\n"),
        display(text_plain="figure"),
        stream("stdout", "o2"),
        stream("stdout", "o3"),
    ]
    assert normalise(mixed) == [
        stream("stdout", "o1\n"),
        stream("stderr", "e1\ne2\n"),
        display(text_plain="figure"),
        stream("stdout", "o2o3"),
    ]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\rb", "b"),
        ("10%\r100%\n", "100%\n"),
        ("done\r", "done"),
        ("one\r\ntwo\n", "one\ntwo\n"),
        ("plain\n", "plain\n"),
    ],
)
def test_carriage_returns_leave_what_a_terminal_shows(text: str, seen: str) -> None:
    """A progress line is kept as it stood at the end."""
    assert normalise([stream("stdout", text)])[0]["text"] == seen


def test_addresses_and_live_widgets_are_left_out() -> None:
    """What names a place in memory or a live model by a random id is not kept."""
    widget = "application/vnd.jupyter.widget-view+json"
    output = display(text_plain="<f at 0x7f00aa11bb22>", text_html="<b>at 0x7f00aa11bb22</b>")
    output["data"][widget] = {"model_id": "random"}
    assert normalise([output]) == [
        display(text_plain="<f at 0x…>", text_html="<b>at 0x…</b>"),
    ]


def test_objects_that_a_notebook_cannot_hold_become_text() -> None:
    """Data of a kind that is not JSON is text in a notebook; what is JSON stays as it is."""
    data = {"x/y": {"a": 1}, "application/json": {"a": 1}, "x/z+json": [1], "text/plain": "p"}
    make_valid(data)
    assert data == {**data, "x/y": '{"a": 1}', "application/json": {"a": 1}, "x/z+json": [1]}


def cell(count: int | None, *outputs: dict[str, Any], tags: tuple[str, ...] = ()) -> dict[str, Any]:
    metadata = {"tags": list(tags)} if tags else {}
    return {"execution_count": count, "outputs": list(outputs), "metadata": metadata}


ERROR = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        ([cell(1), cell(2)], None),
        ([], None),
        ([cell(1), cell(None)], (2, "was not executed in its place")),
        ([cell(2), cell(1)], (1, "was not executed in its place")),
        ([cell(1), cell(3)], (2, "was not executed in its place")),
        ([cell(1), cell(2, ERROR), cell(3)], (2, "raised an error")),
        ([cell(1, ERROR, tags=("raises-exception",)), cell(2)], None),
    ],
)
def test_cells_are_judged_by_what_they_show(
    cells: list[dict[str, Any]], verdict: tuple[int, str] | None
) -> None:
    """A run passes if every cell ran in its place and none has an error that is not allowed."""
    assert judge(cells) == verdict


@pytest.mark.parametrize(
    "value",
    [
        1,
        2**70,
        -0.5,
        float("inf"),
        True,
        None,
        'it\'s\n"x"',
        (1,),
        (),
        [1, (2, "a")],
        {"a": [None]},
    ],
    ids=repr,
)
def test_a_literal_evaluates_to_the_very_value(value: object) -> None:
    """The source that is injected for a value gives that value back, of the same type."""
    back = eval(literal(value), {"__builtins__": __builtins__})
    assert back == value
    assert type(back) is type(value)
