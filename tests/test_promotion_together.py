"""Promotions by many processes at once, with the whole verb: git, signing, and the published file.

That the trial sees moves that are lost is shown where MLflow's aliases do the same, in
test_state_together; ``benchmarks/promotions.py --together`` does it with 8 processes.
"""

# ruff: noqa: F811 - a fixture is asked for by its name

from __future__ import annotations

from pathlib import Path
from typing import Any

import promotion_crowd as crowd
import pytest
from nursery import Nursery
from promoted import alone, copied, first, second  # noqa: F401


def test_promotions_at_once_follow_each_other(
    second: Path, copied: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 processes promote 4 times each, and roll back: none is lost, none backward, all agrees."""
    root = copied(second)
    with Nursery("promotion_crowd", tmp_path) as nursery:
        nursery.call("prepare", str(root))
        found = crowd.together(nursery, root, tmp_path, 3, 4, back=2)
    assert found["faults"] == []
    assert found["promotions"] == 12
    assert found["rollbacks"] >= 1
