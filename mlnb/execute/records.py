"""What a run may use, where it is, and how it ended, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What a run may use.

    Attributes:
        run_deadline: seconds; 0 for no limit.
        cell_deadline: seconds; 0 for no limit.
        output_cap: bytes kept of one cell's output.
    """

    run_deadline: float = 0
    cell_deadline: float = 0
    output_cap: float = 10e6


@dataclass(frozen=True)
class Progress:
    """Where a run is: cell ``position`` of ``total``; ``number`` counts all cells of the file."""

    position: int
    total: int
    number: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        document: nbformat notebook of the code cells with their outputs, as plain data.
        cause: why it failed, in one sentence; empty when it passed.
        failed_cell: number of the failing cell in the notebook, from 1; None when it passed or
            never got to a cell.
        seconds: wall time.
        cell_seconds: wall time by cell number.
        interrupted: a person or a signal ended it.
    """

    document: Any
    cause: str
    failed_cell: int | None
    seconds: float
    cell_seconds: Mapping[int, float]
    interrupted: bool = False

    @property
    def passed(self) -> bool:
        """Whether every cell ran, in order, without an error."""
        return not self.cause
