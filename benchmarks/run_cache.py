"""What it takes to have ten thousand runs at hand: MLflow's search, and our cache of columns.

    python benchmarks/run_cache.py [--runs 10000]

The store is MLflow's own on SQLite, filled by SQL. Each figure is the median of five, in a process
that has imported what it needs.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlnb import tracking
from mlnb.project import Project, Settings
from mlnb.tracking.store import experiment, reaching

METRICS, PARAMS, TAGS = 12, 10, 4
"""Twenty-six columns."""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="Measure the cache of runs.")
    parser.add_argument("--runs", type=int, default=10_000)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="mlnb-runs-"))
    try:
        measure(Project(root, Settings(experiment="bench")), options.runs)
    finally:
        shutil.rmtree(root)


def measure(project: Project, count: int) -> None:
    """Print the figures of a store with ``count`` runs."""
    uri = tracking.ensure_store(project)
    with reaching(uri) as client:
        home = client.get_experiment_by_name(experiment(project)).experiment_id
    file = project.state / "mlflow.db"
    fill(file, int(home), 0, count)
    show("first read, and the cache written", [timed(lambda: tracking.all_runs(project))], count)
    opened = [timed(lambda: tracking.all_runs(project)) for _ in range(5)]
    show("cache opened, nothing new", opened, count)
    refreshed = []
    for turn in range(5):
        fill(file, int(home), count + 10 * turn, 10)
        refreshed.append(timed(lambda: tracking.all_runs(project)))
    show("cache refreshed for 10 new runs", refreshed, count)
    with reaching(uri) as client:
        show("MlflowClient.search_runs, all pages", [timed(lambda: search(client, home))], count)


def search(client: Any, home: str) -> None:
    """Read all runs as MLflow's client does."""
    token = None
    while True:
        page = client.search_runs([home], max_results=1000, page_token=token)
        if not (token := page.token):
            return


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def show(name: str, seconds: list[float], count: int) -> None:
    """Print one line."""
    print(f"{name:<40} {statistics.median(seconds):8.3f} s   ({count:,} runs)")


def fill(file: Path, home: int, first: int, count: int) -> None:
    """Put runs into the store, as MLflow would have."""
    draw = random.Random(first)
    ids = [uuid.UUID(int=draw.getrandbits(128)).hex for _ in range(count)]
    with sqlite3.connect(file) as store:
        store.executemany(
            "insert into runs (run_uuid, name, experiment_id, status, lifecycle_stage, start_time,"
            " end_time, user_id, source_type)"
            " values (?, ?, ?, 'FINISHED', 'active', ?, ?, '', 'LOCAL')",
            [
                (run, f"candidate {n}", home, 1_700_000_000_000 + n, 1_700_000_000_001 + n)
                for n, run in enumerate(ids, first)
            ],
        )
        store.executemany(
            "insert into tags (key, value, run_uuid) values (?, ?, ?)",
            [
                (name, value, run)
                for n, run in enumerate(ids, first)
                for name, value in [
                    ("mlnb.candidate", f"{n:064x}"),
                    *((f"mlnb.data.{k}", f"{draw.getrandbits(128):032x}") for k in range(TAGS - 1)),
                ]
            ],
        )
        store.executemany(
            "insert into params (key, value, run_uuid) values (?, ?, ?)",
            [(f"train.p{k}", str(draw.randint(0, 9)), run) for run in ids for k in range(PARAMS)],
        )
        store.executemany(
            "insert into latest_metrics (key, value, timestamp, step, is_nan, run_uuid)"
            " values (?, ?, 1, 0, 0, ?)",
            [(f"evaluate.m{k}", draw.random(), run) for run in ids for k in range(METRICS)],
        )
    store.close()


if __name__ == "__main__":
    main()
