"""The graph beside a list of stages, a line each, like ``git log --graph`` read downwards."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)

WIDEST = 8
"""Lanes; a wider graph is not drawn."""


def draw(order: Sequence[Node], needs: Mapping[Node, Set[Node]]) -> list[str]:
    """Return the graph's part of each line.

    Args:
        order: the nodes, each behind what it needs.
        needs: what each needs directly.
    """
    after: dict[Node, list[Node]] = {node: [] for node in order}
    for node, above in _reduced(order, needs).items():
        for one in above:
            after[one].append(node)
    place = {node: number for number, node in enumerate(order)}
    lanes: list[Node | None] = []  # the node that each lane leads to
    rows = []
    for node in order:
        ends = [i for i, goal in enumerate(lanes) if goal == node]
        here = ends[0] if ends else _free(lanes)
        for i in ends:
            lanes[i] = None
        opened = []
        for number, below in enumerate(sorted(after[node], key=place.__getitem__)):
            lane = here if number == 0 else _free(lanes, beyond=here)
            lanes[lane] = below
            opened.append(lane)
        rows.append(_row(here, set(ends[1:]), set(opened[1:]), lanes))
        while lanes and lanes[-1] is None:
            lanes.pop()
    if any(len(row) > 2 * WIDEST for row in rows):
        return ["●"] * len(rows)
    widest = max(map(len, rows), default=0)
    return [row.ljust(widest) for row in rows]


def _free(lanes: list[Node | None], beyond: int = -1) -> int:
    """Return the first lane behind ``beyond`` that leads nowhere, making one where needed."""
    for i, goal in enumerate(lanes):
        if goal is None and i > beyond:
            return i
    lanes.append(None)
    return len(lanes) - 1


def _row(here: int, closed: set[int], opened: set[int], lanes: Sequence[Node | None]) -> str:
    reach = max({here, *closed, *opened})
    cells = []
    for i in range(max(len(lanes), reach + 1)):
        joined = here <= i < reach
        passes = i < len(lanes) and lanes[i] is not None and i not in opened
        if i == here:
            sign = "●"
        elif i in closed and i in opened:
            sign = "┤" if i == reach else "┼"
        elif i in closed:
            sign = "╯" if i == reach else "┴"
        elif i in opened:
            sign = "╮" if i == reach else "┬"
        elif here < i < reach:
            sign = "┼" if passes else "─"
        else:
            sign = "│" if passes else " "
        cells.append(sign + ("─" if joined else " "))
    return "".join(cells).rstrip()


def _reduced(order: Sequence[Node], needs: Mapping[Node, Set[Node]]) -> dict[Node, set[Node]]:
    """Return what each node needs without what these need already."""
    above: dict[Node, set[Node]] = {}
    kept = {}
    for node in order:
        direct = {one for one in needs[node] if one in above}
        further = {far for one in direct for far in above[one]}
        above[node] = direct | further
        kept[node] = direct - further
    return kept
