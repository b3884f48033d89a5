# Code of notebooks/train.ipynb, written by `mlnb code`: edit the notebook instead.
# mlnb-mirror: 1, language: python
# imports notebooks/randhie.py sha256:d48eacdfc61aa9aead0d7b0bd8c9e9b243380c240d94340be3a9d1bddf74f94e

# %%
%load_ext mlnb

# %% tags=['parameters']
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from mlnb import In, Metrics, Out

features: In = "data/features.parquet"
model_file: Out = "models/model.skops"
logistic_file: Out = "models/logistic.skops"
naive_file: Out = "models/naive.skops"
metrics: Metrics = "reports/metrics/train.json"

model: Literal["logistic", "xgboost", "hist_gradient_boosting"] = "xgboost"  # The candidate's kind
rounds: Annotated[int, Ge(1), Le(5000)] = 200  # Boosting rounds, one tree each
max_depth: Annotated[int, Ge(1), Le(12)] = 4  # Depth of each tree
learning_rate: Annotated[float, Gt(0), Le(1)] = 0.05  # Shrinkage of each boosting round
l2: Annotated[float, Gt(0)] = 1.0  # L2 penalty on leaf values or coefficients
seed: Annotated[int, Ge(0)] = 0  # Seed of whatever the model draws at random

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from randhie import (
    COLOURS,
    Bootstrap,
    build_model,
    fit,
    flat,
    interval,
    plot_style,
    probability,
    rows_of,
    save_figures,
    value_of,
)
from randhie import (
    metrics as all_metrics,
)

from mlnb.bundle import load_model, save_model

plot_style()

# %%
def new_models():
    """The candidate and the two it is compared with, unfitted."""
    candidate = build_model(
        model, rounds=rounds, max_depth=max_depth, learning_rate=learning_rate, l2=l2, seed=seed
    )
    return {
        "naive": build_model("naive"),
        "logistic": build_model("logistic"),
        "model": candidate,
    }


names = {"naive": "naive rule", "logistic": "logistic regression", "model": f"candidate ({model})"}
table = pd.read_parquet(features)

# %%
x_train, y_train = rows_of(table, "train")
x_valid, y_valid = rows_of(table, "valid")
scores = {
    role: probability(fit(unfitted, x_train, y_train), x_valid)
    for role, unfitted in new_models().items()
}

# %%
shown = {name: all_metrics(0.25)[name] for name in ("roc_auc", "average_precision", "brier")}
resampled = Bootstrap.of(table.loc[table["split"] == "valid", "household"], resamples=1000, seed=0)
found = {
    (role, name): interval(
        value_of(metric.function, y_valid, score),
        resampled.metric(metric.function, y_valid, score),
    )
    for role, score in scores.items()
    for name, metric in shown.items()
}
pd.DataFrame(
    {
        metric.label: ["{:.3f}  [{:.3f}, {:.3f}]".format(*found[role, name]) for role in scores]
        for name, metric in shown.items()
    },
    index=[names[role] for role in scores],
)

# %%
figure, panels = plt.subplots(1, len(shown), figsize=(7.0, 2.3), sharey=True)
for axes, (name, metric) in zip(panels, shown.items(), strict=True):
    for i, role in enumerate(reversed(scores)):
        value, low, high = found[role, name]
        axes.plot(
            [low, high], [i, i], color=COLOURS[role], lw=2.5, solid_capstyle="round", alpha=0.45
        )
        axes.plot(value, i, "o", color=COLOURS[role], ms=6.5)
    axes.set_title(metric.label, fontsize=9)
    axes.set_xlabel(f"{metric.better} is better")
    axes.set(ylim=(-0.6, 2.6), yticks=range(3))
    axes.set_yticklabels([names[role] for role in reversed(scores)])
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=4)
plt.show()

# %%
x, y = rows_of(table, "train", "valid")
final = {role: fit(unfitted, x, y) for role, unfitted in new_models().items()}
files = {"model": model_file, "logistic": logistic_file, "naive": naive_file}
for role, path in files.items():
    save_model(final[role], path)

# %%
for role, path in files.items():
    again = probability(load_model(path), x_valid)
    assert np.array_equal(again, probability(final[role], x_valid)), (
        f"{path} differs when read back"
    )

# %%
figures = {
    "train_rows": len(x_train),
    "valid_rows": len(x_valid),
    "fitted_rows": len(x),
    "fitted_households": table.loc[table["split"] != "test", "household"].nunique(),
}
for name in shown:
    figures |= flat(f"valid_{name}", found["model", name])
    for role in ("naive", "logistic"):
        figures[f"valid_{name}_{role}"] = found[role, name].value
save_figures(figures, metrics)

# %%
Markdown(
    f"**{names['model']}** fitted on {len(x):,} rows. On the validation households its ROC AUC is "
    f"{found['model', 'roc_auc'].value:.3f}; the logistic regression has "
    f"{found['logistic', 'roc_auc'].value:.3f}, the naive rule {found['naive', 'roc_auc'].value:.3f}."
)
