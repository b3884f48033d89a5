"""Against another model on the same rows: better, or not much worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mlnb.gates.evidence import Evidence
from mlnb.gates.kinds import Found, measured
from mlnb.gates.language import Against
from mlnb.gates.verdicts import Finding, Verdict
from mlnb.statistics import Estimate, gain, metric_named


def asks(rule: Against) -> str:
    """Return the rule in words."""
    margin, relative = rule.margin()
    told = f"{margin:.4g}" if not relative else f"{margin:.4g} of its value"
    if rule.tolerance is not None:
        return f"{rule.metric} not worse than the {rule.against}'s by more than {told}"
    if margin == 0:
        return f"{rule.metric} better than the {rule.against}'s"
    surely = "surely " if rule.evidence == "proven" else ""
    return f"{rule.metric} better than the {rule.against}'s by {surely}{told}"


def judge(rule: Against, evidence: Evidence) -> Found:
    """Return what the paired difference shows, its sign turned so that above 0 is better."""
    if rule.against == "champion" and evidence.champion is None:
        return [_first(evidence)], []
    metric = metric_named(rule.metric, evidence.task)
    ours = evidence.sample(evidence.scores, rule.threshold)
    theirs = evidence.sample(evidence.rival(rule.against), rule.threshold)
    for sample in (ours, theirs):
        metric.check(sample)
    confidence = rule.confidence or evidence.gates.defaults.confidence
    margin, relative = rule.margin()
    if np.array_equal(ours.score, theirs.score):
        verdict: Verdict = "pass" if rule.tolerance is not None else "fail"
        words = f"the same scores as the {rule.against}'s in every row"
        least = -margin if rule.tolerance is not None else margin
        return [Finding("all rows", verdict, words, 0.0, 0.0, 0.0, least, rows=len(ours))], []
    found = gain(metric, ours, theirs, evidence.design(rule.cluster), confidence, relative=relative)
    least = -margin if rule.tolerance is not None else margin
    words = _words(rule, found, relative)
    found = replace(found, method=f"paired, {found.method}")
    return [measured("all rows", _verdict(rule, found, least), words, found, least)], []


def _first(evidence: Evidence) -> Finding:
    """Return what a rule against the champion says while there is none."""
    allowed = evidence.gates.first_run == "allow"
    words = "nothing is in production; first_run is " + evidence.gates.first_run
    return Finding("first run", "pass" if allowed else "fail", words)


def _verdict(rule: Against, found: Estimate, least: float) -> Verdict:
    if rule.tolerance is not None or rule.evidence == "proven":
        passed = found.low >= least and (rule.tolerance is not None or found.low > 0)
    else:
        passed = found.value >= least and found.low > 0
    if passed:
        return "pass"
    hopeless = found.high < least or (rule.gain is not None and found.high <= 0)
    return "fail" if hopeless else "inconclusive"


def _words(rule: Against, found: Estimate, relative: bool) -> str:
    form = "{:+.2%}" if relative else "{:+.4g}"
    value, low, high = (form.format(each) for each in (found.value, found.low, found.high))
    what = "better" if found.low > 0 else "worse" if found.high < 0 else "not distinguishable"
    return f"{value}, between {low} and {high}: {what}"
