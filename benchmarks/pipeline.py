"""The pipeline of four stages: all of it, with one parameter changed, with nothing changed."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import forks
from measure import Bound, Case, Cost, Subject
from workplace import DVC, MLNB, STAGES, Workplace, choose, python

SCRIPTS = "plain scripts, no DVC"
PEER = "dvc repro with papermill stages"
COLD = "dvc repro with mlnb run stages, worker started inside"
WARM = "mlnb repro, warm"
LIMIT = "limit: fork, everything imported, no DVC"


def subjects(place: Workplace) -> list[Subject]:
    """Return the three comparisons."""
    return [_everything(place), _one_parameter(place), _nothing(place)]


def _everything(place: Workplace) -> Subject:
    def repro(tool: str, folder: Path) -> Callable[[], Cost]:
        return place.meter.command([tool, "repro", "-f"], folder, place.logged(folder))

    def reset(folder: Path) -> Callable[[], None]:
        return lambda: choose(folder)

    def scripts() -> None:
        for name in STAGES:
            place.meter.run(python(name), place.plain, place.logged(place.plain))

    def cold() -> None:
        choose(place.ours)
        place.meter.run([MLNB, "worker", "stop"], place.ours)

    def warm() -> None:
        choose(place.ours)
        place.warm(place.ours)

    jobs = [place.job(name) for name in STAGES]
    cases = [
        Case(SCRIPTS, lambda: place.meter.cost(scripts)),
        Case("dvc repro with scripts", repro(DVC, place.scripts), reset(place.scripts)),
        Case(PEER, repro(DVC, place.papermill), reset(place.papermill)),
        Case(COLD, repro(DVC, place.ours), cold),
        Case(WARM, repro(MLNB, place.ours), warm),
        Case(LIMIT, lambda: place.control.run(*jobs)),
    ]
    return Subject(
        title="The pipeline",
        note="Four stages, all run again (`-f`). Ratios are to the plain scripts.",
        cases=cases,
        stages=4,
        bounds=[
            Bound("pipeline, worker started inside", COLD, SCRIPTS, "wall", 0.7, LIMIT),
            Bound("pipeline, warm", WARM, SCRIPTS, "wall", 0.25, LIMIT),
            Bound("pipeline, warm", WARM, PEER, "wall", 0.12, LIMIT),
        ],
    )


def _one_parameter(place: Workplace) -> Subject:
    def rates() -> Callable[[], float]:
        """Return a function that gives a new value each time, the same for all cases."""
        made = (round(0.1 + 0.001 * i, 3) for i in itertools.count(1))
        return lambda: next(made)

    def changed(folder: Path) -> Callable[[], None]:
        rate = rates()
        return lambda: choose(folder, learning_rate=rate())

    def repro(tool: str, folder: Path) -> Callable[[], Cost]:
        return place.meter.command([tool, "repro"], folder, place.logged(folder))

    def scripts() -> None:
        value = by_script()
        for command in (python("train", learning_rate=value), python("evaluate")):
            place.meter.run(command, place.plain, place.logged(place.plain))

    def control() -> Cost:
        words = [f"learning_rate={by_fork()}"]
        return place.control.run(place.job("train", words=words), place.job("evaluate"))

    def ours() -> Callable[[], None]:
        """Return what sets the next value where two cases share a project."""
        change = changed(place.ours)

        def prepare() -> None:
            choose(place.ours)
            place.warm(place.ours)
            # The other case has run the value already; DVC would only look the results up.
            shutil.rmtree(place.ours / ".dvc/cache/runs")
            change()

        return prepare

    by_script, by_fork = rates(), rates()
    cases = [
        Case(SCRIPTS, lambda: place.meter.cost(scripts)),
        Case("dvc repro with scripts", repro(DVC, place.scripts), changed(place.scripts)),
        Case(PEER, repro(DVC, place.papermill), changed(place.papermill)),
        Case("dvc repro with mlnb run stages, warm", repro(DVC, place.ours), ours()),
        Case(WARM, repro(MLNB, place.ours), ours()),
        Case(LIMIT, control),
    ]
    return Subject(
        title="The pipeline, one parameter changed",
        note="The learning rate changes, so two stages run. Ratios are to the plain scripts.",
        cases=cases,
        stages=2,
    )


def _nothing(place: Workplace) -> Subject:
    ours, papermill = place.ours, place.papermill
    limit = "limit: fork of DVC, everything imported"
    job = forks.call(ours, "dvc.cli:main", ["repro"], place.logged(ours))
    place.control.learn(job)

    def repro(tool: str, folder: Path) -> Callable[[], Cost]:
        # Its cost is near what the kernel's clock can tell, so it is the mean of some runs.
        return place.meter.command([tool, "repro"], folder, place.logged(folder), times=5)

    def nothing() -> None:
        place.meter.run([DVC, "repro"], ours, place.logged(ours))

    def warm() -> None:
        nothing()
        place.warm(ours)

    cases = [
        Case("dvc repro", repro(DVC, ours), nothing),
        Case("dvc repro, papermill stages", repro(DVC, papermill)),
        Case("mlnb repro", repro(MLNB, ours), warm),
        Case(limit, lambda: place.control.run(job)),
    ]
    return Subject(
        title="The pipeline, nothing changed",
        note="Ratios are to `dvc repro` in the same project.",
        cases=cases,
        stages=0,
        bounds=[Bound("nothing changed", "mlnb repro", "dvc repro", "cpu", 0.4, limit)],
    )
