"""What a notebook of the corpus is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from notebooks import Cell, code, prose

_MARK = "# %%"


@dataclass(frozen=True)
class Sample:
    """One notebook of the corpus.

    Attributes:
        name: the feature it shows.
        cells: its cells.
        shows: texts that its outputs must hold, or the feature was not shown at all.
        cause: text that the cause of its failure must hold; empty when it passes.
        values: parameters to inject.
        files: local files by path.
        environment: variables to set.
    """

    name: str
    cells: tuple[Cell | str, ...]
    shows: tuple[str, ...] = ()
    cause: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def sample(name: str, *cells: Cell | str, **more: Any) -> Sample:
    """Return a notebook of the corpus.

    Args:
        name: the feature it shows.
        cells: its cells; or one text that begins with a new line, in which a line ``# %%`` begins
            a cell. After it stand its tags, or ``[markdown]``.
        more: attributes besides the cells.
    """
    if len(cells) == 1 and isinstance(cells[0], str) and cells[0].startswith("\n"):
        cells = tuple(_cells(cells[0]))
    return Sample(name, cells, **more)


def _cells(text: str) -> list[Cell | str]:
    parts: list[tuple[str, list[str]]] = [("", [])]
    for line in text.strip("\n").split("\n"):
        if line.startswith(_MARK + " ") or line == _MARK:
            parts.append((line.removeprefix(_MARK).strip(), []))
        else:
            parts[-1][1].append(line)
    if not parts[0][1]:
        del parts[0]
    return [
        prose("\n".join(lines)) if words == "[markdown]" else code("\n".join(lines), *words.split())
        for words, lines in parts
    ]
