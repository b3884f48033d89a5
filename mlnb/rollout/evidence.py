"""The sequential test of a rate: it may be looked at after each request.

Looking again and again at an interval for a fixed number of requests sends healthy candidates back:
the level holds for one look. Wald's likelihood ratio ("Sequential Tests of Statistical Hypotheses",
Annals of Mathematical Statistics 16, 1945) of a bad rate against a tolerated one holds for all
looks together: at or below the tolerated rate it is a non-negative supermartingale that begins at
1, so it ever reaches 1/alpha with probability alpha at most (Ville, 1939; Ramdas, Gruenwald, Vovk,
Shafer, "Game-Theoretic Statistics and Safe Anytime-Valid Inference", Statistical Science 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """What was counted of one variant since its statement.

    Attributes:
        requests: that it was asked.
        failures: of these, those without a right answer.
        slow: of these, those slower than the strategy's factor times what is usual for stable.
        compared: rows that both variants answered.
        disagreed: of these, those on which the answers mean something else.
        timed: requests whose time could be judged; None if all.
    """

    requests: int = 0
    failures: int = 0
    slow: int = 0
    compared: int = 0
    disagreed: int = 0
    timed: int | None = None

    @property
    def judged(self) -> int:
        """Requests whose time could be judged."""
        return self.requests - self.failures if self.timed is None else self.timed


@dataclass(frozen=True)
class Evidence:
    """What ``count`` of ``total`` says for a rate of ``bad`` against one of ``tolerated``.

    Attributes:
        name: of what was counted.
        count, total: of how many, how many were bad.
        tolerated, bad: rates, 0 < tolerated < bad < 1.
    """

    name: str
    count: int
    total: int
    tolerated: float
    bad: float

    @property
    def log_ratio(self) -> float:
        """Natural logarithm of Wald's likelihood ratio."""
        return self.count * math.log(self.bad / self.tolerated) + (
            self.total - self.count
        ) * math.log((1 - self.bad) / (1 - self.tolerated))

    def speaks_against(self, alpha: float) -> bool:
        """Whether the rate is above the tolerated one; wrongly with probability ``alpha``."""
        return self.log_ratio >= -math.log(alpha)

    def speaks_for(self, beta: float) -> bool:
        """Whether the rate is below the bad one; wrongly with probability ``beta``."""
        return self.log_ratio <= math.log(beta)

    @property
    def words(self) -> str:
        """The figures, for a person to read."""
        rate = f" ({self.count / self.total:.2%})" if self.total else ""
        return (
            f"{self.count:,.0f} {self.name} of {self.total:,.0f}{rate};"
            f" {self.tolerated:.2%} is tolerated, {self.bad:.2%} is bad"
        )
