"""A table of runs as columns: a small header, and one buffer of numbers for each column.

Ten thousand runs as JSON are several megabytes, and a browser needs most of a second to read
them. Numbers travel as float64 (NaN where a run has none), words as int32 codes into a list that
the header holds (-1 where a run has none), both little-endian.
"""

from __future__ import annotations

import array
import math
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

FORMAT = 1
_MANY = 1 << 20

Kind = Literal["metric", "param", "tag", "meta", "hidden"]


@dataclass(frozen=True)
class Column:
    """One column before it is packed.

    Attributes:
        kind: what it is; a hidden one is for the page alone.
        name: as people call it.
        values: of each run; None where it has none.
        goal: ``max`` or ``min`` where more or less is better; empty if nobody said.
        format: ``moment`` for seconds since 1970.
        optional: shown only if a person asks for it.
    """

    kind: Kind
    name: str
    values: Sequence[Any]
    goal: str = ""
    format: str = ""
    optional: bool = False

    @property
    def key(self) -> str:
        """By which the page knows it; ``metrics.NAME`` cannot be taken for ``params.NAME``."""
        return self.name if self.kind in ("meta", "hidden") else f"{self.kind}s.{self.name}"


def pack(columns: Iterable[Column], rows: int) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return what the header says of the columns, and their buffers in the same order."""
    told: list[dict[str, Any]] = []
    buffers: list[bytes] = []
    for column in columns:
        if len(column.values) != rows:
            raise ValueError(f"{column.key} has {len(column.values)} values for {rows} runs")
        words, numbers = _numbers(column.values)
        said: dict[str, Any] = {
            "key": column.key,
            "name": column.name,
            "kind": column.kind,
            "type": "number" if words is None else "word",
            "buffer": len(buffers),
        }
        if words is not None:
            said["words"] = words
        said |= {n: v for n in ("goal", "format", "optional") if (v := getattr(column, n))}
        if sys.byteorder == "big":
            numbers.byteswap()
        told.append(said)
        buffers.append(numbers.tobytes())
    return told, buffers


def unpack(told: Mapping[str, Any], buffer: bytes) -> list[Any]:
    """Return the values of one column, None where a run has none."""
    numbers = array.array("d" if told["type"] == "number" else "i", buffer)
    if sys.byteorder == "big":
        numbers.byteswap()
    if told["type"] == "number":
        return [None if math.isnan(each) else each for each in numbers]
    return [None if each < 0 else told["words"][each] for each in numbers]


def joined(header: bytes, buffers: Sequence[bytes]) -> bytes:
    """Return a header and buffers as one body: lengths first, each part at a multiple of eight."""
    parts = [header, *buffers]
    body = bytearray(struct.pack("<II", FORMAT, len(parts)))
    body += struct.pack(f"<{len(parts)}I", *map(len, parts))
    for part in parts:
        body += b"\0" * (-len(body) % 8)
        body += part
    return bytes(body)


def _numbers(values: Sequence[Any]) -> tuple[list[str] | None, array.array[Any]]:
    """Return the words and codes of a column, or None and its numbers where all are numbers."""
    there = [value for value in values if value is not None]
    if there and all(_is_number(value) for value in there):
        return None, array.array("d", [math.nan if v is None else float(v) for v in values])
    words: dict[str, int] = {}
    codes = array.array("i")
    for value in values:
        codes.append(-1 if value is None else words.setdefault(_text(value), len(words)))
    return list(words), codes


def _is_number(value: Any) -> bool:
    """Whether it can be a float64 without loss that a person would see."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) < 1 << 53
    return isinstance(value, float)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) < _MANY else text[:_MANY]
