"""What ``mlnb deploy`` does and prints."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from mlnb import people
from mlnb.deploy.contained import Contained
from mlnb.deploy.driver import Driver, Finding
from mlnb.deploy.errors import DeployError
from mlnb.deploy.local import Local
from mlnb.deployment.controller import Controller, Look
from mlnb.deployment.lease import Lease
from mlnb.deployment.preflight import preflight
from mlnb.errors import MlnbError
from mlnb.people.identity import TOKEN
from mlnb.project import Project
from mlnb.rollout import Strategy

DRIVERS = ("container", "local")
LOOK = 0.5
"""Seconds between two looks."""
_PATIENCE = 60.0
"""Seconds after which it is told that a server does not serve what is published."""


class BlockedError(DeployError):
    """A target that lacks something; nothing was changed."""


def driver_of(
    project: Project, environment: str, name: str, *, port: int = 8080, workers: int = 1
) -> Driver:
    """Return the driver of an environment.

    Raises:
        DeployError: there is no such driver.
    """
    if name == "kubernetes":
        raise DeployError(
            "a cluster rolls out by itself, from manifests",
            remedy="Write them: `mlnb manifests IMAGE@sha256:...`; see docs/kubernetes.md.",
        )
    if name not in DRIVERS:
        raise DeployError(f"no driver {name!r}", remedy=f"Drivers: {', '.join(DRIVERS)}.")
    token = os.environ.get(TOKEN, "")
    made = Contained if name == "container" else Local
    return made(project, environment, port=port, workers=workers, token=token)


def plan(project: Project, environment: str, driver: Driver) -> int:
    """Print what would be done, and do nothing; return 2 if something is in the way."""
    people.admit(project, "deploy plan", environment)
    look = Controller(project, environment, driver).look()
    said = look.statement
    print(f"{environment} is to run version {said.version}: {said.bundle}")
    print(f"  strategy  {Strategy.parse(said.strategy).words()}")
    print(f"  now       {look.phase}")
    print(f"  next      {look.todo}")
    return 2 if _tell(preflight(project, said, driver)) else 0


def apply(
    project: Project, environment: str, driver: Driver, *, wait: bool = False, loop: bool = False
) -> int:
    """Bring what runs to what is published; return 0 when there is nothing more to do now.

    Args:
        project: whose.
        environment: such as ``production``.
        driver: of where it runs.
        wait: until it is settled.
        loop: for ever: start again what died, and follow each new statement.

    Raises:
        LeaseError: somebody else does.
        BlockedError: the target lacks something.
        MlnbError: something cannot be trusted or done.
    """
    people.admit(project, "deploy apply", environment)
    controller = Controller(project, environment, driver)
    checked, told, since = "", "", time.monotonic()
    back = False
    with Lease(project.state / "serving" / environment) as lease:
        while True:
            lease.beat()
            try:
                look = controller.look()
                if look.phase != "settled" and look.follows != checked and _is_new(look):
                    if _tell(preflight(project, look.statement, driver)):
                        raise BlockedError(
                            f"version {look.statement.version} cannot be served here",
                            where=environment,
                            remedy="Each finding above says what helps.",
                        )
                    checked = look.follows
                look = controller.act()
            except MlnbError as error:
                if not loop or isinstance(error, BlockedError):
                    raise
                print(f"mlnb: {error}", file=sys.stderr, flush=True)
                time.sleep(5 * LOOK)
                continue
            back |= look.end is False
            words = f"{environment}: {look.phase}; {look.todo}"
            # Figures grow with each look: they are told when they come to something else.
            news = words if look.end is not None or look.share is not None else look.phase
            if news != told:
                print(words, flush=True)
                told, since = news, time.monotonic()
            if look.phase == "settled" and not loop:
                return 1 if back else 0
            if not (wait or loop) and look.phase not in ("stopped", "waiting") and look.end is None:
                return 0
            if look.phase == "waiting" and not loop and time.monotonic() - since > _PATIENCE:
                raise DeployError(look.todo, where=environment, remedy="Its log tells more.")
            time.sleep(LOOK)


def status(project: Project, environment: str, driver: Driver, *, plain: bool = False) -> int:
    """Print what runs, and what its counts come to so far."""
    people.admit(project, "deploy status", environment)
    look = Controller(project, environment, driver).look()
    if plain:
        content = dataclasses.asdict(look)
        content["decision"] = dataclasses.asdict(look.decision) if look.decision else None
        print(json.dumps(content, indent=1, sort_keys=True))
        return 0
    said = look.statement
    print(f"{environment}: {look.phase}; next: {look.todo}")
    print(f"version {said.version}, {Strategy.parse(said.strategy).words()}, by {said.by}")
    if look.server:
        _table(look.server)
        if look.server.get("problem"):
            print(f"problem: {look.server['problem']}")
    if look.decision:
        print(f"so far: {look.decision.action}")
        for each in look.decision.evidence:
            print(f"  {each.words}")
    return 0


def promote(project: Project, environment: str, driver: Driver, reason: str) -> int:
    """Let the candidate answer all requests, whatever its counts say."""
    people.admit(project, "deploy promote", environment)
    change = Controller(project, environment, driver).end(good=True, reason=reason, verb="promote")
    print(f"{environment} is at version {change.version}, for all requests")
    return 0


def abort(project: Project, environment: str, driver: Driver, reason: str) -> int:
    """Take the candidate's share away, and go back to what ran before."""
    people.admit(project, "deploy abort", environment)
    change = Controller(project, environment, driver).abort(reason)
    print(f"{environment} is back at version {change.version}")
    return 0


def rollback(project: Project, environment: str, driver: Driver, reason: str) -> int:
    """Go back to the version that ran before; a roll-out that is open is aborted."""
    people.admit(project, "deploy rollback", environment)
    from mlnb import promotion

    controller = Controller(project, environment, driver)
    if controller.look().statement.strategy.get("from"):
        return abort(project, environment, driver, reason)
    change = promotion.rollback(project, environment, reason=reason)
    print(f"{environment} is back at version {change.version}")
    return 0


def _is_new(look: Look) -> bool:
    """Whether nothing was decided on yet of what is published."""
    rollout = (look.server or {}).get("rollout")
    return not rollout or (not rollout["step"] and not rollout["tripped"])


def _tell(findings: list[Finding]) -> bool:
    """Print what was found before anything changed; return whether something blocks."""
    for each in findings:
        print(f"{'blocks' if each.blocks else 'note'}: {each.where}: {each.what}")
        if each.remedy:
            print(f"    {each.remedy}")
    return any(each.blocks for each in findings)


def _table(server: Mapping[str, Any]) -> None:
    rollout = server.get("rollout")
    print(f"{'version':>8} {'variant':<10} {'share':>6} {'requests':>9} {'failures':>9}"
          f" {'slow':>7} {'mean ms':>8} {'disagree':>9}")  # fmt: skip
    for each in server["versions"]:
        variant = each["variant"]
        counted = rollout["counts"][variant] if rollout else {}
        share = rollout["share"] if rollout else 0.0
        share = share if variant == "candidate" else 1 - share
        asked = counted.get("requests", 0)
        mean = f"{counted['seconds'] / asked * 1e3:.2f}" if asked else "-"
        print(
            f"{each['version']:>8} {variant:<10} {share:>6.0%} {asked:>9,.0f}"
            f" {counted.get('failures', 0):>9,.0f} {counted.get('slow', 0):>7,.0f} {mean:>8}"
            f" {counted.get('disagreed', 0):>9,.0f}"
        )
    if rollout and rollout["tripped"]:
        print(f"the server took the candidate out: {rollout['why']}")
