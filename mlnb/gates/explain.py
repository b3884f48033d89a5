"""A ruling in words: what was compared, how, and what the test could have seen."""

from __future__ import annotations

from collections.abc import Iterator

from mlnb.gates.verdicts import Finding, Judgement, Ruling

_SAID = {
    "pass": "passes",
    "fail": "fails",
    "inconclusive": "is inconclusive",
    "error": "could not be judged",
}


def explained(judgement: Judgement, ruling: Ruling) -> Iterator[str]:
    """Yield the lines that explain one ruling of a judgement."""
    yield f"{ruling.id} {_SAID[ruling.verdict]}: {ruling.asks}."
    if ruling.verdict != "pass":
        blocks = "blocks the candidate" if ruling.blocks else "is a warning and blocks nothing"
        yield f"It {blocks}."
    for finding in ruling.findings:
        yield ""
        yield f"{finding.subject}: {_SAID[finding.verdict]}. {finding.words}."
        yield from _how(finding, judgement.confidence)
    for skipped in ruling.skipped:
        yield f"\nSkipped: {skipped}."


def _how(finding: Finding, confidence: float) -> Iterator[str]:
    if finding.rows is not None:
        count = finding.clusters
        clusters = f" of {count:,} clusters" if count and count != finding.rows else ""
        yield f"  Measured on {finding.rows:,} rows{clusters}."
    if finding.low is None:
        return
    if finding.method:
        yield (
            f"  The bounds are one-sided with confidence {confidence:g}, by {finding.method}; the"
            f" interval between them is one of {2 * confidence - 1:.0%}."
        )
    if finding.detectable:
        yield (
            f"  A test like this sees a true difference of {finding.detectable:.3g} four times in"
            " five; smaller ones it mostly misses."
        )
    if finding.verdict == "inconclusive" and finding.detectable and finding.rows:
        yield from _help(finding)


def _help(finding: Finding) -> Iterator[str]:
    """Say how many rows would decide it, were the value as it looks now."""
    limits = [each for each in (finding.least, finding.most) if each is not None]
    assert finding.detectable is not None and finding.rows
    if finding.value is None:
        return
    away = min((abs(finding.value - each) for each in limits), default=0.0)
    if away <= 0:
        yield "  It lies on the limit: no number of rows decides that."
        return
    needed = finding.rows * (finding.detectable / away) ** 2
    yield (
        f"  It lies {away:.3g} from the limit. If it stays there, about {_round(needed):,} rows"
        " like these decide it four times in five."
    )


def _round(value: float) -> int:
    digits = len(str(int(value)))
    return int(round(value, -max(digits - 2, 0)))
