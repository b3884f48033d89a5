"""A project whose versions can be served: bundles whose answers tell their version, and statements.

Version 3 answers every row with 3.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bundles
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline

from mlnb import trust
from mlnb.bundle import Recipe, pack, save_model
from mlnb.files import write_bytes
from mlnb.project import Project, find
from mlnb.serving import versions
from mlnb.store import open_store
from mlnb.trust import Statement

ROW = [41.5, 3, 12.0, "north", True]
"""One row, in the order of the columns."""
COLUMNS = bundles.FEATURES
DIGEST = "sha256:" + "0" * 64


@dataclasses.dataclass
class Served:
    """A project, its key, and the digests of its bundles by version."""

    project: Project
    key: Ed25519PrivateKey
    digests: dict[int, str]
    counter: int = 0

    @property
    def path(self) -> Path:
        """The file that says what runs."""
        return self.project.root / "deployments" / "production.json"

    def statement(self, version: int, **more: Any) -> Statement:
        """Return a statement with the next counter on a version."""
        self.counter += 1
        said: dict[str, Any] = {
            "environment": "production",
            "version": version,
            "counter": self.counter,
            "bundle": self.digests[version],
            "candidate": "0" * 64,
            "commit": "",
            "data": DIGEST,
            "parameters": DIGEST,
            "verdict": DIGEST,
            "by": "ada",
            "reason": "a test",
            "at": "2026-11-25T18:00:00Z",
            "rollback": True,
        }
        return Statement(**(said | more))

    def publish(self, version: int, **more: Any) -> Statement:
        """Publish a version, signed; return the statement."""
        said = self.statement(version, **more)
        write_bytes(self.path, trust.sign(said, self.key))
        return said

    def roll_out(self, version: int, stable: int, strategy: Mapping[str, Any]) -> Statement:
        """Publish a version to be rolled out beside ``stable``."""
        told = {"from": self.digests[stable], **strategy}
        return self.publish(version, previous=stable, strategy=told)


def begun(root: Path, versions: int) -> Served:
    """Make a project with a key, and bundles of so many versions in its store."""
    root.mkdir(parents=True)
    (root / "pyproject.toml").write_text("[tool.mlnb]\n")
    (root / "deployments" / "keys").mkdir(parents=True)
    project = find(root)
    key = Ed25519PrivateKey.generate()
    trust.admit("ada", key.public_key(), root / "deployments" / "keys")
    table = bundles.rows(90)
    store, digests = open_store(project), {}
    made = root / "made"
    made.mkdir()
    for version in range(1, versions + 1):
        table["amount"] = float(version)
        table.to_parquet(made / "rows.parquet", index=False)
        model = Pipeline([("columns", bundles.columns()), ("model", Ridge())])
        known = table[table["split"] == "train"]
        save_model(model.fit(known[COLUMNS], known["amount"]), made / "model.skops")
        recipe = Recipe(
            root=made,
            model="model.skops",
            task="regression",
            rows="rows.parquet",
            target="amount",
            train={"split": ("train",)},
            test={"split": ("test",)},
            group="household",
        )
        digests[version] = store.put(pack(recipe, root / "bundle"))
    return Served(project, key, digests)


class Bad:
    """A scorer that was right when it was loaded, and is not any more.

    Args:
        scorer: as it was loaded.
        how: ``fails``, ``nan``, ``shape``, ``slow`` (ten times) or ``errors`` (each twentieth).
    """

    def __init__(self, scorer: Any, how: str) -> None:
        self._scorer, self._how, self._asked = scorer, how, 0
        self.compiled, self.why, self.columns = scorer.compiled, scorer.why, scorer.columns

    def score(self, rows: Any) -> Any:
        """Answer as it should, or not."""
        start = time.perf_counter()
        found = self._scorer.score(rows)
        self._asked += 1
        if self._how == "fails" or (self._how == "errors" and self._asked % 20 == 0):
            raise RuntimeError("a row that nobody else may see")
        if self._how == "nan":
            found[:] = np.nan
        if self._how == "shape":
            found = np.zeros((len(rows), 3))
        if self._how == "slow":
            end = start + 10 * (time.perf_counter() - start)
            while time.perf_counter() < end:
                pass
        return found


def spoil(version: int, how: str) -> Callable[[Any, int], Any]:
    """Return what loads bundles as a server does, but gives ``version`` a scorer that is bad."""
    load = versions.load

    def spoiled(bundle: Any, number: int) -> Any:
        found = load(bundle, number)
        if number != version:
            return found
        return dataclasses.replace(found, scorer=Bad(found.scorer, how))

    return spoiled


def until(true: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.01)
    raise AssertionError("did not become true in time")
