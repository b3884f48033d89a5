"""Features: what is known at the end of a year, and whether the next one brings many visits."""
# ruff: noqa: E402 - a notebook in the percent format: cells show values and import late

# %% parameters
from mlnb import In, Out

panel: In = "data/panel.parquet"
features: Out = "data/features.parquet"
visits_threshold: int = 5  # Physician visits in the next year that count as high use

# %%
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

# %%
table = pd.read_parquet(panel)
following = table[["zper", "year", "mdvis"]].rename(columns={"mdvis": "next_visits"})
rows = table.merge(following.assign(year=following["year"] - 1), on=["zper", "year"])

# %%
rows["high_use"] = (rows["next_visits"] >= visits_threshold).astype("int64")
rows["spending"] = np.log1p(
    rows[["outpdol", "drugdol", "suppdol", "mentdol", "inpdol"]].sum(axis=1)
)
household = rows.groupby(["site", "plan", "income"])
rows["household_visits"] = household["mdvis"].transform("mean")
rows["household"] = household.ngroup()
rows["test"] = rows["household"] % 10 >= 7

# %%
rows.groupby("test")["high_use"].agg(["size", "mean"]).round(4)

# %%
rows.describe().round(3)

# %%
rows.to_parquet(features, index=False)

# %%
with Path(os.environ["BENCHMARK_LEDGER"]).open("a") as ledger:
    found = {"stage": "features", "rows": len(rows), "high_use": int(rows["high_use"].sum())}
    print(json.dumps(found), file=ledger)
