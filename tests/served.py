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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline

from mlnb import trust
from mlnb.bundle import Recipe, pack, save_model
from mlnb.files import write_bytes
from mlnb.project import Project, find
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


def until(true: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.01)
    raise AssertionError("did not become true in time")
