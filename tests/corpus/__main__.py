"""Run notebooks of the corpus one after another with one engine, and write what became of each."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from corpus import CORPUS, Sample
from mlnb import notebook
from mlnb.execute import Limits, execute, load
from notebooks import write

_CAP = 200_000
_DEADLINE = 60
_PRELOADED = (
    "joblib",
    "matplotlib.pyplot",
    "mlflow",
    "numpy",
    "pandas",
    "rich",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "tqdm",
    "xgboost",
)


def main(engine: str, results: Path, names: list[str]) -> None:
    """Run the notebooks ``names``; each result is a line of ``results`` as soon as it is there."""
    base = results.with_suffix("")
    base.mkdir()
    load()
    if engine == "warm":
        _preload(base)
    with results.open("w", encoding="utf-8") as file:
        for number, name in enumerate(names):
            root = base / f"{number:03}" / "root"
            started = time.monotonic()
            try:
                found = run(engine, CORPUS[name], root)
            except Exception as error:  # noqa: BLE001 - a fault of the engine, for the test to tell
                found = {"raised": f"{type(error).__name__}: {error}"}
            seconds = time.monotonic() - started
            line = {"name": name, "root": str(root), "seconds": seconds, "outcome": found}
            file.write(json.dumps(line) + "\n")
            file.flush()


def run(engine: str, chosen: Sample, folder: Path) -> dict[str, Any]:
    """Run one notebook in ``folder``, a root of its own, and return all that can be compared."""
    folder.mkdir(parents=True)
    for path, text in chosen.files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    outcome = execute(
        notebook.read(write(folder / "nb.ipynb", *chosen.cells)),
        chosen.values,
        root=folder,
        folders=[folder],
        kernel_name="python3" if engine == "kernel" else None,
        limits=Limits(run_deadline=_DEADLINE, output_cap=_CAP),
        environment=chosen.environment,
    )
    return {
        "cause": outcome.cause,
        "failed_cell": outcome.failed_cell,
        "interrupted": outcome.interrupted,
        "timed": sorted(outcome.cell_seconds),
        "document": outcome.document,
        "left": {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        },
    }


def _preload(root: Path) -> None:
    """Import what a worker would for these notebooks."""
    from mlnb.worker.preload import Preload

    preload = Preload(root, [], first=(), chosen=_PRELOADED, notes=root / "notes")
    preload.start()
    while preload.busy:
        preload.step()
    if preload.left_out:
        raise ImportError(f"a worker would not import these: {preload.left_out}")


if __name__ == "__main__":
    main(sys.argv[1], Path(os.path.abspath(sys.argv[2])), sys.argv[3:])
