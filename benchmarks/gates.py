"""How often the bounds of mlnb.statistics err, what they can see, and what they cost.

Everything is computed by the functions that the gates use. Models and test sets are simulated, so
that the truth is known.

    python benchmarks/gates.py [--simulations 2000] [--write]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

# Before numpy starts its threads: the bounds of speed are those of one.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
from scipy import special

from mlnb.statistics import METRICS, Design, Sample, estimate, gain, group_differences
from mlnb.statistics.sample import Floats, Ints

PAGE = Path(__file__).parent.parent / "docs/statistics.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
COMPARED = ("roc_auc", "average_precision", "f1", "brier")
THRESHOLD = 0.35
NOMINAL, BOUND = 0.05, 0.06
BASE, SIGNAL, NOISE = -1.2, 1.2, 0.8


class World(NamedTuple):
    """Where test sets come from: rows drawn one by one, or in clusters of 1 to 7."""

    rows: int
    clustered: bool

    def design(self, **options: int) -> Design:
        """Return the design of such a test set; the same clusters in every one."""
        return Design.of(self.rows, self.codes(), **options)

    def codes(self) -> Ints | None:
        """Return the cluster of each row [n], or None."""
        if not self.clustered:
            return None
        sizes = np.random.default_rng(0).integers(1, 8, self.rows)
        return np.repeat(np.arange(self.rows), sizes)[: self.rows]

    def draw(self, generator: np.random.Generator) -> tuple[Ints, Callable[[float], Floats]]:
        """Return a target [n] and a maker of models' scores [n], given the noise of the model."""
        risk = self.normal(generator)
        target = (generator.random(self.rows) < special.expit(BASE + SIGNAL * risk)).astype(int)

        def score(noise: float) -> Floats:
            shrunk = SIGNAL / (1 + noise**2)
            scores: Floats = special.expit(BASE + shrunk * (risk + noise * self.normal(generator)))
            return scores

        return target, score

    def normal(self, generator: np.random.Generator) -> Floats:
        """Return a standard normal number for each row [n], half of its variance the cluster's."""
        own, codes = generator.standard_normal(self.rows), self.codes()
        if codes is None:
            return own
        shared = generator.standard_normal(codes[-1] + 1)[codes]
        both: Floats = (own + shared) / math.sqrt(2)
        return both


def pairs(world: World, noise: float, times: int, seed: int) -> Iterator[tuple[Sample, Sample]]:
    """Yield two models on one test set; the second has more noise by ``noise``."""
    generator = np.random.default_rng([seed, world.rows, world.clustered])
    for _ in range(times):
        target, score = world.draw(generator)
        first, second = score(NOISE), score(NOISE + noise)
        yield (
            Sample("binary", target, first, THRESHOLD),
            Sample("binary", target, second, THRESHOLD),
        )


def false_better(simulations: int) -> str:
    """Return how often one of two equally good models is called better."""
    rows = []
    for world in [World(n, clustered) for clustered in (False, True) for n in (200, 500, 2000)]:
        design = world.design()
        better = dict.fromkeys(COMPARED, 0)
        for first, second in pairs(world, 0, simulations, 1):
            for name in COMPARED:
                found = gain(METRICS[name], first, second, design)
                # The two are alike, so each is a test of the other.
                better[name] += (found.low > 0) + (found.high < 0)
        shares = [better[name] / (2 * simulations) for name in COMPARED]
        rows.append([_kind(world), f"{world.rows:,}", f"{design.units:,}", *map(_share, shares)])
        _tell(rows[-1])
    error = math.sqrt(NOMINAL * (1 - NOMINAL) / (2 * simulations))
    return (
        "## False better\n\nHow often the lower bound of the gain is above 0 though the two models "
        f"are equally good; nominal {NOMINAL:g}, at most {BOUND:g} is promised. {simulations:,} "
        f"test sets a row, each model of which is tested against the other (standard error of a "
        f"share: {error:.4f}).\n\n" + _table(["rows drawn", "n", "units", *COMPARED], rows)
    )


def other_tasks(simulations: int) -> str:
    """Return how often one of two equally good models of other tasks is called better."""
    rows = []
    for task, times, names in (
        ("multiclass", simulations // 2, ("accuracy", "f1_macro", "log_loss", "roc_auc_ovr")),
        ("regression", simulations, ("mae", "rmse", "r2", "poisson_deviance")),
    ):
        for world in [World(n, clustered) for clustered in (False, True) for n in (200, 1000)]:
            design, generator = world.design(), np.random.default_rng([6, world.rows])
            better = dict.fromkeys(names, 0)
            for _ in range(times):
                first, second = _of_task(task, world, generator)
                for name in names:
                    found = gain(METRICS[name], first, second, design)
                    better[name] += (found.low > 0) + (found.high < 0)
            shares = [f"{name}: {_share(better[name] / (2 * times))}" for name in names]
            error = math.sqrt(NOMINAL * (1 - NOMINAL) / (2 * times))
            sets = f"{times:,} ({error:.4f})"
            rows.append([task, _kind(world), f"{world.rows:,}", sets, *shares])
            _tell(rows[-1])
    return (
        "## False better in other tasks\n\nFour classes, and counts of a skewed Poisson mean. The "
        "same; in brackets the standard error of a share.\n\n"
        + _table(["task", "rows drawn", "n", "test sets", *[""] * 4], rows)
    )


def _of_task(task: str, world: World, generator: np.random.Generator) -> tuple[Sample, Sample]:
    """Return two equally good models of a task on one test set."""
    if task == "multiclass":
        risk = np.stack([world.normal(generator) for _ in range(4)], axis=1)
        target = (risk + generator.gumbel(size=risk.shape)).argmax(axis=1)
        scores = [
            special.softmax(
                0.7 * (risk + np.stack([world.normal(generator) for _ in range(4)], axis=1)), axis=1
            )
            for _ in range(2)
        ]
        return Sample("multiclass", target, scores[0]), Sample("multiclass", target, scores[1])
    risk = world.normal(generator)
    counts = generator.poisson(np.exp(0.5 + 0.8 * risk))
    guesses = [np.exp(0.6 + 0.6 * (risk + 0.5 * world.normal(generator))) for _ in range(2)]
    return Sample("regression", counts, guesses[0]), Sample("regression", counts, guesses[1])


def single_bounds(simulations: int) -> str:
    """Return how often a single bound is on the wrong side of the truth."""
    names = (*COMPARED, "recall", "log_loss", "calibration_gap", "calibration_error")
    times = simulations // 4
    rows = []
    for clustered in (False, True):
        large = World(400_000, clustered)
        sample, _ = next(pairs(large, 0, 1, 7))
        design = large.design(resamples=100)
        truth = {name: estimate(METRICS[name], sample, design).value for name in names}
        for world in (World(200, clustered), World(1000, clustered)):
            design = world.design()
            wrong = {name: [0, 0] for name in names}
            for sample, _ in pairs(world, 0, times, 8):
                for name in names:
                    found = estimate(METRICS[name], sample, design)
                    wrong[name][0] += found.low > truth[name]
                    wrong[name][1] += found.high < truth[name]
            shares = [" / ".join(f"{count / times:.3f}" for count in wrong[name]) for name in names]
            rows.append([_kind(world), f"{world.rows:,}", *shares])
            _tell(rows[-1])
    error = math.sqrt(NOMINAL * (1 - NOMINAL) / times)
    return (
        "## Single bounds\n\nHow often the lower bound is above the truth / the upper bound below "
        f"it; nominal {NOMINAL:g} each; {times:,} test sets a row (standard error of a share: "
        f"{error:.4f}).\n\n" + _table(["rows drawn", "n", *names], rows)
    )


def power(simulations: int) -> str:
    """Return how often a model that is better by so much is found better."""
    times = max(simulations // 8, 50)
    rows = []
    for noise in (0.05, 0.1, 0.2, 0.4, 0.8):
        first, second = next(pairs(World(400_000, clustered=False), noise, 1, 2))
        design = World(400_000, clustered=False).design(resamples=100)
        names = ("roc_auc", "f1")
        true = [gain(METRICS[name], first, second, design).value for name in names]
        row = [f"{value:.4f}" for value in true]
        for world in [
            World(n, clustered) for clustered in (False, True) for n in (500, 2000, 8000)
        ]:
            design = world.design(resamples=500)
            found = dict.fromkeys(names, 0)
            for one, other in pairs(world, noise, times, 3):
                for name in names:
                    found[name] += gain(METRICS[name], one, other, design).low > 0
            row.append(" / ".join(f"{found[name] / times:.2f}" for name in names))
        rows.append(row)
        _tell(row)
    heads = ["gain in ROC AUC", "gain in F1"]
    heads += [f"{kind}, n = {n:,}" for kind in ("rows", "clusters") for n in (500, 2000, 8000)]
    return (
        "## Power\n\nHow often a model that is truly better by so much is found better, by ROC AUC "
        f"/ by F1; {times:,} test sets each.\n\n" + _table(heads, rows)
    )


def equal_groups(simulations: int) -> str:
    """Return how often groups that do not differ fail the rule about groups."""
    names = ("recall", "calibration_gap", "selection_rate", "roc_auc")
    rows = []
    # Five groups are ten pairs and cost as much.
    for count, times in ((2, simulations * 3 // 2), (5, simulations // 2)):
        for world in [World(400 * count, False), World(400 * count, True)]:
            design = world.design(resamples=500)
            codes = world.codes()
            unit = np.arange(world.rows) if codes is None else codes
            group = np.random.default_rng(1).integers(0, count, world.rows)[unit]
            failed, passed = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
            for sample, _ in pairs(world, 0, times, 4):
                for name in names:
                    groups = group_differences(METRICS[name], sample, group, design)
                    failed[name] += groups.judge(max_difference=0).outcome == "fail"
                    passed[name] += groups.judge(max_difference=0.1).outcome == "pass"
            shares = [f"{failed[name] / times:.3f} / {passed[name] / times:.2f}" for name in names]
            error = math.sqrt(NOMINAL * (1 - NOMINAL) / times)
            sets = f"{times:,} ({error:.4f})"
            rows.append([_kind(world), str(count), f"{world.rows:,}", sets, *shares])
            _tell(rows[-1])
    return (
        "## Equal groups\n\nHow often groups that do not differ fail though no difference at all "
        f"is allowed (nominal {NOMINAL:g}) / how often they pass where 0.1 is allowed; about 400 "
        "rows and 120 positives a group. In brackets the standard error of the first share.\n\n"
        + _table(["rows drawn", "groups", "n", "test sets", *names], rows)
    )


def rules(rows: int, clustered: bool) -> dict[str, float]:
    """Apply a dozen rules to one test set; return seconds of processor time and peak megabytes."""
    world = World(rows, clustered)
    generator = np.random.default_rng(5)
    target, score = world.draw(generator)
    scores = score(NOISE), score(NOISE)
    codes, group = world.codes(), generator.integers(0, 5, rows)
    site = group == 0
    begun = time.process_time()
    first, second = (Sample("binary", target, each, THRESHOLD) for each in scores)
    design = Design.of(rows, codes)
    for name in ("roc_auc", "calibration_gap", "calibration_error"):
        estimate(METRICS[name], first, design)
    for name in ("roc_auc", "average_precision", "f1", "brier", "log_loss"):
        gain(METRICS[name], first, second, design)
    estimate(METRICS["roc_auc"], first, design, rows=site)
    group_differences(METRICS["calibration_gap"], first, group, design).judge(max_difference=0.04)
    group_differences(METRICS["recall"], first, group, design).judge(max_difference=0.1)
    group_differences(METRICS["selection_rate"], first, group, design).judge(min_ratio=0.8)
    seconds = time.process_time() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "megabytes": peak / (1024 if sys.platform != "darwin" else 1 << 20)}


def speed() -> str:
    """Return what a dozen rules cost, each time in a process of its own."""
    rows = []
    for count, clustered, limit in (
        (20_000, False, "3 s, 500 MB"),
        (20_000, True, "3 s, 500 MB"),
        (1_000_000, False, "30 s"),
        (1_000_000, True, "30 s"),
    ):
        command = [sys.executable, __file__, "--rules", str(count), "--clustered"]
        answer = subprocess.run(
            command if clustered else command[:-1], check=True, capture_output=True, text=True
        )
        cost = json.loads(answer.stdout)
        rows.append(
            [
                _kind(World(count, clustered)),
                f"{count:,}",
                f"{cost['seconds']:.2f}",
                f"{cost['megabytes']:.0f}",
                limit,
            ]
        )
        _tell(rows[-1])
    return (
        "## Cost\n\nA dozen rules with 2,000 resamples on one thread: three bounds, five paired "
        "comparisons, a slice, three rules about five groups. Imports and data are in the memory "
        "and not in the seconds.\n\n"
        + _table(["rows drawn", "n", "CPU seconds", "peak MB", "bound"], rows)
    )


def _kind(world: World) -> str:
    return "in clusters" if world.clustered else "one by one"


def _share(share: float) -> str:
    return f"{share:.4f}" if share <= BOUND else f"**{share:.4f}**"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _tell(row: Sequence[str]) -> None:
    print("  " + "  ".join(row), file=sys.stderr, flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--simulations", type=int, default=2000)
    options.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    options.add_argument("--rules", type=int, help=argparse.SUPPRESS)
    options.add_argument("--clustered", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.rules:
        print(json.dumps(rules(chosen.rules, chosen.clustered)))
        return
    subjects = (false_better, other_tasks, single_bounds, power, equal_groups)
    parts = [speed(), *(subject(chosen.simulations) for subject in subjects)]
    text = "\n\n".join(parts)
    print(text)
    if chosen.write:
        page = PAGE.read_text()
        PAGE.write_text(
            f"{page.partition(BEGIN)[0]}{BEGIN}\n\n{text}\n\n{END}{page.partition(END)[2]}"
        )


if __name__ == "__main__":
    main()
