"""What holds for all tests."""

from __future__ import annotations

import os

# A worker for each temporary project would outlive it; the tests of workers ask for theirs.
os.environ["MLNB_WARM"] = "0"
