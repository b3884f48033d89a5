"""Time of the processor for one row, in a fresh process on one thread.

The clock on the wall of a busy machine says many times as much as that of a quiet one. The time
that the thread itself used hardly does if each row has its best of several rounds; the 95th
percentile of these is judged. The figure differs a little each time, so it is told and not kept.
"""

from __future__ import annotations

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
    within = measured(evidence).milliseconds <= rule.milliseconds
    verdict: Verdict = "pass" if within else "fail"
    words = f"{'within' if within else 'beyond'} {rule.latency}"
    return [Finding("one row", verdict, words, most=rule.milliseconds)], []
