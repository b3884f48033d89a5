"""Bytes of the bundle."""

from __future__ import annotations

from mlnb.gates.evidence import Evidence
from mlnb.gates.kinds import Found
from mlnb.gates.language import Size
from mlnb.gates.verdicts import Finding, Verdict


def asks(rule: Size) -> str:
    """Return the rule in words."""
    return f"the bundle has at most {rule.size}"


def judge(rule: Size, evidence: Evidence) -> Found:
    """Return whether all files together are within the limit."""
    bundle = evidence.bundle
    size = sum(map(len, bundle.files.values())) + len(bundle.manifest.canonical)
    verdict: Verdict = "pass" if size <= rule.bytes else "fail"
    words = f"{size / 1e6:.2f} MB"
    return [Finding("bundle", verdict, words, float(size), most=rule.bytes)], []
