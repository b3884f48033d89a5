"""Signed statements, published in a project as a promotion does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlnb import trust
from mlnb.bundle import Bundle
from mlnb.trust import Statement

KEY = Ed25519PrivateKey.generate()
"""What the tests sign with; no test writes to a person's own folder of keys."""


def statement(bundle: str = f"sha256:{'1' * 64}", **more: Any) -> Statement:
    """Return a statement that production runs version 3, with ``more`` said otherwise."""
    said: dict[str, Any] = {
        "environment": "production",
        "version": 3,
        "counter": 7,
        "bundle": bundle,
        "candidate": "2" * 64,
        "commit": "3" * 40,
        "data": f"sha256:{'4' * 64}",
        "parameters": f"sha256:{'5' * 64}",
        "verdict": f"sha256:{'6' * 64}",
        "by": "ada",
        "approvers": ("grace",),
        "reason": "better in every slice",
        "previous": 2,
        "head": (12, "7" * 64),
        "at": "2026-11-01T12:00:00Z",
    }
    return Statement(**(said | more))


def publish(
    root: Path, bundle: Bundle | None, environment: str = "production", **more: Any
) -> None:
    """Put ``bundle`` into the store of the project and say that it runs, or that nothing does."""
    path = root / "deployments" / f"{environment}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if bundle is None:
        path.write_text(trust.nothing(environment))
        return
    bundle.save(root / ".mlnb/bundles" / bundle.digest.removeprefix("sha256:"))
    keys = path.parent / "keys"
    if not (keys / "tester.json").exists():
        trust.admit("tester", KEY.public_key(), keys)
    said = statement(bundle.digest, environment=environment, **more)
    path.write_bytes(trust.sign(said, KEY))
