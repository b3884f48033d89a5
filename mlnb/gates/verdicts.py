"""What judging gives: findings, the verdict of each rule, and the judgement of all."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlnb.errors import MlnbError
from mlnb.files import digest_bytes

FORMAT = 1
Verdict = Literal["pass", "fail", "inconclusive", "error"]
WORST: tuple[Verdict, ...] = ("error", "fail", "inconclusive", "pass")
Outcome = Literal["pass", "blocked", "error"]


class GateError(MlnbError):
    """A rule, or what it is judged on, that no verdict can be given for."""


@dataclass(frozen=True)
class Finding:
    """One thing that a rule looked at.

    Attributes:
        subject: what it was: all rows, a slice, a pair of groups, a column.
        verdict: of this alone.
        words: what was found, in one sentence.
        value: what was measured, if it is a number; ``low`` and ``high``: its one-sided bounds.
        least: what it must not be below, and ``most`` not above.
        rows: how many rows it was measured on; ``clusters``: of how many clusters.
        method: how the bounds were computed.
        detectable: the smallest true difference that this test would have seen four times in five.
    """

    subject: str
    verdict: Verdict
    words: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    least: float | None = None
    most: float | None = None
    rows: int | None = None
    clusters: int | None = None
    method: str = ""
    detectable: float | None = None


@dataclass(frozen=True)
class Ruling:
    """What became of one rule.

    Attributes:
        id: of the rule.
        asks: what it asks for, in words.
        blocks: whether it blocks unless it passes.
        findings: what it looked at.
        skipped: what it did not look at, and why.
    """

    id: str
    asks: str
    blocks: bool
    findings: tuple[Finding, ...]
    skipped: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings; nothing found is an error."""
        return worst(finding.verdict for finding in self.findings)


@dataclass(frozen=True)
class Wear:
    """How often a test set was used for a decision.

    Attributes:
        digest: of its rows.
        candidate: this candidate is the so-manieth that was judged on it.
        warn: from which number on it is too many.
    """

    digest: str
    candidate: int
    warn: int

    @property
    def worn(self) -> bool:
        """Whether it was used so often that passing it says less and less."""
        return self.candidate >= self.warn


@dataclass(frozen=True)
class Judgement:
    """The verdict on a candidate.

    Attributes:
        rulings: of the rules, in the order of params.yaml.
        integrity: what is checked without a rule: whether there is something to judge at all.
        inputs: the digest of each thing that the judgement rests on.
        confidence: one-sided, of each bound.
        champion: version of the model in production; None if there is none.
        wear: of the test set; None if it could not be read.
    """

    rulings: tuple[Ruling, ...]
    integrity: tuple[Finding, ...]
    inputs: Mapping[str, str]
    confidence: float = 0.95
    champion: str | None = None
    wear: Wear | None = None
    format: int = field(default=FORMAT)

    @property
    def verdict(self) -> Outcome:
        """``pass``, ``blocked``, or ``error`` where something could not be judged."""
        found = [*(each.verdict for each in self.integrity), *(r.verdict for r in self.rulings)]
        if not self.rulings or "error" in found:
            return "error"
        held = [
            *(f.verdict for f in self.integrity),
            *(r.verdict for r in self.rulings if r.blocks),
        ]
        return "pass" if all(each == "pass" for each in held) else "blocked"

    def ruling(self, name: str) -> Ruling:
        """Return the ruling of the rule ``name``.

        Raises:
            GateError: there is none.
        """
        from mlnb.errors import did_you_mean

        known = [each.id for each in self.rulings]
        for each in self.rulings:
            if each.id == name:
                return each
        raise GateError(
            f"no rule {name!r}.{did_you_mean(name, known)}",
            remedy=f"Rules: {', '.join(known) or 'none'}.",
        )


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of some verdicts; no verdict at all is an error."""
    found = set(verdicts)
    return next((each for each in WORST if each in found), "error")


def to_text(judgement: Judgement) -> str:
    """Return a judgement as JSON: ten digits, since what differs beyond them is the machine."""
    content = _rounded(dataclasses.asdict(judgement))
    told = [
        *content["integrity"],
        *(f for ruling in content["rulings"] for f in ruling["findings"]),
    ]
    for finding in told:
        for key in [key for key, value in finding.items() if value in (None, "")]:
            del finding[key]
    content["verdict"] = judgement.verdict
    for shown, ruling in zip(content["rulings"], judgement.rulings, strict=True):
        shown["verdict"] = ruling.verdict
    content["seal"] = _seal(content)
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"


def parse(text: str, *, where: str) -> Judgement:
    """Return the judgement that :func:`to_text` wrote.

    Raises:
        GateError: another format, or edited.
    """
    try:
        content = json.loads(text)
        number = content["format"]
        if number != FORMAT:
            raise GateError(
                f"has format {number!r}; this mlnb reads format {FORMAT}",
                where=where,
                remedy="Judge again: `mlnb gate`.",
            )
        seal, verdict = content.pop("seal"), content["verdict"]
        if seal != _seal(content):
            raise GateError(
                "was edited: it does not hold what `mlnb gate` wrote",
                where=where,
                remedy="Judge again: `mlnb gate`.",
            )
        found = Judgement(
            rulings=tuple(
                Ruling(
                    each["id"],
                    each["asks"],
                    each["blocks"],
                    tuple(Finding(**finding) for finding in each["findings"]),
                    tuple(each["skipped"]),
                )
                for each in content["rulings"]
            ),
            integrity=tuple(Finding(**each) for each in content["integrity"]),
            inputs=content["inputs"],
            confidence=content["confidence"],
            champion=content["champion"],
            wear=Wear(**content["wear"]) if content["wear"] else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GateError(
            "is not a judgement", where=where, remedy="Judge again: `mlnb gate`."
        ) from error
    if verdict != found.verdict:
        raise GateError("contradicts itself", where=where, remedy="Judge again: `mlnb gate`.")
    return found


def _seal(content: Mapping[str, Any]) -> str:
    """Return a digest of all the rest, by which an edit shows; a forger it does not stop."""
    return digest_bytes(json.dumps(content, sort_keys=True, allow_nan=False).encode())


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.10g}") if math.isfinite(value) else None
    return value
