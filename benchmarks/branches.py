"""Two equal branches that compute: one after the other, and at the same time."""

from __future__ import annotations

import forks
from measure import Bound, Case, Subject
from workplace import MLNB, Workplace


def subjects(place: Workplace) -> list[Subject]:
    """Return the comparison."""
    folder, environment = place.branches, place.logged(place.branches)
    job = forks.scripts(place.plain, ["branch"], [], place.logged(place.plain))
    place.control.learn(job)

    def repro(jobs: str) -> Case:
        command = [MLNB, "repro", "-f", "-j", jobs]
        run = place.meter.command(command, folder, environment)
        return Case(f"mlnb repro -j {jobs}", run, lambda: place.warm(folder))

    cases = [
        repro("1"),
        repro("2"),
        Case("fork, one after the other", lambda: place.control.run(job, job)),
        Case("limit: fork, both at once", lambda: place.control.run(job, job, at_once=2)),
    ]
    return [
        Subject(
            title="Two branches at once",
            note="Two stages that do not depend on each other, some seconds of one thread each. "
            "Ratios are to `-j 1`.",
            cases=cases,
            stages=2,
            bounds=[
                Bound("two branches", cases[1].name, cases[0].name, "wall", 0.6, cases[3].name)
            ],
        )
    ]
