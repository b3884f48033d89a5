"""Groups are treated alike: evidence of harm fails, evidence of none passes."""

from __future__ import annotations

from collections.abc import Iterator

from mlnb.errors import MlnbError
from mlnb.gates.evidence import Evidence
from mlnb.gates.kinds import Found, listed, measured
from mlnb.gates.language import Fairness
from mlnb.gates.verdicts import Finding
from mlnb.statistics import (
    Groups,
    Pair,
    ScarceError,
    group_differences,
    metric_named,
)


def asks(rule: Fairness) -> str:
    """Return the rule in words."""
    limit = (
        f"differs by at most {rule.max_difference:g}"
        if rule.max_difference is not None
        else f"of the lower is at least {rule.min_ratio:g} of the higher"
    )
    return f"{rule.metric} {limit} between groups of {listed(rule.groups)}"


def judge(rule: Fairness, evidence: Evidence) -> Found:
    """Return what each pair of groups shows; a chance find among many pairs is no evidence."""
    defaults = evidence.gates.defaults
    metric = metric_named(rule.metric, evidence.task)
    sample = evidence.sample(evidence.scores, rule.threshold)
    metric.check(sample)
    findings: list[Finding] = []
    skipped: list[str] = []
    for name in rule.groups:
        values = evidence.column(name)
        try:
            groups = group_differences(
                metric,
                sample,
                values.to_numpy(),
                evidence.design(rule.cluster),
                rule.confidence or defaults.confidence,
                min_rows=rule.min_rows if rule.min_rows is not None else defaults.min_rows,
                min_positives=rule.min_positives
                if rule.min_positives is not None
                else defaults.min_positives,
            )
            judged = groups.judge(max_difference=rule.max_difference, min_ratio=rule.min_ratio)
        except ScarceError as error:
            findings.append(Finding(name, "inconclusive", str(error)))
            continue
        except MlnbError as error:
            findings.append(Finding(name, "error", str(error)))
            continue
        findings += _findings(name, rule, groups, judged.pairs)
        skipped += [
            f"{name} {each.name}: {each.scarce} {each.kind}, fewer than {each.needed}"
            for each in groups.skipped
        ]
    return findings, skipped


def _findings(
    name: str, rule: Fairness, groups: Groups, pairs: tuple[Pair, ...]
) -> Iterator[Finding]:
    for pair in pairs:
        subject = f"{name}: {pair.first}, {pair.second}"
        values = (groups.values[each] for each in (pair.first, pair.second))
        told = " and ".join(f"{each.value:.4g}" for each in values)
        least: float | None
        most: float | None
        if rule.max_difference is not None:
            found, least, most = pair.difference, -rule.max_difference, rule.max_difference
            words = f"{told}: differ by {found.value:+.4g}, {found.low:+.4g} to {found.high:+.4g}"
        elif pair.ratio is not None:
            found, least, most = pair.ratio, rule.min_ratio, None
            words = f"{told}: ratio {found.value:.3g}, {found.low:.3g} to {found.high:.3g}"
        else:
            yield Finding(subject, pair.outcome, f"{told}: no ratio")
            continue
        yield measured(subject, pair.outcome, words, found, least, most)
