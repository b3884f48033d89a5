# Code of notebooks/ingest.ipynb, written by `mlnb code`: edit the notebook instead.
# mlnb-mirror: 1, language: python
# imports notebooks/randhie.py sha256:d48eacdfc61aa9aead0d7b0bd8c9e9b243380c240d94340be3a9d1bddf74f94e

# %%
%load_ext mlnb

# %% tags=['parameters']
from typing import Annotated

from annotated_types import Gt, Le

from mlnb import In, Out

raw: In = "data/raw"
panel: Out = "data/panel.parquet"
years: list[int] = [1, 2, 3, 4, 5]  # Study years to read; each is one file in the raw folder
household_share: Annotated[float, Gt(0), Le(1)] = 1.0  # Share of households to keep, for quick runs

# %%
from IPython.display import Markdown
from randhie import household, keep_share, read_batches, save_table

# %%
table = keep_share(read_batches(raw, years), household_share)
table["household"] = household(table)

# %%
by_year = table.groupby("year").agg(
    rows=("zper", "size"),
    households=("household", "nunique"),
    mean_visits=("mdvis", "mean"),
    no_visit=("mdvis", lambda visits: visits.eq(0).mean()),
    mean_dollars=("meddol", "mean"),
)
by_year.round(3)

# %%
years_seen = table.groupby("zper")["year"].agg(first="min", last="max", years="size")
years_seen.value_counts().rename("persons").reset_index().head(8)

# %%
save_table(table.drop(columns="household"), panel)

# %%
Markdown(
    f"**{len(table):,} person-years** of {table['zper'].nunique():,} persons in "
    f"{table['household'].nunique():,} households, study years "
    f"{', '.join(map(str, sorted(table['year'].unique())))}."
)
