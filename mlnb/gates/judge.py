"""Judging: the rules one after another, each by its kind, and none that can pass by accident."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mlnb.bundle import Bundle, open_bundle
from mlnb.errors import MlnbError
from mlnb.gates import integrity
from mlnb.gates.champion import champion
from mlnb.gates.evidence import Evidence, gather
from mlnb.gates.kinds import kind_of
from mlnb.gates.language import Gates, Rule
from mlnb.gates.verdicts import Finding, Judgement, Ruling, Wear


def evidence_of(root: Path, gates: Gates, store: Callable[[str], Bundle]) -> Evidence:
    """Return what the candidate is judged on.

    Args:
        root: the project's.
        gates: the section of params.yaml.
        store: gives a promoted bundle by its digest, verified.

    Raises:
        MlnbError: something is missing, damaged, or not what it says.
    """
    bundle = open_bundle(root / gates.bundle, allow_marks=True)
    production = champion(root / gates.champion, store, where=gates.champion)
    return gather(root, gates, bundle, production)


def judge(evidence: Evidence, inputs: Mapping[str, str], wear: Wear | None) -> Judgement:
    """Return the judgement of all rules; what cannot be judged is an error, never a pass."""
    return Judgement(
        rulings=tuple(ruling(rule, evidence) for rule in evidence.gates.rules),
        integrity=integrity.checks(evidence),
        inputs=dict(inputs),
        confidence=evidence.gates.defaults.confidence,
        champion=evidence.champion.version if evidence.champion else None,
        wear=wear,
    )


def refused(gates: Gates, error: MlnbError, inputs: Mapping[str, str]) -> Judgement:
    """Return the judgement where there is nothing to judge: every rule is in error."""
    finding = Finding("evidence", "error", str(error))
    rulings = (Ruling(r.id, kind_of(r).asks(r), True, (finding,)) for r in gates.rules)
    return Judgement(tuple(rulings), (finding,), dict(inputs), gates.defaults.confidence)


def ruling(rule: Rule, evidence: Evidence) -> Ruling:
    """Return what becomes of one rule."""
    kind = kind_of(rule)
    try:
        findings, skipped = kind.judge(rule, evidence)
    except MlnbError as error:
        findings, skipped = [Finding("rule", "error", str(error))], []
    return Ruling(
        rule.id, kind.asks(rule), rule.on_fail == "block", tuple(findings), tuple(skipped)
    )


def candidate(root: Path, gates: Gates) -> Bundle | None:
    """Return the candidate's bundle, every byte verified; None if there is none to open."""
    try:
        return open_bundle(root / gates.bundle, allow_marks=True)
    except MlnbError:
        return None
