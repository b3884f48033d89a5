"""Metrics files as rows: a figure, its interval, and a bar that shows both."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from mlnb.reports.executed import ReportError

_WIDTH = 120.0
"""Length of a bar, in the units of its drawing."""


@dataclass(frozen=True)
class Bar:
    """Where value and bounds lie on a bar, in the units of its drawing."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Metric:
    """One figure: ``value`` and bounds as a person reads them, ``exact`` as they are."""

    name: str
    value: str
    interval: str = ""
    exact: str = ""
    bar: Bar | None = None


@dataclass(frozen=True)
class Group:
    """Metrics that belong together: those of the top level, or of one slice or model."""

    name: str
    rows: tuple[Metric, ...]

    @property
    def intervals(self) -> bool:
        """Whether any of them has an interval."""
        return any(row.bar for row in self.rows)


def read(paths: Iterable[Path], *, root: Path) -> tuple[Group, ...]:
    """Return the metrics in ``paths``, the top level first, then a group for each nested key.

    Raises:
        ReportError: a file is missing or is not a JSON object.
    """
    flat: dict[str, Any] = {}
    for path in paths:
        flat.update(_flatten(_load(root / path)))
    return grouped(flat)


def grouped(flat: Mapping[str, Any]) -> tuple[Group, ...]:
    """Return ``flat`` figures as groups; ``X_low`` and ``X_high`` become the interval of ``X``."""
    names = [name for name in flat if not _bound(name, flat)]
    intervals = {name: found for name in names if (found := _interval(name, flat))}
    scales = _scales(flat, intervals)
    groups: dict[str, list[Metric]] = {}
    for name in names:
        group, _, leaf = name.rpartition(".")
        interval = intervals.get(name)
        bar = _bar(flat[name], interval, scales[leaf]) if interval else None
        groups.setdefault(group, []).append(_metric(leaf, flat[name], interval, bar))
    ordered = sorted(groups, key=bool)  # the top level first, the rest as in the file
    return tuple(Group(name, tuple(groups[name])) for name in ordered)


def number(value: float, width: float = 0.0) -> str:
    """Return ``value`` with the digits that an interval of ``width`` leaves meaning to."""
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "\N{MINUS SIGN}∞")
    if width > 0:
        digits = min(max(1 - math.floor(math.log10(width)), 0), 8)
        text = f"{value:.{digits}f}"
    else:
        text = f"{value:.4g}"
        if "e" in text:
            mantissa, _, power = text.partition("e")
            text = f"{mantissa}\N{MULTIPLICATION SIGN}10^{int(power)}"
    return text.replace("-", "\N{MINUS SIGN}")


def _load(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ReportError(
            "a metrics file is missing",
            where=str(path),
            remedy="Run `dvc repro`, or `dvc checkout` if the file is tracked.",
        ) from None
    except ValueError as error:
        raise ReportError(f"not valid JSON: {error}", where=str(path)) from None
    if not isinstance(found, dict):
        raise ReportError("metrics must be a JSON object of names and numbers", where=str(path))
    return found


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flatten(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bound(name: str, flat: Mapping[str, Any]) -> bool:
    """Return whether ``name`` is one bound of another metric's interval."""
    for end in ("_low", "_high"):
        if name.endswith(end) and _interval(name.removesuffix(end), flat):
            return True
    return False


def _interval(name: str, flat: Mapping[str, Any]) -> tuple[float, float] | None:
    found = [flat.get(f"{name}{end}") for end in ("", "_low", "_high")]
    ends = [float(end) for end in found if _number(end) and math.isfinite(end)]
    return (ends[1], ends[2]) if len(ends) == 3 else None


def _scales(
    flat: Mapping[str, Any], intervals: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Return one scale for all metrics of a name: bars of two slices can be compared."""
    ends: dict[str, list[float]] = {}
    for name, interval in intervals.items():
        ends.setdefault(name.rpartition(".")[2], []).extend((*interval, float(flat[name])))
    scales = {}
    for leaf, values in ends.items():
        low, high = min(values), max(values)
        margin = (high - low) * (0.08 if len(values) > 3 else 1) or abs(high) or 1.0
        scales[leaf] = (low - margin, high + margin)
    return scales


def _bar(value: float, interval: Sequence[float], scale: tuple[float, float]) -> Bar:
    low, high = scale
    ends = (interval[0], value, interval[1])
    return Bar(*(round((end - low) / (high - low) * _WIDTH, 1) for end in ends))


def _metric(name: str, value: Any, interval: tuple[float, float] | None, bar: Bar | None) -> Metric:
    if not _number(value):
        return Metric(name, value if isinstance(value, str) else json.dumps(value))
    if interval is None:
        return Metric(name, number(value), exact=repr(value))
    low, high = interval
    width = high - low
    return Metric(
        name,
        number(float(value), width),
        f"{number(low, width)} to {number(high, width)}",
        f"{value!r} [{low!r}, {high!r}]",
        bar,
    )
