"""The rows of the journal, and what is read from them.

Moments are text in UTC, such as ``2026-11-01T09:30:00.000000Z``: what is hashed, and sorts as it
happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["register", "promote", "rollback", "adopt", "approve", "record"]
Move = Literal["promote", "rollback"]
MOVES: tuple[Kind, ...] = ("promote", "rollback", "adopt")
"""Rows that say where an alias is."""


@dataclass(frozen=True)
class Entry:
    """One row of the journal; text that does not apply is empty.

    Attributes:
        number: 1 for the first, without gaps.
        at: when it was written; never before the row above it.
        kind: ``register`` a version, ``promote`` or ``rollback`` an alias to it, ``adopt`` a move
            that another state made, ``approve`` it for an alias, ``record`` a verdict on it.
        alias: that was moved or approved for.
        version: that the row is about.
        previous: version that the alias was at; None if at none.
        who: did it.
        reason: why, in their words.
        bundle: digest of the version's bundle, in each row.
        candidate: digest of the candidate it was registered from, and ``commit`` of git.
        verdict: digest of the verdict it was done on.
        statement: digest of the signed statement that publishes it.
        before: hash of the row above it; empty in the first.
        hash: of all of the above.
    """

    number: int
    at: str
    kind: Kind
    alias: str
    version: int
    previous: int | None
    who: str
    reason: str
    bundle: str
    candidate: str
    commit: str
    verdict: str
    statement: str
    before: str
    hash: str

    @property
    def is_forward(self) -> bool:
        """Whether it moved an alias forward, or to where it was: what a rollback can go back to."""
        adopted = self.kind == "adopt" and self.version >= (self.previous or 0)
        return self.kind == "promote" or adopted


@dataclass(frozen=True)
class Version:
    """A bundle with a number, given once: 1 for the first.

    Attributes:
        bundle: its digest, ``sha256:`` and 64 hexadecimal digits.
        candidate: digest of the candidate it was packed from.
        commit: of git, on which it was registered.
        verdict: digest of the verdict at that time.
        registered_at: when, in UTC.
        by: who registered it.
    """

    number: int
    bundle: str
    candidate: str
    commit: str
    verdict: str
    registered_at: str
    by: str


@dataclass(frozen=True)
class Fault:
    """Something in the journal that nobody wrote there by mlnb.

    Attributes:
        number: of the row.
        what: is wrong with it.
    """

    number: int
    what: str


@dataclass(frozen=True)
class Report:
    """What came out when a journal was verified.

    Attributes:
        rows: how many were looked at.
        head: number and hash of the last of them; None if there is none.
        aliases: where the rows say that each alias is.
        anchors: how many signed statements the rows were compared with.
        faults: what is wrong; empty if nothing is.
    """

    rows: int
    head: tuple[int, str] | None
    aliases: Mapping[str, int]
    anchors: int
    faults: tuple[Fault, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults
