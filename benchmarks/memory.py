"""What one more run at the same time takes: the private memory of all its processes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import forks
from measure import BenchmarkError, Bound, Case, Cost, Subject
from workplace import MLNB, PAPERMILL, Workplace, python

_PATIENCE = 120.0


def subjects(place: Workplace) -> list[Subject]:
    """Return the comparison."""
    folder, environment = place.loose, place.logged(place.loose)
    notebook = "notebooks/holding.ipynb"
    ready, go = folder / "reports/ready", folder / "reports/go"
    control = place.control  # made now, so that its start is in no measure
    job = forks.scripts(folder, ["holding"], [], environment)

    def weighed(run: Callable[[], object]) -> Callable[[], Cost]:
        """Return what runs and weighs a run, which waits for it, from outside."""

        def weigh() -> Cost:
            for path in (ready, go):
                path.unlink(missing_ok=True)
            before = place.meter.processes()
            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(lambda: place.meter.cost(run))
                try:
                    _wait(lambda: ready.exists() or running.done())
                    time.sleep(0.2)  # what follows the last output settles
                    private = place.meter.private(place.meter.processes() - before)
                finally:
                    go.touch()
                return dataclasses.replace(running.result(), memory=private)

        return weigh

    def command(*words: str) -> Callable[[], Cost]:
        return weighed(lambda: place.meter.run(words, folder, environment))

    def warm() -> None:
        go.touch()
        place.warm(folder, notebook)

    cases = [
        Case("a fresh process", command(*python("holding"))),
        Case("papermill", command(PAPERMILL, notebook, "out.ipynb")),
        Case("mlnb run, warm", command(MLNB, "run", notebook), warm),
        Case("limit: fork, everything imported", weighed(lambda: control.run(job))),
    ]
    return [
        Subject(
            title="Memory of a further run",
            note="Private memory (what no other process shares) of all processes of a run that has "
            "the imports of training: for ours the command, the child of the worker and the "
            "notebook. Ratios are to a fresh process.",
            cases=cases,
            stages=0,
            bounds=[
                Bound(
                    "memory of a further run",
                    "mlnb run, warm",
                    "a fresh process",
                    "memory",
                    0.15,
                    cases[-1].name,
                )
            ],
        )
    ]


def _wait(arrived: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not arrived():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"no run was ready to be weighed after {_PATIENCE:g} s")
        time.sleep(0.02)
