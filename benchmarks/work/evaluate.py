"""Evaluate: metrics and two figures."""
# ruff: noqa: E402 - a notebook in the percent format: cells show values and import late

# %% parameters
from mlnb import In, Metrics, Out

features: In = "data/features.parquet"
models: In = "models/models.pickle"
metrics: Metrics = "reports/metrics/evaluate.json"
roc: Out = "reports/roc.png"
calibration: Out = "reports/calibration.png"

# %%
import json
import os
import pickle
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

# %%
rows = pd.read_parquet(features)
test = rows[rows["test"]].fillna(0.0).astype({"site": "str", "plan": "str"})
fitted = pickle.loads(Path(models).read_bytes())
scores = {name: model.predict_proba(test)[:, 1] for name, model in fitted.items()}

# %%
measures = {
    "roc_auc": roc_auc_score,
    "average_precision": average_precision_score,
    "brier": brier_score_loss,
}
found = pd.DataFrame(
    {
        name: {what: float(measure(test["high_use"], score)) for what, measure in measures.items()}
        for name, score in scores.items()
    }
)
found.round(4)

# %%
figure, axes = plt.subplots(figsize=(5, 4))
for name, score in scores.items():
    false, true, _ = roc_curve(test["high_use"], score)
    axes.plot(false, true, label=f"{name} {found.loc['roc_auc', name]:.3f}")
axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
axes.legend()
figure.savefig(roc)
plt.close(figure)

# %%
figure, axes = plt.subplots(figsize=(5, 4))
for name, score in scores.items():
    share, told = calibration_curve(test["high_use"], score, n_bins=10, strategy="quantile")
    axes.plot(told, share, "o-", label=name)
axes.plot([0, 1], [0, 1], ":", color="grey")
axes.set(xlabel="told", ylabel="true", title="Calibration")
axes.legend()
figure.savefig(calibration)
plt.close(figure)

# %%
figures = {
    f"{name}_{what}": found.loc[what, name] for name in found.columns for what in found.index
}
figures["roc_auc"] = figures["boosted_roc_auc"]
Path(metrics).write_text(json.dumps(figures))

# %%
with Path(os.environ["BENCHMARK_LEDGER"]).open("a") as ledger:
    print(json.dumps({"stage": "evaluate", **figures}), file=ledger)
