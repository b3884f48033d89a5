"""The chain of hashes: what a row's hash covers, and how a journal is verified.

A chain by itself can be computed again by whoever can write all of it, or cut at its end. Against
that help only hashes that are kept elsewhere: the signed statements name the row they were
published with, and are given here as anchors (Haber and Stornetta 1991, J. Cryptology 3, 99).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from mlnb.files import digest_bytes
from mlnb.state.records import MOVES, Entry, Fault, Kind, Report

FORMAT = 1
"""Of what is hashed; in the hash, so that a row cannot be read by the rules of another."""

_NUMBERS = ("number", "version", "previous")
_FIELDS = tuple(field.name for field in dataclasses.fields(Entry))


def seal(content: Mapping[str, Any]) -> str:
    """Return the hash of a row: SHA-256 of its fields but ``hash``, as sorted, compact JSON."""
    covered = {name: content[name] for name in _FIELDS if name != "hash"}
    text = json.dumps({"format": FORMAT, **covered}, sort_keys=True, separators=(",", ":"))
    return f"sha256:{digest_bytes(text.encode())}"


def verify(rows: Sequence[Entry], anchors: Iterable[tuple[int, str]] = ()) -> Report:
    """Compute the chain of ``rows`` again and follow what they say.

    Args:
        rows: the journal by number, as it is stored; values may be of any type.
        anchors: numbers and hashes of rows, from outside.
    """
    anchors = list(anchors)
    faults: list[Fault] = []
    follow = _Story()
    before, at, last = "", "", 0
    for row in rows:
        if wrong := _untyped(row):
            faults.append(Fault(row.number, f"holds no row's values: {wrong}"))
            before, last = row.hash, row.number
            continue
        found = [
            *_links(row, before, at, last),
            *follow(row),
        ]
        faults += [Fault(row.number, what) for what in found]
        before, at, last = row.hash, row.at, row.number
    faults += _compare(rows, anchors)
    head = (rows[-1].number, rows[-1].hash) if rows else None
    return Report(len(rows), head, follow.aliases, len(anchors), tuple(faults))


def _untyped(row: Entry) -> str:
    """Return the names of fields whose values have not the type of a row's; SQLite takes any."""
    wrong = []
    for name in _FIELDS:
        value = getattr(row, name)
        expected: Any = int if name in _NUMBERS else str
        if not isinstance(value, expected) and not (name == "previous" and value is None):
            wrong.append(name)
    return ", ".join(wrong)


def _links(row: Entry, before: str, at: str, last: int) -> Iterator[str]:
    """Yield what is wrong between ``row`` and the one above it."""
    if row.number != last + 1:
        yield f"follows row {last}: what was between them is missing"
    if row.before != before:
        yield f"does not continue row {last}"
    if row.hash != seal(vars(row)):
        yield "was changed: its content gives another hash"
    if row.at < at:
        yield f"is older than row {last}"


class _Story:
    """Follows what rows say: each is about a version that is registered, from where the alias is.

    Rows that an honest mlnb wrote always do; with a chain computed again they need not.
    """

    def __init__(self) -> None:
        self.aliases: dict[str, int] = {}
        self._bundles: dict[int, str] = {}

    def __call__(self, row: Entry) -> Iterator[str]:
        if row.kind not in get_args(Kind):
            yield f"is of no known kind: {row.kind!r}"
        elif row.kind == "register":
            newest = max(self._bundles, default=0)
            if row.version != newest + 1:
                yield f"registers version {row.version} after {newest}"
            if row.bundle in self._bundles.values():
                yield f"registers {row.bundle} again"
            self._bundles[row.version] = row.bundle
            return
        if row.kind == "adopt":
            self._bundles[row.version] = row.bundle
        if self._bundles.get(row.version) != row.bundle:
            yield f"is about version {row.version}, which was not registered with that bundle"
        if row.kind in MOVES:
            current = self.aliases.get(row.alias)
            if row.previous != current:
                yield f"moves {row.alias} from {row.previous}, which was at {current}"
            self.aliases[row.alias] = row.version


def _compare(rows: Sequence[Entry], anchors: Iterable[tuple[int, str]]) -> Iterator[Fault]:
    """Yield the anchors that the rows do not agree with."""
    hashes = {row.number: row.hash for row in rows}
    for number, digest in anchors:
        if number not in hashes:
            yield Fault(number, "is missing, and a signed statement names it")
        elif hashes[number] != digest:
            yield Fault(number, "is not the row that a signed statement names")
