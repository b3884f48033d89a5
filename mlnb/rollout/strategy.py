"""What a statement says of how its version is rolled out."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlnb.errors import MlnbError, did_you_mean

KINDS = ("at-once", "blue-green", "canary", "shadow")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_RATES = ("failures", "bad_failures", "slow", "bad_slow", "sample", "alpha", "beta")


class StrategyError(MlnbError):
    """A strategy that cannot be."""


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How a version is rolled out.

    Attributes:
        kind: ``at-once``; ``canary``, share by share; ``blue-green``, all in one move; ``shadow``,
            asked and compared but never answering.
        origin: digest of the bundle that answers meanwhile; ``from`` in a statement.
        steps: shares of a canary, growing; after the last it is complete.
        failures, bad_failures: tolerated and bad rate of requests that only the candidate fails.
        slow, bad_slow: tolerated and bad rate of slow answers.
        latency_factor: an answer is slow that takes so many times what stable usually takes.
        disagreement: tolerated rate of rows on which both disagree; None judges none, for a better
            model must disagree, and only its owner knows how much.
        sample: share of the requests that both are asked.
        alpha: probability, at most, that one of the tests sends a healthy candidate back.
        beta: probability, at most, that a bad candidate passes one of the tests.
        requests: of the candidate, or compared rows of a shadow, that each step takes at least.
        hours: after which a candidate that is not complete is sent back.

    Raises:
        StrategyError: values that cannot be.
    """

    kind: str = "at-once"
    origin: str = ""
    steps: tuple[float, ...] = ()
    failures: float = 0.001
    bad_failures: float = 0.02
    slow: float = 0.1
    bad_slow: float = 0.4
    latency_factor: float = 3.0
    disagreement: float | None = None
    sample: float = 0.1
    alpha: float = 0.004
    beta: float = 0.05
    requests: int = 100
    hours: float = 24.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise _wrong("kind", self.kind, f"one of {', '.join(KINDS)}")
        if self.origin and not _DIGEST.fullmatch(self.origin):
            raise _wrong("from", self.origin, "the digest of a bundle")
        wrong = any(not 0 < share <= 1 for share in self.steps)
        if wrong or list(self.steps) != sorted(set(self.steps)):
            raise _wrong("steps", list(self.steps), "shares above 0, growing to 1 at most")
        for name in _RATES:
            if not 0 < getattr(self, name) < 1 and not (name == "sample" and self.sample == 1):
                raise _wrong(name, getattr(self, name), "between 0 and 1")
        for name in ("failures", "slow"):
            if getattr(self, name) >= getattr(self, f"bad_{name}"):
                raise _wrong(name, getattr(self, name), f"below bad-{name}")
        if self.disagreement is not None and not 0 < self.disagreement < 1:
            raise _wrong("disagreement", self.disagreement, "between 0 and 1")
        if self.latency_factor <= 1 or not math.isfinite(self.latency_factor):
            raise _wrong("latency-factor", self.latency_factor, "above 1")
        if self.requests < 1:
            raise _wrong("requests", self.requests, "1 or more")
        if self.hours <= 0 or not math.isfinite(self.hours):
            raise _wrong("hours", self.hours, "above 0")

    @classmethod
    def parse(cls, told: Mapping[str, Any], *, where: str = "the strategy") -> Strategy:
        """Return the strategy that a statement or a table of settings says; {} is at once.

        Raises:
            StrategyError: an unknown word, or a value that cannot be.
        """
        known = {each.name: each.default for each in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for key, value in told.items():
            name = "origin" if key == "from" else key.replace("-", "_")
            if name not in known or key == "origin":
                raise StrategyError(f"unknown word {key!r}.{did_you_mean(key, known)}", where=where)
            if name == "steps":
                if not isinstance(value, list | tuple) or any(
                    type(s) not in (int, float) for s in value
                ):
                    raise _wrong(key, value, "a list of shares", where)
                values[name] = tuple(map(float, value))
            elif name in ("kind", "origin"):
                if not isinstance(value, str):
                    raise _wrong(key, value, "a text", where)
                values[name] = value
            elif type(value) not in (int, float) or (name == "requests" and type(value) is not int):
                raise _wrong(key, value, "a number", where)
            else:
                values[name] = value
        if values.get("kind") == "canary":
            values.setdefault("steps", (0.05, 0.25, 0.5, 1.0))
        return cls(**values)

    @property
    def told(self) -> dict[str, Any]:
        """What a statement says of it: only what is not the default; {} for at once."""
        if self.kind == "at-once":
            return {}
        found: dict[str, Any] = {"kind": self.kind}
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if each.name != "kind" and value != each.default:
                key = "from" if each.name == "origin" else each.name
                found[key] = list(value) if isinstance(value, tuple) else value
        return found

    @property
    def shares(self) -> tuple[float, ...]:
        """The candidate's share at each step."""
        if self.kind == "canary":
            return self.steps
        return {"blue-green": (1.0,), "shadow": (0.0,)}.get(self.kind, ())

    def words(self) -> str:
        """Say it for a person to read."""
        if self.kind == "canary":
            return "canary, " + ", ".join(f"{share:.0%}" for share in self.steps)
        return self.kind


def _wrong(name: str, value: Any, what: str, where: str = "the strategy") -> StrategyError:
    return StrategyError(
        f"{name} must be {what}, not {value!r}", where=where, remedy="See docs/deployment.md."
    )
