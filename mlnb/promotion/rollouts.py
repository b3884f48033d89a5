"""How a promotion is to be rolled out: what the settings say, and beside which version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlnb.errors import MlnbError
from mlnb.people import policy
from mlnb.project import Project
from mlnb.promotion import publish
from mlnb.rollout import KINDS, Strategy

if TYPE_CHECKING:
    from mlnb.state.store import State


def planned(project: Project, environment: str, kind: str = "") -> Strategy:
    """Return the strategy of an environment: its own table's over what holds for all.

    Args:
        project: whose ``[tool.mlnb.rollout]`` counts.
        environment: such as ``production``, whose table is ``[tool.mlnb.rollout.production]``.
        kind: that is wanted instead.

    Raises:
        StrategyError: the settings say what cannot be.
        PeopleError: a table of an environment that there is not.
    """
    told = project.settings.rollout
    for name, value in told.items():
        if isinstance(value, Mapping):
            policy(project, name)
    found = {key: value for key, value in told.items() if not isinstance(value, Mapping)}
    found |= told.get(environment, {})
    if kind and kind != found.get("kind"):
        found["kind"] = kind
    if found.get("kind", KINDS[0]) != "canary":
        found.pop("steps", None)
    return Strategy.parse(found, where="[tool.mlnb.rollout] of pyproject.toml")


def beside(project: Project, state: State, strategy: Strategy, environment: str) -> dict[str, Any]:
    """Return what the statement says: the strategy, beside the version that runs.

    Raises:
        MlnbError: a candidate is being rolled out there, which must be decided first.
        TrustError: what is published cannot be trusted.
    """
    if strategy.kind == KINDS[0]:
        return {}
    said = publish.seen(project, state, environment)
    if said is None:
        return {}
    if said.strategy.get("from"):
        raise MlnbError(
            f"version {said.version} is being rolled out in {environment} still",
            where=publish.file_of(environment),
            remedy=f"Decide on it first: `mlnb deploy promote --env {environment}`, or abort.",
        )
    return {**strategy.told, "from": said.bundle}
