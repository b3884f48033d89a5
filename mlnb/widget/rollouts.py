"""Roll-outs that go on, as the servers on this machine tell, and what they come to so far."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from mlnb.deploy.local import Local
from mlnb.deployment import Controller, Look
from mlnb.errors import MlnbError
from mlnb.people.identity import TOKEN
from mlnb.project import Project

_PATIENCE = 2.0
"""Seconds that a server may take to tell; who looks at runs does not wait for longer."""


def rollouts(project: Project) -> list[dict[str, Any]]:
    """Return the roll-outs that go on, as JSON holds them; those of servers that do not tell are
    left out.

    Each has ``environment``, ``version``, ``share`` of the requests, ``requests`` and ``failures``
    of the candidate, ``verdict`` (``hold``, ``advance`` or ``rollback``) and ``words``.
    """
    found = []
    for folder in sorted((project.state / "serving").glob("*")):
        if not any(folder.glob("server-*.json")):
            continue
        driver = Local(project, folder.name, token=os.environ.get(TOKEN, ""), patience=_PATIENCE)
        # Whatever is wrong there, `mlnb deploy status` says it; here it would only be in the way.
        with contextlib.suppress(MlnbError, OSError, KeyError, TypeError, ValueError):
            look = Controller(project, folder.name, driver).look()
            if look.phase == "rolling out" and look.server and look.server.get("rollout"):
                found.append(_told(look, look.server["rollout"]))
    return found


def _told(look: Look, rollout: Any) -> dict[str, Any]:
    counts = rollout["counts"]["candidate"]
    verdict = "rollback" if look.end is False else look.decision.action if look.decision else "hold"
    return {
        "environment": look.environment,
        "version": look.statement.version,
        "share": float(rollout["share"]),
        "requests": int(counts["requests"]),
        "failures": int(counts["failures"]),
        "verdict": verdict,
        "words": look.todo,
    }
