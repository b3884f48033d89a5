"""Annotations of the parameters cell as types, markers and bounds, without executing them."""

from __future__ import annotations

import ast
import datetime
import types
import typing
from pathlib import Path
from typing import Any

from mlnb.contract.literals import literal, made
from mlnb.contract.reader import Reader, excerpt, last_name
from mlnb.contract.records import ABSENT, MARKERS
from mlnb.errors import did_you_mean

_SIMPLE: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "list": list,
    "dict": dict,
    "tuple": tuple,
    "date": datetime.date,
    "datetime": datetime.datetime,
    "Path": Path,
    "None": None,
}
_GENERIC = {"List": "list", "Dict": "dict", "Tuple": "tuple"}
_ITEMS = {
    "Annotated": (2, 99),
    "Literal": (1, 999),
    "Optional": (1, 1),
    "list": (1, 1),
    "dict": (2, 2),
}
"""How many parts a type may have in its brackets: fewest, most."""

_BOUNDS = ("Gt", "Ge", "Lt", "Le", "Interval", "MultipleOf", "MinLen", "MaxLen", "Len")
_ACCEPTED = (
    "Accepted types: int, float, bool, str, list[...], dict[..., ...], tuple[...], date, datetime, "
    "Path, Literal[...], X | None, Annotated[X, Gt(0), ...], In, Out, Metrics, Plots, Predictions."
)


def marker(annotation: ast.expr) -> tuple[str, bool] | None:
    """Return (kind, many) if the annotation is a path marker or a list of them."""
    name, many = last_name(annotation), False
    if isinstance(annotation, ast.Subscript) and _type_name(annotation.value) == "list":
        inner, many = annotation.slice, True
        name = str(inner.value) if isinstance(inner, ast.Constant) else last_name(inner)
    return (MARKERS[name], many) if name in MARKERS else None


def type_of(reader: Reader, node: ast.expr) -> Any:
    """Return the type that an annotation names.

    Raises:
        ContractError: it names none that can be checked.
    """
    node = reader.unquoted(node)
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return typing.Union[type_of(reader, node.left), type_of(reader, node.right)]  # noqa: UP007
    if isinstance(node, ast.Subscript):
        return _subscript(reader, node)
    name = _type_name(node)
    if name in _SIMPLE:
        return _SIMPLE[name]
    if name in MARKERS:
        raise reader.error(
            f"{name} marks a path and stands alone, or in a list",
            node,
            remedy=f"Write `{name}` or `list[{name}]`.",
        )
    raise reader.error(
        f"type `{excerpt(node)}` cannot be checked.{did_you_mean(name, (*_SIMPLE, *MARKERS))}",
        node,
        remedy=_ACCEPTED,
    )


def inferred(reader: Reader, name: str, default: Any, line: int) -> Any:
    """Return the type of a parameter whose default alone tells it.

    Raises:
        ContractError: the default does not tell, or has a type that cannot be checked.
    """
    if default is None or default is ABSENT:
        raise reader.error(
            f"{name!r} needs a type",
            line,
            remedy=f"For example `{name}: float | None = None`.",
        )
    kind = Path if isinstance(default, Path) else type(default)
    if kind not in _SIMPLE.values():
        raise reader.error(f"{name!r} cannot be a {kind.__name__}", line, remedy=_ACCEPTED)
    return kind


def _type_name(node: ast.expr) -> str:
    """Return the name of a type, whether from typing or built in."""
    name = last_name(node)
    return _GENERIC.get(name, name)


def _subscript(reader: Reader, node: ast.Subscript) -> Any:
    base = _type_name(node.value)
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    fewest, most = _ITEMS.get(base, (0, len(items)))
    if not fewest <= len(items) <= most or any(map(_is_ellipsis, items[:-1])):
        raise reader.error(f"type `{excerpt(node)}` has too few or too many parts", node)
    if base == "Literal":
        return _choice(tuple(literal(reader, "a choice of Literal", item) for item in items))
    if base == "Annotated":
        bounds = tuple(_bound(reader, item) for item in items[1:])
        return typing.Annotated[(type_of(reader, items[0]), *bounds)]
    if base == "Optional":
        return typing.Optional[type_of(reader, items[0])]  # noqa: UP045
    if base == "Union":
        return typing.Union[tuple(type_of(reader, item) for item in items)]  # noqa: UP007
    if base in ("list", "dict", "tuple"):
        is_variadic = base == "tuple" and len(items) == 2 and _is_ellipsis(items[1])
        inner = tuple(type_of(reader, item) for item in (items[:1] if is_variadic else items))
        return types.GenericAlias(_SIMPLE[base], (*inner, ...) if is_variadic else inner)
    raise reader.error(f"type `{excerpt(node)}` cannot be checked", node, remedy=_ACCEPTED)


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _choice(choices: tuple[Any, ...]) -> Any:
    """Return a Literal to which ``1``, ``1.0`` and ``True`` are three values, as they are to us."""
    from pydantic import BeforeValidator

    def exactly(value: Any) -> Any:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ValueError(f"it is none of {', '.join(map(repr, choices))}")
        return value

    return typing.Annotated[typing.Literal[choices], BeforeValidator(exactly)]


def _bound(reader: Reader, node: ast.expr) -> Any:
    """Return one annotated-types bound, such as ``Gt(0)``."""
    import annotated_types

    if isinstance(node, ast.Call) and last_name(node.func) in _BOUNDS:
        return made(reader, "a bound", node, getattr(annotated_types, last_name(node.func)))
    raise reader.error(
        f"`{excerpt(node)}` is no bound that can be checked",
        node,
        remedy=f"Accepted bounds of annotated-types: {', '.join(_BOUNDS)}.",
    )
