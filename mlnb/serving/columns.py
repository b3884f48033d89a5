"""The files of the prediction log: which columns they have, and how records become these.

Columns of Arrow are made here of buffers, since pyarrow's own ways from plain values import pandas,
which a server does without.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from mlnb.bundle.schema import Column
    from mlnb.serving.versions import Version

FORMAT = 1
META = (
    ("time", "moment"),
    ("request_id", "string"),
    ("row", "int64"),
    ("version", "int64"),
    ("digest", "string"),
    ("variant", "string"),
    ("fallback", "bool"),
    ("seconds", "double"),
)
"""Columns of every row: names and kinds."""

_NUMBERS = {"int64": "<i8", "uint64": "<u8", "double": "<f8", "moment": "<i8"}


def column(values: Sequence[Any], kind: str) -> pa.Array:
    """Return the values [n] as a column; None is a gap.

    Args:
        values: of the kind.
        kind: ``int64``, ``uint64``, ``double``, ``bool``, ``string``, or ``moment``: microseconds
            since 1970 in UTC.

    Raises:
        ValueError, TypeError, OverflowError: a value is of another kind.
    """
    import numpy as np
    import pyarrow as pa

    valid = None
    if None in values:
        there = np.fromiter((each is not None for each in values), np.bool_, len(values))
        valid = pa.py_buffer(np.packbits(there, bitorder="little"))
        filler: Any = "" if kind == "string" else 0
        values = [filler if each is None else each for each in values]
    if kind == "string":
        data = "".join(values).encode("utf-8", "replace")
        lengths = np.fromiter(map(len, values), np.int32, len(values))
        if len(data) != lengths.sum():  # not only ASCII, of which a letter is a byte
            texts = [each.encode("utf-8", "replace") for each in values]
            data, lengths = b"".join(texts), np.array([len(each) for each in texts], np.int32)
        ends = np.zeros(len(values) + 1, np.int32)
        np.cumsum(lengths, out=ends[1:])
        buffers = [valid, pa.py_buffer(ends), pa.py_buffer(data)]
    elif kind == "bool":
        bits = np.packbits(np.array(values, np.bool_), bitorder="little")
        buffers = [valid, pa.py_buffer(bits)]
    else:
        buffers = [valid, pa.py_buffer(np.array(values, _NUMBERS[kind]))]
    of = pa.timestamp("us", tz="UTC") if kind == "moment" else pa.type_for_alias(kind)
    return pa.Array.from_buffers(of, len(values), buffers)


@dataclass(frozen=True)
class Layout:
    """The columns of a file, and how they come from records.

    Attributes:
        inputs: name, kind, position in a row, and what is kept in place of a value (None: itself).
        scores: names of the columns of the answers; of labels, none.
    """

    inputs: tuple[tuple[str, str, int, Callable[[Any], str] | None], ...] = ()
    scores: tuple[str, ...] = ()


LABELS = Layout()
"""Of the files of labels."""


def layout_of(
    version: Version, *, masked: Collection[str], without: Collection[str], secret: bytes
) -> Layout:
    """Return how the rows of a version become columns.

    Args:
        version: whose.
        masked: columns of which a hash is kept.
        without: columns that are left out.
        secret: key of the hashes.
    """
    inputs: list[tuple[str, str, int, Callable[[Any], str] | None]] = []
    for at, each in enumerate(version.schema.columns):
        if each.name in masked:
            inputs.append((f"input.{each.name}", "string", at, functools.partial(_hidden, secret)))
        elif each.name not in without:
            kind = _kind(each)
            mixed = each.kind == "category" and kind == "string"
            inputs.append((f"input.{each.name}", kind, at, str if mixed else None))
    multiclass = version.task == "multiclass"
    scores = [f"score.{each}" for each in version.classes] if multiclass else ["score"]
    return Layout(tuple(inputs), tuple(scores))


class Pending:
    """Records that are not yet a file.

    Attributes:
        layout: of the file.
        rows: how many there are.
        first, last: when the first and the last came, in seconds since 1970.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout, self.rows = layout, 0
        self.first = self.last = 0.0
        self._records: list[tuple[Any, ...]] = []

    def add(self, record: tuple[Any, ...], moment: float, rows: int) -> None:
        """Take a record of so many rows."""
        self.first = min(self.first, moment) if self._records else moment
        self.last = max(self.last, moment)
        self.rows += rows
        self._records.append(record)

    def parquet(self) -> bytes:
        """Return the file.

        Raises:
            ValueError, TypeError, OverflowError: a record holds a value of another kind.
        """
        import pyarrow as pa
        import pyarrow.parquet

        made = dict(self._labels() if self.layout is LABELS else self._predictions())
        table = pa.Table.from_arrays(list(made.values()), names=list(made))
        table = table.replace_schema_metadata({"mlnb": f"predictions {FORMAT}"})
        sink = pa.BufferOutputStream()
        pyarrow.parquet.write_table(table, sink, compression="zstd")
        return bytes(sink.getvalue())

    def _predictions(self) -> Iterator[tuple[str, pa.Array]]:
        import numpy as np
        import pyarrow as pa

        moments, ids, versions, variants, fallbacks, seconds, rows, scores = zip(
            *self._records, strict=True
        )
        sizes = [len(each) for each in rows]
        one_each = len(sizes) == self.rows

        def repeated(values: Sequence[Any]) -> Sequence[Any]:
            """Return the value of each request once for each of its rows."""
            if one_each:
                return values
            return [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]

        meta: dict[str, Sequence[Any]] = {
            "time": repeated([int(each * 1e6) for each in moments]),
            "request_id": repeated(ids),
            "row": [0] * self.rows if one_each else [at for size in sizes for at in range(size)],
            "version": repeated([each.number for each in versions]),
            "digest": repeated([each.digest for each in versions]),
            "variant": repeated(variants),
            "fallback": repeated(fallbacks),
            "seconds": repeated(seconds),
        }
        for name, kind in META:
            yield name, column(meta[name], kind)
        values = list(zip(*(row for each in rows for row in each), strict=True))
        for name, kind, at, kept in self.layout.inputs:
            taken: Sequence[Any] = values[at]
            if kept:
                taken = [None if each is None else kept(each) for each in taken]
            yield name, column(taken, kind)
        answers = np.concatenate(scores).reshape(self.rows, -1)
        for at, name in enumerate(self.layout.scores):
            buffers = [None, pa.py_buffer(np.ascontiguousarray(answers[:, at], "<f8"))]
            yield name, pa.Array.from_buffers(pa.float64(), self.rows, buffers)

    def _labels(self) -> Iterator[tuple[str, pa.Array]]:
        import orjson

        found = [
            (int(moment * 1e6), request_id, row, orjson.dumps(label).decode())
            for moment, request_id, labels in self._records
            for row, label in enumerate(labels)
        ]
        moments, ids, rows, labels = zip(*found, strict=True)
        yield "time", column(moments, "moment")
        yield "request_id", column(ids, "string")
        yield "row", column(rows, "int64")
        yield "label", column(labels, "string")


def _hidden(secret: bytes, value: Any) -> str:
    return hashlib.blake2b(repr(value).encode(), key=secret, digest_size=16).hexdigest()


def _kind(each: Column) -> str:
    if each.kind == "boolean":
        return "bool"
    if each.kind == "integer":
        return "uint64" if each.dtype.lower() == "uint64" else "int64"
    if each.kind == "number":
        return "double"
    values = each.values or ()
    if each.kind == "category" and values and not any(isinstance(one, str) for one in values):
        return "bool" if all(isinstance(one, bool) for one in values) else "double"
    return "string"
