"""What a run holds for itself once it has the imports of training, which are put before this."""
# ruff: noqa: E402 - a notebook in the percent format: cells import late

# %% parameters
from mlnb import Metrics

metrics: Metrics = "reports/metrics/holding.json"

# %%
import json
import re
from pathlib import Path

# %%
pages = Path("/proc/self/smaps_rollup").read_text()
private = sum(map(int, re.findall(r"(?m)^Private_\w+:\s+(\d+) kB$", pages)))
Path(metrics).write_text(json.dumps({"private_mb": private / 1024}))
