"""A notebook's contract: the names, types, meaning and stand-alone defaults it declares.

The contract is one code cell tagged ``parameters``: ordinary Python, parsed by :mod:`ast` and
never executed. An annotated assignment declares a parameter; its comment is the help text::

    panel: In = "data/panel.parquet"
    learning_rate: Annotated[float, Gt(0), Le(1)] = 0.05   # Shrinkage of each boosting round

``In``, ``Out``, ``Metrics``, ``Plots`` and ``Predictions`` mark paths, relative to the project
root. A path may be an f-string over parameters above it. Everything else is a value; pydantic
checks it in strict mode, so that ``"5"`` is not an ``int`` and ``1`` is not a ``bool``.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import datetime
import functools
import io
import json
import math
import re
import tokenize
import types
import typing
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mlnb.errors import MlnbError, did_you_mean
from mlnb.notebook import PARAMETERS, Cell, Notebook

MARKERS = {
    "In": "in",
    "Out": "out",
    "Metrics": "metrics",
    "Plots": "plots",
    "Predictions": "predictions",
}
"""Marker names and the kind of path each declares."""

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
_BOUNDS = ("Gt", "Ge", "Lt", "Le", "Interval", "MultipleOf", "MinLen", "MaxLen", "Len")
_ACCEPTED = (
    "int, float, bool, str, list[...], dict[..., ...], tuple[...], date, datetime, Path, "
    "Literal[...], X | None, Annotated[X, Gt(0), ...], In, Out, Metrics, Plots, Predictions"
)


class ContractError(MlnbError):
    """A parameters cell, or a value for it, that cannot be accepted."""


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


class _Absent:
    """The default of a parameter without one."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()


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
        errors: list[MlnbError] = [
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
            raise _joined(errors)
        return bound

    def _value(
        self, p: Parameter, given: Mapping[str, Any], bound: Mapping[str, Any], source: str
    ) -> Any:
        if p.name in given:
            value = check(p, given[p.name], where=self.where(p), source=source)
        elif p.template:
            value = "".join(
                str(bound.get(text, f"{{{text}}}")) if name else text for text, name in p.template
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
                if problem := _path_problem(path):
                    raise ContractError(
                        f"path {p.name!r} {problem}: {_shown(path)} ({source})",
                        where=self.where(p),
                        remedy=_PATH_REMEDY,
                    )
        return value


def _joined(errors: list[MlnbError]) -> ContractError:
    return ContractError("\n".join(str(error) for error in errors))


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
    return Contract(notebook, cell, tuple(_parameters(notebook, cell)))


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
            f"parameter {parameter.name!r} cannot be {_shown(value)} ({source}): {reasons}",
            where=where,
            remedy=f"Accepted: {parameter.annotation or type(parameter.default).__name__}.",
        ) from None


def _typed(adapter: Any, value: Any) -> Any:
    try:
        json.dumps(value, default=_jsonable, ensure_ascii=False).encode()
        # JSON would make text of the dates in a plain list and of the keys of a plain dict.
        return adapter.validate_python(copy.deepcopy(value), strict=True)
    except ValueError:
        # JSON joins the two halves that YAML makes of "\\ud83d\\ude80", and refuses a single one.
        text = json.dumps(value, default=_jsonable)
    found = adapter.validate_json(text, strict=True)
    if "Infinity" not in text and any(map(_is_infinite, _leaves(found))):
        raise ValueError("a number in it is too large for a float")
    return found


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


def _shown(value: Any) -> str:
    """Return ``value`` as a message may show it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python will write
        return f"this {type(value).__name__}"
    return text if len(text) <= 200 else text[:197] + "..."


def _path_problem(path: str) -> str:
    """Return what is wrong with a path of a contract; empty if nothing is."""
    pure = PurePosixPath(path)
    if (
        not path.strip()
        or pure.is_absolute()
        or path.startswith("~")
        or path[1:2] == ":"
        or "\\" in path
        or not path.isprintable()
    ):
        return "is not a path relative to the project root"
    return "leaves the project root" if ".." in pure.parts else ""


_PATH_REMEDY = "Write it as in dvc.yaml: 'data/panel.parquet'."


def _reason(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    return f"{place}: {error['msg']}" if place else str(error["msg"])


@functools.lru_cache(maxsize=1024)
def _cached_adapter(key: str, kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _adapter(parameter: Parameter) -> Any:
    from pydantic import TypeAdapter

    try:
        return _cached_adapter(parameter.annotation, parameter.type)
    except TypeError:  # a Literal of unhashable content
        return TypeAdapter(parameter.type)


def _jsonable(value: Any) -> Any:
    """Return what JSON lacks: dates as ISO strings, paths and YAML's own scalars as strings."""
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if isinstance(value, Path | PurePosixPath):
        return str(value)
    raise TypeError(f"a {type(value).__name__} is not a value that YAML holds")


# --- the parameters cell -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Reader:
    """The parameters cell while it is read: makes errors that carry a position."""

    notebook: Notebook
    cell: Cell

    def error(self, what: str, node: ast.AST | int, remedy: str = "") -> ContractError:
        line = node if isinstance(node, int) else getattr(node, "lineno", 0)
        return ContractError(what, where=self.notebook.where(self.cell, line), remedy=remedy)


def _parameters(notebook: Notebook, cell: Cell) -> Iterator[Parameter]:
    reader = _Reader(notebook, cell)
    statements = _parse(reader).body
    comments = _comments(cell.source)
    seen: dict[str, Parameter] = {}
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass) or _is_docstring(
            statement
        ):
            continue
        parameter = _parameter(reader, statement, comments, seen)
        if parameter.name in seen:
            raise reader.error(
                f"{parameter.name!r} is declared twice, first in line {seen[parameter.name].line}",
                statement,
            )
        seen[parameter.name] = parameter
        yield parameter


def _parse(reader: _Reader) -> ast.Module:
    try:
        return _tree(reader.cell.source)
    except _NOT_PARSED as error:
        for magic, line in enumerate(_lines(reader.cell.source), 1):
            if line.lstrip().startswith(("%", "!")):
                raise reader.error(
                    f"the parameters cell holds a magic: {line.strip()}",
                    magic,
                    remedy="Move it to a cell of its own above.",
                ) from None
        reason = error.args[0] if error.args else "it is nested too deeply"
        at = int(getattr(error, "lineno", 0) or 0)
        raise reader.error(f"the parameters cell is not Python: {reason}", at) from None


_NOT_PARSED = (SyntaxError, ValueError, RecursionError, MemoryError)


def _tree(source: str) -> ast.Module:
    """Parse ``source``; what Python warns of in it is for its author, at the run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _lines(source: str) -> list[str]:
    """Return the lines as Python counts them; ``splitlines`` knows more ends."""
    return re.split(r"\r\n|\r|\n", source)


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _parameter(
    reader: _Reader, statement: ast.stmt, comments: Mapping[int, str], seen: Mapping[str, Parameter]
) -> Parameter:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        target, annotation, value = statement.target, statement.annotation, statement.value
    elif (
        isinstance(statement, ast.Assign)
        and len(statement.targets) == 1
        and isinstance(statement.targets[0], ast.Name)
    ):
        target, annotation, value = statement.targets[0], None, statement.value
    else:
        raise reader.error(
            f"the parameters cell may only import and assign, not `{_source(statement)}`",
            statement,
            remedy="Move it to the next cell, which sees the run's values.",
        )
    if target.id.startswith("__") and target.id.endswith("__"):
        raise reader.error(
            f"{target.id!r} is Python's own name", statement, remedy="Choose another."
        )
    help_text = _help(comments, statement)
    if annotation is not None:
        annotation = _unquoted(reader, annotation)
        if (marker := _marker(annotation)) is not None:
            return _path(reader, target.id, marker, annotation, value, help_text, statement, seen)
        kind = _type(reader, annotation)
        text = ast.unparse(annotation)
    default = ABSENT if value is None else _literal(reader, _default_of(target.id), value)
    if annotation is None:
        kind, text = _inferred(reader, target.id, default, statement), ""
    parameter = Parameter(target.id, "value", text, kind, default, (), help_text, statement.lineno)
    _refuse_impossible(reader, parameter, statement)
    if default is ABSENT:
        return parameter
    where = reader.notebook.where(reader.cell, statement.lineno)
    return dataclasses.replace(
        parameter, default=check(parameter, default, where=where, source="its default")
    )


def _default_of(name: str) -> str:
    return f"the default of {name!r}"


def _refuse_impossible(reader: _Reader, parameter: Parameter, statement: ast.stmt) -> None:
    """Refuse a type that reads well and cannot be checked, such as ``Annotated[int, Gt("a")]``."""
    from pydantic import PydanticUserError
    from pydantic_core import SchemaError

    try:
        _adapter(parameter)
    except (PydanticUserError, SchemaError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise reader.error(
            f"type `{parameter.annotation}` cannot be checked: {reason}", statement
        ) from None


def _path(
    reader: _Reader,
    name: str,
    marker: tuple[str, bool],
    annotation: ast.expr,
    value: ast.expr | None,
    help_text: str,
    statement: ast.stmt,
    seen: Mapping[str, Parameter],
) -> Parameter:
    kind, many = marker
    template: tuple[tuple[str, bool], ...] = ()
    default: Any = ABSENT
    if isinstance(value, ast.JoinedStr) and not many:
        template = tuple(_template(reader, value, seen))
        _check_relative(
            reader, name, "".join("x" if is_name else text for text, is_name in template), statement
        )
    elif value is not None:
        default = _literal(reader, _default_of(name), value)
        default = default.as_posix() if isinstance(default, Path) else default
        wanted = list if many else str
        items = default if many and isinstance(default, list) else [default]
        if not isinstance(default, wanted) or not all(isinstance(item, str) for item in items):
            raise reader.error(f"path {name!r} must be a string, not {default!r}", statement)
        for item in items:
            _check_relative(reader, name, item, statement)
    kind_of_value: Any = list[str] if many else str
    return Parameter(
        name,
        kind,
        ast.unparse(annotation),
        kind_of_value,
        default,
        template,
        help_text,
        statement.lineno,
        many,
    )


def _check_relative(reader: _Reader, name: str, path: str, statement: ast.stmt) -> None:
    if problem := _path_problem(path):
        raise reader.error(
            f"path {name!r} {problem}: {_shown(path)}", statement, remedy=_PATH_REMEDY
        )


def _template(
    reader: _Reader, value: ast.JoinedStr, seen: Mapping[str, Parameter]
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
            if part.value.id not in seen:
                raise reader.error(
                    f"the path uses {part.value.id!r}, which is no parameter above it", value
                )
            yield part.value.id, True
        else:
            raise reader.error(
                f"the path is an f-string of more than plain parameter names: {_source(value)}",
                value,
            )


def _marker(annotation: ast.expr) -> tuple[str, bool] | None:
    """Return (kind, many) if the annotation is a path marker or a list of them."""
    if isinstance(annotation, ast.Subscript) and _name(annotation.value) in ("list", "List"):
        inner = annotation.slice
        name = inner.value if isinstance(inner, ast.Constant) else _name(inner)
        return (MARKERS[name], True) if isinstance(name, str) and name in MARKERS else None
    name = _name(annotation)
    return (MARKERS[name], False) if name in MARKERS else None


def _unquoted(reader: _Reader, annotation: ast.expr) -> ast.expr:
    """Return the expression in a string annotation, or the annotation itself."""
    if not (isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)):
        return annotation
    try:
        # In brackets as typing reads it, so that it may have more than one line.
        body = _tree(f"({annotation.value}\n)").body
        if len(body) != 1 or not isinstance(body[0], ast.Expr):
            raise ValueError
    except _NOT_PARSED:
        raise reader.error(
            f"the annotation {_shown(annotation.value)} is not Python", annotation
        ) from None
    for node in ast.walk(body[0]):
        ast.copy_location(node, annotation)
    return body[0].value


def _name(node: ast.expr) -> str:
    """Return the last part of a dotted name, or an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _type(reader: _Reader, node: ast.expr) -> Any:
    """Return the type that an annotation names, without executing it."""
    node = _unquoted(reader, node)
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return typing.Union[_type(reader, node.left), _type(reader, node.right)]  # noqa: UP007
    if isinstance(node, ast.Subscript):
        return _subscript(reader, node)
    name = _GENERIC.get(_name(node), _name(node))
    if name in _SIMPLE:
        return _SIMPLE[name]
    if name in MARKERS:
        raise reader.error(
            f"{name} marks a path and stands alone, or in a list",
            node,
            remedy=f"Write `{name}` or `list[{name}]`.",
        )
    raise reader.error(
        f"type `{_source(node)}` cannot be checked.{did_you_mean(name, (*_SIMPLE, *MARKERS))}",
        node,
        remedy=f"Accepted types: {_ACCEPTED}.",
    )


def _subscript(reader: _Reader, node: ast.Subscript) -> Any:
    base = _GENERIC.get(_name(node.value), _name(node.value))
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    fewest, most = _ITEMS.get(base, (0, len(items)))
    if not fewest <= len(items) <= most or any(map(_is_ellipsis, items[:-1])):
        raise reader.error(f"type `{_source(node)}` has too few or too many parts", node)
    if base == "Literal":
        return _choice(tuple(_literal(reader, "a choice of Literal", item) for item in items))
    if base == "Annotated":
        bounds = tuple(_bound(reader, item) for item in items[1:])
        return typing.Annotated[(_type(reader, items[0]), *bounds)]
    if base == "Optional":
        return typing.Optional[_type(reader, items[0])]  # noqa: UP045
    if base == "Union":
        return typing.Union[tuple(_type(reader, item) for item in items)]  # noqa: UP007
    if base in ("list", "dict", "tuple"):
        is_variadic = base == "tuple" and len(items) == 2 and _is_ellipsis(items[1])
        inner = (
            (_type(reader, items[0]), ...)
            if is_variadic
            else tuple(_type(reader, i) for i in items)
        )
        return types.GenericAlias(_SIMPLE[base], inner)
    raise reader.error(
        f"type `{_source(node)}` cannot be checked", node, remedy=f"Accepted types: {_ACCEPTED}."
    )


_ITEMS = {
    "Annotated": (2, 99),
    "Literal": (1, 999),
    "Optional": (1, 1),
    "list": (1, 1),
    "dict": (2, 2),
}
"""How many parts a type may have in its brackets: fewest, most."""


def _choice(choices: tuple[Any, ...]) -> Any:
    """Return a Literal to which ``1``, ``1.0`` and ``True`` are three values, as they are to us."""
    from pydantic import BeforeValidator

    def exactly(value: Any) -> Any:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ValueError(f"it is none of {', '.join(map(repr, choices))}")
        return value

    return typing.Annotated[typing.Literal[choices], BeforeValidator(exactly)]


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _bound(reader: _Reader, node: ast.expr) -> Any:
    """Return one annotated-types bound, such as ``Gt(0)``."""
    import annotated_types

    if isinstance(node, ast.Call) and _name(node.func) in _BOUNDS:
        return _made(reader, "a bound", node, getattr(annotated_types, _name(node.func)))
    raise reader.error(
        f"`{_source(node)}` is no bound that can be checked",
        node,
        remedy=f"Accepted bounds of annotated-types: {', '.join(_BOUNDS)}.",
    )


def _literal(reader: _Reader, what: str, node: ast.expr) -> Any:
    """Return the value of a literal, a date, datetime or Path call; never executes anything."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    if isinstance(node, ast.Call) and _name(node.func) in ("Path", "date", "datetime", "float"):
        return _made(reader, what, node, _SIMPLE[_name(node.func)])
    if isinstance(node, ast.List | ast.Tuple):
        items = [_literal(reader, what, item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict) and all(node.keys):
        pairs = [(key, value) for key, value in zip(node.keys, node.values, strict=True) if key]
        return {_literal(reader, what, k): _literal(reader, what, v) for k, v in pairs}
    raise reader.error(
        f"{what} is computed: `{_source(node)}`",
        node,
        remedy="Defaults are literals; compute in the next cell, which sees the run's values.",
    )


def _made(reader: _Reader, what: str, call: ast.Call, constructor: Any) -> Any:
    """Return what one of our own constructors makes of the literals in ``call``."""
    if any(keyword.arg is None for keyword in call.keywords):
        raise reader.error(f"{what} is computed: `{_source(call)}`", call)
    arguments = [_literal(reader, what, argument) for argument in call.args]
    keywords = {str(k.arg): _literal(reader, what, k.value) for k in call.keywords}
    try:
        return constructor(*arguments, **keywords)
    except (TypeError, ValueError, OverflowError) as error:
        raise reader.error(f"{what}: `{_source(call)}`: {error}", call) from None


def _inferred(reader: _Reader, name: str, default: Any, statement: ast.stmt) -> Any:
    if default is None or default is ABSENT:
        raise reader.error(
            f"{name!r} needs a type",
            statement,
            remedy=f"For example `{name}: float | None = None`.",
        )
    kind = Path if isinstance(default, Path) else type(default)
    if kind not in _SIMPLE.values():
        raise reader.error(
            f"{name!r} cannot be a {kind.__name__}",
            statement,
            remedy=f"Accepted types: {_ACCEPTED}.",
        )
    return kind


def _comments(source: str) -> dict[int, str]:
    """Return comments by line; a comment that has its line to itself counts negative."""
    found: dict[int, str] = {}
    lines = io.StringIO("\n".join(_lines(source)))
    for token in tokenize.generate_tokens(lines.readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            found[-token.start[0] if alone else token.start[0]] = token.string.lstrip("#").strip()
    return found


def _help(comments: Mapping[int, str], statement: ast.stmt) -> str:
    """Return the comment at the end of the statement, else the lines of comment right above."""
    for line in range(statement.lineno, (statement.end_lineno or statement.lineno) + 1):
        if line in comments:
            return comments[line]
    above: list[str] = []
    line = statement.lineno - 1
    while -line in comments:
        above.insert(0, comments[-line])
        line -= 1
    return " ".join(above)


def _source(node: ast.AST) -> str:
    """Return the first line of the source of ``node``, not too long for a message."""
    try:
        line = ast.unparse(node).splitlines()[0]
    except RecursionError:
        return "..."
    return line if len(line) <= 60 else line[:57] + "..."
