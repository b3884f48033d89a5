"""Models of every kind that is compiled, over one table, for the tests of the scorer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import (
    GammaRegressor,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    SGDClassifier,
    TweedieRegressor,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier

TARGETS = {"binary": "yes", "multiclass": "kind", "regression": "amount"}
NUMBERS = ["age", "visits", "income"]


def table(count: int = 400) -> pd.DataFrame:
    """Return people: numbers with and without gaps, texts, a category, truth values."""
    random = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "age": random.uniform(0, 90, count).round(1),
            "visits": random.poisson(3, count),
            "income": np.where(random.random(count) < 0.15, np.nan, random.gamma(2, 9, count)),
            "stays": pd.array(random.poisson(1, count), "Int64"),
            "site": random.choice(["north", "south", "west", "east", "sea"], count, p=_SHARES),
            "plan": random.choice(np.array(["a", "b", None]), count, p=[0.5, 0.3, 0.2]),
            "level": pd.Categorical(random.choice(["low", "high"], count)),
            "step": pd.Categorical(random.choice([10, 20, 30], count)),
            "insured": random.random(count) < 0.5,
            "weight": random.normal(70, 9, count).astype(np.float32),
        }
    )
    frame["plan"] = frame["plan"].astype("str")
    frame.loc[::7, "stays"] = pd.NA
    pull = 0.03 * frame["age"] + 0.4 * frame["visits"] + random.normal(0, 1, count)
    frame["amount"] = np.exp(pull / 3)
    frame["yes"] = (pull > pull.median()).astype(int)
    frame["kind"] = pd.qcut(pull, 3, labels=False)
    return frame


_SHARES = [0.4, 0.3, 0.2, 0.07, 0.03]


def numbers(*steps: Any, names: list[str] | None = None) -> ColumnTransformer:
    """Return ``steps`` on the numbers alone."""
    return make_column_transformer((make_pipeline(*steps), names or NUMBERS))


def texts(encoder: Any, *names: str) -> ColumnTransformer:
    """Return an encoder of columns, with the age beside it, and nothing else."""
    return ColumnTransformer([("age", "passthrough", ["age"]), ("texts", encoder, list(names))])


def filled() -> ColumnTransformer:
    """Return numbers without gaps."""
    return numbers(SimpleImputer(strategy="median"))


def hot(**more: Any) -> OneHotEncoder:
    """Return a dense encoder that takes unknown values."""
    return OneHotEncoder(**({"handle_unknown": "ignore", "sparse_output": False} | more))


def boosted(**more: Any) -> dict[str, Any]:
    """Return parameters of a small model of XGBoost."""
    return {"n_estimators": 6, "max_depth": 3, "random_state": 0, "n_jobs": 1, **more}


def logit() -> LogisticRegression:
    """Return a logistic regression that converges."""
    return LogisticRegression(max_iter=2000)


ORDINAL = {"handle_unknown": "use_encoded_value", "unknown_value": -1}

Build = Callable[[], Any]
STEPS: dict[str, Build] = {
    "standard": lambda: numbers(SimpleImputer(), StandardScaler()),
    "standard without mean": lambda: numbers(SimpleImputer(), StandardScaler(with_mean=False)),
    "least to most, clipped": lambda: numbers(SimpleImputer(), MinMaxScaler(clip=True)),
    "largest": lambda: numbers(SimpleImputer(), MaxAbsScaler()),
    "robust": lambda: numbers(SimpleImputer(), RobustScaler()),
    "constant and indicator": lambda: numbers(
        SimpleImputer(strategy="constant", fill_value=-7.0, add_indicator=True)
    ),
    "a number for a gap": lambda: numbers(
        SimpleImputer(missing_values=3, strategy="mean", add_indicator=True), names=["visits"]
    ),
    "nullable integers": lambda: numbers(SimpleImputer(), names=["stays", "age"]),
    "indicator alone": lambda: ColumnTransformer(
        [("gaps", MissingIndicator(), ["income", "plan"]), ("age", StandardScaler(), ["age"])]
    ),
    "logarithm": lambda: numbers(SimpleImputer(), FunctionTransformer(np.log1p), StandardScaler()),
    "root": lambda: numbers(SimpleImputer(), FunctionTransformer(np.sqrt), StandardScaler()),
    "clipped": lambda: numbers(
        SimpleImputer(), FunctionTransformer(np.clip, kw_args={"a_min": 1, "a_max": 40})
    ),
    "bins": lambda: numbers(SimpleImputer(), KBinsDiscretizer(4, encode="onehot-dense")),
    "bins of what may be missing": lambda: numbers(
        KBinsDiscretizer(3, encode="ordinal", strategy="uniform"), names=["age", "visits"]
    ),
    "bins in order": lambda: numbers(SimpleImputer(), KBinsDiscretizer(4, encode="ordinal")),
    "one-hot": lambda: texts(hot(), "site", "plan", "level", "step", "insured", "visits"),
    "one-hot, first left out": lambda: texts(hot(drop="first"), "site", "plan", "step"),
    "one-hot, of two left out": lambda: texts(hot(drop="if_binary"), "site", "level", "insured"),
    "one-hot, unknown refused": lambda: texts(hot(handle_unknown="error"), "site", "insured"),
    "one-hot, infrequent": lambda: texts(hot(min_frequency=40), "site", "plan"),
    "one-hot, unknown is infrequent": lambda: texts(
        hot(handle_unknown="infrequent_if_exist", max_categories=3), "site", "visits"
    ),
    "one-hot, sparse": lambda: texts(hot(sparse_output=True), "site", "step"),
    "one-hot after filling": lambda: texts(
        make_pipeline(SimpleImputer(strategy="most_frequent"), hot()), "plan", "site"
    ),
    "one-hot after a constant": lambda: texts(
        make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), hot()), "plan"
    ),
    "ordinal": lambda: texts(OrdinalEncoder(**ORDINAL, encoded_missing_value=-2), "site", "plan"),
    "ordinal, unknown refused": lambda: texts(
        OrdinalEncoder(encoded_missing_value=-2), "site", "level", "visits"
    ),
    "ordinal, infrequent": lambda: texts(OrdinalEncoder(**ORDINAL, min_frequency=40), "site"),
    "means of the target": lambda: texts(TargetEncoder(), "site", "plan"),
    "union": lambda: make_pipeline(
        filled(), FeatureUnion([("as is", "passthrough"), ("scaled", StandardScaler())])
    ),
    "selection": lambda: make_pipeline(filled(), StandardScaler(), SelectKBest(k=2), "passthrough"),
    "one after another": lambda: make_pipeline(
        ColumnTransformer(
            [
                ("filled", SimpleImputer(), NUMBERS),
                ("gone", "drop", ["site"]),
                ("flag", "passthrough", ["insured"]),
            ]
        ),
        ColumnTransformer([("scaled", StandardScaler(), [2, 0])], remainder="passthrough"),
    ),
}
"""What comes before a logistic regression that takes no gaps."""

CORES: dict[str, tuple[str, Build]] = {
    "logistic, three classes": ("multiclass", lambda: make_pipeline(filled(), logit())),
    "stochastic gradient": (
        "binary",
        lambda: make_pipeline(filled(), StandardScaler(), SGDClassifier("log_loss")),
    ),
    "stochastic gradient, three classes": (
        "multiclass",
        lambda: make_pipeline(filled(), StandardScaler(), SGDClassifier("log_loss")),
    ),
    "discriminant": ("binary", lambda: make_pipeline(filled(), LinearDiscriminantAnalysis())),
    "discriminant, three classes": (
        "multiclass",
        lambda: make_pipeline(filled(), LinearDiscriminantAnalysis()),
    ),
    "vectors, calibrated": (
        "binary",
        lambda: make_pipeline(filled(), CalibratedClassifierCV(LinearSVC(), cv=2)),
    ),
    "pipelines, calibrated": (
        "multiclass",
        lambda: make_pipeline(
            filled(),
            CalibratedClassifierCV(
                make_pipeline(StandardScaler(), logit()), method="isotonic", cv=2
            ),
        ),
    ),
    "forest, calibrated": (
        "binary",
        lambda: CalibratedClassifierCV(
            make_pipeline(filled(), RandomForestClassifier(4, random_state=0)), cv=2
        ),
    ),
    "ridge": ("regression", lambda: make_pipeline(filled(), Ridge())),
    "counts": ("regression", lambda: make_pipeline(filled(), StandardScaler(), PoissonRegressor())),
    "gamma": ("regression", lambda: make_pipeline(filled(), StandardScaler(), GammaRegressor())),
    "tweedie": ("regression", lambda: make_pipeline(filled(), TweedieRegressor(power=0))),
    "tree": ("binary", lambda: make_pipeline(filled(), DecisionTreeClassifier(max_depth=5))),
    "tree of a number": (
        "regression",
        lambda: make_pipeline(filled(), DecisionTreeRegressor(max_depth=5)),
    ),
    "forest with gaps": (
        "binary",
        lambda: make_pipeline(numbers(StandardScaler()), RandomForestClassifier(6, random_state=0)),
    ),
    "forest without gaps": (
        "binary",
        lambda: make_pipeline(
            numbers(StandardScaler(), names=["age", "visits"]),
            RandomForestClassifier(6, random_state=0),
        ),
    ),
    "extra trees": (
        "multiclass",
        lambda: make_pipeline(filled(), ExtraTreesClassifier(6, random_state=0)),
    ),
    "forest of numbers": (
        "regression",
        lambda: make_pipeline(filled(), RandomForestRegressor(6, random_state=0)),
    ),
    "boosting": (
        "binary",
        lambda: make_pipeline(filled(), GradientBoostingClassifier(n_estimators=6)),
    ),
    "boosting, three classes": (
        "multiclass",
        lambda: make_pipeline(filled(), GradientBoostingClassifier(n_estimators=4)),
    ),
    "boosting of numbers": (
        "regression",
        lambda: make_pipeline(
            filled(), GradientBoostingRegressor(n_estimators=6, loss="huber", init="zero")
        ),
    ),
    "histograms": (
        "multiclass",
        lambda: make_pipeline(
            numbers("passthrough"), HistGradientBoostingClassifier(max_iter=5, random_state=0)
        ),
    ),
    "histograms of counts": (
        "regression",
        lambda: make_pipeline(
            numbers("passthrough"), HistGradientBoostingRegressor(loss="poisson", max_iter=5)
        ),
    ),
    "xgboost": (
        "binary",
        lambda: make_pipeline(texts(hot(), "site", "plan"), XGBClassifier(**boosted())),
    ),
    "xgboost, sparse rows": (
        "binary",
        lambda: make_pipeline(
            texts(hot(sparse_output=True), "site", "visits", "income", "step"),
            XGBClassifier(**boosted()),
        ),
    ),
    "xgboost of 32 bits": (
        "binary",
        lambda: make_pipeline(
            numbers("passthrough", names=["weight", "income", "insured"]),
            XGBClassifier(**boosted()),
        ),
    ),
    "xgboost, three classes": (
        "multiclass",
        lambda: make_pipeline(numbers("passthrough"), XGBClassifier(**boosted())),
    ),
    "xgboost forest": (
        "binary",
        lambda: make_pipeline(
            numbers("passthrough"), XGBRFClassifier(n_estimators=6, max_depth=3, n_jobs=1)
        ),
    ),
    "xgboost with dropout": (
        "binary",
        lambda: make_pipeline(
            numbers("passthrough"), XGBClassifier(**boosted(booster="dart", rate_drop=0.5))
        ),
    ),
    "xgboost with a sign for gaps": (
        "binary",
        lambda: make_pipeline(numbers("passthrough"), XGBClassifier(**boosted(missing=3.0))),
    ),
    "xgboost of numbers": (
        "regression",
        lambda: make_pipeline(numbers("passthrough"), XGBRegressor(**boosted(n_estimators=60))),
    ),
    "xgboost of positive numbers": (
        "regression",
        lambda: make_pipeline(
            numbers("passthrough"), XGBRegressor(**boosted(objective="reg:gamma"))
        ),
    ),
    "xgboost pruned": (
        "binary",
        lambda: make_pipeline(
            numbers("passthrough"), XGBClassifier(**boosted(gamma=9.0, tree_method="exact"))
        ),
    ),
}
"""Whole models, with their task."""


def fitted(name: str, rows: pd.DataFrame) -> tuple[str, Any]:
    """Return the task and the model ``name`` of either list, fitted on ``rows``."""
    if name in STEPS:
        task, model = "binary", Pipeline([("before", STEPS[name]()), ("model", logit())])
    else:
        task, build = CORES[name]
        model = build()
    used = sorted(set(rows.columns) - set(TARGETS.values()) - {"weight"})
    if "32" in name:
        used = [*used, "weight"]
    return task, model.fit(rows[used], rows[TARGETS[task]])
