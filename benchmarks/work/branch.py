"""One of two equal branches that compute for some seconds on one thread."""
# ruff: noqa: E402 - a notebook in the percent format: cells import late

# %% parameters
from mlnb import Metrics

metrics: Metrics = "reports/metrics/branch.json"
seed: int = 0  # Seed of the data and of the forest

# %%
import json
import os
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier

# %%
rng = np.random.default_rng(seed)
X = rng.normal(size=(12_000, 20))
y = (X[:, 0] * X[:, 1] + rng.normal(size=len(X)) > 0).astype(int)

# %%
forest = RandomForestClassifier(60, n_jobs=1, random_state=seed).fit(X, y)

# %%
figures = {"accuracy": float(forest.score(X, y))}
Path(metrics).write_text(json.dumps(figures))

# %%
with Path(os.environ["BENCHMARK_LEDGER"]).open("a") as ledger:
    print(json.dumps({"stage": "branch", "seed": seed, **figures}), file=ledger)
