"""The gate report: the verdict on a candidate as one page, with every interval drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlnb.gates import Finding, Judgement, Ruling
from mlnb.reports.page import template

TONES = {"pass": "good", "fail": "bad", "inconclusive": "unknown", "error": "bad", "blocked": "bad"}
_SAID = {
    "pass": ("good", "passes", "All that must hold holds; the candidate may be promoted."),
    "blocked": ("bad", "is blocked", "It is not promoted unless a rule or the candidate changes."),
    "error": ("bad", "cannot be judged", "What is wrong stands below. Until then nothing passes."),
}
WIDTH, HEIGHT, _MARGIN = 220, 26, 8


@dataclass(frozen=True)
class Drawing:
    """An interval against its limits, in pixels: the allowed range, the bounds and the value."""

    allowed: tuple[float, float]
    limits: tuple[float, ...]
    low: float
    high: float
    value: float
    zero: float | None


@dataclass(frozen=True)
class Row:
    """A finding, ready for the template."""

    finding: Finding
    tone: str
    numbers: str
    drawing: Drawing | None


def render(judgement: Judgement) -> str:
    """Return the page of a judgement as HTML."""
    tone, said, means = _SAID[judgement.verdict]
    return template("gates.html.j2").render(
        judgement=judgement,
        tone=tone,
        said=said,
        means=means,
        rulings=[
            (ruling, TONES[ruling.verdict], list(_rows(ruling))) for ruling in _sorted(judgement)
        ],
        integrity=[Row(each, TONES[each.verdict], "", None) for each in judgement.integrity],
        counts=_counts(judgement),
        inputs=_named(judgement.inputs),
        level=f"{2 * judgement.confidence - 1:.0%}",
        width=WIDTH,
        height=HEIGHT,
    )


def _sorted(judgement: Judgement) -> Sequence[Ruling]:
    """Return the rulings that block first, then warnings, then what passes; else as written."""
    rank = {"error": 0, "fail": 1, "inconclusive": 1, "pass": 3}
    return sorted(
        judgement.rulings,
        key=lambda r: (
            2 if r.verdict in ("fail", "inconclusive") and not r.blocks else rank[r.verdict]
        ),
    )


def _counts(judgement: Judgement) -> Mapping[str, int]:
    verdicts = [ruling.verdict for ruling in judgement.rulings]
    return {each: verdicts.count(each) for each in dict.fromkeys(verdicts)}


def _named(inputs: Mapping[str, str]) -> Mapping[str, str]:
    return {
        name: digest.removeprefix("sha256:")[:12] or "missing" for name, digest in inputs.items()
    }


def _rows(ruling: Ruling) -> Iterator[Row]:
    shared = _span(ruling.findings)
    for finding in ruling.findings:
        yield Row(finding, TONES[finding.verdict], _numbers(finding), _drawing(finding, shared))


def _numbers(finding: Finding) -> str:
    if finding.value is None or finding.low is None or finding.high is None:
        return ""
    return f"{finding.value:.4g}  [{finding.low:.4g}, {finding.high:.4g}]"


def _span(findings: Sequence[Finding]) -> tuple[float, float] | None:
    """Return the range that holds all numbers of some findings; None if there are none."""
    numbers = [
        each
        for finding in findings
        if finding.low is not None
        for each in (finding.low, finding.high, finding.value, finding.least, finding.most)
        if each is not None and math.isfinite(each)
    ]
    if not numbers or min(numbers) == max(numbers):
        return None
    return min(numbers), max(numbers)


def _drawing(finding: Finding, span: tuple[float, float] | None) -> Drawing | None:
    if span is None or finding.low is None or finding.high is None or finding.value is None:
        return None
    start, end = span

    def place(value: float) -> float:
        return round(_MARGIN + (value - start) / (end - start) * (WIDTH - 2 * _MARGIN), 1)

    limits = tuple(place(each) for each in (finding.least, finding.most) if each is not None)
    allowed = (
        place(finding.least) if finding.least is not None else 0.0,
        place(finding.most) if finding.most is not None else float(WIDTH),
    )
    zero = place(0.0) if start < 0 < end else None
    return Drawing(
        allowed, limits, place(finding.low), place(finding.high), place(finding.value), zero
    )
