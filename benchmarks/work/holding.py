"""Waits to be weighed, once it has the imports of training, which are put before its last cell."""
# ruff: noqa: E402 - a notebook in the percent format: cells import late

# %% parameters
ready: str = "reports/ready"
go: str = "reports/go"

# %%
import time
from pathlib import Path

# %%
Path(ready).touch()
while not Path(go).exists():
    time.sleep(0.01)
