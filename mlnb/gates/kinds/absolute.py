"""A floor or a ceiling: kept with confidence, overall or in each slice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlnb.gates.evidence import Evidence
from mlnb.gates.kinds import Found, listed, measured
from mlnb.gates.language import Absolute
from mlnb.gates.verdicts import Finding, Verdict
from mlnb.statistics import Estimate, Metric, Sample, estimate, metric_named

Mask = npt.NDArray[np.bool_]


def asks(rule: Absolute) -> str:
    """Return the rule in words."""
    limits = [f"at least {rule.min:g}"] if rule.min is not None else []
    limits += [f"at most {rule.max:g}"] if rule.max is not None else []
    where = f", for each {listed(rule.slices)}" if rule.slices else ""
    return f"{rule.metric} {listed(limits)}{where}"


def judge(rule: Absolute, evidence: Evidence) -> Found:
    """Return whether the limits are kept: by all rows, or by the rows of each slice."""
    metric = metric_named(rule.metric, evidence.task)
    sample = evidence.sample(evidence.scores, rule.threshold)
    metric.check(sample)
    if not rule.slices:
        return [_judged(rule, evidence, metric, sample, "all rows", None)], []
    findings, skipped = [], []
    for name in rule.slices:
        values = evidence.column(name)
        for value in sorted(values.unique().tolist(), key=lambda each: (str(type(each)), each)):
            rows: Mask = values.eq(value).to_numpy(np.bool_)
            if few := scarce(rule, evidence, metric, sample, rows):
                skipped.append(f"{name} {value}: {few}")
            else:
                subject = f"{name} {value}"
                findings.append(_judged(rule, evidence, metric, sample, subject, rows))
    if not findings:
        words = f"no slice has enough rows: {'; '.join(skipped)}"
        findings.append(Finding(listed(rule.slices), "inconclusive", words))
    return findings, skipped


def scarce(rule: Absolute, evidence: Evidence, metric: Metric, sample: Sample, rows: Mask) -> str:
    """Return why a slice has too few rows to say anything, or nothing."""
    defaults = evidence.gates.defaults
    least = rule.min_rows if rule.min_rows is not None else defaults.min_rows
    if rows.sum() < least:
        return f"{int(rows.sum())} rows, fewer than {least}"
    least = rule.min_positives if rule.min_positives is not None else defaults.min_positives
    for part in sorted(metric.needs) if sample.task == "binary" else ():
        count = int((sample.target[rows] == (part == "positives")).sum())
        if count < least:
            return f"{count} {part}, fewer than {least}"
    return ""


def _judged(
    rule: Absolute,
    evidence: Evidence,
    metric: Metric,
    sample: Sample,
    subject: str,
    rows: Mask | None,
) -> Finding:
    confidence = rule.confidence or evidence.gates.defaults.confidence
    found = estimate(metric, sample, evidence.design(rule.cluster), confidence, rows=rows)
    least, most = rule.min, rule.max
    if metric.better == "zero" and most is not None and least is None:
        least = -most  # it is as bad on either side
    words = _words(metric, found, least, most)
    return measured(subject, _verdict(found, least, most), words, found, least, most)


def _verdict(found: Estimate, least: float | None, most: float | None) -> Verdict:
    low = -np.inf if least is None else least
    high = np.inf if most is None else most
    if found.low >= low and found.high <= high:
        return "pass"
    return "fail" if found.high < low or found.low > high else "inconclusive"


def _words(metric: Metric, found: Estimate, least: float | None, most: float | None) -> str:
    limits = listed(f"{each:g}" for each in (least, most) if each is not None)
    said = {"pass": f"keeps {limits}", "fail": f"breaks {limits}"}
    told = said.get(_verdict(found, least, most), f"may be on either side of {limits}")
    return f"{metric.label} {found.value:.4g}, {found.low:.4g} to {found.high:.4g}: {told}"
