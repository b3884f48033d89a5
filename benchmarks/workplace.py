"""The projects that the work is done in, made from the same cells for every way of doing it.

``work/`` holds the cells as files in the percent format. The plain script is such a file with one
line more, which takes ``NAME=VALUE`` words as papermill takes ``-p``; the notebook is the file cut
at its markers. So the work is equal by construction, and each stage's last cell writes its figures
to a ledger, so that it can be checked.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import forks
from forks import Forks
from measure import Meter
from ruamel.yaml import YAML

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
MLNB, DVC, PAPERMILL = str(BIN / "mlnb"), str(BIN / "dvc"), str(BIN / "papermill")

STAGES = ("ingest", "features", "train", "evaluate")
PARAMS: dict[str, dict[str, Any]] = {
    "ingest": {"years": [1, 2, 3, 4, 5]},
    "features": {"visits_threshold": 5},
    "train": {"learning_rate": 0.1, "max_depth": 4, "rounds": 120},
}
READS = {
    "ingest": ["data/raw"],
    "features": ["data/panel.parquet"],
    "train": ["data/features.parquet"],
    "evaluate": ["data/features.parquet", "models/models.pickle"],
}
WRITES = {
    "ingest": ["data/panel.parquet"],
    "features": ["data/features.parquet"],
    "train": ["models/models.pickle"],
    "evaluate": ["reports/roc.png", "reports/calibration.png"],
}
METRICS = {name: [f"reports/metrics/{name}.json"] for name in ("train", "evaluate")}

_EXPERIMENT = "benchmark"
_STORE = """
import sys
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
store = SqlAlchemyStore(f"sqlite:///{sys.argv[1]}", sys.argv[2])
store.create_experiment(sys.argv[3], artifact_location=sys.argv[2])
"""
_ARGUMENTS = (
    'import sys\n\nexec("\\n".join(sys.argv[1:]))  # NAME=VALUE words, as papermill takes -p\n'
)
Cells = list[tuple[str, bool]]


class Workplace:
    """A temporary folder with a project for each way of doing the work, each made when asked for.

    Attributes:
        root: the folder.
        meter: runs commands there.
        ledger: where the cells write their figures.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="mlnb-benchmark-"))
        self.ledger = self.root / "ledger.jsonl"
        runtime = self.root / "runtime"
        runtime.mkdir()
        self.meter = Meter(
            {
                "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
                "BENCHMARK_LEDGER": str(self.ledger),
                "DVC_SITE_CACHE_DIR": str(self.root / "site"),
                "DVC_NO_ANALYTICS": "1",
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_EXPERIMENT_NAME": _EXPERIMENT,
                "XDG_RUNTIME_DIR": str(runtime),  # where workers have their sockets
                "JUPYTER_RUNTIME_DIR": str(runtime),
                "IPYTHONDIR": str(self.root / "ipython"),
            },
            mark=str(self.root),
        )

    def close(self) -> None:
        """Leave nothing behind."""
        if "control" in vars(self):
            self.control.close()
        self.meter.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def figures(self) -> list[str]:
        """Return what the cells have written since this was last asked, in order of the text."""
        found = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        self.ledger.unlink(missing_ok=True)
        return sorted(found)

    # ------------------------------------------------------------------- the projects

    @cached_property
    def plain(self) -> Path:
        """Plain scripts, without DVC; the pipeline has run."""
        folder = self._folder("plain")
        for name in (*STAGES, "branch"):
            (folder / f"scripts/{name}.py").write_text(script(name))
        for name in STAGES:
            self.meter.run(python(name), folder, self.logged(folder))
        self.figures()
        return folder

    @cached_property
    def scripts(self) -> Path:
        """Plain scripts as DVC stages; the pipeline has run."""
        folder = self._folder("scripts")
        for name in STAGES:
            (folder / f"scripts/{name}.py").write_text(script(name))
        stages = {
            name: _stage(name, _filled(f"python scripts/{name}.py", name, "", "="))
            | {"deps": [f"scripts/{name}.py", *READS[name]]}
            for name in STAGES
        }
        return self._dvc(folder, stages)

    @cached_property
    def papermill(self) -> Path:
        """Notebooks as DVC stages by the papermill command; the pipeline has run."""
        folder = self._folder("papermill")
        stages = {}
        for name in STAGES:
            notebook, executed = f"notebooks/{name}.ipynb", f"reports/executed/{name}.ipynb"
            _write_notebook(folder / notebook, cells(name))
            stages[name] = _stage(
                name, _filled(f"papermill {notebook} {executed}", name, "-p ", " ")
            )
            stages[name] |= {
                "deps": [notebook, *READS[name]],
                "outs": [*WRITES[name], executed],
            }
        return self._dvc(folder, stages)

    @cached_property
    def ours(self) -> Path:
        """Notebooks as DVC stages by ``mlnb run``; the pipeline has run."""
        return self._dvc(*self._mlnb("ours", {name: cells(name) for name in STAGES}))

    @cached_property
    def branches(self) -> Path:
        """Two equal stages by ``mlnb run`` that do not depend on each other; they have run."""
        made = {
            name: [(source.replace("branch.json", f"{name}.json"), tag) for source, tag in given]
            for name in ("left", "right")
            for given in [cells("branch")]
        }
        return self._dvc(*self._mlnb("branches", made))

    @cached_property
    def loose(self) -> Path:
        """Notebooks that are no stages: many cells, much output, and one that tells its memory."""
        holding = cells("holding")
        holding.insert(1, cells("train")[1])
        many: Cells = [(f"total = {i}\ntotal", False) for i in range(200)]
        loud: Cells = [('for _ in range(200_000):\n    print("x" * 99)', False), *many[:20]]
        made = {"many": many, "loud": loud, "holding": holding}
        folder, _ = self._mlnb("loose", made)
        (folder / "dvc.yaml").unlink()
        with (folder / "pyproject.toml").open("a") as file:
            file.write("output-cap-mb = 100\n")  # all keep all of it, so that the work is equal
        (folder / "scripts/holding.py").write_text(_script(holding))
        self.meter.run([MLNB, "code"], folder)
        return folder

    @cached_property
    def quick(self) -> Path:
        """Twenty stages for the commands that should feel like nothing."""
        made: Cells = [(f"import pandas\n\nvalue = {i}", False) for i in range(5)]
        folder, _ = self._mlnb("quick", {f"n{i}": made for i in range(20)})
        self.meter.run([MLNB, "code"], folder)
        return folder

    @cached_property
    def control(self) -> Forks:
        """A process that forks, with everything imported that the scripts import."""
        made = Forks(self.meter.environment)
        made.learn(self.job(*STAGES))
        self.figures()
        return made

    def job(self, *names: str, words: Sequence[str] = ()) -> forks.Job:
        """Return the job of running stages as plain scripts in one process of the control."""
        return forks.scripts(self.plain, names, words, self.logged(self.plain))

    def warm(self, folder: Path, notebook: str = "") -> None:
        """See to it that the project's worker is there and has imported everything."""
        words = ["run", notebook] if notebook else ["repro"]
        environment = self.logged(folder)
        self.meter.run([MLNB, *words], folder, environment)
        while "importing" in self.meter.run([MLNB, "worker", "status"], folder, environment):
            time.sleep(0.2)

    def logged(self, folder: Path) -> dict[str, str]:
        """Return the environment in which MLflow logs to the store of a project."""
        return {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}

    # ---------------------------------------------------------------- how they are made

    @cached_property
    def _store(self) -> Path:
        """An empty MLflow store: making one takes seconds, and nobody is to pay for it."""
        path = self.root / "mlflow.db"
        artifacts = str(self.root / "artifacts")
        self.meter.run([sys.executable, "-c", _STORE, str(path), artifacts, _EXPERIMENT], self.root)
        return path

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        for part in ("scripts", "notebooks", "models", "reports/metrics", "reports/executed"):
            (folder / part).mkdir(parents=True)
        shutil.copytree(HERE.parent / "data/raw", folder / "data/raw")
        shutil.copy(self._store, folder / "mlflow.db")
        return folder

    def _mlnb(self, name: str, notebooks: Mapping[str, Cells]) -> tuple[Path, dict[str, Any]]:
        """Make a project of ``mlnb run`` stages; return its folder and them."""
        folder = self._folder(name)
        (folder / ".dvc").mkdir()
        (folder / "pyproject.toml").write_text(f'[tool.mlnb]\nexperiment = "{_EXPERIMENT}"\n')
        for stem, made in notebooks.items():
            _write_notebook(folder / f"notebooks/{stem}.ipynb", made)
        mirrors = [f".mlnb/code/{stem}.py" for stem in notebooks]
        stages: dict[str, Any] = {
            "code": {
                "cmd": "mlnb code",
                "deps": ["notebooks"],
                "outs": [{path: {"cache": False, "persist": True}} for path in mirrors],
            }
        }
        for stem, mirror in zip(notebooks, mirrors, strict=True):
            stages[stem] = _stage(stem, f"mlnb run notebooks/{stem}.ipynb")
            stages[stem]["deps"].insert(0, mirror)
            stages[stem]["outs"].append(f"reports/executed/{stem}.ipynb")
        self._describe(folder, stages)
        return folder, stages

    def _dvc(self, folder: Path, stages: Mapping[str, Any]) -> Path:
        """Make ``folder`` a project of git and DVC, run its stages and commit; return it."""
        self._describe(folder, stages)
        # What stages write is ignored beside it, by DVC; experiments need the folders.
        ignored = ["/mlflow.db*", "/out.ipynb", "__pycache__", "/.mlnb/*", "!/.mlnb/code"]
        (folder / ".gitignore").write_text("\n".join(ignored) + "\n")
        shutil.rmtree(folder / ".dvc", ignore_errors=True)
        git = ["git", "-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
        self.meter.run([*git, "init", "-q"], folder)
        self.meter.run([DVC, "init", "-q"], folder)
        # It would look for a newer version of itself on the network.
        self.meter.run([DVC, "config", "core.check_update", "false"], folder)
        self.meter.run([DVC, "repro"], folder, self.logged(folder))
        self.meter.run([*git, "add", "-A"], folder)
        self.meter.run([*git, "commit", "-q", "-m", "Begin"], folder)
        self.figures()
        return folder

    def _describe(self, folder: Path, stages: Mapping[str, Any]) -> None:
        branches = {name: {"seed": 0} for name in ("left", "right")}
        every = {**PARAMS, **branches}
        write_yaml(folder / "dvc.yaml", {"stages": stages})
        write_yaml(folder / "params.yaml", {n: every[n] for n in stages if n in every})


def python(name: str, **values: object) -> list[str]:
    """Return the command that runs a stage as a plain script."""
    return [sys.executable, f"scripts/{name}.py", *(f"{k}={v!r}" for k, v in values.items())]


def choose(folder: Path, **values: object) -> None:
    """Write parameters of training to params.yaml."""
    write_yaml(folder / "params.yaml", {**PARAMS, "train": {**PARAMS["train"], **values}})


def cells(name: str) -> Cells:
    """Return the cells of a file in ``work/``, and whether each is the parameters cell."""
    parts = re.split(r"(?m)^# %%(.*)\n", (HERE / f"work/{name}.py").read_text())[1:]
    return [
        (source.strip(), "parameters" in mark)
        for mark, source in zip(parts[::2], parts[1::2], strict=True)
    ]


def script(name: str) -> str:
    """Return a stage as a plain script: parameters at the top, then the other cells."""
    return _script(cells(name))


def _script(made: Cells) -> str:
    (first, _), *rest = made
    return "\n\n".join([first, _ARGUMENTS, *(source for source, _ in rest)]) + "\n"


def _write_notebook(path: Path, made: Cells) -> None:
    entries: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {"tags": ["parameters"]} if tagged else {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for number, (source, tagged) in enumerate(made)
    ]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    whole = {"cells": entries, "metadata": {"kernelspec": spec}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(whole, indent=1))


def _stage(name: str, command: str) -> dict[str, Any]:
    """Return a stage's entry of dvc.yaml, without its code among the dependencies."""
    made: dict[str, Any] = {"cmd": command, "deps": list(READS.get(name, []))}
    if name in PARAMS or name in ("left", "right"):
        made["params"] = [name]
    made["outs"] = list(WRITES.get(name, []))
    paths = METRICS.get(name, [])
    if name in ("left", "right"):
        paths = [f"reports/metrics/{name}.json"]
    if paths:
        made["metrics"] = [{path: {"cache": False}} for path in paths]
    return made


def _filled(command: str, name: str, flag: str, equals: str) -> str:
    """Return ``command`` with the stage's single values, which DVC fills in from params.yaml."""
    values = [k for k, v in PARAMS.get(name, {}).items() if not isinstance(v, list)]
    return " ".join([command, *(f"{flag}{k}{equals}${{{name}.{k}}}" for k in values)])


def write_yaml(path: Path, data: object) -> None:
    """Write ``data`` as a person would."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    with path.open("w") as file:
        yaml.dump(data, file)
