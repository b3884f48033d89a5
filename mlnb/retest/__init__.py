"""nbval, made good: a pytest plugin that is active with ``--nbval`` and ``--nbval-lax`` only.

nbval runs a notebook's cells again and compares what they give with what is stored. On top of
it come: a tolerance for numbers; a kernel that is watched, so that its death or a time limit
fails the rest of the notebook in seconds; and the settings of a run, so that what passes there
passes here. Cells tagged ``dev`` are left out, as runs leave them out.

pytest imports this module at every start, also for people who have no notebook, so it imports
nothing; ``notebooks`` and ``kernel`` are imported when a notebook is collected.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CELL_TIMEOUT = 600.0
"""Seconds for a cell where nothing else is said; nbval's own default is 2000."""

_TIMEOUT_OPTION = "--nbval-cell-timeout"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for tolerances."""
    group = parser.getgroup("nbval", "Jupyter Notebook validation")
    for name, meaning in (("rtol", "relative"), ("atol", "absolute")):
        told = f"{meaning} tolerance for numbers in the outputs of notebooks"
        group.addoption(f"--nbval-{name}", type=float, default=None, help=told)
        parser.addini(f"nbval_{name}", told, default="")


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Give nbval a sensible time limit, unless somebody has chosen one."""
    chosen = any(word.partition("=")[0] == _TIMEOUT_OPTION for word in args)
    if not chosen and _is_active(early_config.known_args_namespace):
        args.insert(0, f"{_TIMEOUT_OPTION}={_cell_timeout(early_config.rootpath)}")


def pytest_configure(config: pytest.Config) -> None:
    """Keep a notebook's cells together when pytest-xdist spreads the tests."""
    if _is_active(config.option) and getattr(config.option, "dist", "no") in ("load", "worksteal"):
        config.option.dist = "loadscope"


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(parent: pytest.Collector) -> Generator[None, list[Any], list[Any]]:
    """Put our notebook file in the place of nbval's, so that none is collected twice."""
    found = yield
    if not _is_active(parent.config.option):
        return found
    from mlnb.retest.notebooks import replaced

    return [replaced(collector, parent) for collector in found]


def _is_active(options: Any) -> bool:
    """Whether nbval is there and was asked for."""
    return bool(getattr(options, "nbval", False) or getattr(options, "nbval_lax", False))


def _cell_timeout(root: Path) -> float:
    """Return the project's ``cell-deadline``, or the default."""
    from mlnb.errors import ProjectError
    from mlnb.project import find

    try:
        return find(root).settings.cell_deadline or CELL_TIMEOUT
    except ProjectError:
        return CELL_TIMEOUT
