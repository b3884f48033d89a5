"""By how much a candidate differs from another on the same rows, with an interval.

Each candidate's predictions are an output that DVC keeps, and dvc.lock, which lies with its run,
names them. What is compared is what the evaluation wrote at that time; whether a candidate may be
promoted is decided by the gates, which ask both models again.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from mlnb import gate, package
from mlnb.comparison.runs import ComparisonError
from mlnb.errors import MlnbError
from mlnb.project import Project

if TYPE_CHECKING:
    import pandas as pd


class Difference(NamedTuple):
    """The first minus the second, with one-sided bounds of 95 % each way."""

    by: float
    low: float
    high: float


def paired(project: Project, first: str, second: str) -> dict[str, Difference]:
    """Return how two runs differ in each metric of the gates, on the rows that both predicted.

    Args:
        project: whose.
        first: MLflow's id of a run.
        second: of the run that it is compared with.

    Raises:
        ComparisonError: the predictions of one are not here.
        MlnbError: the rules or the predictions are not as they should be.
    """
    from mlnb.statistics import Design, Sample, StatisticsError, difference, metric_named

    rules = gate.gates(project)
    told = package.section(project)
    ours, theirs = _predictions(project, first), _predictions(project, second)
    key = list(rules.key)
    both = ours.merge(theirs, on=key, suffixes=("", " of the other"), validate="one_to_one")
    if both.empty:
        raise ComparisonError("the two predicted no row in common")
    if told.target not in both or told.task == "multiclass":
        raise ComparisonError(f"the predictions do not hold the truth, {told.target!r}")
    truth = both[told.target]
    if told.task == "binary":
        truth = truth.astype(bool).astype(int)
    threshold = rules.threshold if isinstance(rules.threshold, float) else None
    cluster = rules.defaults.cluster
    design = Design.of(
        len(both),
        both[cluster].to_numpy() if cluster in both else None,
        resamples=rules.defaults.resamples,
        seed=rules.defaults.seed,
    )
    samples = [
        Sample(told.task, truth.to_numpy(), both[name].to_numpy(float), threshold, None)
        for name in (rules.score, f"{rules.score} of the other")
    ]
    found = {}
    for name in dict.fromkeys(r.metric for r in rules.rules if hasattr(r, "metric")):
        try:
            metric = metric_named(name, told.task)
            confidence = rules.defaults.confidence
            estimate = difference(metric, samples[0], samples[1], design, confidence)
        except (StatisticsError, MlnbError):
            continue
        found[name] = Difference(estimate.value, estimate.low, estimate.high)
    return found


def _predictions(project: Project, run: str) -> pd.DataFrame:
    return _read(project, run, gate.gates(project).predictions)


@functools.lru_cache(maxsize=8)
def _read(project: Project, run: str, name: str) -> pd.DataFrame:
    """Return the predictions of a run, from DVC's cache."""
    import pandas as pd

    checksum = _checksum(lock_of(project, run), name)
    path = project.root / ".dvc" / "cache" / "files" / "md5" / checksum[:2] / checksum[2:]
    if not checksum or not path.is_file():
        raise ComparisonError(
            f"the predictions of run {run[:8]} are not in DVC's cache",
            where=name,
            remedy="`dvc pull --all-commits`, or run it again: `dvc repro`.",
        )
    return pd.read_csv(path) if name.endswith(".csv") else pd.read_parquet(path)


def _checksum(lock: Mapping[str, Any], name: str) -> str:
    for stage in (lock.get("stages") or {}).values():
        for out in stage.get("outs", ()):
            if out.get("path") == name:
                return str(out.get("md5", ""))
    return ""


@functools.lru_cache(maxsize=64)
def lock_of(project: Project, run: str) -> Mapping[str, Any]:
    """Return the dvc.lock that lies with a run.

    Raises:
        ComparisonError: none does.
    """
    from ruamel.yaml import YAML, YAMLError

    path = artifact(project, run, "dvc.lock")
    try:
        found = YAML(typ="safe", pure=True).load(path)
    except (OSError, YAMLError) as error:
        raise ComparisonError(f"dvc.lock of run {run[:8]} cannot be read: {error}") from error
    return found if isinstance(found, Mapping) else {}


def artifact(project: Project, run: str, name: str) -> Path:
    """Return a file that lies with a run.

    Raises:
        ComparisonError: it does not, or lies on a server.
    """
    import contextlib
    import sqlite3
    from urllib.parse import quote

    from mlnb.tracking import ensure_store

    uri, where = ensure_store(project), ""
    if uri.startswith("sqlite:///"):
        file = uri.removeprefix("sqlite:///")
        with contextlib.closing(
            sqlite3.connect(f"file:{quote(file)}?mode=ro", uri=True, timeout=20)
        ) as store:
            row = store.execute(
                "select artifact_uri from runs where run_uuid = ?", (run,)
            ).fetchone()
            where = row[0] if row else ""
    parts = urlsplit(where)
    if parts.scheme in ("", "file") and where:
        path = Path(unquote(parts.path)) / name
        if path.is_file():
            return path
    raise ComparisonError(
        f"{name} of run {run[:8]} is not on this machine",
        remedy="Files of runs on a tracking server are not fetched for a comparison.",
    )
