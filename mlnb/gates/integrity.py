"""What is checked without a rule: whether there is anything to judge.

Each check is an error when it is not as it must be: an evaluation that was edited, a model that
does not answer, a truth that leaked. No number means anything then.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlnb.bundle import Bundle, group_digests
from mlnb.errors import MlnbError
from mlnb.gates.evidence import Evidence, Floats
from mlnb.gates.verdicts import Finding, GateError
from mlnb.statistics import METRICS, Design, StatisticsError, estimate

AGREEMENT = 1e-6
"""How far what the notebook wrote may be from what its bundle answers, and figures from ours."""
LEAK = 0.995
"""How well one feature alone may tell the truth: an area under the ROC curve, or a correlation."""


def checks(evidence: Evidence) -> tuple[Finding, ...]:
    """Return what is found of each check, in the order in which a person would look."""
    made: list[tuple[str, Callable[[Evidence], str]]] = [
        ("the candidate answers", _answers),
        ("predictions are the candidate's", _is_its_own),
        ("the truth is that of the rows", _same_truth),
        ("no test row counts twice", _no_twins),
        ("no feature is the truth", _no_leak),
        ("test groups are new to the candidate", _new_to_candidate),
        ("test groups are new to the model in production", _new_to_champion),
        ("the evaluation's figures are right", _same_figures),
    ]
    return tuple(_finding(subject, check, evidence) for subject, check in made)


def _finding(subject: str, check: Callable[[Evidence], str], evidence: Evidence) -> Finding:
    try:
        return Finding(subject, "pass", check(evidence))
    except MlnbError as error:
        return Finding(subject, "error", str(error))


def _answers(evidence: Evidence) -> str:
    scores = evidence.scores
    known = np.isfinite(scores).reshape(len(scores), -1).all(axis=1)
    if bad := int((~known).sum()):
        raise GateError(f"{bad} of its {len(scores)} scores are not finite")
    if np.ptp(scores, axis=0).max() == 0:
        raise GateError(f"it gives every row the same score, {scores.flat[0]:.6g}")
    told = f"{len(scores):,} scores, all finite, {len(np.unique(scores, axis=0)):,} different"
    marks = evidence.bundle.manifest.marks
    return f"{told}; marked {', '.join(marks)}" if marks else told


def _is_its_own(evidence: Evidence) -> str:
    ours, theirs = evidence.scores, evidence.claimed
    scale = np.maximum(np.abs(ours), 1.0) if evidence.task == "regression" else 1.0
    apart = np.abs(ours - theirs) / scale
    if not apart.max() <= AGREEMENT:  # nor if it is not a number
        rows = int((~(apart <= AGREEMENT)).reshape(len(apart), -1).any(axis=1).sum())
        raise GateError(
            f"{rows} of {len(apart)} rows have another score than the bundle gives, by up to"
            f" {apart.max():.3g}: stale, edited, or of another model",
            where=evidence.gates.predictions,
            remedy="Run `dvc repro`.",
        )
    return f"the same scores as the bundle gives, within {AGREEMENT:g}"


def _same_truth(evidence: Evidence) -> str:
    name = evidence.bundle.manifest.target
    if name not in evidence.predictions.columns:
        return "the predictions do not repeat it"
    theirs, ours = evidence.predictions[name], evidence.rows[name]
    differing = int((theirs.to_numpy() != ours.to_numpy()).sum())
    if differing:
        raise GateError(
            f"{differing} of {len(ours)} rows have another {name} than the test rows",
            where=evidence.gates.predictions,
            remedy="Run `dvc repro`.",
        )
    return f"{name} is the same in {len(ours):,} rows"


def _no_twins(evidence: Evidence) -> str:
    share, usual = _twins(evidence, evidence.rows), _twins(evidence, evidence.training)
    if share > max(0.02, 3 * usual):
        raise GateError(
            f"{share:.1%} of the test rows repeat another in all that the model sees and in the"
            f" truth; of the training rows {usual:.1%} do. A row that counts twice makes every"
            " interval too narrow",
            where=evidence.bundle.manifest.data.path,
        )
    return f"{share:.1%} repeat another, of the training rows {usual:.1%}"


def _twins(evidence: Evidence, rows: pd.DataFrame) -> float:
    """Return the share of rows that repeat one in group, features and truth."""
    manifest = evidence.bundle.manifest
    names = [*manifest.features, manifest.target, *([manifest.group] if manifest.group else [])]
    return float(rows.duplicated(list(dict.fromkeys(names))).mean())


def _no_leak(evidence: Evidence) -> str:
    best, named = 0.0, ""
    for name, strength in _strengths(evidence):
        if strength > best:
            best, named = strength, name
    what = "correlation" if evidence.task == "regression" else "area under the ROC curve"
    if best > LEAK:
        raise GateError(
            f"{named} alone tells {evidence.bundle.manifest.target}: {what} {best:.4f}",
            remedy="A feature that is known only with the truth must not be one.",
        )
    return f"the strongest alone is {named or 'none'}: {what} {best:.3f}"


def _strengths(evidence: Evidence) -> Iterator[tuple[str, float]]:
    """Yield how well each feature alone tells the truth, from 0 to 1.

    Few rows may be told apart by chance, so that what looks like the truth is looked at again in
    the training rows, where a leak is one as well.
    """
    for name in evidence.bundle.manifest.features:
        found = _strength(evidence, name, evidence.rows)
        if found > LEAK:
            found = min(found, _strength(evidence, name, evidence.training))
        yield name, found


def _strength(evidence: Evidence, name: str, rows: pd.DataFrame) -> float:
    """Return how well a feature alone tells the truth in some rows.

    Of several classes it must tell each from each: to know one flower at a glance is no leak. The
    first two that it does not tell apart settle that.
    """
    manifest, training = evidence.bundle.manifest, evidence.training[name]
    now, learned = (evidence.numbers(each[manifest.target]) for each in (rows, evidence.training))
    if evidence.task == "regression":
        orders = _orders(rows[name], training, learned)
        return max(_alone(each, now, ranked=True) for each in orders)
    classes = (0, 1) if evidence.task == "binary" else manifest.classes
    least = 1.0
    for one, other in itertools.combinations(classes, 2):
        here, there = np.isin(now, (one, other)), np.isin(learned, (one, other))
        orders = _orders(rows.loc[here, name], training[there], learned[there] == other)
        truth = now[here] == other
        least = min(least, max(_alone(each, truth, ranked=False) for each in orders))
        if least <= LEAK:
            break
    return least


def _orders(
    rows: pd.Series[Any], training: pd.Series[Any], learned: npt.NDArray[Any]
) -> Iterator[Floats]:
    """Yield a feature [n] as numbers, and where it is missing, which may tell as much.

    What is no number stands for the mean truth that its value had in the training rows.
    """
    if pd.api.types.is_numeric_dtype(rows.dtype):
        yield rows.to_numpy(np.float64, na_value=np.nan)
    else:
        known = training.astype("object").to_numpy()
        means = pd.Series(learned.astype(np.float64)).groupby(known).mean()
        yield np.asarray(rows.astype("object").map(means), np.float64)
    if rows.isna().any():
        yield np.asarray(rows.isna(), np.float64)


def _alone(values: Floats, truth: npt.NDArray[Any], *, ranked: bool) -> float:
    """Return how well the order of ``values`` tells the truth, where they are known."""
    from scipy.stats import rankdata

    known = np.isfinite(values)
    values, truth = values[known], truth[known]
    if len(values) < 10 or np.ptp(values) == 0:
        return 0.0
    ranks = rankdata(values)
    if ranked:
        same = np.ptp(truth) == 0
        return 0.0 if same else abs(float(np.corrcoef(ranks, rankdata(truth))[0, 1]))
    count = int(truth.sum())
    if not 0 < count < len(truth):
        return 0.0
    area = float(ranks[truth].sum() - count * (count + 1) / 2) / (count * (len(truth) - count))
    return max(area, 1 - area)


def _new_to_candidate(evidence: Evidence) -> str:
    return _unseen(evidence, evidence.bundle, "the candidate")


def _new_to_champion(evidence: Evidence) -> str:
    if evidence.champion is None:
        return "nothing is in production"
    who = f"the model in production ({evidence.champion.version})"
    return _unseen(evidence, evidence.champion.bundle, who)


def _unseen(evidence: Evidence, bundle: Bundle, who: str) -> str:
    """Say that no group of the test rows is among those a model was trained on.

    Its own groups: a model kept apart by persons says nothing of households.
    """
    where = evidence.bundle.manifest.data.path
    group, trained = bundle.manifest.group, bundle.training_groups()
    if group is None:
        if bundle is evidence.bundle:
            return "the rows have no groups; no row is in both parts"
        raise GateError(
            f"the rows have no groups, so that nobody can tell whether {who} was trained on them",
            remedy="Name a column in params.yaml: package.group. A unique key will do.",
        )
    if group not in evidence.rows.columns:
        raise GateError(
            f"the rows have no column {group!r}, by which {who} was kept apart from its test rows:"
            " nobody can tell whether it was trained on these",
            where=where,
        )
    if not trained:
        raise GateError(f"{who} does not tell which groups it was trained on")
    test = group_digests(evidence.rows[group], where=where)
    if seen := len(test & trained):
        raise GateError(
            f"{who} was trained on {seen} of the {len(test)} groups ({group}) of the test rows: it"
            " would be compared on what it remembers",
            remedy="Split by a stable hash of the group, which never moves one.",
        )
    return f"none of {len(test):,} groups ({group})"


def _same_figures(evidence: Evidence) -> str:
    name = evidence.gates.metrics
    if name is None:
        return "no metrics file is named"
    told = _figures(evidence, name)
    sample = evidence.sample(evidence.scores)
    design = Design.of(len(sample), resamples=100)
    compared = []
    for key in sorted(set(told) & set(METRICS)):
        try:
            ours = estimate(METRICS[key], sample, design).value
        except StatisticsError:
            continue
        theirs = told[key]
        if isinstance(theirs, bool) or not isinstance(theirs, int | float):
            raise GateError(f"{key} is {theirs!r}, no number", where=name)
        if not abs(ours - theirs) <= AGREEMENT * max(1.0, abs(ours)):
            raise GateError(
                f"{key} is {theirs:.6g} there, and {ours:.6g} by the bundle's own answers: edited,"
                " or computed otherwise",
                where=name,
                remedy="Run `dvc repro`.",
            )
        compared.append(key)
    if not compared:
        raise GateError("holds no metric that could be compared", where=name)
    return f"{', '.join(compared)}: as computed here"


def _figures(evidence: Evidence, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads((evidence.root / name).read_bytes())
    except OSError as error:
        raise GateError(
            f"cannot be read: {error.strerror}", where=name, remedy="Run `dvc repro`."
        ) from error
    except ValueError as error:
        raise GateError("is not JSON", where=name) from error
    if not isinstance(found, Mapping):
        raise GateError("holds no figures by name", where=name)
    return found
