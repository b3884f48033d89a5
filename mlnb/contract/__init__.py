"""A notebook's contract: the names, types, meaning and stand-alone defaults it declares.

The contract is one code cell tagged ``parameters``: ordinary Python, parsed by :mod:`ast` and
never executed. An annotated assignment declares a parameter; its comment is the help text::

    panel: In = "data/panel.parquet"
    learning_rate: Annotated[float, Gt(0), Le(1)] = 0.05   # Shrinkage of each boosting round

``In``, ``Out``, ``Metrics``, ``Plots`` and ``Predictions`` mark paths, relative to the project
root. A path may be an f-string over parameters above it. Everything else is a value; pydantic
checks it in strict mode, so that ``"5"`` is not an ``int`` and ``1`` is not a ``bool``.

* ``reader`` parses the cell, ``statements`` takes its assignments and comments, and ``cell``
  makes parameters of them, with ``annotations``, ``literals`` and ``paths`` for the parts of one.
* ``values`` checks a value against its type; `Contract.bind` puts values in the defaults' place.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlnb.contract.cell import parameters
from mlnb.contract.paths import refuse_outside
from mlnb.contract.reader import Reader
from mlnb.contract.records import ABSENT, MARKERS, ContractError, Parameter
from mlnb.contract.values import check
from mlnb.errors import did_you_mean
from mlnb.notebook import PARAMETERS, Cell, Notebook

__all__ = ["ABSENT", "MARKERS", "Contract", "ContractError", "Parameter", "check", "read"]


@dataclass(frozen=True)
class Contract:
    """What a notebook's parameters cell declares.

    Attributes:
        notebook: the notebook.
        cell: the parameters cell; None when there is none.
        parameters: declared names in order.
    """

    notebook: Notebook
    cell: Cell | None
    parameters: tuple[Parameter, ...]

    def __getitem__(self, name: str) -> Parameter:
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """Declared names in order."""
        return tuple(p.name for p in self.parameters)

    @property
    def values(self) -> tuple[Parameter, ...]:
        """The parameters that are not paths."""
        return tuple(p for p in self.parameters if not p.is_path)

    def where(self, parameter: Parameter | None = None) -> str:
        """Return where the parameter, or the cell, stands."""
        if self.cell is None:
            return str(self.notebook.path)
        return self.notebook.where(self.cell, parameter.line if parameter else 0)

    def bind(self, given: Mapping[str, Any], *, source: str) -> dict[str, Any]:
        """Return the value of every parameter: ``given`` over defaults, checked, typed.

        Args:
            given: values by name, as YAML or JSON gives them.
            source: where they come from, for messages.

        Raises:
            ContractError: every unknown, missing and ill-typed value, in one message.
        """
        if self.cell is not None and self.notebook.language != "python":
            return copy.deepcopy(dict(given))
        errors = [
            ContractError(
                f"unknown parameter {name!r} in {source}.{did_you_mean(name, self.names)}",
                where=self.where(),
                remedy=f"Declared: {', '.join(self.names) or 'none'}.",
            )
            for name in given
            if name not in self.names
        ]
        bound: dict[str, Any] = {}
        for parameter in self.parameters:
            try:
                bound[parameter.name] = self._value(parameter, given, bound, source)
            except ContractError as error:
                errors.append(error)
        if errors:
            raise ContractError.join(errors)
        return bound

    def _value(
        self, p: Parameter, given: Mapping[str, Any], bound: Mapping[str, Any], source: str
    ) -> Any:
        if p.name in given:
            value = check(p, given[p.name], where=self.where(p), source=source)
        elif p.template:
            value = "".join(
                str(bound.get(text, f"{{{text}}}")) if is_name else text
                for text, is_name in p.template
            )
        elif p.default is not ABSENT:
            value = copy.deepcopy(p.default)
        else:
            raise ContractError(
                f"parameter {p.name!r} has no default and no value in {source}",
                where=self.where(p),
                remedy=f"Give a value of type {p.annotation}.",
            )
        if p.is_path:
            for path in value if p.many else [value]:
                refuse_outside(p.name, path, where=self.where(p), source=source)
        return value


def read(notebook: Notebook) -> Contract:
    """Return the contract of ``notebook``; one without parameters if no cell is tagged.

    Raises:
        ContractError: the cell cannot be parsed, or declares what cannot be checked; the
            message has file, cell and line.
    """
    cells = [cell for cell in notebook.code if PARAMETERS in cell.tags]
    if not cells:
        return Contract(notebook, None, ())
    if len(cells) > 1:
        raise ContractError(
            f"cells {' and '.join(str(c.number) for c in cells)} are both tagged 'parameters'",
            where=str(notebook.path),
            remedy="Keep the tag on one of them.",
        )
    cell = cells[0]
    if notebook.language != "python":
        # We cannot read the cells of other languages; bind passes their values on as they are.
        return Contract(notebook, cell, ())
    return Contract(notebook, cell, tuple(parameters(Reader(notebook, cell))))
