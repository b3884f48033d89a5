"""The verbs of the state: each change is one row of the journal, in one transaction."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert

from mlnb.state import chain, queries
from mlnb.state.database import Database, journal
from mlnb.state.errors import ConflictError, StateError
from mlnb.state.records import Entry, Kind, Move, Report, Version

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ALIAS = re.compile(r"[a-z][a-z0-9-]{0,62}")
"""An alias names a file of the published statement, too, and an alias of MLflow's."""

_TEXTS = ("alias", "reason", "candidate", "commit", "verdict", "statement")


class State:
    """Which version each alias is at, and how it came there. Several processes may use it.

    Every verb may raise :class:`UnusableError`. Then nothing was changed, unless the machine failed
    while it committed; the journal tells.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        return self._database.place

    def register(
        self, *, bundle: str, candidate: str, commit: str, verdict: str, by: str
    ) -> Version:
        """Return the version of ``bundle``, which gets the next number unless it has one.

        Args:
            bundle: its digest, ``sha256:…``; a bundle is registered once, whatever the rest says.
            candidate: digest of the candidate it was packed from.
            commit: of git.
            verdict: digest of the verdict.
            by: who registers it.

        Raises:
            StateError: ``bundle`` is no digest, or nobody registers it.
        """
        if not _DIGEST.fullmatch(bundle):
            raise StateError(f"{bundle!r} is no digest of a bundle", where=self.place)
        self._check(by)
        same = queries.registrations().where(queries.row.bundle == bundle)
        with self._database.writing() as connection:
            found = queries.entry(connection, same) or self._append(
                connection, "register", by, version=queries.newest(connection) + 1,
                bundle=bundle, candidate=candidate, commit=commit, verdict=verdict,
            )  # fmt: skip
        return _version(found)

    def record(self, version: int, *, verdict: str, who: str, reason: str) -> Entry:
        """Write down a verdict on ``version``, such as one that blocks it; nothing moves.

        Raises:
            StateError: there is no such version.
        """
        self._check(who)
        with self._database.writing() as connection:
            bundle = self._registered(connection, version).bundle
            return self._append(
                connection, "record", who, version=version, bundle=bundle,
                reason=reason, verdict=verdict,
            )  # fmt: skip

    def move(
        self,
        alias: str,
        version: int,
        *,
        expected: int | None,
        kind: Move,
        who: str,
        reason: str,
        verdict: str = "",
        statement: str = "",
        follows: str = "",
        again: bool = False,
    ) -> Entry:
        """Move ``alias`` to ``version``, if it is where it is expected.

        Args:
            expected: version that the alias is at; None for an alias that is at none.
            kind: ``promote`` goes to a higher number; ``rollback`` to a lower one, or stays, where
                a version is signed anew.
            verdict: digest of the verdict that it is done on.
            statement: digest of the signed statement that publishes it.
            follows: statement of the alias's last move, where another one must not be overtaken:
                the alias may have left its version meanwhile, and come back.
            again: whether it may be promoted to where it is, which completes a roll-out.

        Raises:
            ConflictError: the alias is somewhere else.
            StateError: no such version, no name of an alias, or the other direction.
        """
        self._check(who, alias)
        with self._database.writing() as connection:
            bundle = self._registered(connection, version).bundle
            current = queries.aliases(connection).get(alias)
            if current != expected:
                raise ConflictError(
                    f"{alias} is {_at(current)}, not {_at(expected)}: somebody moved it meanwhile",
                    where=self.place,
                    remedy=f"Look at `mlnb history --to {alias}`, and decide again.",
                )
            if follows and queries.statement(connection, alias) != follows:
                raise ConflictError(
                    f"{alias} has another statement by now: somebody decided meanwhile",
                    where=self.place,
                    remedy=f"Look at `mlnb history --to {alias}`, and decide again.",
                )
            if not (again and kind == "promote" and current == version):
                self._direct(alias, current, version, kind)
            return self._append(
                connection, kind, who, alias=alias, version=version, previous=current,
                bundle=bundle, reason=reason, verdict=verdict, statement=statement,
            )  # fmt: skip

    def adopt(
        self,
        alias: str,
        version: int,
        *,
        expected: int | None,
        bundle: str,
        candidate: str,
        commit: str,
        verdict: str,
        statement: str,
        who: str,
        reason: str,
    ) -> Entry:
        """Write down a move that another state made, as a signed statement says; once.

        It brings its version with it. A number that was given here to another bundle is that one's
        then; the other bundle gets a new one when it is registered again.

        Args:
            expected: version that the alias is at here.
            statement: digest of the statement, which was verified; the rest is what it says.

        Raises:
            ConflictError: the alias is somewhere else; another alias is at the number, with another
                bundle.
            StateError: no name of an alias, or no digest.
        """
        self._check(who, alias)
        if not _DIGEST.fullmatch(bundle) or not _DIGEST.fullmatch(statement) or version < 1:
            raise StateError("is no move that can be adopted", where=self.place)
        same = queries.everything().where(queries.row.statement == statement)
        with self._database.writing() as connection:
            if found := queries.entry(connection, same):
                return found
            aliases = queries.aliases(connection)
            if aliases.get(alias) != expected:
                raise ConflictError(
                    f"{alias} is {_at(aliases.get(alias))}, not {_at(expected)}: somebody moved it"
                    " meanwhile",
                    where=self.place,
                )
            registered = queries.entry(connection, queries.registrations(version))
            others = [name for name, at in aliases.items() if at == version and name != alias]
            if others and registered and registered.bundle != bundle:
                raise ConflictError(
                    f"version {version} is another bundle in {', '.join(others)} than in {alias}:"
                    " two states gave the same number",
                    where=self.place,
                    remedy=f"`mlnb rollback --to {others[0]}`; promoted again, the bundle that is"
                    " there now gets a new number.",
                )
            return self._append(
                connection, "adopt", who, alias=alias, version=version, previous=expected,
                bundle=bundle, candidate=candidate, commit=commit, verdict=verdict,
                statement=statement, reason=reason,
            )  # fmt: skip

    def approve(self, version: int, alias: str, *, who: str, reason: str) -> Entry:
        """Write down that ``who`` wants ``version`` at ``alias``; a second time changes nothing.

        Raises:
            StateError: no such version, or no name of an alias.
        """
        self._check(who, alias)
        with self._database.writing() as connection:
            bundle = self._registered(connection, version).bundle
            for given in queries.approvals(connection, version, bundle, alias):
                if given.who == who:
                    return given
            return self._append(
                connection, "approve", who, alias=alias, version=version, bundle=bundle,
                reason=reason,
            )  # fmt: skip

    def approvals(self, version: int, alias: str) -> list[Entry]:
        """Return who wants ``version`` at ``alias``, each person once.

        Approvals are used up when the alias leaves the version: what was rolled back needs others.
        """
        with self._database.reading() as connection:
            found = queries.entry(connection, queries.registrations(version))
            bundle = found.bundle if found else ""
            return queries.approvals(connection, version, bundle, alias)

    def versions(self) -> list[Version]:
        """Return all versions by number."""
        with self._database.reading() as connection:
            return [*map(_version, queries.entries(connection, queries.registrations()))]

    def version(self, number: int) -> Version:
        """Return a version.

        Raises:
            StateError: there is none of that number.
        """
        with self._database.reading() as connection:
            return _version(self._registered(connection, number))

    def aliases(self) -> dict[str, int]:
        """Return where each alias is, sorted by name."""
        with self._database.reading() as connection:
            return queries.aliases(connection)

    def at(self, alias: str, moment: datetime) -> Version | None:
        """Return the version that ``alias`` was at then; None if it was at none.

        Args:
            moment: a change at this very moment counts; without a zone it is local time.
        """
        with self._database.reading() as connection:
            move = queries.placed(connection, alias, _text(moment))
            return _version(self._registered(connection, move.version)) if move else None

    def journal(self) -> list[Entry]:
        """Return all rows, the oldest first."""
        with self._database.reading() as connection:
            return queries.entries(connection, queries.everything())

    def head(self) -> Entry | None:
        """Return the newest row; None if there is none."""
        with self._database.reading() as connection:
            return queries.head(connection)

    def verify(self, anchors: Iterable[tuple[int, str]] = ()) -> Report:
        """Compute the chain again out of the rows, and compare it with ``anchors``.

        Args:
            anchors: numbers and hashes of rows that signed statements name. Without any, neither a
                chain that was computed again nor rows cut off at the end can be seen.
        """
        return chain.verify(self.journal(), anchors)

    def _registered(self, connection: Connection, version: int) -> Entry:
        if found := queries.entry(connection, queries.registrations(version)):
            return found
        newest = queries.newest(connection)
        known = f"the newest is {newest}" if newest else "none is registered yet"
        raise StateError(
            f"there is no version {version}; {known}",
            where=self.place,
            remedy="`mlnb models` lists them.",
        )

    def _append(
        self, connection: Connection, kind: Kind, who: str, *, version: int, **rest: Any
    ) -> Entry:
        """Write one row below the newest and return it; text that is not given is empty."""
        head = queries.head(connection)
        number, at, before = (head.number, head.at, head.hash) if head else (0, "", "")
        content: dict[str, Any] = {
            **dict.fromkeys(_TEXTS, ""), "previous": None, **rest,
            "number": number + 1, "kind": kind, "version": version, "who": who,
            # A clock that was set back, or another machine's, must not turn the order around.
            "at": max(at, _text(datetime.now(UTC))), "before": before,
        }  # fmt: skip
        for name, value in content.items():
            if isinstance(value, str) and not _storable(value):
                raise StateError(f"{name} is no text: {value!r}", where=self.place)
        content["hash"] = chain.seal(content)
        connection.execute(insert(journal).values(content))
        return Entry(**content)

    def _check(self, who: str, alias: str | None = None) -> None:
        """Refuse a change by nobody, and what no alias can be called."""
        if not who.strip():
            raise StateError("a change needs somebody who makes it", where=self.place)
        if alias is not None and not _ALIAS.fullmatch(alias):
            raise StateError(
                f"{alias!r} cannot be the name of an alias",
                where=self.place,
                remedy="Names are of lower-case letters, digits and '-', such as production.",
            )

    def _direct(self, alias: str, current: int | None, version: int, kind: Move) -> None:
        """Refuse to promote nowhere or backward, and to roll back forward."""
        if kind == "promote" and current == version:
            raise StateError(f"{alias} is at version {version} already", where=self.place)
        if kind == "promote" and current is not None and version < current:
            raise StateError(
                f"{alias} is at version {current}; version {version} is older",
                where=self.place,
                remedy=f"`mlnb rollback --to {alias} {version}` goes back.",
            )
        if kind == "rollback" and (current is None or version > current):
            raise StateError(
                f"{alias} is {_at(current)}; version {version} is not before that",
                where=self.place,
                remedy=f"`mlnb promote {version} --to {alias}` goes forward.",
            )


def _version(entry: Entry) -> Version:
    return Version(
        entry.version, entry.bundle, entry.candidate, entry.commit, entry.verdict,
        registered_at=entry.at, by=entry.who,
    )  # fmt: skip


def _text(moment: datetime) -> str:
    """Return ``moment`` as the journal writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _storable(text: str) -> bool:
    """Whether both databases keep ``text``: no zero byte, no half of a pair of an odd argument."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)


def _at(version: int | None) -> str:
    return "at no version" if version is None else f"at version {version}"
