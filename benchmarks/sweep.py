"""Sixteen trials of training and evaluating, each with other parameters."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measure import BenchmarkError, Bound, Case, Cost, Subject
from workplace import DVC, MLNB, PAPERMILL, Workplace, choose, python

RATES, DEPTHS = (0.02, 0.05, 0.1, 0.2), (2, 3, 4, 5)
TRIALS = list(itertools.product(RATES, DEPTHS))
POOL = "plain scripts, two at once"
LOOP = "papermill, one after another"
OURS = "mlnb sweep -j 2"
LIMIT = "limit: forks, everything imported, two at once"
_GRID = [
    f"train.learning_rate={','.join(map(str, RATES))}",
    f"train.max_depth={','.join(map(str, DEPTHS))}",
]
_QUEUE_PATIENCE = 1200.0
Trial = tuple[float, int]


def subjects(place: Workplace, *, queue: bool) -> list[Subject]:
    """Return the comparison; ``queue`` for DVC's queue of experiments too, which hangs at times."""
    ours = [MLNB, "sweep", *_GRID, "-n", str(len(TRIALS)), "-j", "2"]
    ours += ["--sampler", "grid", "--metric", "evaluate.roc_auc"]

    def control() -> Cost:
        jobs = [
            place.job("train", "evaluate", words=[f"{k}={v}" for k, v in _values(t).items()])
            | {"folder": str(folder)}
            for t, folder in _folders(place, "control")
        ]
        return place.control.run(*jobs, at_once=2)

    cases = [
        Case(POOL, lambda: _pool(place)),
        Case(LOOP, lambda: _loop(place)),
        Case(
            OURS,
            place.meter.command(ours, place.ours, place.logged(place.ours)),
            lambda: _unknown(place),
        ),
        Case(LIMIT, control),
    ]
    if queue:
        cases.insert(2, Case("dvc queue start -j 2, papermill", lambda: _queue(place)))
    return [
        Subject(
            title="A sweep of sixteen trials",
            note="Each trains and evaluates with another learning rate and depth. The peers get "
            "a folder for each trial and nothing else. Ratios are to the plain scripts.",
            cases=cases,
            stages=2 * len(TRIALS),
            bounds=[
                Bound("sweep, two workers", OURS, POOL, "wall", 0.1, LIMIT),
                Bound("sweep, two workers", OURS, LOOP, "wall", 0.05, LIMIT),
            ],
            rounds=1,
        )
    ]


def _values(trial: Trial) -> dict[str, float]:
    return dict(zip(("learning_rate", "max_depth"), trial, strict=True))


def _folders(place: Workplace, name: str) -> Iterator[tuple[Trial, Path]]:
    """Yield each trial with a folder of its own, in which the features and the code are."""
    for number, trial in enumerate(TRIALS):
        folder = place.root / f"trials-{name}/{number}"
        shutil.rmtree(folder, ignore_errors=True)
        for part in ("data", "models", "reports/metrics"):
            (folder / part).mkdir(parents=True)
        shutil.copy(place.plain / "data/features.parquet", folder / "data")
        shutil.copytree(place.plain / "scripts", folder / "scripts")
        shutil.copytree(place.papermill / "notebooks", folder / "notebooks")
        yield trial, folder


def _pool(place: Workplace) -> Cost:
    def one(pair: tuple[Trial, Path]) -> None:
        for command in (python("train", **_values(pair[0])), python("evaluate")):
            place.meter.run(command, pair[1], place.logged(place.plain))

    folders = list(_folders(place, "pool"))

    def both() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, folders))

    return place.meter.cost(both)


def _loop(place: Workplace) -> Cost:
    folders = list(_folders(place, "loop"))

    def all_in_turn() -> None:
        for trial, folder in folders:
            given = [w for k, v in _values(trial).items() for w in ("-p", k, str(v))]
            for name, words in (("train", given), ("evaluate", [])):
                command = [PAPERMILL, f"notebooks/{name}.ipynb", f"reports/{name}.ipynb", *words]
                place.meter.run(command, folder, place.logged(place.papermill))

    return place.meter.cost(all_in_turn)


def _unknown(place: Workplace) -> None:
    """Make DVC and the sweep forget what has run, so that all is computed; warm the worker."""
    choose(place.ours)
    place.warm(place.ours)
    for known in (".dvc/cache/runs", ".mlnb/sweeps"):
        shutil.rmtree(place.ours / known, ignore_errors=True)


def _queue(place: Workplace) -> Cost:
    """Measure DVC's queue by the clock; its processes come and go, and take their times along."""
    folder, environment = place.papermill, place.logged(place.papermill)
    status = [DVC, "queue", "status"]
    choose(folder)
    place.meter.run([DVC, "repro"], folder, environment)
    place.figures()
    shutil.rmtree(folder / ".dvc/cache/runs", ignore_errors=True)
    chosen = [word for each in _GRID for word in ("-S", each)]
    started = time.perf_counter()
    place.meter.run([DVC, "exp", "run", "--queue", *chosen], folder, environment)
    place.meter.run([DVC, "queue", "start", "-j", "2"], folder, environment)
    while "Queued" in (told := place.meter.run(status, folder, environment)) or "Running" in told:
        if time.perf_counter() - started > _QUEUE_PATIENCE:
            raise BenchmarkError(f"dvc queue has not ended after {_QUEUE_PATIENCE:g} s:\n{told}")
        time.sleep(2)
    wall = time.perf_counter() - started
    if told.count("Success") != len(TRIALS):
        raise BenchmarkError(f"dvc queue: not all experiments passed:\n{told}")
    return Cost(wall, float("nan"))
