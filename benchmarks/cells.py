"""Notebooks of many small cells, and of much output: what an engine costs by itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from measure import BenchmarkError, Bound, Case, Cost, Subject
from stages import COLD, NBCLIENT
from workplace import MLNB, PAPERMILL, Workplace


def subjects(place: Workplace) -> list[Subject]:
    """Return the comparison of many cells, and of much output."""
    many = _notebook(place, "many", 200, "199", 1)
    loud = _notebook(place, "loud", 21, "x" * 99, 200_000)
    return [
        Subject(
            title="Two hundred trivial cells",
            note="Each shows one number. Ratios are to papermill.",
            cases=many,
            stages=0,
            bounds=[Bound("200 trivial cells", many[2].name, many[0].name, "cpu", 0.02)],
        ),
        Subject(
            title="Twenty megabytes of output",
            note="One cell prints them in 200,000 lines, twenty trivial ones follow. Ratios are to "
            "papermill.",
            cases=loud,
            stages=0,
        ),
    ]


def _notebook(place: Workplace, name: str, count: int, held: str, times: int) -> list[Case]:
    folder, notebook = place.loose, f"notebooks/{name}.ipynb"
    executed = folder / f"reports/executed/{name}.ipynb"
    out = str(executed.relative_to(folder))

    def checked(words: list[str], environment: dict[str, str] | None = None) -> Callable[[], Cost]:
        def run() -> Cost:
            executed.unlink(missing_ok=True)
            cost = place.meter.cost(lambda: place.meter.run(words, folder, environment))
            _check(executed, count, held, times)
            return cost

        return run

    nbclient = [sys.executable, "-c", NBCLIENT, notebook, out]
    return [
        Case("papermill", checked([PAPERMILL, notebook, out])),
        Case("nbclient", checked(nbclient)),
        Case(
            "mlnb run, warm",
            checked([MLNB, "run", notebook]),
            lambda: place.warm(folder, notebook),
        ),
        Case("mlnb run, no worker", checked([MLNB, "run", notebook], COLD)),
    ]


def _check(executed: Path, count: int, held: str, times: int) -> None:
    """Refuse a notebook of which a cell did not run or an output is not whole."""
    cells = json.loads(executed.read_text())["cells"]
    given = sum(bool(cell["outputs"]) for cell in cells)
    if len(cells) != count or given != count:
        raise BenchmarkError(f"{executed.name}: {given} of {count} cells gave an output")
    text = "".join(map(str, cells[0]["outputs"] + cells[-1]["outputs"]))
    if text.count(held) != times:
        raise BenchmarkError(f"{executed.name}: the output is not whole")
