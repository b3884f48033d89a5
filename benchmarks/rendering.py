"""Rendering the reports of four notebooks."""

from __future__ import annotations

import forks
from measure import Bound, Case, Subject
from workplace import BIN, MLNB, STAGES, Workplace


def subjects(place: Workplace) -> list[Subject]:
    """Return the comparison."""
    folder, environment = place.ours, place.logged(place.ours)
    notebooks = [f"reports/executed/{name}.ipynb" for name in STAGES]
    job = forks.call(folder, "mlnb.cli:main", ["report"], environment)
    place.control.learn(job)
    nbconvert = [str(BIN / "jupyter"), "nbconvert", "--log-level=ERROR", "--to", "html"]
    nbconvert += ["--output-dir", str(place.root / "html"), *notebooks]
    cases = [
        Case("jupyter nbconvert, one call", place.meter.command(nbconvert, folder)),
        Case(
            "mlnb report, warm",
            place.meter.command([MLNB, "report"], folder, environment, times=3),
            lambda: place.meter.run([MLNB, "report"], folder, environment),
        ),
        Case(
            "mlnb report, no worker",
            place.meter.command([MLNB, "report"], folder, environment | {"MLNB_WARM": "0"}),
        ),
        Case("limit: fork, everything imported", lambda: place.control.run(job)),
    ]
    return [
        Subject(
            title="Rendering four reports",
            note="The executed notebooks of the pipeline to HTML; ours makes an index besides. "
            "Ratios are to nbconvert.",
            cases=cases,
            stages=0,
            bounds=[
                Bound("four reports", cases[1].name, cases[0].name, "cpu", 0.12, cases[3].name)
            ],
        )
    ]
