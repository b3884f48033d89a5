# Code of notebooks/features.ipynb, written by `mlnb code`: edit the notebook instead.
# mlnb-mirror: 1, language: python
# imports notebooks/randhie.py sha256:d48eacdfc61aa9aead0d7b0bd8c9e9b243380c240d94340be3a9d1bddf74f94e

# %%
%load_ext mlnb

# %% tags=['parameters']
from typing import Annotated

from annotated_types import Ge

from mlnb import In, Metrics, Out

valid: In = "data/valid.parquet"
features: Out = "data/features.parquet"
metrics: Metrics = "reports/metrics/features.json"
visits_threshold: Annotated[int, Ge(1)] = (
    5  # Physician visits in the next year that count as high use
)

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from randhie import (
    AUDIT,
    COLOURS,
    FEATURES,
    QUIET,
    STATIC,
    TARGET,
    Bootstrap,
    forest_auc,
    interval,
    plot_style,
    save_figures,
    save_table,
    transitions,
)

plot_style()

# %%
rows = transitions(pd.read_parquet(valid), visits_threshold=visits_threshold)

# %%
by_split = rows.groupby("split").agg(
    rows=("zper", "size"),
    members=("zper", "nunique"),
    households=("household", "nunique"),
    high_use=(TARGET, "mean"),
)
by_split.loc[[name for name in ("train", "valid", "test") if name in by_split.index]].round(4)

# %%
rows.groupby("year").agg(rows=("zper", "size"), high_use=(TARGET, "mean")).round(4)

# %%
one_row = (rows["zper"].astype("str") + "_" + rows["year"].astype("str")).astype("str")
claims = pd.Series(
    {
        "rows": forest_auc(rows, one_row, [*STATIC, "site"]),
        "persons": forest_auc(rows, rows["zper"].astype("str"), [*STATIC, "site"]),
        "households": forest_auc(rows, rows["household"], [*STATIC, "site"]),
    },
    name="test AUC",
)
claims.to_frame().round(3)

# %%
figure, axes = plt.subplots(figsize=(7.0, 2.1))
colours = [QUIET, QUIET, COLOURS["model"]]
axes.barh(claims.index[::-1], claims[::-1] - 0.5, left=0.5, color=colours[::-1], height=0.6)
for i, value in enumerate(claims[::-1]):
    axes.text(
        value - 0.006, i, f"{value:.3f}", va="center", ha="right", color="white", weight="bold"
    )
axes.set(xlim=(0.5, 0.85), xlabel="test AUC (0.5 is chance)", ylabel="kept together")
axes.set_title("The same forest, the same columns, three splits")
axes.grid(axis="y", visible=False)
plt.show()

# %%
most = 12
visits = rows["mdvis"].clip(upper=most).to_numpy()
member = np.eye(most + 1)[visits]
target = rows[TARGET].to_numpy()


def share_by_visits(weight):
    """Share of high users for each number of visits [b, most + 1]."""
    with np.errstate(invalid="ignore"):
        return (weight * target) @ member / (weight @ member)


draws = Bootstrap.of(rows["household"], resamples=500, seed=0).draws(share_by_visits)
points = share_by_visits(np.ones((1, len(rows))))[0]
found = [interval(value, column) for value, column in zip(points, draws.T, strict=True)]

# %%
figure, axes = plt.subplots(figsize=(7.0, 3.4))
at = np.arange(most + 1)
axes.fill_between(
    at, [f.low for f in found], [f.high for f in found], color=COLOURS["model"], alpha=0.15, lw=0
)
axes.plot(at, points, color=COLOURS["model"], marker="o", ms=4.5)
everyone = target.mean()
axes.axhline(everyone, color=QUIET, lw=1, ls="--")
axes.text(most, everyone + 0.012, f"all members {everyone:.0%}", color=QUIET, ha="right")
axes.set(ylim=(0, None), xlabel="physician visits this year", ylabel="high users next year")
axes.set_xticks(at, [*map(str, at[:-1]), f"{most}+"])
axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
axes.set_title(f"Share with {visits_threshold} or more visits next year")
axes.grid(axis="x", visible=False)
plt.show()

# %%
assert AUDIT not in FEATURES and "black" not in FEATURES
save_table(rows, features)
save_figures(
    {
        "rows": len(rows),
        "members": rows["zper"].nunique(),
        "households": rows["household"].nunique(),
        "high_use_share": rows[TARGET].mean(),
        "split_by_rows_auc": claims["rows"],
        "split_by_households_auc": claims["households"],
        "split_by_rows_leak": claims["rows"] - claims["households"],
    },
    metrics,
)

# %%
Markdown(
    f"**{len(rows):,} rows** with {len(FEATURES)} features; {target.mean():.1%} are high users. A "
    "split by rows would have flattered a forest by "
    f"**{claims['rows'] - claims['households']:.2f} AUC**."
)
