"""What a sweep found, for people and for programs; and how far it is while it runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from mlnb.sweep.record import FAILED, FINISHED, RUNNING, Record, Trial

FORMAT = 1


def document(record: Record) -> dict[str, Any]:
    """Return a sweep as JSON holds it, the best trial first."""
    spec = record.spec
    return {
        "format": FORMAT,
        "sweep": record.name,
        "metric": spec.metric,
        "direction": "minimize" if spec.minimize else "maximize",
        "sampler": spec.sampler,
        "seed": spec.seed,
        "space": list(spec.space),
        "trials": [trial.document() for trial in record.ranked()],
    }


def show(record: Record) -> None:
    """Print the trials of a sweep as a table, the best first."""
    from rich.console import Console
    from rich.table import Table

    trials = record.ranked()
    varied = list(dict.fromkeys(key for trial in trials for key in trial.values))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("trial", *varied, record.spec.metric):
        table.add_column(heading, justify="right", overflow="fold")
    for heading in ("state", "s", "MLflow run"):
        table.add_column(heading, overflow="fold")
    for trial in trials:
        table.add_row(
            str(trial.number),
            *(json.dumps(trial.values[key], ensure_ascii=False) for key in varied),
            _number(trial.value),
            _state(trial),
            f"{trial.seconds:.1f}" if trial.state == FINISHED else "",
            trial.run,
        )
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    if not console.is_terminal:
        console.width = 10_000  # a program reads it: no line is folded
    console.print(table)
    for trial in trials:
        if trial.state == FAILED:
            print(f"trial {trial.number} failed: {trial.cause}\n  Its log: {record.log(trial)}")


def show_all(records: Iterable[Record]) -> None:
    """Print one line for each sweep."""
    for record in records:
        trials = record.trials()
        done = sum(trial.state == FINISHED for trial in trials)
        best = record.best()
        found = f", best {_number(best.value)} by trial {best.number}" if best else ""
        print(f"{record.name}: {done} of {len(trials)} trials finished{found}")


def _state(trial: Trial) -> str:
    return "from the run cache" if trial.state == FINISHED and not trial.computed else trial.state


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


class Progress:
    """Shows how far a sweep is: a bar on a terminal, a line a trial elsewhere."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._live = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, record: Record, total: int, trial: Trial | None) -> None:
        """Show that ``trial`` has begun or ended, or, without one, that all begins."""
        if not self._live:
            self._say(record, total, trial)
            return
        if self._bar is None:
            self._start(record)
        trials = record.trials()
        best = record.best()
        self._bar.update(
            self._task,
            total=total,
            completed=sum(t.state in (FINISHED, FAILED) for t in trials),
            best=f"best {_number(best.value)} (trial {best.number})" if best else "",
        )
        self._bar.refresh()

    def _start(self, record: Record) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        # No thread of its own: trials are forked from this process.
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=True,
        )
        self._task = self._bar.add_task(record.name, best="")
        self._bar.start()

    def _say(self, record: Record, total: int, trial: Trial | None) -> None:
        if trial is None:
            done = sum(t.state in (FINISHED, FAILED) for t in record.trials())
            been = f", {done} of them done" if done else ""
            print(f"sweep {record.name}: {total} trials{been}", file=sys.stderr, flush=True)
        elif trial.state == FINISHED:
            best = record.best()
            by = f", best {_number(best.value)} by trial {best.number}" if best else ""
            print(
                f"trial {trial.number}: {record.spec.metric} {_number(trial.value)}"
                f" in {trial.seconds:.1f} s{by}",
                file=sys.stderr,
                flush=True,
            )
        elif trial.state != RUNNING:
            print(f"trial {trial.number} failed: {trial.cause}", file=sys.stderr, flush=True)
