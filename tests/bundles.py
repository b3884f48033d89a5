"""Small models, and the rows that they were trained and are judged on, as files of a project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits
from xgboost import Booster, DMatrix, XGBClassifier, XGBRegressor, train

from mlnb.bundle import Recipe, save_model

TARGETS = {"binary": "yes", "multiclass": "kind", "regression": "amount"}
FEATURES = ["age", "visits", "income", "site", "insured"]
NUMBERS = ["age", "visits", "income"]


def rows(count: int = 360) -> pd.DataFrame:
    """Return ``count`` rows of people in households: numbers, gaps, texts and truth values."""
    random = np.random.default_rng(0)
    household = np.arange(count) // 3
    frame = pd.DataFrame(
        {
            "person": np.arange(count),
            "household": household,
            "split": np.where(household % 3 == 0, "test", "train"),
            "age": random.uniform(0, 90, count).round(1),
            "visits": random.poisson(3, count),
            "income": np.where(random.random(count) < 0.1, np.nan, random.gamma(2, 9, count)),
            "site": random.choice(["north", "south", "west"], count),
            "insured": random.random(count) < 0.5,
        }
    )
    pull = 0.03 * frame["age"] + 0.4 * frame["visits"] + random.normal(0, 1, count)
    frame["amount"] = np.exp(pull / 3)
    frame["yes"] = (pull > pull.median()).astype(int)
    frame["kind"] = pd.qcut(pull, 3, labels=False)
    return frame


def columns() -> ColumnTransformer:
    """Return what makes numbers without gaps of the features."""
    filled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return ColumnTransformer(
        [
            ("numbers", filled, NUMBERS),
            ("site", texts, ["site"]),
            ("flag", "passthrough", ["insured"]),
        ]
    )


def _boosted(**more: Any) -> dict[str, Any]:
    return {"n_estimators": 5, "max_depth": 3, "random_state": 0, "n_jobs": 2, **more}


MODELS: dict[str, tuple[str, Any]] = {
    "binary-logistic": ("binary", LogisticRegression()),
    "binary-forest": ("binary", RandomForestClassifier(5, random_state=0, n_jobs=2)),
    "binary-hist": ("binary", HistGradientBoostingClassifier(max_iter=5, random_state=0)),
    "binary-sigmoid": ("binary", CalibratedClassifierCV(LogisticRegression(), cv=2)),
    "binary-isotonic": (
        "binary",
        CalibratedClassifierCV(LogisticRegression(), method="isotonic", cv=2),
    ),
    "binary-xgboost": ("binary", XGBClassifier(**_boosted())),
    "multiclass-logistic": ("multiclass", LogisticRegression()),
    "multiclass-forest": ("multiclass", RandomForestClassifier(5, random_state=0, n_jobs=2)),
    "multiclass-hist": ("multiclass", HistGradientBoostingClassifier(max_iter=3, random_state=0)),
    "multiclass-xgboost": ("multiclass", XGBClassifier(**_boosted())),
    "regression-ridge": ("regression", Ridge()),
    "regression-poisson": ("regression", PoissonRegressor()),
    "regression-forest": ("regression", RandomForestRegressor(5, random_state=0, n_jobs=2)),
    "regression-hist": ("regression", HistGradientBoostingRegressor(max_iter=5, random_state=0)),
    "regression-xgboost": ("regression", XGBRegressor(**_boosted(objective="count:poisson"))),
}
"""The last step of each pipeline, with its task."""

ALONE: dict[str, tuple[str, Any]] = {
    "alone-binary": ("binary", XGBClassifier(**_boosted())),
    "alone-multiclass": ("multiclass", XGBClassifier(**_boosted())),
    "alone-regression": ("regression", XGBRegressor(**_boosted())),
    "alone-missing": ("binary", XGBClassifier(**_boosted(missing=3.0))),
}
"""Models of XGBoost without a pipeline; they take numbers only."""


def fitted(name: str, table: pd.DataFrame) -> tuple[str, Any]:
    """Return the task and the model ``name``, trained on the training rows on one thread."""
    known = table[table["split"] == "train"]
    with threadpool_limits(1):
        if name in MODELS:
            task, model = MODELS[name]
            model = Pipeline([("columns", columns()), ("model", model)])
            return task, model.fit(known[FEATURES], known[TARGETS[task]])
        if name in ALONE:
            task, model = ALONE[name]
            return task, model.fit(known[NUMBERS], known[TARGETS[task]])
        assert name == "booster"
        return "binary", booster(known)


def booster(known: pd.DataFrame) -> Booster:
    """Return a booster of XGBoost's own interface."""
    return train(
        {"objective": "binary:logistic", "max_depth": 3, "nthread": 1},
        DMatrix(known[NUMBERS], label=known["yes"]),
        5,
    )


def recipe(root: Path, name: str = "binary-logistic", **more: Any) -> Recipe:
    """Write a model and its rows below ``root``; return the recipe of its bundle."""
    table = rows()
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "rows.parquet").exists():
        table.to_parquet(root / "rows.parquet", index=False)
    task, model = fitted(name, table)
    file = f"{name}.ubj" if name == "booster" else f"{name}.skops"
    if name == "booster":
        model.save_model(root / file)
    else:
        save_model(model, root / file)
    given: dict[str, Any] = {
        "root": root,
        "model": file,
        "task": task,
        "rows": "rows.parquet",
        "target": TARGETS[task],
        "train": {"split": ("train",)},
        "test": {"split": ("test",)},
        "group": "household",
    }
    return Recipe(**(given | more))
