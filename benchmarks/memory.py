"""What one more run at the same time holds for itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import forks
from measure import Bound, Case, Cost, Subject
from workplace import MLNB, Workplace, python


def subjects(place: Workplace) -> list[Subject]:
    """Return the comparison."""
    folder, environment = place.loose, place.logged(place.loose)
    notebook, figures = "notebooks/holding.ipynb", folder / "reports/metrics/holding.json"
    job = forks.scripts(folder, ["holding"], [], environment)

    def told(run: Callable[[], Cost]) -> Callable[[], Cost]:
        def measured() -> Cost:
            figures.unlink(missing_ok=True)
            cost = run()
            return dataclasses.replace(cost, memory=json.loads(figures.read_text())["private_mb"])

        return measured

    fresh = place.meter.command(python("holding"), folder, environment)
    warm = place.meter.command([MLNB, "run", notebook], folder, environment)
    cases = [
        Case("a fresh process", told(fresh)),
        Case("mlnb run, warm", told(warm), lambda: place.warm(folder, notebook)),
        Case("limit: fork, everything imported", told(lambda: place.control.run(job))),
    ]
    return [
        Subject(
            title="Memory of a further run",
            note="Private memory (what no other process shares) after the imports of training, "
            "read by the run itself. Ratios are to a fresh process.",
            cases=cases,
            stages=0,
            bounds=[
                Bound(
                    "memory of a further run",
                    cases[1].name,
                    cases[0].name,
                    "memory",
                    0.15,
                    cases[2].name,
                )
            ],
        )
    ]
