"""The parameters cell, assignment by assignment, as parameters."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Container, Iterator

from mlnb.contract.annotations import inferred, marker, type_of
from mlnb.contract.literals import literal
from mlnb.contract.paths import path_or_template
from mlnb.contract.reader import Reader
from mlnb.contract.records import ABSENT, Parameter
from mlnb.contract.statements import Assignment, assignments
from mlnb.contract.values import check, impossible


def parameters(reader: Reader) -> Iterator[Parameter]:
    """Yield what the cell declares, in order.

    Raises:
        ContractError: it does more than declare, or declares what cannot be checked.
    """
    seen: dict[str, int] = {}
    for assignment in assignments(reader):
        parameter = _path(reader, assignment, seen) or _value(reader, assignment)
        if parameter.name in seen:
            raise reader.error(
                f"{parameter.name!r} is declared twice, first in line {seen[parameter.name]}",
                parameter.line,
            )
        seen[parameter.name] = parameter.line
        yield parameter


def _path(reader: Reader, it: Assignment, above: Container[str]) -> Parameter | None:
    """Return the path that ``it`` declares; None if it carries no marker."""
    if it.annotation is None or (marked := marker(it.annotation)) is None:
        return None
    kind, many = marked
    default, template = path_or_template(reader, it, many, above)
    return Parameter(
        name=it.name,
        kind=kind,
        annotation=ast.unparse(it.annotation),
        type=list[str] if many else str,
        default=default,
        template=template,
        help=it.help,
        line=it.line,
        many=many,
    )


def _value(reader: Reader, it: Assignment) -> Parameter:
    kind = None if it.annotation is None else type_of(reader, it.annotation)
    default = ABSENT
    if it.value is not None:
        default = literal(reader, f"the default of {it.name!r}", it.value)
    if it.annotation is None:
        kind = inferred(reader, it.name, default, it.line)
    parameter = Parameter(
        name=it.name,
        kind="value",
        annotation="" if it.annotation is None else ast.unparse(it.annotation),
        type=kind,
        default=default,
        template=(),
        help=it.help,
        line=it.line,
    )
    if reason := impossible(parameter):
        raise reader.error(f"type `{parameter.annotation}` cannot be checked: {reason}", it.line)
    if default is ABSENT:
        return parameter
    where = reader.where(it.line)
    return dataclasses.replace(
        parameter, default=check(parameter, default, where=where, source="its default")
    )
