"""The space that a sweep looks in: ``key=…`` on the command line as choices and ranges."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlnb.edits import NewValues
from mlnb.errors import MlnbError
from mlnb.pipeline import PARAMS

_KEY = re.compile(r"(?:(?P<file>[^=]+\.\w+):)?(?P<name>[^=:\s]+)")
_NUMBER = r"[-+]?(?:\d[\d_]*)?\.?\d*(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER}):(?P<high>{_NUMBER})(?P<more>(?::.*)?)")
_FORMS = "Write a,b,c for choices, LOW:HIGH, LOW:HIGH:log or LOW:HIGH:step=S for a range."


class SpaceError(MlnbError):
    """A ``key=…`` that cannot be read, or that the pipeline has no use for."""


@dataclass(frozen=True)
class Key:
    """A value of a params file.

    Attributes:
        file: the params file, relative to the root.
        name: the dotted name in it.
    """

    file: str
    name: str

    def __str__(self) -> str:
        return self.name if self.file == PARAMS else f"{self.file}:{self.name}"


@dataclass(frozen=True)
class Choices:
    """A parameter that takes one of a few values."""

    key: Key
    values: tuple[Any, ...]

    def points(self) -> tuple[Any, ...]:
        """Return all values, for a grid."""
        return self.values

    def ends(self) -> tuple[Any, ...]:
        """Return the values to check: if they are fit, all are."""
        return self.values


@dataclass(frozen=True)
class Range:
    """A number between two others, both included.

    Attributes:
        key: the parameter.
        low: the lowest, an int like ``high`` or a float like it.
        high: the highest.
        log: small values are tried as often as large ones.
        step: the distance of two neighbours; 0 for none.
    """

    key: Key
    low: float
    high: float
    log: bool = False
    step: float = 0

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are ints."""
        return isinstance(self.low, int)

    def points(self) -> tuple[Any, ...]:
        """Return all values, for a grid.

        Raises:
            SpaceError: there is no end of them.
        """
        step = self.step or (1 if self.is_whole and not self.log else 0)
        if not step:
            raise SpaceError(
                f"a grid cannot take all numbers of {self.key}={self.low}:{self.high}",
                remedy=f"Give a step, as in {self.key}={self.low}:{self.high}:step=…, or choices.",
            )
        count = int((self.high - self.low) / step * (1 + 1e-12)) + 1
        return tuple(self.rounded(self.low + i * step) for i in range(count))

    def ends(self) -> tuple[Any, ...]:
        """Return the values to check: if they are fit, all are."""
        return (self.low, self.high)

    def rounded(self, value: float) -> Any:
        """Return ``value`` with as many digits as make sense: a person will read it."""
        if self.is_whole:
            return int(value)
        if self.log:
            near = float(f"{value:.6g}")
        else:
            smallest = self.step or self.high - self.low
            near = round(value, 6 - math.floor(math.log10(smallest)))
        return min(max(near, self.low), self.high)


Dimension = Choices | Range


def parse(texts: Sequence[str]) -> tuple[Dimension, ...]:
    """Return what ``key=…`` texts mean.

    Raises:
        SpaceError: all that cannot be read, in one message.
    """
    found: list[Dimension] = []
    errors: list[SpaceError] = []
    for text in texts:
        try:
            found.append(_dimension(text))
        except SpaceError as error:
            errors.append(error)
    keys = [dimension.key for dimension in found]
    errors += [
        SpaceError(f"{key} is there twice") for key in dict.fromkeys(keys) if keys.count(key) > 1
    ]
    if errors:
        raise SpaceError.join(errors)
    return tuple(found)


def size(space: Sequence[Dimension]) -> int:
    """Return how many points the grid has.

    Raises:
        SpaceError: a range has no end of them.
    """
    return math.prod(len(dimension.points()) for dimension in space)


def grid(space: Sequence[Dimension]) -> Iterator[dict[Key, Any]]:
    """Yield every point; the last parameter changes first.

    Raises:
        SpaceError: a range has no end of them.
    """
    keys = [dimension.key for dimension in space]
    for values in itertools.product(*(dimension.points() for dimension in space)):
        yield dict(zip(keys, values, strict=True))


def written(space: Sequence[Dimension], root: Path, values: Mapping[str, Any]) -> list[NewValues]:
    """Return the edits that write ``values``, by key, to the params files below ``root``."""
    by_file: dict[str, dict[str, Any]] = {}
    for dimension in space:
        key = dimension.key
        by_file.setdefault(key.file, {})[key.name] = values[str(key)]
    return [NewValues(root / file, named) for file, named in by_file.items()]


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same in YAML, where 1, 1.0 and true differ."""
    return json.dumps(one) == json.dumps(other)


def _dimension(text: str) -> Dimension:
    name, equals, rest = text.partition("=")
    named = _KEY.fullmatch(name)
    if not equals or not named or not rest.strip():
        raise SpaceError(f"not a parameter and its values: {text!r}", remedy=_FORMS)
    key = Key(named["file"] or PARAMS, named["name"])
    ends = _RANGE.fullmatch(rest.strip())
    if ends and ends["low"] and ends["high"]:
        return _range(key, text, ends)
    values = tuple(_value(part, text) for part in _split(rest))
    for one, other in itertools.combinations(values, 2):
        if same(one, other):
            raise SpaceError(f"{text}: {one!r} is there twice")
    return Choices(key, values)


def _range(key: Key, text: str, ends: re.Match[str]) -> Range:
    low, high = _value(ends["low"], text), _value(ends["high"], text)
    if not all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high)):
        raise SpaceError(f"{text}: a range needs two numbers", remedy=_FORMS)
    log = False
    step: float = 0
    for word in ends["more"].split(":")[1:]:
        if word == "log":
            log = True
        elif word.startswith("step="):
            step = _value(word.removeprefix("step="), text)
        else:
            raise SpaceError(f"{text}: {word!r} says nothing about a range", remedy=_FORMS)
    if not isinstance(step, int | float) or step < 0 or (step == 0 and "step" in ends["more"]):
        raise SpaceError(f"{text}: the step must be a number above 0")
    if isinstance(low, float) or isinstance(high, float) or (isinstance(step, float) and step):
        low, high, step = float(low), float(high), float(step)
    if low >= high:
        raise SpaceError(f"{text}: {low} is not below {high}")
    if log and (low <= 0 or step):
        why = "cannot have a step" if step else "must begin above 0"
        raise SpaceError(f"{text}: a range in logarithms {why}")
    if step > high - low:
        raise SpaceError(f"{text}: the step leads out of the range at once")
    return Range(key, low, high, log, step)


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for mark in text:
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "\"'":
            quote = mark
        elif mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        elif mark == "," and not depth:
            parts.append("")
            continue
        parts[-1] += mark
    return parts


def _value(text: str, whole: str) -> Any:
    """Return a value as YAML has it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if not text.strip():
        raise SpaceError(f"{whole}: a value is missing", remedy=_FORMS)
    try:
        value = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        problem = str(error).partition("\n")[0]
        raise SpaceError(f"{whole}: {text.strip()!r} is no value of YAML: {problem}") from None
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise SpaceError(
            f"{whole}: {text.strip()!r} cannot be tried", remedy="A date goes in quotes."
        ) from None
    return value
