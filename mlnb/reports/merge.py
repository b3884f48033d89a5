"""A notebook and its run, side by side: prose from the one, outputs from the other.

The source owns the prose, so that an edited sentence shows without a new run. Outputs are shown
only under the very code that made them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlnb import notebook
from mlnb.reports.executed import Run

State = Literal["run", "failed", "dev", "not run"]


@dataclass(frozen=True)
class Piece:
    """One cell as a report shows it.

    Attributes:
        kind: ``prose`` or ``code``.
        number: its place in the source notebook from 1; in the copy where there is no source.
        text: its source.
        attachments: images that prose brings along.
        outputs: what it printed and displayed.
        state: ``dev`` cells are left out of runs; ``not run`` ones come after a failure.
    """

    kind: Literal["prose", "code"]
    number: int
    text: str
    attachments: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[Mapping[str, Any]] = ()
    state: State = "run"


@dataclass(frozen=True)
class Merged:
    """The pieces of a report; ``notice`` says why the prose is missing, where it is."""

    pieces: tuple[Piece, ...]
    notice: str = ""


def merge(source: Path | None, run: Run) -> Merged:
    """Return the cells of ``source`` with the outputs of ``run``.

    Without a source, or when its code is not what ran, the executed cells stand alone with a
    notice: guessing which output belongs to which cell could show a figure under other code.

    Raises:
        NotebookError: the source is not a notebook.
    """
    if source is None or not source.is_file():
        return Merged(_alone(run), "The notebook of this run is not there; only its code is shown.")
    cells = notebook.read(source).cells
    raw = json.loads(source.read_bytes())["cells"]
    ran = [cell for cell in _code(run) if notebook.INJECTED not in _tags(cell)]
    wanted = [cell for cell in cells if _runs(cell)]
    pairs = zip((cell.source.rstrip() for cell in wanted), map(_text, ran), strict=False)
    whole = len(wanted) == len(ran) or (run.status == "failed" and len(ran) < len(wanted))
    if not whole or any(ours != theirs for ours, theirs in pairs):
        return Merged(
            _alone(run),
            "The notebook's code has changed since this run. "
            "Below is the code that ran; run the stage again to see the notebook's prose.",
        )
    outputs = {cell.number: made for cell, made in zip(wanted, ran, strict=False)}
    pieces = []
    for cell in cells:
        if cell.kind == "markdown":
            attached = raw[cell.number - 1].get("attachments", {})
            pieces.append(Piece("prose", cell.number, cell.source, attached))
        elif cell.kind == "code" and cell.source.strip():
            pieces.append(_piece(cell, outputs.get(cell.number), run))
    return Merged(tuple(pieces))


def _runs(cell: notebook.Cell) -> bool:
    return cell.kind == "code" and notebook.DEV not in cell.tags and bool(cell.source.strip())


def _piece(cell: notebook.Cell, made: Mapping[str, Any] | None, run: Run) -> Piece:
    if notebook.DEV in cell.tags:
        return Piece("code", cell.number, cell.source, state="dev")
    if made is None:
        return Piece("code", cell.number, cell.source, state="not run")
    outputs = made.get("outputs", ())
    state: State = "failed" if _failed(cell.number - 1, outputs, run) else "run"
    return Piece("code", cell.number, cell.source, outputs=outputs, state=state)


def _alone(run: Run) -> tuple[Piece, ...]:
    return tuple(
        Piece(
            "code",
            number,
            _text(cell),
            outputs=cell.get("outputs", ()),
            state="failed" if _failed(None, cell.get("outputs", ()), run) else "run",
        )
        for number, cell in enumerate(run.cells, 1)
        if cell.get("cell_type") == "code" and notebook.INJECTED not in _tags(cell)
    )


def _failed(index: int | None, outputs: Sequence[Mapping[str, Any]], run: Run) -> bool:
    """Return whether this cell failed the run; a cell may also show an error it survived."""
    if run.status == "passed":
        return False
    if index is not None and run.failed_cell is not None:
        return index == run.failed_cell
    return any(output.get("output_type") == "error" for output in outputs)


def _code(run: Run) -> list[Mapping[str, Any]]:
    return [cell for cell in run.cells if cell.get("cell_type") == "code"]


def _text(cell: Mapping[str, Any]) -> str:
    source = cell.get("source", "")
    return (source if isinstance(source, str) else "".join(source)).rstrip()


def _tags(cell: Mapping[str, Any]) -> Sequence[str]:
    found: Sequence[str] = cell.get("metadata", {}).get("tags", ())
    return found
