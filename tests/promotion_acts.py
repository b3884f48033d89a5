"""A small project whose candidates can be promoted, and the decisions on it that tests kill."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from test_gate_command import STAGES, write_params
from test_gates import AUC, packed, predict, settled

import notebooks
from mlnb import gate, promotion
from mlnb.files import write_json
from mlnb.project import find

PRODUCTION = "deployments/production.json"
NAIVE: dict[str, Any] = {"id": "naive", "metric": "roc_auc", "against": "baseline", "gain": 0}
CHAMPION: dict[str, Any] = {
    "id": "champion",
    "metric": "roc_auc",
    "against": "champion",
    "tolerance": 0.3,
}


def git(root: Path, *words: str) -> str:
    """Run git and return what it says."""
    done = subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def begun(root: Path) -> Path:
    """Make a project with a pipeline, in git, with a person and a key; return it."""
    settled(root)
    shutil.rmtree(root / "models")
    notebooks.project(root, dvc=yaml.safe_dump({"stages": STAGES}))
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    (root / ".gitignore").write_text(
        "/.mlnb/\n/models/\n*.parquet\n*.skops\n*.html\n.dvc/tmp\n.dvc/cache\n"
    )
    (root / "pyproject.toml").write_text("[tool.mlnb]\nexperiment = 'rand'\n")
    write_params(root, AUC, NAIVE, CHAMPION)
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.email", "ada@example.org")
    git(root, "config", "user.name", "Ada")
    return root


def train(root: Path, name: str) -> None:
    """Make ``name`` the candidate: pack it, judge it, and commit what DVC and git keep of it."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    recipe = packed(root, name).manifest
    params["package"]["model"] = f"{name}.skops"
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    lines = yaml.safe_load((root / "dvc.yaml").read_text())
    lines["stages"]["package"]["deps"][0] = f"{name}.skops"
    (root / "dvc.yaml").write_text(yaml.safe_dump(lines))
    predict(root)
    said = pd.read_parquet(root / "predictions.parquet")
    brier = float(((said.score - said[recipe.target]) ** 2).mean())
    write_json(root / "figures.json", {"brier": brier})
    settle(root)


def settle(root: Path) -> None:
    """Judge what is there, and commit it."""
    gate.gate(find(root))
    with warnings.catch_warnings(action="ignore"):  # what DVC's parts say of each other
        from dvc.repo import Repo

        with Repo(str(root)) as repo:
            repo.commit(force=True)
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Train")


# --- What is killed ----------------------------------------------------------------------------


def promote(root: str, environment: str = "production") -> None:
    os.chdir(root)
    # What is judged was just judged, and judging writes nothing of the state.
    gate.gate = gate.check
    promotion.promote(find(), environment, reason="tests")


def rollback(root: str) -> None:
    os.chdir(root)
    promotion.rollback(find(), "production", reason="tests")


def approve(root: str) -> None:
    os.chdir(root)
    promotion.approve(find(), 2, "production", reason="tests")


def naive(root: str) -> None:
    """Promote as one does it without thinking: the published file first, a log beside it."""
    with Path(root, "production.txt").open("w") as file:
        file.write("2")
    with Path(root, "log.txt").open("a") as file:
        file.write("2")
