"""What holds for all tests."""

from __future__ import annotations

import os

import pytest

LONG = (
    "reference_pipeline", "container", "worker", "engines", "widget", "serving_http", "run",
    "engine_faults", "reproduce", "retest", "tracking", "serving_engine", "promotion_faults",
    "reports_browser", "deployment", "gates", "state_faults", "state_together",
)  # fmt: skip
"""Files that take longest. They begin first, so that no core waits for another at the end."""

# A worker for each temporary project would outlive it; the tests of workers ask for theirs.
os.environ["MLNB_WARM"] = "0"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, and leave the order within each."""
    place = {f"test_{name}.py": at for at, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))
