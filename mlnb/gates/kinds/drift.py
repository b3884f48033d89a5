"""The test rows come from where the training rows came from, column by column.

The population stability index says how far two distributions are apart; its size by chance is that
of a chi-square divided by the numbers of rows (Yurdakul 2018). With hundreds of rows chance alone
gives what rules of thumb call drift, so that only what is beyond both is drift. What is beyond the
limit and within chance is inconclusive: so few rows cannot tell.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlnb.gates.evidence import Evidence
from mlnb.gates.kinds import Found, listed
from mlnb.gates.language import Drift
from mlnb.gates.verdicts import Finding, GateError, Verdict

_BINS = 10
_CHANCE = 0.99


def asks(rule: Drift) -> str:
    """Return the rule in words."""
    what = "each feature" if rule.drift == "all" else listed(rule.drift)
    return f"{what} is distributed as in training, PSI at most {rule.max_psi:g}"


def judge(rule: Drift, evidence: Evidence) -> Found:
    """Return the columns that moved or may have, or one finding that none did."""
    names = evidence.bundle.manifest.features if rule.drift == "all" else rule.drift
    confidence = 1 - (1 - _CHANCE) / len(names)  # over all columns together
    moved, most, widest = [], 0.0, ""
    for name in names:
        for table in (evidence.training, evidence.rows):
            if name not in table.columns:
                raise GateError(f"no column {name!r} in {evidence.bundle.manifest.data.path}")
        value, chance = stability(evidence.training[name], evidence.rows[name], confidence)
        if value >= most:
            most, widest = value, name
        if value > rule.max_psi:
            verdict: Verdict = "fail" if value > chance else "inconclusive"
            words = f"PSI {value:.3f}; chance gives up to {chance:.3f}"
            moved.append(
                Finding(name, verdict, words, value, most=rule.max_psi, rows=len(evidence.rows))
            )
    if moved:
        return moved, []
    words = f"none of {len(names)} moved; the widest is {widest} with PSI {most:.3f}"
    return [
        Finding("all rows", "pass", words, most, most=rule.max_psi, rows=len(evidence.rows))
    ], []


def stability(
    reference: pd.Series, current: pd.Series, confidence: float = _CHANCE
) -> tuple[float, float]:
    """Return the population stability index, and what chance gives with ``confidence``.

    Numbers are cut at the tenths of the reference, with a bin for gaps; anything else is
    counted as it is. An empty bin counts as half a row.
    """
    from scipy.stats import chi2

    first, second = _counts(reference, current)
    used = (first + second) > 0
    first, second = first[used], second[used]
    share, other = (np.maximum(each, 0.5) / each.sum() for each in (first, second))
    value = float(((share - other) * np.log(share / other)).sum())
    inverse = 1 / first.sum() + 1 / second.sum()
    return value, float(chi2.ppf(confidence, max(len(first) - 1, 1)) * inverse)


def _counts(
    reference: pd.Series, current: pd.Series
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if pd.api.types.is_numeric_dtype(reference.dtype) and reference.nunique() > _BINS:
        edges = np.unique(np.nanquantile(reference.to_numpy(np.float64, na_value=np.nan),
                                         np.arange(1, _BINS) / _BINS))  # fmt: skip
        return _binned(reference, edges), _binned(current, edges)
    labels = pd.concat([reference, current]).astype("object").fillna("gap")
    codes, names = pd.factorize(labels)
    first = np.bincount(codes[: len(reference)], minlength=len(names)).astype(np.float64)
    return first, np.bincount(codes[len(reference) :], minlength=len(names)).astype(np.float64)


def _binned(values: pd.Series, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    numbers = values.to_numpy(np.float64, na_value=np.nan)
    known = ~np.isnan(numbers)
    places = np.searchsorted(edges, numbers[known], side="left")
    counts = np.bincount(places, minlength=len(edges) + 1).astype(np.float64)
    return np.append(counts, float((~known).sum()))
