"""Where the journal is kept: an SQLite file, or a PostgreSQL database for a team.

Every change is one transaction that holds the only right to write, so that what it read is still
true when it writes. The tables are made, and brought to a newer format, in such a transaction too:
both databases can take a table back. A process that is killed at any moment leaves the old tables
or the new ones, and of several that come first at once one makes them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from mlnb.state.errors import StateError, UnusableError

PATIENCE = 20
"""Seconds to wait for another process's change, or for a server."""

_LOCK = 0x6D6C6E62
"""Of PostgreSQL's advisory locks, the one that we take; its bytes say mlnb."""

# The first statements of a transaction that reads, and of one that writes.
#
# SQLite: with EXTRA the folder is synced after the rollback journal was deleted; without that a
# power cut could bring it back, and take back what we had said was done.
# PostgreSQL: the lock comes first, and a reading transaction sees one moment.
_READING: dict[str, tuple[str, ...]] = {
    "sqlite": ("BEGIN",),
    "postgresql": ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",),
}
_WRITING: dict[str, tuple[str, ...]] = {
    "sqlite": ("PRAGMA synchronous = EXTRA", "BEGIN IMMEDIATE"),
    "postgresql": (
        f"SET LOCAL lock_timeout = '{PATIENCE}s'",
        f"SELECT pg_advisory_xact_lock({_LOCK})",
    ),
}

_tables = MetaData()
_format = Table("mlnb_format", _tables, Column("number", Integer, nullable=False))
journal = Table(
    "mlnb_journal",
    _tables,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("previous", Integer),
    *(
        Column(name, Text, nullable=False)
        for name in ("who", "reason", "bundle", "candidate", "commit", "verdict", "statement")
    ),
    Column("before", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index("mlnb_journal_alias", "alias", "number"),
    Index("mlnb_journal_version", "version", "kind"),
    Index("mlnb_journal_bundle", "bundle", "kind"),
)


def _first(connection: Connection) -> None:
    """Make the tables."""
    _tables.create_all(connection, checkfirst=False)
    connection.execute(insert(_format).values(number=0))


STEPS: tuple[Callable[[Connection], None], ...] = (_first,)
"""Each brings a state to the next format; the first, from nothing to format 1."""


class Database:
    """Transactions on one database, which each open a connection of their own."""

    def __init__(self, engine: Engine, place: str) -> None:
        self._engine = engine
        self._kind = engine.dialect.name
        self.place = place

    @classmethod
    def open(cls, place: str | Path) -> Database:
        """Return the database at ``place``, in the present format.

        Raises:
            StateError: see :func:`mlnb.state.open_state`.
        """
        url = _address(place)
        shown = url.database if url.drivername == "sqlite" else url.render_as_string()
        try:
            database = cls(_engine(url), shown or "")
        except ImportError as error:
            raise UnusableError(
                f"PostgreSQL needs a package that is missing: {error}",
                where=shown or "",
                remedy="pip install 'mlnb[postgres]'",
            ) from error
        database._complete()
        return database

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that sees the state of one moment.

        Raises:
            UnusableError: the database cannot be reached, or refuses.
        """
        with self._transaction(_READING) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield the only connection that may change the state; commit unless something is raised.

        Raises:
            UnusableError: the database cannot be reached, or refuses.
        """
        with self._transaction(_WRITING) as connection:
            yield connection

    @contextmanager
    def _transaction(self, start: dict[str, tuple[str, ...]]) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                for statement in start[self._kind]:
                    connection.exec_driver_sql(statement)
                yield connection
        except SQLAlchemyError as error:
            raise self._unusable(error) from error

    def _complete(self) -> None:
        """Bring the tables to the present format; looks first, so that reading takes no lock."""
        with self.reading() as connection:
            present = _present(connection)
        if present < len(STEPS):
            with self.writing() as connection:
                for step in STEPS[_present(connection) :]:
                    step(connection)
                connection.execute(update(_format).values(number=len(STEPS)))
        elif present > len(STEPS):
            raise StateError(
                f"the state has format {present}; this mlnb knows formats up to {len(STEPS)}",
                where=self.place,
                remedy="Use the mlnb that the others use: pip install --upgrade mlnb",
            )

    def _unusable(self, error: SQLAlchemyError) -> UnusableError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = str(cause).strip().partition("\n")[0]
        if "locked" in reason or "lock timeout" in reason:
            remedy = f"Another process held it for {PATIENCE} s. Try again."
        elif self._kind == "sqlite":
            remedy = "Look at free space and permissions; `PRAGMA integrity_check` shows damage."
        else:
            remedy = "Is the server up? `state` in [tool.mlnb] says where it is."
        what = f"the state cannot be used: {reason}"
        return UnusableError(what, where=self.place, remedy=remedy)


def _present(connection: Connection) -> int:
    """Return the format of the tables; 0 if there are none."""
    if not inspect(connection).has_table(_format.name):
        return 0
    return int(connection.execute(select(_format.c.number)).scalar_one())


def _address(place: str | Path) -> URL:
    """Return ``place`` as an address of a database that we know."""
    if isinstance(place, Path) or "://" not in place:
        return URL.create("sqlite", database=os.path.abspath(place))
    try:
        url = make_url(place)
    except ArgumentError as error:
        raise StateError("no address of a database", where="`state` in [tool.mlnb]") from error
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        return _address(url.database)
    if url.get_backend_name() in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    raise StateError(
        "the state must be an SQLite file or a PostgreSQL database",
        where=url.render_as_string(),
        remedy="Write `state` in [tool.mlnb] as postgresql://HOST/DATABASE, or leave it out.",
    )


def _engine(url: URL) -> Engine:
    """Return the engine of ``url``; a connection lasts as long as its transaction."""
    if url.drivername != "sqlite":
        return create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": PATIENCE})
    folder = Path(url.database or "").parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableError(
            f"the folder of the state cannot be made: {error.strerror}", where=str(folder)
        ) from error
    # Without an isolation level the driver starts no transactions by itself; we start them.
    connect = {"timeout": PATIENCE, "isolation_level": None}
    return create_engine(url, poolclass=NullPool, connect_args=connect)
