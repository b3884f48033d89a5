"""What the counts of a candidate come to: hold, advance or roll back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlnb.rollout.evidence import Counts, Evidence
from mlnb.rollout.strategy import Strategy

Action = Literal["hold", "advance", "rollback"]

HARD = 3
"""Failures without an answer in between at the start: no test needs to be asked."""
_APART = 4.0
"""Odds of a bad rate to those of a tolerated one that stable's own rate sets."""
_FEW_SLOW = 10
"""Slow answers that one stall of the machine can make."""
_MARGIN = 2.0
"""The candidate may do so many times as badly as stable before it speaks against it."""


@dataclass(frozen=True)
class Decision:
    """What is to be done.

    Attributes:
        action: ``advance`` is to the next step; after the last it completes the roll-out.
        reason: why, with the figures.
        evidence: what was judged.
    """

    action: Action
    reason: str
    evidence: tuple[Evidence, ...] = ()


def decide(strategy: Strategy, step: int, candidate: Counts, stable: Counts) -> Decision:
    """Decide on a candidate; right after any request, as often as anybody likes.

    A rate speaks against the candidate if it is above the tolerated one, which is that of the
    strategy, or twice stable's own where that is higher. It advances once it had its requests and
    no rate can be the bad one; until then it holds.

    Args:
        strategy: how it is rolled out.
        step: that it is at, from 0.
        candidate: its counts since the statement.
        stable: those of the version beside it.
    """
    evidence = tuple(_evidence(strategy, candidate, stable))
    if candidate.failures >= HARD and candidate.failures == candidate.requests:
        return Decision(
            "rollback", f"all of its {candidate.requests:,.0f} requests failed", evidence
        )
    for each in evidence:
        if each.name == "slow" and each.count < _FEW_SLOW:
            continue
        if each.speaks_against(strategy.alpha):
            return Decision("rollback", f"too many {each.name}: {each.words}", evidence)
    wanted = strategy.requests * (step + 1)
    had = candidate.compared if strategy.kind == "shadow" else candidate.requests
    if had < wanted:
        what = "compared rows" if strategy.kind == "shadow" else "requests"
        return Decision("hold", f"had {had:,.0f} of {wanted:,.0f} {what}", evidence)
    for each in evidence:
        if not each.speaks_for(strategy.beta):
            return Decision("hold", f"not clear yet: {each.words}", evidence)
    return Decision("advance", "; ".join(each.words for each in evidence), evidence)


def _evidence(strategy: Strategy, candidate: Counts, stable: Counts) -> list[Evidence]:
    found = [
        _against(
            "failures", candidate.failures, candidate.requests, strategy.failures,
            strategy.bad_failures, stable.failures, stable.requests,
        ),
        _against(
            "slow", candidate.slow, candidate.judged, strategy.slow, strategy.bad_slow,
            stable.slow, stable.judged,
        ),
    ]  # fmt: skip
    if strategy.disagreement is not None:
        bad = min(2 * strategy.disagreement, (1 + strategy.disagreement) / 2)
        found.append(
            Evidence(
                "disagreements", candidate.disagreed, candidate.compared, strategy.disagreement, bad
            )
        )
    return found


def _against(
    name: str, count: int, total: int, tolerated: float, bad: float, theirs: int, of: int
) -> Evidence:
    """Return the evidence on a rate, where stable's own may be worse than what is tolerated."""
    # One more than there were: a rate that was seen a few times only is not known well.
    own = min(_MARGIN * (theirs + 1) / of, 0.9) if theirs else 0.0
    if own > tolerated:
        odds = _APART * own / (1 - own)
        tolerated, bad = own, max(bad, odds / (1 + odds))
    return Evidence(name, max(count, 0), max(total, count, 0), tolerated, bad)
