"""What a stage costs besides its own work, and how fast the quick commands are.

One interleaved run: in each round the same code runs as a plain script, by the papermill command
and by `mlnb run`, so that all meet the same machine. Medians and ratios are printed as Markdown.

    python benchmarks/stage.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
WORK = [
    "import numpy as np\nimport pandas as pd\nfrom sklearn.linear_model import LogisticRegression",
    "rng = np.random.default_rng(0)\nX = rng.normal(size=(20_000, 20))\ny = X[:, 0] > 0",
    "model = LogisticRegression().fit(X, y)",
    "print(model.score(X, y))",
    "pd.DataFrame(X).describe()",
]


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time and of processor time of one command and its children."""

    wall: float
    cpu: float


def measure(command: list[str], folder: Path) -> Cost:
    """Run ``command`` and return what it cost."""
    before, started = _cpu(), time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return Cost(wall, _cpu() - before)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def notebook(cells: list[str]) -> str:
    """Return a notebook of code cells."""
    made: list[dict[str, object]] = [
        {
            "cell_type": "code",
            "id": f"c{i}",
            "metadata": {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for i, source in enumerate(cells)
    ]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": spec}
    return json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def project(folder: Path) -> None:
    """Make a project of one stage's work, and 20 notebooks for the quick commands."""
    (folder / ".dvc").mkdir()
    (folder / "notebooks").mkdir()
    (folder / "notebooks/work.ipynb").write_text(notebook(WORK))
    (folder / "work.py").write_text("\n".join(WORK))
    stages = [f"  code:\n    cmd: mlnb code\n    deps: [notebooks]\n    outs:{_mirrors()}"]
    for i in range(20):
        (folder / f"notebooks/n{i}.ipynb").write_text(notebook([f"x = {i}", *WORK]))
        stages.append(
            f"  n{i}:\n    cmd: mlnb run notebooks/n{i}.ipynb\n    deps: [.mlnb/code/n{i}.py]\n"
            f"    outs: [reports/executed/n{i}.ipynb]"
        )
    (folder / "dvc.yaml").write_text("stages:\n" + "\n".join(stages) + "\n")
    measure([str(BIN / "mlnb"), "code"], folder)


def _mirrors() -> str:
    flags = "{cache: false, persist: true}"
    names = [f"n{i}" for i in range(20)]
    return "".join(f"\n      - .mlnb/code/{name}.py: {flags}" for name in names)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project(folder)
        mlnb = str(BIN / "mlnb")
        cases: dict[str, list[str]] = {
            "plain script": [sys.executable, "work.py"],
            "papermill": [str(BIN / "papermill"), "notebooks/work.ipynb", "out.ipynb"],
            "mlnb run": [mlnb, "run", "notebooks/work.ipynb"],
            "mlnb --help": [mlnb, "--help"],
            "mlnb code, 20 notebooks": [mlnb, "code"],
            "mlnb lint, 20 notebooks": [mlnb, "lint"],
            "python -c pass": [sys.executable, "-c", "pass"],
        }
        costs: dict[str, list[Cost]] = {case: [] for case in cases}
        for _ in range(rounds):
            for case, command in cases.items():
                costs[case].append(measure(command, folder))
    print(table(costs, rounds))


def table(costs: dict[str, list[Cost]], rounds: int) -> str:
    """Return medians, and ratios to the plain script, as a Markdown table."""

    def median(case: str, pick: Callable[[Cost], float]) -> float:
        return statistics.median(map(pick, costs[case]))

    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"median of {rounds} interleaved rounds",
        "",
        "| | wall s | CPU s | wall / script | CPU / script |",
        "|---|---|---|---|---|",
    ]
    for case in costs:
        wall, cpu = median(case, lambda c: c.wall), median(case, lambda c: c.cpu)
        ratios = (
            f"{wall / median('plain script', lambda c: c.wall):.2f} | "
            f"{cpu / median('plain script', lambda c: c.cpu):.2f}"
        )
        lines.append(f"| {case} | {wall:.3f} | {cpu:.3f} | {ratios} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
