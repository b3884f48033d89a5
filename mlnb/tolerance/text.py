"""Texts, with the numbers in them compared as numbers.

A number *written* as an integer is a count and must be equal: 1000000 rows are not 1000001.
"""

from __future__ import annotations

import itertools
import math
import re

from mlnb.tolerance.records import DEFAULT, Difference, Tolerance, became, short

_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?(?=j?(?!\w)(?!\.\w))", re.ASCII
)
"""A number that stands alone: not a part of a name, a version, a hash or a hexadecimal."""

_INTEGER = re.compile(r"[-+]?\d+\.?")
_VOLATILE = re.compile(r"(?<=\bat )0x[0-9a-fA-F]{6,}|\bT_[0-9a-f]{5}(?![0-9a-f])")
"""Names drawn anew in each run: an object's address in its repr, a pandas Styler's table id."""

_RULE = re.compile(r"([-=_─━])\1{2,}")
_SPACE = re.compile(r"\s+")


def compare_text(reference: str, result: str, tolerance: Tolerance = DEFAULT) -> Difference | None:
    """Return the first difference of two texts, or None.

    Where numbers have changed their widths, the white space and rules that line a table up may
    change with them.
    """
    if reference == result:
        return None
    old, new = _Tokens(reference), _Tokens(result)
    aligned = old.widths != new.widths
    for index, (left, right) in enumerate(zip(old.gaps, new.gaps, strict=False)):
        if left != right and not (aligned and _unaligned(left) == _unaligned(right)):
            return _line_difference(reference, result)
        if index < min(len(old.numbers), len(new.numbers)):
            before, after = old.numbers[index], new.numbers[index]
            if not _same(before, after, tolerance):
                return Difference(f"line {old.line(index)}", f"{before} became {after}")
    if len(old.numbers) != len(new.numbers):
        return _line_difference(reference, result)
    return None


def snap_text(reference: str, result: str, tolerance: Tolerance = DEFAULT) -> str:
    """Return ``result`` with each number that is near enough written as in ``reference``.

    What is then still unequal has truly changed, so a plain comparison shows just that.
    """
    if compare_text(reference, result, tolerance) is None:
        return reference
    old, new = reference.splitlines(keepends=True), result.splitlines(keepends=True)
    if len(old) == len(new) > 1:
        return "".join(snap_text(a, b, tolerance) for a, b in zip(old, new, strict=True))
    left, right = _Tokens(reference), _Tokens(result)
    if len(left.numbers) != len(right.numbers):
        return result
    numbers = [
        a if _same(a, b, tolerance) else b for a, b in zip(left.numbers, right.numbers, strict=True)
    ]
    return "".join(a + b for a, b in itertools.zip_longest(right.raw, numbers, fillvalue=""))


class _Tokens:
    """A text as alternating gaps and numbers: gap, number, gap, ..., number, gap."""

    def __init__(self, source: str) -> None:
        found = list(_NUMBER.finditer(source))
        edges = [0, *(edge for match in found for edge in match.span()), len(source)]
        self.numbers = [match[0] for match in found]
        self.raw = [source[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
        self.gaps = [_VOLATILE.sub("0x", gap) for gap in self.raw]
        self.widths = [len(number) for number in self.numbers]

    def line(self, index: int) -> int:
        """Return the line, from 1, of the number with this index."""
        return 1 + sum(gap.count("\n") for gap in self.raw[: index + 1])


def _same(reference: str, result: str, tolerance: Tolerance) -> bool:
    if reference == result:
        return True
    old, new = float(reference), float(result)
    if _INTEGER.fullmatch(reference) and _INTEGER.fullmatch(result):
        # "5." is a float to Python and the end of a sentence to a person; 0. is -0. to both.
        return old == new and "." in reference + result
    return math.isfinite(old) and math.isfinite(new) and tolerance.close(old, new)


def _unaligned(gap: str) -> str:
    """Return the gap as if no column had been padded."""
    return _SPACE.sub(" ", _RULE.sub(r"\1\1\1", gap)).strip()


def _line_difference(reference: str, result: str) -> Difference:
    """Return the difference of the first unequal line."""
    old, new = reference.splitlines(), result.splitlines()
    for number, (left, right) in enumerate(zip(old, new, strict=False), 1):
        if left != right:
            return Difference(f"line {number}", became(left, right))
    if len(old) == len(new):
        return Difference("", "the line ends changed")
    rest = min(len(old), len(new))
    line, fate = (old[rest], "is gone") if len(old) > len(new) else (new[rest], "is new")
    return Difference(f"line {rest + 1}", f"{short(line)} {fate}")
