"""What the notebooks of the reference project share.

A notebook is a good place for an argument and a poor place for the parts that need tests. Those
live here, in an ordinary module beside the notebooks:

* the data: ``read_batches``, ``household``, ``split_of``, ``transitions``, ``schema_failures``;
* the models: ``build_model``, ``fit``, ``probability``;
* the figures: ``Metric``, ``metrics``, and ``Bootstrap`` for their intervals;
* the look of the plots: ``plot_style``.

Shapes are written in brackets: ``[n]`` rows, ``[b]`` resamples, ``[h]`` households.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

# ---------------------------------------------------------------------------- the data

STATIC = {
    "coins": "coinsurance rate, %",
    "mdeoff": "maximum expenditure offer, $",
    "pioff": "participation incentive, $",
    "income": "income, $",
    "xage": "age, years",
    "educdec": "education of decision maker, years",
    "num": "family size",
    "mhi": "mental health index",
    "disea": "chronic diseases",
    "physlm": "physical limitation",
    "xghindx": "general health index",
    "idp": "individual deductible plan",
    "tookphys": "took the baseline physical",
    "hlthg": "health good",
    "hlthf": "health fair",
    "hlthp": "health poor",
    "child": "child",
    "female": "female",
}
"""What is known of a member besides use of care, with a label for plots."""

HISTORY = {
    "mdvis": "physician visits",
    "notmdvis": "visits to other providers",
    "mentvis": "psychotherapy visits",
    "outpdol": "outpatient spending, $",
    "drugdol": "drug spending, $",
    "suppdol": "supplies spending, $",
    "mentdol": "psychotherapy spending, $",
    "inpdol": "inpatient spending, $",
    "totadm": "hospital admissions",
}
"""Use of care in the year that has just ended, with a label for plots."""

LABELS = {**STATIC, **HISTORY, "site": "study site"}
FEATURES = list(LABELS)
"""The 28 columns a model may see, in order. Race is not among them, on purpose."""

AUDIT = "race_black"
"""Race of the head of the household (0 or 1): read by the fairness slices, never by a model."""

IDENTITY = ["zper", "year", "household", "split"]
TARGET = "high_use"

Split = Literal["train", "valid", "test"]
SPLIT_BELOW: dict[Split, int] = {"train": 60, "valid": 70, "test": 100}
"""Upper ends of the splits in hundredths of all households. Redrawing them would put test
households into the training rows of models that already exist."""


def read_batches(folder: str | Path, years: Iterable[int]) -> pd.DataFrame:
    """Return the yearly files ``year=N.csv.gz`` of ``folder`` as one table of person-years.

    Raises:
        FileNotFoundError: a year has no file.
        ValueError: a file holds rows of another year.
    """
    batches = []
    for year in sorted(set(years)):
        path = Path(folder) / f"year={year}.csv.gz"
        if not path.exists():
            raise FileNotFoundError(f"no batch for study year {year}: {path.as_posix()} is missing")
        batch = pd.read_csv(path)
        if not batch["year"].eq(year).all():
            raise ValueError(f"{path.as_posix()} holds rows of other years than {year}")
        batches.append(batch)
    panel = pd.concat(batches, ignore_index=True)
    return panel.sort_values(["zper", "year"], ignore_index=True)


def household(panel: pd.DataFrame) -> pd.Series[str]:
    """Return the household key of each row [n].

    The files name persons but not households. Site, plan and income together come close to the
    households that RAND enrolled; where they err, they merge two households and never cut one.
    """
    parts = zip(panel["site"], panel["plan"], panel["income"], strict=True)
    keys = [f"{site}_{plan}_{income}" for site, plan, income in parts]
    return pd.Series(keys, index=panel.index, dtype="str", name="household")


def stable_bucket(keys: pd.Series[str], buckets: int, *, salt: str = "") -> pd.Series[int]:
    """Return a number below ``buckets`` for each key: the same on every machine, forever."""

    def bucket(key: str) -> int:
        return int(hashlib.sha256(f"{salt}{key}".encode()).hexdigest(), 16) % buckets

    return keys.map({key: bucket(key) for key in keys.unique()}).astype(np.int64)


def keep_share(panel: pd.DataFrame, share: float) -> pd.DataFrame:
    """Return the rows of a stable ``share`` of all households, for quick runs.

    The salt makes the share independent of the split: with the split's own bucket, a small share
    would be training rows only.
    """
    kept = stable_bucket(household(panel), 10_000, salt="share:") < round(share * 10_000)
    return panel[kept].reset_index(drop=True)


def split_of(keys: pd.Series[str]) -> pd.Series[str]:
    """Return ``train``, ``valid`` or ``test`` for each row [n]: one answer per key."""
    bucket = stable_bucket(keys, 100)
    ends = list(SPLIT_BELOW.values())
    names = np.array(list(SPLIT_BELOW))[np.searchsorted(ends, bucket, side="right")]
    return pd.Series(names, index=keys.index, dtype="str", name="split")


def transitions(panel: pd.DataFrame, *, visits_threshold: int) -> pd.DataFrame:
    """Return one row per member and year t that is followed by a year t+1 in ``panel``.

    Columns: ``IDENTITY``, the 28 ``FEATURES`` as known at the end of year t, ``AUDIT``,
    ``next_visits`` (physician visits in year t+1) and ``TARGET`` (1 where ``next_visits`` is at
    least ``visits_threshold``).
    """
    following = panel[["zper", "year", "mdvis"]].rename(columns={"mdvis": "next_visits"})
    rows = panel.merge(following.assign(year=following["year"] - 1), on=["zper", "year"])
    rows = rows.sort_values(["zper", "year"], ignore_index=True)
    rows["household"] = household(rows)
    rows["split"] = split_of(rows["household"])
    rows[AUDIT] = (rows["black"] >= 0.5).astype(np.int64)
    rows[TARGET] = (rows["next_visits"] >= visits_threshold).astype(np.int64)
    return rows[[*IDENTITY, *FEATURES, AUDIT, "next_visits", TARGET]]


def schema_failures(table: pd.DataFrame, schema: str | Path) -> pd.DataFrame:
    """Return how ``table`` breaks the pandera schema in a YAML file; no rows when it does not.

    Columns: ``column``, ``check``, ``cells`` (how many fail) and ``example`` (one of them). Every
    check runs, so that one look tells everything.
    """
    import pandera.pandas as pa

    try:
        # pandera cannot report repeated keys over an index with repeats, hence the fresh one.
        pa.DataFrameSchema.from_yaml(schema).validate(table.reset_index(drop=True), lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        cases = cases.assign(example=cases["failure_case"].astype("str"))
        groups = cases.groupby(["column", "check"], sort=True, dropna=False)
        found: pd.DataFrame = groups["example"].agg(cells="size", example="first").reset_index()
        return found
    return pd.DataFrame(columns=["column", "check", "cells", "example"])


def missing_features(table: pd.DataFrame) -> pd.Series[float]:
    """Return the share of empty cells of each feature that has any, the emptiest first."""
    share = table[FEATURES].isna().mean()
    return share[share > 0].sort_values(ascending=False, kind="stable")


def save_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as parquet, without an index; CSV where the name ends so."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if str(path).endswith(".csv"):
        table.to_csv(path, index=False, float_format="%.10g", lineterminator="\n")
    else:
        table.to_parquet(path, index=False)


def rows_of(table: pd.DataFrame, *splits: Split) -> tuple[pd.DataFrame, Ints]:
    """Return features [n, 28] and target [n] of the rows of ``splits``."""
    part = table[table["split"].isin(splits)]
    return part[FEATURES], part[TARGET].to_numpy(np.int64)


# ---------------------------------------------------------------------------- the models

Kind = Literal["naive", "logistic", "xgboost", "hist_gradient_boosting"]


def build_model(
    kind: Kind,
    *,
    rounds: int = 200,
    max_depth: int = 4,
    learning_rate: float = 0.05,
    l2: float = 1.0,
    seed: int = 0,
) -> Pipeline:
    """Return an unfitted pipeline that takes ``FEATURES`` and gives the probability of high use.

    ``naive`` knows this year's physician visits and nothing else: the rule to beat. ``rounds``,
    ``max_depth`` and ``learning_rate`` are for the boosted trees; ``l2`` is for all but ``naive``.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    if kind == "naive":
        return Pipeline([("columns", _counts(["mdvis"])), ("model", LogisticRegression())])
    if kind == "logistic":
        model: Any = LogisticRegression(C=1 / l2, max_iter=1000)
        return Pipeline([("columns", _scaled()), ("model", model)])
    if kind == "xgboost":
        from xgboost import XGBClassifier

        model = XGBClassifier(
            n_estimators=rounds,
            max_depth=max_depth,
            learning_rate=learning_rate,
            reg_lambda=l2,
            tree_method="hist",
            random_state=seed,
            n_jobs=1,
        )
    else:
        model = HistGradientBoostingClassifier(
            max_iter=rounds,
            max_depth=max_depth,
            learning_rate=learning_rate,
            l2_regularization=l2,
            early_stopping=False,
            random_state=seed,
        )
    return Pipeline([("columns", _as_they_are()), ("model", model)])


def _counts(columns: Sequence[str]) -> Any:
    """Visits and dollars are counts with long tails: take logarithms."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import FunctionTransformer

    log = FunctionTransformer(np.log1p, feature_names_out="one-to-one")
    return ColumnTransformer([("history", log, list(columns))], verbose_feature_names_out=False)


def _scaled() -> Any:
    """For a linear model: medians for gaps, logarithms of the history, unit scale, sites as 0/1."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

    gaps = ("gaps", SimpleImputer(strategy="median"))
    log = ("log", FunctionTransformer(np.log1p, feature_names_out="one-to-one"))
    scale = ("scale", StandardScaler())
    return ColumnTransformer(
        [
            ("static", Pipeline([gaps, scale]), list(STATIC)),
            ("history", Pipeline([gaps, log, scale]), list(HISTORY)),
            ("site", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["site"]),
        ],
        verbose_feature_names_out=False,
    )


def _as_they_are() -> Any:
    """For trees: the numbers as they are, gaps included; sites as 0/1, an unknown site as all 0."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder

    return ColumnTransformer(
        [
            ("numbers", "passthrough", [*STATIC, *HISTORY]),
            ("site", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["site"]),
        ],
        verbose_feature_names_out=False,
    )


def forest_auc(table: pd.DataFrame, keys: pd.Series[str], columns: Sequence[str]) -> float:
    """Return the test AUC of a forest when rows with equal ``keys`` stay on one side of the split.

    A forest memorises well, so it shows how much a split leaks: the AUC on rows whose relatives it
    was trained on, against the AUC on households that it never saw.
    """
    from sklearn.ensemble import RandomForestClassifier

    test = split_of(keys).eq("test")
    features, target = table[list(columns)], table[TARGET]
    forest = RandomForestClassifier(60, min_samples_leaf=3, random_state=0, n_jobs=1)
    fit(forest, features[~test], target[~test].to_numpy(np.int64))
    return value_of(roc_auc, target[test].to_numpy(np.int64), probability(forest, features[test]))


def fit(model: Any, features: pd.DataFrame, target: Ints) -> Any:
    """Fit ``model`` on one thread and return it.

    With more threads, sums are taken in another order: the last bits of the coefficients, and so
    the bytes of the model file, would depend on the number of cores.
    """
    with one_thread():
        return model.fit(features, target)


def probability(model: Any, features: pd.DataFrame) -> Floats:
    """Return the probability of high use [n], computed on one thread for the same reason."""
    with one_thread():
        scores: Floats = model.predict_proba(features)[:, 1].astype(np.float64)
    return scores


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS and OpenMP compute on one thread."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


# ---------------------------------------------------------------------------- the figures
# A metric takes target [n], score [n] and weight [b, n] and returns [b]: one value per resample.
# A weight of 1 everywhere is the plain metric. A value that does not exist is NaN.

MetricFunction: TypeAlias = Callable[[Ints, Floats, Floats], Floats]


def _by_score(target: Ints, score: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return the weight of positives and of negatives [b, g] per distinct score, rising."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))
    weight = weight[:, order]
    positive = np.add.reduceat(weight * target[order], starts, axis=1)
    return positive, np.add.reduceat(weight, starts, axis=1) - positive


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return the quotient, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, np.nan, numerator / denominator)


def roc_auc(target: Ints, score: Floats, weight: Floats) -> Floats:
    """Return the area under the ROC curve: how often a high user scores above a low user."""
    positive, negative = _by_score(target, score, weight)
    beaten = np.cumsum(negative, axis=1) - negative / 2
    return _ratio((positive * beaten).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def average_precision(target: Ints, score: Floats, weight: Floats) -> Floats:
    """Return the mean precision over the ranks of the high users."""
    positive, negative = (part[:, ::-1] for part in _by_score(target, score, weight))
    found = np.cumsum(positive, axis=1)
    precision = np.nan_to_num(_ratio(found, found + np.cumsum(negative, axis=1)))
    return _ratio((positive * precision).sum(axis=1), positive.sum(axis=1))


def brier(target: Ints, score: Floats, weight: Floats) -> Floats:
    """Return the mean squared distance between probability and outcome."""
    return _ratio(weight @ (score - target) ** 2, weight.sum(axis=1))


def f1(target: Ints, score: Floats, weight: Floats, *, threshold: float) -> Floats:
    """Return the harmonic mean of precision and recall of the rule ``score >= threshold``."""
    selected = (score >= threshold).astype(np.float64)
    return _ratio(2 * (weight @ (selected * target)), weight @ (selected + target))


def recall(target: Ints, score: Floats, weight: Floats, *, threshold: float) -> Floats:
    """Return the share of high users that the rule ``score >= threshold`` selects."""
    return _ratio(weight @ ((score >= threshold) * target).astype(np.float64), weight @ target)


def calibration_gap(target: Ints, score: Floats, weight: Floats) -> Floats:
    """Return mean probability minus share of high users: 0 is right, above 0 is too high."""
    return _ratio(weight @ (score - target), weight.sum(axis=1))


def calibration_error(target: Ints, score: Floats, weight: Floats) -> Floats:
    """Return the mean absolute calibration gap over ten groups of equal size, by score."""
    member = np.eye(10)[score_group(score)]
    gaps = np.abs((weight * (score - target)) @ member).sum(axis=1)
    return _ratio(gaps, weight.sum(axis=1))


def score_group(score: Floats, groups: int = 10) -> Ints:
    """Return the number [n] of each row's group of near-equal size; equal scores share one."""
    edges = np.quantile(score, np.arange(1, groups) / groups)
    return np.searchsorted(edges, score, side="right").astype(np.int64)


@dataclass(frozen=True)
class Metric:
    """A figure of merit: its label, its function and which way is better.

    ``inflated`` marks a sum of absolute values: resampling adds noise that cannot cancel, so its
    draws lie too high by about as much as the value itself does.
    """

    label: str
    function: MetricFunction
    better: Literal["higher", "lower", "zero"]
    inflated: bool = False


def metrics(threshold: float) -> dict[str, Metric]:
    """Return the metrics by name; members are selected from probability ``threshold`` on."""
    return {
        "roc_auc": Metric("ROC AUC", roc_auc, "higher"),
        "average_precision": Metric("Average precision", average_precision, "higher"),
        "f1": Metric(f"F1 at {threshold:g}", partial(f1, threshold=threshold), "higher"),
        "brier": Metric("Brier score", brier, "lower"),
        "calibration_error": Metric("Calibration error", calibration_error, "lower", inflated=True),
        "calibration_gap": Metric("Calibration gap", calibration_gap, "zero"),
    }


def value_of(function: MetricFunction, target: Ints, score: Floats) -> float:
    """Return the plain value of a metric."""
    return float(function(target, score, np.ones((1, len(target))))[0])


class Interval(NamedTuple):
    """A value with its confidence limits."""

    value: float
    low: float
    high: float

    def finite(self) -> bool:
        """Return whether value and limits exist."""
        return bool(np.isfinite(self).all())

    def verdict(self, better: Literal["higher", "lower"]) -> str:
        """Return what a difference with these limits shows: better, worse, or neither."""
        if self.low <= 0 <= self.high:
            return "not distinguishable"
        return "better" if (self.low > 0) == (better == "higher") else "worse"


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of whole households, drawn once and used for every metric and model.

    Rows of one household are alike, so resampling rows would make intervals about a quarter too
    narrow. Using the same draws for two models makes their difference a paired one.

    Attributes:
        codes: the household number of each row [n].
        counts: how often each household was drawn [b, h].
    """

    codes: Ints
    counts: Floats

    @classmethod
    def of(cls, households: pd.Series[str], *, resamples: int, seed: int) -> Bootstrap:
        """Draw ``resamples`` times as many households as there are, with replacement."""
        codes, names = pd.factorize(households, sort=True)
        share = np.full(len(names), 1 / len(names))
        counts = np.random.default_rng(seed).multinomial(len(names), share, size=resamples)
        return cls(codes.astype(np.int64), counts.astype(np.float64))

    def only(self, rows: npt.NDArray[np.bool_]) -> Bootstrap:
        """Return the same draws for a part of the rows: a slice."""
        return Bootstrap(self.codes[rows], self.counts)

    def draws(self, statistic: Callable[[Floats], Floats], chunk: int = 200) -> Floats:
        """Return ``statistic`` of each resample [b, ...]; it takes weights [chunk, n]."""
        parts = range(0, len(self.counts), chunk)
        return np.concatenate([statistic(self.counts[i : i + chunk, self.codes]) for i in parts])

    def metric(self, function: MetricFunction, target: Ints, score: Floats) -> Floats:
        """Return a metric of each resample [b]."""
        return self.draws(lambda weight: function(target, score, weight))


def interval(value: float, draws: Floats, *, inflated: bool = False) -> Interval:
    """Return ``value`` with 95 % percentile limits of its ``draws`` [b]; NaN draws are left out.

    Draws that are ``inflated`` are first moved down to lie around ``value``, and not below 0.
    """
    known = draws[np.isfinite(draws)]
    if known.size == 0:
        return Interval(value, np.nan, np.nan)
    if inflated:
        known = np.maximum(known - known.mean() + value, 0)
    low, high = np.quantile(known, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def flat(name: str, found: Interval) -> dict[str, float]:
    """Return ``name``, ``name_low``, ``name_high`` for a metrics file; nothing if not finite."""
    if not found.finite():
        return {}
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def save_figures(figures: dict[str, Any], path: str | Path) -> None:
    """Write a metrics file. Ten significant digits: what differs beyond them is the machine.

    Raises:
        ValueError: a figure is not finite.
    """

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: rounded(part) for name, part in value.items()}
        return int(value) if isinstance(value, int | np.integer) else float(f"{value:.10g}")

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(rounded(figures), indent=2, allow_nan=False) + "\n")


def roc_curve(target: Ints, score: Floats, weight: Floats, grid: Floats) -> Floats:
    """Return the true positive rate [b, len(grid)] at the false positive rates of ``grid``."""
    return _curve(target, score, weight, grid, lambda found, wrong, p, n: (wrong / n, found / p))


def precision_recall_curve(target: Ints, score: Floats, weight: Floats, grid: Floats) -> Floats:
    """Return the precision [b, len(grid)] at the recalls of ``grid``."""
    return _curve(
        target, score, weight, grid, lambda found, wrong, p, n: (found / p, found / (found + wrong))
    )


def _curve(
    target: Ints,
    score: Floats,
    weight: Floats,
    grid: Floats,
    axes: Callable[[Floats, Floats, float, float], tuple[Floats, Floats]],
) -> Floats:
    """Walk down the scores and read the curve that ``axes`` makes of the counts at ``grid``."""
    positive, negative = (part[:, ::-1] for part in _by_score(target, score, weight))
    curves = []
    for found, wrong in zip(np.cumsum(positive, axis=1), np.cumsum(negative, axis=1), strict=True):
        drawn = found + wrong > 0
        x, y = axes(found[drawn], wrong[drawn], found[-1], wrong[-1])
        curves.append(np.interp(grid, x, y))
    return np.array(curves)


# ---------------------------------------------------------------------------- the look

INK, QUIET, GRID = "#22303c", "#7b8794", "#e4e7eb"
COLOURS = {"model": "#1f5f99", "logistic": "#c2632b", "naive": "#8a94a0"}
"""One colour per role, in every plot of the project."""


def plot_style() -> None:
    """Set the look of all plots: quiet axes, one palette, sharp on a 900 px page."""
    import matplotlib

    matplotlib.rcParams.update(
        {
            "figure.figsize": (7.0, 3.9),
            "figure.dpi": 144,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "svg.hashsalt": "mlnb",
            "font.family": "DejaVu Sans",
            "font.size": 9.5,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": QUIET,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 10.5,
            "axes.titleweight": "bold",
            "axes.titlepad": 10,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": GRID,
            "grid.linewidth": 0.8,
            "xtick.color": INK,
            "ytick.color": INK,
            "xtick.major.size": 0,
            "ytick.major.size": 0,
            "lines.linewidth": 1.8,
            "legend.frameon": False,
        }
    )
