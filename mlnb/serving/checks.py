"""Values of a request against the schema of the model.

What passes is what :meth:`mlnb.bundle.schema.Schema.conform` passes, and it becomes the same
values; but a row takes microseconds here, without pandas, and the answer to a wrong one names the
row and the column. Stricter than conform in these, each of which hides a mistake of the caller:
columns that the model does not take, infinity and NaN (a gap is null), numbers that overflow to
infinity in the type of training, numbers for the truth values of a category, and dates that are
not ISO 8601, or that say or leave out the time zone other than training did.
"""

from __future__ import annotations

import datetime
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlnb.bundle.schema import Column, Schema
from mlnb.errors import did_you_mean
from mlnb.serving.errors import RequestError

Convert = Callable[[Any], Any]
"""Returns the value as the model takes it; a ValueError says why it cannot."""
Rule = Mapping[type, Convert | None]
"""What a column does with a value of each type that it takes; None for nothing."""
Plan = tuple[tuple[int, ...], tuple[tuple[int, Convert], ...]]
"""Of a row: where numbers are, which must be finite, and which values are looked at one by one."""

_MOST_PLANS = 256
_WORDS = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "text": "a text",
    "category": "one of the values that training knew",
    "date": "a date as text, in ISO 8601",
}
_GAPLESS = re.compile(r"bool|u?int(8|16|32|64)")
"""The types of pandas that cannot hold a gap."""
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?", re.ASCII
)


class Checker:
    """Holds rows against a schema; made once for each.

    Attributes:
        schema: of the model.
        names: the columns that the model takes, in order.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.names = tuple(schema.names)
        self._rules = tuple(_rule(each) for each in schema.columns)
        # Rows of one client look alike: what is to do is found once for each sequence of types.
        self._plans: dict[tuple[type, ...], Plan] = {}

    def __call__(
        self, columns: Sequence[str] | None, rows: Sequence[Sequence[Any]]
    ) -> list[list[Any]]:
        """Return the rows [n] with the values in the model's order, converted to its types.

        Args:
            columns: names of the values in each row; None if they are in the model's order.
            rows: of plain values.

        Raises:
            RequestError: a column is missing, unknown or named twice, a row is too short or too
                long, or a value is not of the column's kind.
        """
        order = None if columns is None or tuple(columns) == self.names else self._order(columns)
        width, plans, checked = len(self.names), self._plans, []
        for number, row in enumerate(rows):
            if len(row) != width:
                raise RequestError(
                    f"has {len(row)} values for {width} columns", status=422, where=f"row {number}"
                )
            taken = [row[at] for at in order] if order else list(row)
            types = tuple(map(type, taken))
            numbers, single = plans.get(types) or self._plan(types, taken, number)
            if numbers:
                # One look at all of them; only a sum that overflows makes a second one needed.
                try:
                    finite = math.isfinite(sum([taken[at] for at in numbers]))
                except OverflowError:
                    finite = False
                if not finite:
                    self._check_finite(taken, numbers, number)
            for at, convert in single:
                try:
                    taken[at] = convert(taken[at])
                except (ValueError, OverflowError) as error:
                    raise self._wrong(number, at, taken[at], str(error)) from None
            checked.append(taken)
        return checked

    def _order(self, columns: Sequence[str]) -> list[int]:
        """Return where in a row each column of the model is."""
        at = {name: number for number, name in enumerate(columns)}
        if missing := [name for name in self.names if name not in at]:
            raise RequestError(
                f"without the columns {_listed(missing)}, which the model takes"
                + _hint(missing[0], columns),
                status=422,
            )
        if len(at) < len(columns):
            twice = next(name for number, name in enumerate(columns) if at[name] != number)
            raise RequestError(f"names the column {_short(twice)} twice", status=422)
        if unknown := [name for name in columns if name not in self.names]:
            raise RequestError(
                f"has the columns {_listed(unknown)}, which the model does not take"
                + _hint(unknown[0], self.names),
                status=422,
            )
        return [at[name] for name in self.names]

    def _plan(self, types: tuple[type, ...], row: Sequence[Any], number: int) -> Plan:
        """Return what is to do with rows of these types; say it if there is a wrong one."""
        numbers: list[int] = []
        single: list[tuple[int, Convert]] = []
        for at, (kind, rule) in enumerate(zip(types, self._rules, strict=True)):
            if kind not in rule:
                raise self._wrong(number, at, row[at])
            convert = rule[kind]
            if convert is not None:
                single.append((at, convert))
            elif kind in (int, float):
                numbers.append(at)
        plan = tuple(numbers), tuple(single)
        if len(self._plans) < _MOST_PLANS:
            self._plans[types] = plan
        return plan

    def _check_finite(self, row: Sequence[Any], numbers: Sequence[int], number: int) -> None:
        for at in numbers:
            try:
                _finite(row[at])
            except (ValueError, OverflowError) as error:
                raise self._wrong(number, at, row[at], str(error)) from None

    def _wrong(self, number: int, at: int, value: Any, reason: str = "") -> RequestError:
        column = self.schema.columns[at]
        said = "null, which its type cannot hold" if value is None else _short(value)
        return RequestError(
            f"should be {_WORDS[column.kind]} ({column.dtype}), not {said}"
            + (f": {reason}" if reason else ""),
            status=422,
            where=f"row {number}, column {column.name!r}",
        )


def checker(schema: Schema) -> Checker:
    """Return what holds rows against ``schema``."""
    return Checker(schema)


def takes_gaps(column: Column) -> bool:
    """Return whether a value of the column may be null."""
    return not _GAPLESS.fullmatch(column.dtype)


def whole_limits(column: Column) -> tuple[int, int]:
    """Return the least and the greatest value that a column of whole numbers can hold."""
    sign, bits = re.match(r"(u?)int(\d+)", column.dtype.lower()).groups()  # type: ignore[union-attr]
    return (0, 2 ** int(bits) - 1) if sign else (-(2 ** (int(bits) - 1)), 2 ** (int(bits) - 1) - 1)


def _rule(column: Column) -> Rule:
    rule: dict[type, Convert | None] = {}
    if column.kind == "boolean":
        rule = {bool: None}
    elif column.kind == "integer":
        convert = _whole(*whole_limits(column))
        rule = {int: convert, float: convert}
    elif column.kind == "number":
        narrow = _NARROW.get(column.dtype.lower().partition("[")[0])
        rule = {int: narrow, float: narrow}
    elif column.kind == "text":
        rule = {str: None}
    elif column.kind == "category":
        for label in column.values or ():
            kinds = (int, float) if type(label) in (int, float) else (type(label),)
            rule |= dict.fromkeys(kinds, _known(column, kinds))
    else:
        rule = {str: _date(column)}
    if takes_gaps(column):
        rule[type(None)] = None
    return rule


def _whole(least: int, most: int) -> Convert:
    def convert(value: float) -> int:
        made = int(value)
        if made != value:
            raise ValueError("it has a fraction")
        if not least <= made <= most:
            raise ValueError(f"the type goes from {least} to {most}")
        return made

    return convert


def _narrowed(form: str) -> Convert:
    """Return what rounds a number to a float of fewer bits, as training had it."""
    packed = struct.Struct(form)

    def convert(value: float) -> float:
        _finite(value)
        try:
            made: float = packed.unpack(packed.pack(value))[0]
        except (OverflowError, struct.error):
            raise ValueError("the type has no number as large") from None
        return made

    return convert


_NARROW = {"float32": _narrowed("f"), "float": _narrowed("f"), "float16": _narrowed("e")}


def _known(column: Column, kinds: Sequence[type]) -> Convert:
    labels = {label: label for label in column.values or () if type(label) in kinds}

    def convert(value: Any) -> Any:
        try:
            return labels[value]
        except KeyError:
            raise ValueError("training did not know it") from None

    return convert


def _date(column: Column) -> Convert:
    """Return what writes dates in one manner, so that any two of them can stand in one column."""
    zoned = "," in column.dtype or "tz=" in column.dtype
    nanoseconds = "[ns" in column.dtype

    def convert(value: str) -> str:
        found = _DATE.fullmatch(value)
        if not found:
            raise ValueError("it is none")
        if bool(found["zone"]) != zoned:
            raise ValueError(f"it is written {'with' if zoned else 'without'} a time zone")
        made = datetime.datetime.fromisoformat(value)
        if zoned:
            made = made.astimezone(datetime.UTC)
        if nanoseconds and not 1678 <= made.year <= 2261:
            raise ValueError("the type goes from 1678 to 2261")
        return made.isoformat(timespec="microseconds")

    return convert


def _finite(value: float) -> None:
    if not math.isfinite(float(value)):
        raise ValueError("it is not finite; a gap is null")


def _short(value: Any) -> str:
    """Return a value as a person recognises it, and no more of it."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    told = repr(value[:60] if isinstance(value, str) else value)
    return told if len(told) <= 64 else f"{told[:60]}…"


def _hint(name: str, known: Sequence[str]) -> str:
    """Return the name that may be meant; not of names so many or long that it takes a while."""
    near = [each for each in known[:200] if len(each) <= 60]
    return "." + (did_you_mean(name, near) if len(name) <= 60 else "")


def _listed(names: Sequence[Any]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(_short(name) for name in names[:5]) + more
