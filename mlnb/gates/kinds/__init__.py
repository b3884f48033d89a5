"""The kinds of rules, a module each, and the one place where they are looked up.

A kind is a module with ``asks(rule)``, the rule in words, and ``judge(rule, evidence)``, what was
found. :mod:`mlnb.gates.kinds.check` calls what is not ours.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any, Protocol

from mlnb.gates.evidence import Evidence
from mlnb.gates.language import Rule
from mlnb.gates.verdicts import Finding, Verdict
from mlnb.statistics import Estimate, detectable

Found = tuple[list[Finding], list[str]]
"""Findings, and what was skipped and why."""


class Kind(Protocol):
    """What a module of a kind has."""

    def asks(self, rule: Any) -> str:
        """Return in words what a rule asks for."""

    def judge(self, rule: Any, evidence: Evidence) -> Found:
        """Return what was found.

        Raises:
            MlnbError: it cannot be judged.
        """


def kind_of(rule: Rule) -> Kind:
    """Return the module that judges ``rule``."""
    module: Any = importlib.import_module(f"{__name__}.{rule.kind}")
    return module  # type: ignore[no-any-return]


def measured(
    subject: str,
    verdict: Verdict,
    words: str,
    found: Estimate,
    least: float | None,
    most: float | None = None,
) -> Finding:
    """Return the finding that rests on an estimate, and on how it was made."""
    return Finding(
        subject,
        verdict,
        words,
        found.value,
        found.low,
        found.high,
        least,
        most,
        found.rows,
        found.clusters,
        found.method,
        detectable(found),
    )


def listed(names: Iterable[object]) -> str:
    """Return names as a sentence has them."""
    *first, last = map(str, names)
    return f"{', '.join(first)} and {last}" if first else last
