"""The bundle, loaded in a fresh process, answers the golden requests as when it was packed."""

from __future__ import annotations

from mlnb.gates.evidence import Evidence
from mlnb.gates.fresh import measured
from mlnb.gates.kinds import Found
from mlnb.gates.language import Golden
from mlnb.gates.verdicts import Finding, Verdict


def asks(rule: Golden) -> str:
    """Return the rule in words."""
    near = "exactly " if rule.golden == "exact" else f"within {rule.golden:g} "
    return f"the bundle answers its golden requests {near}as when it was packed"


def judge(rule: Golden, evidence: Evidence) -> Found:
    """Return how far the answers of a fresh process are from those that were kept."""
    found = measured(evidence)
    most = 0.0 if rule.golden == "exact" else rule.golden
    verdict: Verdict = "pass" if found.apart <= most else "fail"
    words = f"{found.requests} requests, at most {found.apart:.3g} apart"
    return [Finding("golden requests", verdict, words, found.apart, most=most)], []
