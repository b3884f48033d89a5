"""The statements of the parameters cell as assignments, each with the comment that explains it."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlnb.contract.reader import NOT_PARSED, Reader, excerpt, parse


@dataclass(frozen=True)
class Assignment:
    """One assignment to a name.

    Attributes:
        name: the name.
        annotation: the annotation, out of its quotes; None without one.
        value: what is assigned; None for an annotation alone.
        help: the comment beside or right above it.
        line: its line in the cell, from 1.
    """

    name: str
    annotation: ast.expr | None
    value: ast.expr | None
    help: str
    line: int


def assignments(reader: Reader) -> Iterator[Assignment]:
    """Yield the cell's assignments in order.

    Raises:
        ContractError: the cell is not Python, or does more than import and assign.
    """
    statements = _statements(reader)
    comments = _comments(reader.cell.source)
    for statement in statements:
        if not _declares_nothing(statement):
            yield _assignment(reader, statement, comments)


def _statements(reader: Reader) -> list[ast.stmt]:
    try:
        return parse(reader.cell.source)
    except NOT_PARSED as error:
        for number, line in enumerate(_lines(reader.cell.source), 1):
            if line.lstrip().startswith(("%", "!")):
                raise reader.error(
                    f"the parameters cell holds a magic: {line.strip()}",
                    number,
                    remedy="Move it to a cell of its own above.",
                ) from None
        reason = error.args[0] if error.args else "it is nested too deeply"
        at = int(getattr(error, "lineno", 0) or 0)
        raise reader.error(f"the parameters cell is not Python: {reason}", at) from None


def _lines(source: str) -> list[str]:
    """Return the lines as Python counts them; ``splitlines`` knows more ends."""
    return re.split(r"\r\n|\r|\n", source)


def _declares_nothing(statement: ast.stmt) -> bool:
    """Whether it is an import, ``pass`` or a docstring."""
    return isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass) or (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _assignment(reader: Reader, statement: ast.stmt, comments: Mapping[int, str]) -> Assignment:
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
            annotated: ast.expr | None = annotation
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            annotated = None
        case _:
            raise reader.error(
                f"the parameters cell may only import and assign, not `{excerpt(statement)}`",
                statement,
                remedy="Move it to the next cell, which sees the run's values.",
            )
    if name.startswith("__") and name.endswith("__"):
        raise reader.error(f"{name!r} is Python's own name", statement, remedy="Choose another.")
    if annotated is not None:
        annotated = reader.unquoted(annotated)
    return Assignment(name, annotated, value, _help(comments, statement), statement.lineno)


def _comments(source: str) -> dict[int, str]:
    """Return comments by line; a comment that has its line to itself counts negative."""
    found: dict[int, str] = {}
    lines = io.StringIO("\n".join(_lines(source)))
    for token in tokenize.generate_tokens(lines.readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            alone = not token.line[:column].strip()
            found[-line if alone else line] = token.string.lstrip("#").strip()
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
