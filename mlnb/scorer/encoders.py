"""Encoders: columns of few values become numbers, or a column for each value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from mlnb.scorer.columns import Columns, Given, Translate, is_gap, numbers
from mlnb.scorer.kinds import Untranslatable


def _one_hot(step: Any, columns: Columns) -> Columns:
    """Return a column for each category, or group of infrequent ones, that is not left out."""
    found: Columns = []
    for index, (each, categories) in enumerate(zip(columns, step.categories_, strict=True)):
        known = _numbers(each, categories)
        mapping = _grouping(step, index)
        groups = mapping if mapping is not None else list(range(len(known)))
        dropped = _dropped(step, index)
        infrequent = max(groups) if mapping is not None else None
        made: Columns = []
        for group in sorted(set(groups)):
            members = [number for number, of in zip(known, groups, strict=True) if of == group]
            others = [number for number, of in zip(known, groups, strict=True) if of != group]
            if group == dropped:
                continue
            if group == infrequent and step.handle_unknown in ("infrequent_if_exist", "warn"):
                made.append(each.encoded("without", others))
            elif len(members) > 1:
                made.append(each.encoded("within", members))
            elif math.isnan(members[0]):
                made.append(each.encoded("missing"))
            else:
                made.append(each.encoded("equal", members[0]))
        if step.handle_unknown == "error" and made:
            made[0] = _checked(each, made[0], known)
        found += made
    return found


def _checked(before: Given, after: Given, known: list[float]) -> Given:
    """Return ``after``, whose last operation comes after a look whether the value is known."""
    *_, last = after.column.operations
    return before.then("known", known).encoded(last.name, *last.by)


def _grouping(step: Any, index: int) -> list[int] | None:
    """Return the group of each category; None if each is its own."""
    if not step._infrequent_enabled:
        return None
    mapping = step._default_to_infrequent_mappings[index]
    return None if mapping is None else mapping.tolist()


def _dropped(step: Any, index: int) -> int | None:
    if step._drop_idx_after_grouping is None:
        return None
    found = step._drop_idx_after_grouping[index]
    return None if found is None else int(found)


def _ordinal(step: Any, columns: Columns) -> Columns:
    found: Columns = []
    for index, (each, categories) in enumerate(zip(columns, step.categories_, strict=True)):
        known = _numbers(each, categories)
        mapping = _grouping(step, index)
        places = [float(place) for place in (mapping or range(len(known)))]
        unknown = [] if step.handle_unknown == "error" else [float(step.unknown_value)]
        gap = [float(step.encoded_missing_value)] if any(map(math.isnan, known)) else unknown
        found.append(_looked_up(each, known, places, gap, unknown))
    return found


def _target(step: Any, columns: Columns) -> Columns:
    """Return the mean of the target for each category, as training knew it."""
    if step.target_type_ not in ("binary", "continuous"):
        raise Untranslatable("TargetEncoder of several classes is not compiled")
    found: Columns = []
    mean = [float(step.target_mean_)]
    for each, categories, means in zip(columns, step.categories_, step.encodings_, strict=True):
        known = _numbers(each, categories)
        gap = [float(m) for k, m in zip(known, means, strict=True) if math.isnan(k)] or mean
        found.append(_looked_up(each, known, means.tolist(), gap, mean))
    return found


def _looked_up(
    each: Given, known: list[float], places: Iterable[float], gap: list[float], unknown: list[float]
) -> Given:
    pairs = sorted(
        (key, place) for key, place in zip(known, places, strict=True) if not math.isnan(key)
    )
    return each.encoded("lookup", [key for key, _ in pairs], [p for _, p in pairs], gap, unknown)


def _bins(step: Any, columns: Columns) -> Columns:
    found: Columns = []
    for each, edges in zip(numbers(columns, step), step.bin_edges_, strict=True):
        placed = each.then("present").then("bin", edges[1:-1].tolist())
        count = len(edges) - 1
        if step.encode == "ordinal":
            found.append(placed)
        else:
            found += [placed.then("equal", float(place)) for place in range(count)]
    return found


def _numbers(each: Given, categories: Sequence[Any]) -> list[float]:
    """Return the numbers that stand for an encoder's categories; of gaps there is one at most."""
    values = categories.tolist() if hasattr(categories, "tolist") else list(categories)
    if sum(map(is_gap, values)) > 1:
        raise Untranslatable("an encoder that tells two kinds of gaps apart is not compiled")
    return [each.number(value) for value in values]


KNOWN: dict[str, Translate] = {
    "sklearn.preprocessing._discretization.KBinsDiscretizer": _bins,
    "sklearn.preprocessing._encoders.OneHotEncoder": _one_hot,
    "sklearn.preprocessing._encoders.OrdinalEncoder": _ordinal,
    "sklearn.preprocessing._target_encoder.TargetEncoder": _target,
}
