"""Time of the processor for one row, in a fresh process on one thread.

The clock on the wall of a busy machine says three times as much as that of a quiet one. The time
that the thread itself used, at the 95th percentile of the best of several blocks, stays within a
fifth; so that is judged. What is kept is the next step of 1, 2, 5, 10, ... ms: the same each time.
"""

from __future__ import annotations

import math

from mlnb.gates.evidence import Evidence
from mlnb.gates.fresh import measured
from mlnb.gates.kinds import Found
from mlnb.gates.language import Latency
from mlnb.gates.verdicts import Finding, Verdict


def asks(rule: Latency) -> str:
    """Return the rule in words."""
    return f"one row takes at most {rule.latency} of the processor, 95 times in 100"


def judge(rule: Latency, evidence: Evidence) -> Found:
    """Return whether the measured time is within the limit."""
    found = measured(evidence)
    took = found.milliseconds
    verdict: Verdict = "pass" if took <= rule.milliseconds else "fail"
    step = _step(took)
    words = f"at most {step:g} ms" if verdict == "pass" else f"more than {rule.milliseconds:g} ms"
    value = min(step, rule.milliseconds) if verdict == "pass" else None
    return [Finding("one row", verdict, words, value, most=rule.milliseconds)], []


def _step(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, ... that is not below ``value``."""
    unit = 10.0 ** math.floor(math.log10(max(value, 1e-6)))
    return next(unit * step for step in (1, 2, 5, 10) if value <= unit * step * (1 + 1e-9))
