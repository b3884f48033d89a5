"""Values against the type of a parameter: checked by pydantic in strict mode."""

from __future__ import annotations

import copy
import datetime
import functools
import json
import math
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from mlnb.contract.reader import shown
from mlnb.contract.records import ContractError, Parameter


def check(parameter: Parameter, value: Any, *, where: str, source: str) -> Any:
    """Return ``value`` as the parameter's type, by pydantic in strict mode.

    Values arrive as YAML or JSON has them, so a list may become a tuple and an ISO string a
    date; a number in quotes stays a string and is refused. What has the type already is returned
    as it is, though a copy.

    Raises:
        ContractError: naming the parameter, the value and what is accepted.
    """
    from pydantic import ValidationError

    try:
        return _typed(_adapter(parameter), value)
    except (ValidationError, TypeError, ValueError, RecursionError) as error:
        reasons = (
            "; ".join(_reason(e) for e in error.errors(include_url=False))
            if isinstance(error, ValidationError)
            else str(error)
        )
        raise ContractError(
            f"parameter {parameter.name!r} cannot be {shown(value)} ({source}): {reasons}",
            where=where,
            remedy=f"Accepted: {parameter.annotation or type(parameter.default).__name__}.",
        ) from None


def impossible(parameter: Parameter) -> str:
    """Return why nothing can be checked against the type, such as ``Annotated[int, Gt("a")]``.

    Empty if something can.
    """
    from pydantic import PydanticUserError
    from pydantic_core import SchemaError

    try:
        _adapter(parameter)
    except (PydanticUserError, SchemaError, TypeError, ValueError) as error:
        return str(error).splitlines()[-1].strip()
    return ""


def _typed(adapter: Any, value: Any) -> Any:
    try:
        json.dumps(value, default=_jsonable, ensure_ascii=False).encode()
        # JSON would make text of the dates in a plain list and of the keys of a plain dict.
        return adapter.validate_python(copy.deepcopy(value), strict=True)
    except ValueError:
        # JSON joins the two halves that YAML makes of "\\ud83d\\ude80", and refuses a single one.
        text = json.dumps(value, default=_jsonable)
    found = adapter.validate_json(text, strict=True)
    if "Infinity" not in text and any(
        isinstance(leaf, float) and math.isinf(leaf) for leaf in _leaves(found)
    ):
        raise ValueError("a number in it is too large for a float")
    return found


def _jsonable(value: Any) -> Any:
    """Return what JSON lacks: dates as ISO strings, paths as strings."""
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"a {type(value).__name__} is not a value that YAML holds")


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _reason(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    return f"{place}: {error['msg']}" if place else str(error["msg"])


def _adapter(parameter: Parameter) -> Any:
    try:
        return _cached_adapter(parameter.annotation, parameter.type)
    except TypeError:  # a Literal of unhashable content
        return _cached_adapter.__wrapped__(parameter.annotation, parameter.type)


@functools.lru_cache(maxsize=1024)
def _cached_adapter(annotation: str, kind: Any) -> Any:
    """Return the adapter; ``annotation`` tells ``Literal[1]`` from ``Literal[True]``, its equal."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
