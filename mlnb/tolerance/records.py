"""A tolerance and a difference: what the comparisons take and give."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

RTOL = 1e-6
ATOL = 1e-9


@dataclass(frozen=True)
class Tolerance:
    """How far apart two floats may lie: ``atol + rtol * |reference|``."""

    rtol: float = RTOL
    atol: float = ATOL

    def close(self, reference: float, result: float) -> bool:
        """Whether ``result`` is near enough to ``reference``; NaN is near NaN."""
        if reference == result or (math.isnan(reference) and math.isnan(result)):
            return True
        # An infinite limit would let any finite result pass for an infinite reference.
        return abs(result - reference) <= self.atol + self.rtol * abs(reference) < math.inf


DEFAULT = Tolerance()


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        where: ``roc_auc``, ``column score, row 17``, ``cell 4 output 1``; empty for the whole.
        what: ``0.81 became 0.83``.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what

    def inside(self, outer: str) -> Difference:
        """Return the same difference as seen from outside of ``outer``."""
        return Difference(", ".join(filter(None, (outer, self.where))), self.what)


def became(before: Any, after: Any) -> str:
    """Return '0.81 became 0.83', long values cut."""
    return f"{short(before)} became {short(after)}"


def others(rows: int) -> str:
    """Return what to add when ``rows`` rows differ and only the first is told."""
    return f" (and {rows - 1} more rows)" if rows > 1 else ""


def short(value: Any, width: int = 60) -> str:
    """Return a value as one short piece of text."""
    shown = repr(value)
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"
