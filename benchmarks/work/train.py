"""Train: a logistic regression and boosted trees, logged to MLflow."""
# ruff: noqa: B018, E402 - a notebook in the percent format: cells show values and import late

# %% parameters
from mlnb import In, Metrics, Out

features: In = "data/features.parquet"
models: Out = "models/models.pickle"
metrics: Metrics = "reports/metrics/train.json"
learning_rate: float = 0.1  # Shrinkage of each boosting round
max_depth: int = 4  # Depth of each tree
rounds: int = 120  # Boosting rounds, one tree each

# %%
import json
import os
import pickle
from pathlib import Path
from typing import Any

import mlflow
import mlflow.sklearn
import pandas as pd
import sklearn
import xgboost
from mlflow.models import infer_signature
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

# %%
rows = pd.read_parquet(features)
kinds = ["site", "plan"]
numbers = ["coins", "income", "xage", "educdec", "num", "mhi", "disea", "physlm", "xghindx"]
numbers += ["mdeoff", "pioff", "child", "female", "mdvis", "notmdvis", "mentvis", "totadm"]
numbers += ["spending", "household_visits"]
rows[numbers] = rows[numbers].astype("float64").fillna(0.0)
rows[kinds] = rows[kinds].astype("str")
train, test = rows[~rows["test"]], rows[rows["test"]]
train["high_use"].value_counts()


# %%
def pipeline(model: Any) -> Pipeline:
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), numbers), ("kinds", OneHotEncoder(), kinds)]
    )
    return Pipeline([("columns", columns), ("model", model)])


# %%
logistic = pipeline(LogisticRegression(max_iter=1000)).fit(train, train["high_use"])
logistic

# %%
boosted = pipeline(
    XGBClassifier(
        n_estimators=rounds,
        learning_rate=learning_rate,
        max_depth=max_depth,
        tree_method="hist",
        n_jobs=1,
        random_state=0,
    )
).fit(train, train["high_use"])

# %%
figures = {}
for name, model in {"logistic": logistic, "boosted": boosted}.items():
    score = model.predict_proba(test)[:, 1]
    figures[f"{name}_roc_auc"] = float(roc_auc_score(test["high_use"], score))
    figures[f"{name}_log_loss"] = float(log_loss(test["high_use"], score))
pd.Series(figures).round(4)

# %%
Path(models).write_bytes(pickle.dumps({"logistic": logistic, "boosted": boosted}))
Path(metrics).write_text(json.dumps(figures))

# %%
chosen = {"learning_rate": learning_rate, "max_depth": max_depth, "rounds": rounds}
with mlflow.start_run():
    mlflow.log_params(chosen)
    mlflow.log_metrics(figures)
    # Without the first two MLflow would look for them in a process of its own, for four seconds.
    mlflow.sklearn.log_model(
        boosted,
        name="model",
        signature=infer_signature(
            train[numbers + kinds].head(), boosted.predict_proba(test.head())
        ),
        pip_requirements=[
            f"scikit-learn=={sklearn.__version__}",
            f"xgboost=={xgboost.__version__}",
        ],
        skops_trusted_types=["xgboost.core.Booster", "xgboost.sklearn.XGBClassifier"],
    )

# %%
with Path(os.environ["BENCHMARK_LEDGER"]).open("a") as ledger:
    print(json.dumps({"stage": "train", **chosen, **figures}), file=ledger)
