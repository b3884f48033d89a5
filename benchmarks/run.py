"""What mlnb costs beside its peers, in one interleaved run.

In each round every way of doing a piece of work is measured once, in an order that turns from round
to round, so that all meet the same machine. All ways must leave the same figures. Medians, ratios
and the bounds they are judged by are printed as Markdown.

    python benchmarks/run.py [--rounds 3] [--only stages,pipeline,...] [--with-queue] [--write]
"""

from __future__ import annotations

import argparse
import collections
import datetime
import math
import os
import platform
import re
import signal
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import branches
import cells
import commands
import memory
import pipeline
import rendering
import stages
import sweep
from measure import BenchmarkError, Bound, Cost, Subject
from workplace import Workplace

PAGE = Path(__file__).parent.parent / "docs/benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
SHOWN = ("ipython", "papermill", "nbclient", "nbconvert", "dvc", "mlflow", "scikit-learn")
Costs = Mapping[str, Sequence[Cost]]
Makers = Mapping[str, Callable[[Workplace], list[Subject]]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", default="", metavar="SUBJECT,...", help="some of the subjects")
    options.add_argument("--with-queue", action="store_true", help="dvc's queue too; it may hang")
    options.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    chosen = options.parse_args()
    makers: Makers = {
        "commands": commands.subjects,
        "stages": stages.subjects,
        "pipeline": pipeline.subjects,
        "branches": branches.subjects,
        "cells": cells.subjects,
        "memory": memory.subjects,
        "rendering": rendering.subjects,
        "sweep": lambda place: sweep.subjects(place, queue=chosen.with_queue),
    }
    only = chosen.only.split(",") if chosen.only else list(makers)
    if unknown := set(only) - makers.keys():
        options.error(
            f"unknown subjects {', '.join(sorted(unknown))}; there are {', '.join(makers)}"
        )
    # So that the end of this one, too, is the end of all it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    head = machine()
    place = Workplace()
    try:
        measured = [
            (subject, measure(place, subject, chosen.rounds))
            for name in only
            for subject in makers[name](place)
        ]
    except BenchmarkError as error:
        sys.exit(f"benchmark: {error}")
    finally:
        place.close()
    verdicts = [judged(bound, costs) for subject, costs in measured for bound in subject.bounds]
    text = "\n\n".join([head, summary(verdicts), *(table(*each) for each in measured)])
    print(text)
    if chosen.write:
        page = PAGE.read_text()
        PAGE.write_text(
            f"{page.partition(BEGIN)[0]}{BEGIN}\n\n{text}\n\n{END}{page.partition(END)[2]}"
        )
    sys.exit(any(verdict[-1] == "missed" for verdict in verdicts))


def measure(place: Workplace, subject: Subject, rounds: int) -> Costs:
    """Measure the cases of ``subject`` in turn.

    Raises:
        BenchmarkError: a case failed, or did not do the same work as the others.
    """
    costs: dict[str, list[Cost]] = collections.defaultdict(list)
    order = collections.deque(subject.cases)
    for number in range(min(rounds, subject.rounds or rounds)):
        tell(f"{subject.title}: round {number + 1}")
        left: dict[str, list[str]] = {}
        for case in order:
            case.prepare()
            place.figures()
            cost = case.run()
            left[case.name] = place.figures()
            costs[case.name].append(cost)
            print(
                f"  {case.name}: {cost.wall:.3f} s, CPU {cost.cpu:.3f} s",
                file=sys.stderr,
                flush=True,
            )
        for name, figures in left.items():
            if len(figures) != subject.stages or figures != left[subject.cases[0].name]:
                raise BenchmarkError(
                    f"{subject.title}: {name!r} did other work than {subject.cases[0].name!r}:\n"
                    + "\n".join([*figures, "instead of", *left[subject.cases[0].name]])
                )
        order.rotate(-1)
    return {case.name: costs[case.name] for case in subject.cases}


def tell(text: str) -> None:
    """Say how far we are."""
    print(text, file=sys.stderr, flush=True)


def median(costs: Costs, case: str, of: str) -> float:
    """Return the median of one kind of cost."""
    return statistics.median([float(getattr(cost, of)) for cost in costs[case]])


def judged(bound: Bound, costs: Costs) -> list[str]:
    """Return the row of the summary for ``bound``, with the verdict at its end."""

    def share(case: str) -> float:
        return median(costs, case, bound.of) / median(costs, bound.peer, bound.of)

    found = share(bound.case)
    limit = f"{share(bound.limit):.3f}" if bound.limit else ""
    verdict = "reached" if found <= bound.at_most else "missed"
    of = {"wall": "wall", "cpu": "CPU", "memory": "private memory"}[bound.of]
    return [bound.work, of, bound.peer, f"**{found:.3f}**", f"{bound.at_most:g}", limit, verdict]


def summary(verdicts: Sequence[Sequence[str]]) -> str:
    """Return the bounds as a table."""
    heads = ["work", "measure", "peer", "ratio", "at most", "physical limit", ""]
    return "## What is promised\n\n" + _markdown(heads, verdicts)


def table(subject: Subject, costs: Costs) -> str:
    """Return the medians of a subject's cases, and their ratios to its first."""
    first = subject.cases[0].name
    kinds = {"wall": "wall s", "cpu": "CPU s", "memory": "private MB"}
    shown = [of for of in kinds if not math.isnan(median(costs, first, of))]
    rows = [
        [name]
        + [_digits(median(costs, name, of)) for of in shown]
        + [f"{median(costs, name, of) / median(costs, first, of):.3f}" for of in shown]
        for name in costs
    ]
    rounds = len(costs[first])
    heads = ["", *(kinds[of] for of in shown), *(f"{kinds[of].split()[0]} ratio" for of in shown)]
    note = f"{subject.note} {f'Medians of {rounds} rounds' if rounds > 1 else 'One round'}."
    return f"## {subject.title}\n\n{note}\n\n{_markdown(heads, rows)}"


def machine() -> str:
    """Return what the figures were measured on, and when."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"(?m)^model name\s*: (.*)$", info)
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    xgboost = next(
        name for name in ("xgboost-cpu", "xgboost") if any(metadata.distributions(name=name))
    )
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in (*SHOWN, xgboost))
    return (
        f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: "
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {memory_gb:.0f} GB, "
        f"{platform.system()} {platform.release()}, load {os.getloadavg()[0]:.1f} before; "
        f"Python {platform.python_version()}, {versions}."
    )


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3f}"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows])


if __name__ == "__main__":
    main()
