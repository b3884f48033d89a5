"""What the journal is asked: versions, aliases and approvals are read from its rows."""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlalchemy import Connection, Select, func, select

from mlnb.state.database import journal
from mlnb.state.records import MOVES, Entry

Query: TypeAlias = Select[Any]

row = journal.c


def everything() -> Query:
    """Return the query of all rows, the oldest first."""
    return select(journal).order_by(row.number)


def registrations(version: int | None = None) -> Query:
    """Return the query of the rows that say what a version is, by its number: of each the last.

    A move that was adopted brings its version with it, and a number that was given here as well.
    """
    kinds = row.kind.in_(("register", "adopt"))
    last = select(func.max(row.number)).where(kinds).group_by(row.version)
    if version is not None:
        last = last.where(row.version == version)
    return select(journal).where(row.number.in_(last)).order_by(row.version)


def entries(connection: Connection, query: Query) -> list[Entry]:
    """Return the rows that ``query`` finds."""
    return [Entry(**found) for found in connection.execute(query).mappings()]


def entry(connection: Connection, query: Query) -> Entry | None:
    """Return the first row that ``query`` finds; None if it finds none."""
    found = entries(connection, query.limit(1))
    return found[0] if found else None


def head(connection: Connection) -> Entry | None:
    """Return the newest row; None if there is none."""
    return entry(connection, select(journal).order_by(row.number.desc()))


def newest(connection: Connection) -> int:
    """Return the highest number of a version; 0 if none is registered."""
    return connection.scalar(select(func.max(row.version))) or 0


def aliases(connection: Connection) -> dict[str, int]:
    """Return where each alias is, sorted by name."""
    last = select(func.max(row.number)).where(row.kind.in_(MOVES)).group_by(row.alias)
    found = select(row.alias, row.version).where(row.number.in_(last)).order_by(row.alias)
    return {name: version for name, version in connection.execute(found)}  # noqa: C416 - typed


def statement(connection: Connection, alias: str) -> str:
    """Return the statement of the last move of ``alias``; empty if there is none."""
    moves = select(journal).where(row.kind.in_(MOVES), row.alias == alias)
    found = entry(connection, moves.order_by(row.number.desc()))
    return found.statement if found else ""


def placed(connection: Connection, alias: str, moment: str) -> Entry | None:
    """Return the last move of ``alias`` up to ``moment``; None if there is none."""
    moves = select(journal).where(row.kind.in_(MOVES), row.alias == alias, row.at <= moment)
    return entry(connection, moves.order_by(row.number.desc()))


def approvals(connection: Connection, version: int, bundle: str, alias: str) -> list[Entry]:
    """Return the approvals of ``version``, which is ``bundle``, for ``alias`` since it left it."""
    left = select(func.max(row.number)).where(
        row.kind.in_(MOVES), row.alias == alias, row.previous == version
    )
    given = everything().where(
        row.kind == "approve",
        row.alias == alias,
        row.version == version,
        row.bundle == bundle,
        row.number > (connection.scalar(left) or 0),
    )
    return entries(connection, given)
