"""Paths of a contract: relative to the project root, written out or as an f-string of names."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mlnb.contract.literals import literal
from mlnb.contract.reader import Reader, excerpt, shown
from mlnb.contract.records import ABSENT, ContractError
from mlnb.contract.statements import Assignment

Template = tuple[tuple[str, bool], ...]


def path_or_template(
    reader: Reader, it: Assignment, many: bool, above: Container[str]
) -> tuple[Any, Template]:
    """Return the default and the template of a path parameter; it has one of them at most.

    Args:
        reader: the parameters cell.
        it: the assignment that declares it.
        many: it is a list of paths.
        above: names of the parameters above it, which a template may use.

    Raises:
        ContractError: it is no path inside the root, or would have to be computed.
    """
    if it.value is None:
        return ABSENT, ()
    where = reader.where(it.line)
    if isinstance(it.value, ast.JoinedStr) and not many:
        template = tuple(_template(reader, it.value, above))
        sample = "".join("x" if is_name else text for text, is_name in template)
        refuse_outside(it.name, sample, where=where)
        return ABSENT, template
    default = literal(reader, f"the default of {it.name!r}", it.value)
    default = default.as_posix() if isinstance(default, Path) else default
    items = default if many else [default]
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise reader.error(f"path {it.name!r} must be a string, not {default!r}", it.line)
    for item in items:
        refuse_outside(it.name, item, where=where)
    return default, ()


def refuse_outside(name: str, path: str, *, where: str, source: str = "") -> None:
    """Refuse a path that is not relative to the project root, or leaves it.

    Raises:
        ContractError: naming the parameter, and ``source`` if the path came from there.
    """
    pure = PurePosixPath(path)
    if (
        not path.strip()
        or pure.is_absolute()
        or path.startswith("~")
        or path[1:2] == ":"
        or "\\" in path
        or not path.isprintable()
    ):
        problem = "is not a path relative to the project root"
    elif ".." in pure.parts:
        problem = "leaves the project root"
    else:
        return
    raise ContractError(
        f"path {name!r} {problem}: {shown(path)}" + (f" ({source})" if source else ""),
        where=where,
        remedy="Write it as in dvc.yaml: 'data/panel.parquet'.",
    )


def _template(
    reader: Reader, value: ast.JoinedStr, above: Container[str]
) -> Iterator[tuple[str, bool]]:
    for part in value.values:
        if isinstance(part, ast.Constant):
            yield str(part.value), False
        elif (
            isinstance(part, ast.FormattedValue)
            and isinstance(part.value, ast.Name)
            and part.conversion == -1
            and part.format_spec is None
        ):
            if part.value.id not in above:
                raise reader.error(
                    f"the path uses {part.value.id!r}, which is no parameter above it", value
                )
            yield part.value.id, True
        else:
            raise reader.error(
                f"the path is an f-string of more than plain parameter names: {excerpt(value)}",
                value,
            )
