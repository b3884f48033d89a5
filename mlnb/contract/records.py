"""What a contract is made of, as plain data: a parameter, its kind, and the error of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlnb.errors import MlnbError

MARKERS = {
    "In": "in",
    "Out": "out",
    "Metrics": "metrics",
    "Plots": "plots",
    "Predictions": "predictions",
}
"""Marker names and the kind of path each declares."""


class ContractError(MlnbError):
    """A parameters cell, or a value for it, that cannot be accepted."""


class _Absent:
    """The default of a parameter without one."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


@dataclass(frozen=True)
class Parameter:
    """One declared name.

    Attributes:
        name: a Python identifier.
        kind: ``value``, ``in``, ``out``, ``metrics``, ``plots`` or ``predictions``.
        annotation: the type as its source text; empty when only the default tells.
        type: the type itself, for pydantic.
        default: the default; ``ABSENT`` without one.
        template: the f-string of a path, as (text or parameter name, is a name) pairs.
        help: the comment beside or right above it.
        line: line in the parameters cell, from 1.
        many: the path marker stands in a ``list[...]``.
    """

    name: str
    kind: str
    annotation: str
    type: Any
    default: Any
    template: tuple[tuple[str, bool], ...]
    help: str
    line: int
    many: bool = False

    @property
    def is_path(self) -> bool:
        """Whether it names a file or folder that DVC should know."""
        return self.kind != "value"

    @property
    def writes(self) -> bool:
        """Whether the notebook writes what it names."""
        return self.kind not in ("value", "in")

    @property
    def required(self) -> bool:
        """Whether the cell gives it no default."""
        return self.default is ABSENT and not self.template
