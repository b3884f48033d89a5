"""Ingest: the yearly batches become one panel."""
# ruff: noqa: E402 - a notebook in the percent format: cells show values and import late

# %% parameters
from mlnb import In, Out

raw: In = "data/raw"
panel: Out = "data/panel.parquet"
years: list[int] = [1, 2, 3, 4, 5]  # Study years to read

# %%
import json
import os
from pathlib import Path

import pandas as pd

# %%
table = pd.concat([pd.read_csv(f"{raw}/year={year}.csv.gz") for year in years])
table = table.sort_values(["zper", "year"], ignore_index=True)

# %%
table.groupby("year").agg(rows=("zper", "size"), visits=("mdvis", "mean")).round(3)

# %%
table.to_parquet(panel, index=False)

# %%
with Path(os.environ["BENCHMARK_LEDGER"]).open("a") as ledger:
    print(json.dumps({"stage": "ingest", "rows": len(table)}), file=ledger)
