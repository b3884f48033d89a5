"""One stage: as a script, by papermill, by nbclient, by ``mlnb run`` cold and warm."""

from __future__ import annotations

import sys

from measure import Bound, Case, Subject
from workplace import MLNB, PAPERMILL, Workplace, python

COLD = {"MLNB_WARM": "0"}
NBCLIENT = """
import sys, nbformat
from nbclient import NotebookClient
document = nbformat.read(sys.argv[1], 4)
NotebookClient(document, timeout=None).execute()
nbformat.write(document, sys.argv[2])
"""


def subjects(place: Workplace) -> list[Subject]:
    """Return the comparison of the stage that trains, and of the one that evaluates."""
    return [_stage(place, name) for name in ("train", "evaluate")]


def _stage(place: Workplace, name: str) -> Subject:
    plain, papermill, ours = place.plain, place.papermill, place.ours
    notebook = f"notebooks/{name}.ipynb"
    run = place.meter.command
    nbclient = [sys.executable, "-c", NBCLIENT, notebook, "out.ipynb"]
    cases = [
        Case("plain script", run(python(name), plain, place.logged(plain))),
        Case(
            "papermill",
            run([PAPERMILL, notebook, "out.ipynb"], papermill, place.logged(papermill)),
        ),
        Case("nbclient", run(nbclient, papermill, place.logged(papermill))),
        Case(
            "mlnb run, no worker",
            run([MLNB, "run", notebook], ours, place.logged(ours) | COLD),
        ),
        Case(
            "mlnb run, warm",
            run([MLNB, "run", notebook], ours, place.logged(ours)),
            prepare=lambda: place.warm(ours, notebook),
        ),
        Case("limit: fork, everything imported", lambda: place.control.run(place.job(name))),
    ]
    return Subject(
        title=f"One stage: {name}",
        note="Ratios are to the plain script.",
        cases=cases,
        stages=1,
        bounds=[
            Bound(f"{name}, warm", "mlnb run, warm", "plain script", "cpu", 0.2, cases[-1].name),
            Bound(f"{name}, no worker", "mlnb run, no worker", "plain script", "cpu", 1.1),
        ],
    )
