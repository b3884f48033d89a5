"""The commands that should feel like nothing, on a project of twenty notebooks."""

from __future__ import annotations

import sys

from measure import Case, Subject
from workplace import MLNB, Workplace


def subjects(place: Workplace) -> list[Subject]:
    """Return the comparison."""

    def command(*words: str) -> Case:
        name = " ".join(words).replace(MLNB, "mlnb").replace(sys.executable, "python")
        return Case(name, place.meter.command(words, place.quick, times=5))

    return [
        Subject(
            title="Quick commands",
            note="A project of twenty notebooks. Ratios are to an interpreter that does nothing.",
            cases=[
                command(sys.executable, "-c", "pass"),
                command(MLNB, "--help"),
                command(MLNB, "code"),
                command(MLNB, "lint"),
            ],
            stages=0,
        )
    ]
