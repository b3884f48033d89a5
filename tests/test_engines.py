"""A notebook run in process is the notebook that a real kernel gives: every sample of the corpus.

Each engine runs the corpus in processes of its own, one notebook after another, all at the same
time. What becomes of a notebook (its document, why it failed, the files it left) is then compared
place by place with the kernel's; `corpus/differences.py` has what may differ, and why.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from corpus import CORPUS, ENGINES
from corpus.differences import DIFFERENCES, MASKS, differences, masked

Outcomes = dict[str, dict[str, list[dict[str, Any]]]]

DRAWN = "random without a seed"
ALLOWED = {found.name: found for found in DIFFERENCES}
SHARES = [
    ("kernel", list(CORPUS)[0::2]),
    ("kernel", list(CORPUS)[1::2]),
    ("cold", [*CORPUS, DRAWN]),
    ("warm", [*CORPUS, DRAWN]),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What became of each notebook, by engine and name, once for each time it ran."""
    folder = tmp_path_factory.mktemp("engines")
    # Coverage's tracer would be there in a kernel and in no fork, and one sample shows the tracer.
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("COVERAGE_")}
    environment["PYTHONHASHSEED"] = "0"  # as `mlnb run` does for itself, before anything else
    running = []
    for number, (engine, names) in enumerate(SHARES):
        results = folder / f"{number}.jsonl"
        log = results.with_suffix(".log").open("wb")
        command = [sys.executable, "-m", "corpus", engine, str(results), *names]
        here = Path(__file__).parent
        with log:
            running.append(
                subprocess.Popen(
                    command,
                    cwd=here,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    codes = [process.wait() for process in running]
    found: Outcomes = {engine: {} for engine in ENGINES}
    for number, (engine, names) in enumerate(SHARES):
        results = folder / f"{number}.jsonl"
        said = results.with_suffix(".log").read_text("utf-8", errors="replace")
        assert codes[number] == 0, f"{engine} ended with {codes[number]}:\n{said[-3000:]}"
        lines = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
        assert [line["name"] for line in lines] == names
        for line in lines:
            outcome = masked(line["outcome"], line["root"])
            found[engine].setdefault(line["name"], []).append(outcome)
    return found


@pytest.mark.parametrize("name", CORPUS)
def test_the_kernel_shows_the_feature(outcomes: Outcomes, name: str) -> None:
    """Each notebook shows in a real kernel what it is there to show, and ends as it should."""
    chosen, (outcome,) = CORPUS[name], outcomes["kernel"][name]
    assert "raised" not in outcome, outcome
    cells = outcome["document"]["cells"]
    shown = json.dumps([cell["outputs"] for cell in cells], ensure_ascii=False)
    assert not [text for text in chosen.shows if text not in shown]
    if chosen.cause:
        assert chosen.cause in outcome["cause"]
    else:
        assert outcome["cause"] == ""
        assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "kernel"])
def test_the_engine_gives_what_the_kernel_gives(outcomes: Outcomes, engine: str, name: str) -> None:
    """The outcomes differ exactly where a reason is written down, and nowhere else."""
    (expected,), (outcome, *_) = outcomes["kernel"][name], outcomes[engine][name]
    places = ALLOWED[name].places if name in ALLOWED else ()
    found = list(differences(expected, outcome))
    assert sorted(found) == sorted(places), "\n".join(
        f"{place}:\n  kernel: {_at(expected, place)}\n  {engine}: {_at(outcome, place)}"
        for place in found
    )


@pytest.mark.parametrize("engine", ["cold", "warm"])
def test_forks_draw_other_numbers(outcomes: Outcomes, engine: str) -> None:
    """Two forks of one process draw other numbers from random and numpy, unless they seed them."""
    one, two = outcomes[engine][DRAWN]
    pairs = zip(_texts(one), _texts(two), strict=True)
    assert [a != b for a, b in pairs] == [True, False]


def test_every_mask_and_every_difference_is_about_something(outcomes: Outcomes) -> None:
    """No mask hides nothing, and no difference is allowed to a notebook that is not there."""
    text = json.dumps(outcomes["kernel"], ensure_ascii=False)
    marks = {mask.text.removeprefix(r"\1") for mask in MASKS}
    assert not [mark for mark in marks if mark not in text]
    assert set(ALLOWED) <= set(CORPUS)
    assert len(ALLOWED) == len(DIFFERENCES)
    assert all(found.reason and found.places for found in DIFFERENCES)


CHANGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "text": (
        lambda o: o["document"]["cells"][0]["outputs"][0].update(text="out\n"),
        "document.cells[0].outputs[0].text",
    ),
    "a lost output": (
        lambda o: o["document"]["cells"][0]["outputs"].pop(),
        "document.cells[0].outputs",
    ),
    "the kind of an output": (
        lambda o: o["document"]["cells"][0]["outputs"][0].pop("name"),
        "document.cells[0].outputs[0]",
    ),
    "a count": (
        lambda o: o["document"]["cells"][1].update(execution_count=None),
        "document.cells[1].execution_count",
    ),
    "metadata": (
        lambda o: o["document"]["cells"][1]["metadata"].update(tags=["x"]),
        "document.cells[1].metadata",
    ),
    "a lost cell": (lambda o: o["document"]["cells"].pop(), "document.cells"),
    "a cause": (lambda o: o.update(cause="cell 1 raised E"), "cause"),
    "a file left behind": (lambda o: o["left"].update(more="0"), "left"),
    "a number's type": (lambda o: o.update(interrupted=0), "interrupted"),
}


@pytest.mark.parametrize(("change", "place"), CHANGES.values(), ids=CHANGES.keys())
def test_the_comparison_sees_a_change(
    outcomes: Outcomes, change: Callable[[Any], object], place: str
) -> None:
    """Whatever is changed in an outcome is found, at its place."""
    (outcome,) = outcomes["kernel"]["prints"]
    other = copy.deepcopy(outcome)
    assert list(differences(outcome, other)) == []
    change(other)
    assert list(differences(outcome, other)) == [place]


def _texts(outcome: dict[str, Any]) -> list[str]:
    cells = outcome["document"]["cells"]
    return [cell["outputs"][0]["data"]["text/plain"] for cell in cells]


def _at(outcome: Any, place: str) -> str:
    """Return what is at a place, as :func:`differences` names it; its beginning."""
    for step in place.replace("[", ".[").split("."):
        if step.startswith("["):
            outcome = outcome[int(step[1:-1])]
        elif isinstance(outcome, dict) and step in outcome:
            outcome = outcome[step]
    return json.dumps(outcome, ensure_ascii=False)[:2000]
