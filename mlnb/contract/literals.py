"""Values written out in the parameters cell, read without executing anything."""

from __future__ import annotations

import ast
import datetime
from pathlib import Path
from typing import Any

from mlnb.contract.reader import Reader, excerpt, last_name

_CONSTRUCTORS: dict[str, Any] = {
    "Path": Path,
    "date": datetime.date,
    "datetime": datetime.datetime,
    "float": float,
}


def literal(reader: Reader, what: str, node: ast.expr) -> Any:
    """Return the value of a literal, or of a call of Path, date, datetime or float on literals.

    Args:
        reader: the parameters cell.
        what: what is read, for messages.
        node: the expression.

    Raises:
        ContractError: it would have to be computed.
    """
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    if isinstance(node, ast.Call) and last_name(node.func) in _CONSTRUCTORS:
        return made(reader, what, node, _CONSTRUCTORS[last_name(node.func)])
    if isinstance(node, ast.List | ast.Tuple):
        items = [literal(reader, what, item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict) and all(node.keys):
        pairs = [(key, value) for key, value in zip(node.keys, node.values, strict=True) if key]
        return {literal(reader, what, k): literal(reader, what, v) for k, v in pairs}
    raise reader.error(
        f"{what} is computed: `{excerpt(node)}`",
        node,
        remedy="Defaults are literals; compute in the next cell, which sees the run's values.",
    )


def made(reader: Reader, what: str, call: ast.Call, constructor: Any) -> Any:
    """Return what one of our own constructors makes of the literals in ``call``."""
    if any(keyword.arg is None for keyword in call.keywords):
        raise reader.error(f"{what} is computed: `{excerpt(call)}`", call)
    arguments = [literal(reader, what, argument) for argument in call.args]
    keywords = {str(k.arg): literal(reader, what, k.value) for k in call.keywords}
    try:
        return constructor(*arguments, **keywords)
    except (TypeError, ValueError, OverflowError) as error:
        raise reader.error(f"{what}: `{excerpt(call)}`: {error}", call) from None
