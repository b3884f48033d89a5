"""The front page of all reports: the graph of stages, their verdicts and headline figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlnb.gates import Judgement
from mlnb.reports import dag
from mlnb.reports.gates import TONES
from mlnb.reports.merge import Merged
from mlnb.reports.metrics import Metric
from mlnb.reports.outputs import first_figure
from mlnb.reports.page import Page, describe, template

_HEADLINES = 3
_LARGEST = 1_500_000
"""Characters of a figure that the front page repeats as a thumbnail."""


@dataclass(frozen=True)
class Card:
    """What the front page shows of one stage."""

    page: Page
    thumbnail: str
    alt: str

    @property
    def headlines(self) -> list[Metric]:
        """The first figures of the top level, those with an interval first."""
        rows = self.page.groups[0].rows if self.page.groups else ()
        return sorted(rows, key=lambda row: row.bar is None)[:_HEADLINES]


def card(page: Page, merged: Merged) -> Card:
    """Return the card of a stage; its thumbnail is the notebook's first figure."""
    for piece in merged.pieces:
        found = first_figure(piece.outputs)
        if found and len(found) <= _LARGEST:
            return Card(page, found, describe(piece.text, piece.number))
    return Card(page, "", "")


def render(
    cards: Sequence[Card],
    deps: Mapping[str, Sequence[str]],
    *,
    title: str,
    candidate: Mapping[str, Any] | None,
    judgement: Judgement | None,
) -> str:
    """Return the front page as HTML."""
    counts: dict[str, int] = {}
    for one in cards:
        word = one.page.run.verdict.word
        counts[word] = counts.get(word, 0) + 1
    return template("index.html.j2").render(
        title=title,
        cards=cards,
        counts=counts,
        drawing=dag.draw(deps),
        tones={one.page.name: one.page.run.verdict.tone for one in cards},
        candidate={str(key): str(value) for key, value in (candidate or {}).items()},
        height=dag.HEIGHT,
        judgement=judgement,
        tone=TONES[judgement.verdict] if judgement else "",
    )
