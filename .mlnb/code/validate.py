# Code of notebooks/validate.ipynb, written by `mlnb code`: edit the notebook instead.
# mlnb-mirror: 1, language: python
# imports notebooks/randhie.py sha256:d48eacdfc61aa9aead0d7b0bd8c9e9b243380c240d94340be3a9d1bddf74f94e

# %%
%load_ext mlnb

# %% tags=['parameters']
from typing import Annotated

from annotated_types import Ge, Le

from mlnb import In, Metrics, Out

panel: In = "data/panel.parquet"
schema: In = "schemas/panel.yaml"
valid: Out = "data/valid.parquet"
metrics: Metrics = "reports/metrics/validate.json"
missing_limit: Annotated[float, Ge(0), Le(1)] = 0.01  # Share of empty cells that a feature may have

# %%
from pathlib import Path

import pandas as pd
import yaml
from IPython.display import Markdown
from randhie import missing_features, save_figures, save_table, schema_failures

# %%
table = pd.read_parquet(panel)
columns = yaml.safe_load(Path(schema).read_text(encoding="utf-8"))["columns"]

# %%
def assertion(checks):
    """The checks of one column in words."""
    words = {
        "isin": "one of {}",
        "greater_than_or_equal_to": "at least {}",
        "less_than_or_equal_to": "at most {}",
    }
    return ", ".join(words[name].format(checks[name]) for name in words if name in checks)


pd.DataFrame(
    {
        "meaning": [c.get("description", name) for name, c in columns.items()],
        "type": [c["dtype"] for c in columns.values()],
        "gaps": ["allowed" if c.get("nullable") else "" for c in columns.values()],
        "values": [assertion(c) for c in columns.values()],
    },
    index=pd.Index(columns, name="column"),
)

# %%
failures = schema_failures(table, schema)
failures

# %%
missing = missing_features(table)
missing.mul(len(table)).round().astype(int).to_frame("empty cells").assign(share=missing.round(5))

# %%
too_empty = missing[missing > missing_limit]
if len(failures):
    raise ValueError(f"{panel} breaks {schema}:\n{failures.to_string(index=False)}")
if len(too_empty):
    raise ValueError(
        f"more empty cells than missing_limit={missing_limit}:\n{too_empty.to_string()}"
    )

# %%
parts = table["outpdol"] + table["drugdol"] + table["suppdol"] + table["inpdol"]
odd = {
    "income of zero": table["income"].eq(0),
    "chronic diseases imputed by a mean": table["disea"].round(5).isin([13.73189, 10.57626]),
    "physical limitation imputed by a fraction": table["physlm"].between(0, 1, inclusive="neither"),
    "race of household head imputed by a fraction": table["black"].between(
        0, 1, inclusive="neither"
    ),
    "general health index imputed": table["ghindx"].isna(),
    "no coinsurance, yet an individual deductible": table["coins"].eq(0) & table["idp"].eq(1),
    "medical dollars differ from the sum of their parts": (parts - table["meddol"]).abs() > 0.01,
}
pd.DataFrame(
    {
        "rows": [int(rows.sum()) for rows in odd.values()],
        "share": [round(rows.mean(), 4) for rows in odd.values()],
    },
    index=pd.Index(odd, name="oddity"),
)

# %%
save_table(table, valid)
save_figures(
    {
        "rows": len(table),
        "persons": table["zper"].nunique(),
        "years": table["year"].nunique(),
        "schema_failures": len(failures),
        "empty_feature_cells": round(missing.sum() * len(table)),
        "most_empty_feature_share": float(missing.max()) if len(missing) else 0.0,
    },
    metrics,
)

# %%
Markdown(
    f"**{len(table):,} rows passed** the checks of {len(columns)} columns; the emptiest feature "
    f"lacks {missing.max() if len(missing) else 0:.3%} of its values (limit {missing_limit:.1%})."
)
