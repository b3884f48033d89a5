"""The graph of stages as a drawing: layers from left to right, the same for the same stages.

Each stage stands one layer right of its last dependency. A dependency that skips layers gets an
invisible waypoint in each of them, so that its line runs between the boxes. Layers are ordered by
the mean place of their neighbours, a few sweeps to and fro; ties keep the order of the stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from statistics import fmean

from mlnb.reports.executed import ReportError

HEIGHT, GAP_X, GAP_Y, MARGIN = 38, 52, 16, 2
_LONGEST = 24
_SWEEPS = 4


@dataclass(frozen=True)
class Box:
    """A stage's place; ``label`` is its name, shortened to fit."""

    name: str
    label: str
    x: int
    y: int
    width: int


@dataclass(frozen=True)
class Drawing:
    """Boxes, and lines as SVG paths, in one coordinate system from 0 to width and height."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """A stage, or a waypoint of a line (``step`` > 0) on its way to ``name``."""

    name: str
    source: str = ""
    step: int = 0


def draw(deps: Mapping[str, Sequence[str]]) -> Drawing:
    """Return the drawing of stages and the stages that each depends on.

    Raises:
        ReportError: the stages depend on each other in a circle.
    """
    known = {name: [d for d in dict.fromkeys(ups) if d in deps] for name, ups in deps.items()}
    layer = _layers(known)
    columns: list[list[_Place]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for name in known:
        columns[layer[name]].append(_Place(name))
    edges: list[tuple[_Place, _Place]] = []
    routes: list[list[_Place]] = []
    for name, upstream in known.items():
        for source in upstream:
            steps = range(1, layer[name] - layer[source])
            waypoints = [_Place(name, source, step) for step in steps]
            for place in waypoints:
                columns[layer[source] + place.step].append(place)
            route = [_Place(source), *waypoints, _Place(name)]
            routes.append(route)
            edges.extend(pairwise(route))
    _order(columns, edges)
    return _drawing(columns, routes)


def _layers(known: Mapping[str, Sequence[str]]) -> dict[str, int]:
    layer: dict[str, int] = {}
    try:
        order = list(TopologicalSorter(known).static_order())
    except CycleError as error:
        raise ReportError(f"stages depend on each other in a circle: {error.args[1]}") from None
    for name in order:
        layer[name] = max((layer[source] + 1 for source in known[name]), default=0)
    return layer


def _order(columns: list[list[_Place]], edges: Sequence[tuple[_Place, _Place]]) -> None:
    """Sort each column by the mean place of its neighbours in the column swept before."""
    before: dict[_Place, list[_Place]] = {}
    after: dict[_Place, list[_Place]] = {}
    for left, right in edges:
        before.setdefault(right, []).append(left)
        after.setdefault(left, []).append(right)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        neighbours = before if forward else after
        place = {p: i for column in columns for i, p in enumerate(column)}
        for column in columns if forward else reversed(columns):
            means = {p: fmean(place[n] for n in neighbours.get(p, [p])) for p in column}
            column.sort(key=means.__getitem__)
            place.update((p, i) for i, p in enumerate(column))


def _drawing(columns: Sequence[Sequence[_Place]], routes: Sequence[Sequence[_Place]]) -> Drawing:
    rows = max((len(column) for column in columns), default=0)
    step = HEIGHT + GAP_Y
    height = rows * step - GAP_Y + 2 * MARGIN if rows else 0
    x, boxes, ends = MARGIN, [], {}
    for column in columns:
        width = max((_width(place.name) for place in column if not place.step), default=0)
        top = (height - (len(column) * step - GAP_Y)) // 2
        for row, place in enumerate(column):
            y = top + row * step
            if not place.step:
                boxes.append(Box(place.name, _short(place.name), x, y, width))
            ends[place] = (x, x + width, y + HEIGHT // 2)
        x += width + GAP_X
    lines = tuple(_line([ends[place] for place in route]) for route in routes)
    return Drawing(x - GAP_X + MARGIN if columns else 0, height, tuple(boxes), lines)


def _line(ends: Sequence[tuple[int, int, int]]) -> str:
    """Return a path from the right side of the first place to the left side of the last."""
    path = [f"M{ends[0][1]} {ends[0][2]}"]
    for (_, right, y), (left, past, there) in pairwise(ends):
        middle = (right + left) // 2
        path.append(f"C{middle} {y} {middle} {there} {left} {there}")
        if (left, past, there) != ends[-1]:
            path.append(f"L{past} {there}")
    return "".join(path)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _width(name: str) -> int:
    """Return the width of a box: room for its label in the stage font, and for the dot."""
    return 46 + round(8.4 * len(_short(name)))
