"""The controller: it looks at what is wanted and at what is there, and does the next thing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from mlnb.deploy.driver import Driver
from mlnb.deploy.errors import DeployError
from mlnb.project import Project
from mlnb.promotion import Change, end_rollout, mending, publish
from mlnb.rollout import Counts, Decision, Strategy, decide
from mlnb.state import ConflictError, locate, open_state
from mlnb.trust import Statement

Phase = Literal["stopped", "starting", "waiting", "rolling out", "settled"]
_COUNTED = ("requests", "failures", "slow", "timed", "compared", "disagreed")


@dataclass(frozen=True)
class Look:
    """What one look found, and what is to be done.

    Attributes:
        environment: that was looked at.
        phase: ``stopped``, no server runs; ``waiting`` for it to serve what is published;
            ``rolling out``; ``settled``, it serves what is published, and nothing is open.
        statement: what is published.
        follows: digest of its file.
        server: what the server says; None if none runs.
        todo: what is done next, for a person to read.
        step, share: to be set; None where nothing is.
        end: whether to complete the roll-out (True) or go back (False); None for neither.
        decision: what the counts come to.
    """

    environment: str
    phase: Phase
    statement: Statement
    follows: str
    server: Mapping[str, Any] | None
    todo: str
    step: int | None = None
    share: float | None = None
    end: bool | None = None
    decision: Decision | None = field(default=None, repr=False)


class Controller:
    """Brings what runs to what is published, one thing at a time.

    Args:
        project: whose.
        environment: such as ``production``.
        driver: of where it runs.
    """

    def __init__(self, project: Project, environment: str, driver: Driver) -> None:
        self._project, self._environment, self._driver = project, environment, driver

    def look(self) -> Look:
        """Look, and change nothing.

        Raises:
            DeployError: nothing was promoted, or the server does not answer.
            TrustError: what is published cannot be trusted.
        """
        follows = publish.digest(self._project, self._environment)
        said = publish.published(self._project, self._environment) if follows else None
        if said is None:
            raise DeployError(
                "nothing was promoted yet",
                where=publish.file_of(self._environment),
                remedy=f"`mlnb promote --to {self._environment}` does.",
            )
        server = self._driver.status()

        def found(phase: Phase, todo: str, **more: Any) -> Look:
            return Look(self._environment, phase, said, follows, server, todo, **more)

        if server is None:
            return found("stopped", f"start a server for version {said.version}")
        if server["statement"] != said.counter or server.get("fallen_back"):
            why = f": {server['problem']}" if server.get("problem") else ""
            return found("waiting", f"wait until it serves version {said.version}{why}")
        if not said.strategy.get("from"):
            return found("settled", "nothing")
        if said.strategy["from"] == said.bundle:
            return found("rolling out", "complete: it is the same bundle", end=True)
        told = server.get("rollout")
        if not told or told["digest"] != said.bundle:
            return found("waiting", f"wait until it has version {said.version} as its candidate")
        return self._judge(said, told, found)

    def _judge(self, said: Statement, told: Mapping[str, Any], found: Callable[..., Look]) -> Look:
        """Decide on a candidate that is rolled out."""
        strategy = Strategy.parse(said.strategy)
        if told["tripped"]:
            return found("rolling out", f"go back: {told['why']}", end=False)
        step = min(int(told["step"]), len(strategy.shares) - 1)
        candidate, stable = (counts(told["counts"][each]) for each in ("candidate", "stable"))
        decision = decide(strategy, step, candidate, stable)
        more: dict[str, Any] = {"decision": decision}
        if decision.action == "rollback":
            return found("rolling out", f"go back: {decision.reason}", end=False, **more)
        share = strategy.shares[step]
        if told["share"] != share:
            todo = f"set the share to {share:.0%}"
            return found("rolling out", todo, step=step, share=share, **more)
        if decision.action == "advance":
            if step + 1 < len(strategy.shares):
                share = strategy.shares[step + 1]
                todo = f"set the share to {share:.0%}: {decision.reason}"
                return found("rolling out", todo, step=step + 1, share=share, **more)
            return found("rolling out", f"complete: {decision.reason}", end=True, **more)
        age = (datetime.now(UTC) - datetime.fromisoformat(said.at)).total_seconds()
        if age > strategy.hours * 3600:
            why = f"go back: not clear after {strategy.hours:g} hours: {decision.reason}"
            return found("rolling out", why, end=False, **more)
        return found("rolling out", f"hold: {decision.reason}", **more)

    def act(self) -> Look:
        """Look, and do the next thing; return what was found before.

        Whatever it does, it may be killed meanwhile, and done again.

        Raises:
            MlnbError: it cannot be done.
        """
        mending.mend(self._project, open_state(locate(self._project)))
        look = self.look()
        if look.phase == "stopped":
            self._driver.start(look.statement)
        elif look.end is not None:
            if look.end is False and look.server and look.server["rollout"]["share"]:
                self._cut(look.statement.bundle)
            with contextlib.suppress(ConflictError):  # somebody decided: the next look sees what
                self.end(good=look.end, reason=_reason(look.todo), follows=look.follows)
        elif look.share is not None and look.step is not None:
            self._driver.set_share(look.share, look.step, look.statement.bundle)
        return look

    def end(self, *, good: bool, reason: str, follows: str = "", verb: str = "apply") -> Change:
        """End the roll-out by a signed statement.

        Args:
            good: complete it; otherwise go back.
            reason: why.
            follows: the statement that it is of; by default that which is published.
            verb: the action of ``mlnb deploy`` that does.

        Raises:
            ConflictError: it is over.
            MlnbError: it may not be ended, or cannot.
        """
        return end_rollout(
            self._project,
            self._environment,
            good=good,
            follows=follows or publish.digest(self._project, self._environment),
            reason=reason,
            verb=f"deploy {verb}",
        )

    def abort(self, reason: str) -> Change:
        """Take the candidate's share away, and go back."""
        with contextlib.suppress(DeployError):  # the statement counts; the server follows it
            look = self.look()
            if look.server and look.server.get("rollout"):
                self._cut(look.statement.bundle)
        return self.end(good=False, reason=reason, verb="abort")

    def _cut(self, digest: str) -> None:
        # It may have taken the candidate out by itself; it goes back by the statement anyhow.
        with contextlib.suppress(DeployError):
            self._driver.set_share(0.0, 0, digest)


def counts(told: Mapping[str, Any]) -> Counts:
    """Return what a server counted of a variant."""
    return Counts(**{name: int(told.get(name, 0)) for name in _COUNTED})


def _reason(todo: str) -> str:
    """Return why, out of what is to be done."""
    action, _, why = todo.partition(": ")
    return f"rolled out: {why}" if action == "complete" else why
