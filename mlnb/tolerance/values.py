"""JSON values. Integers, strings and flags must be equal; floats near."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlnb.tolerance.records import DEFAULT, Difference, Tolerance, became, short


def compare_values(reference: Any, result: Any, tolerance: Tolerance = DEFAULT) -> list[Difference]:
    """Return the differences of two JSON values, each with its dotted path."""
    return list(_differences(reference, result, tolerance, ""))


def snap_value(reference: Any, result: Any, tolerance: Tolerance = DEFAULT) -> Any:
    """Return ``result`` with each number that is near enough replaced by the reference's."""
    if _is_number(reference) and _is_number(result):
        return reference if _same(reference, result, tolerance) else result
    if isinstance(reference, Mapping) and isinstance(result, Mapping):
        return {
            key: snap_value(reference[key], value, tolerance) if key in reference else value
            for key, value in result.items()
        }
    if isinstance(reference, list) and isinstance(result, list) and len(reference) == len(result):
        return [snap_value(a, b, tolerance) for a, b in zip(reference, result, strict=True)]
    return result


def _differences(old: Any, new: Any, tolerance: Tolerance, path: str) -> Iterator[Difference]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            inner = f"{path}.{key}" if path else str(key)
            if key not in new:
                yield Difference(inner, f"is gone, was {short(old[key])}")
            elif key not in old:
                yield Difference(inner, f"is new, {short(new[key])}")
            else:
                yield from _differences(old[key], new[key], tolerance, inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) != len(new):
        yield Difference(path, f"{len(old)} items became {len(new)}")
    elif isinstance(old, list) and isinstance(new, list):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differences(left, right, tolerance, f"{path}[{index}]")
    elif not _same(old, new, tolerance):
        yield Difference(path, became(old, new))


def _same(old: Any, new: Any, tolerance: Tolerance) -> bool:
    if _is_number(old) and _is_number(new) and (isinstance(old, float) or isinstance(new, float)):
        return tolerance.close(old, new)
    return type(old) is type(new) and bool(old == new)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
