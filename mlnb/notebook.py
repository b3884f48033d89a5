"""A notebook file as plain data: its code cells, with positions a person can find.

Reading needs the standard library only: a notebook is JSON, and importing nbformat costs a
second that ``mlnb code`` and ``mlnb lint`` do not have.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlnb.errors import NotebookError

DEV = "dev"
PARAMETERS = "parameters"
INJECTED = "injected-parameters"


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        number: its place among all cells of the notebook, from 1, as a person counts them.
        kind: ``code``, ``markdown`` or ``raw``.
        source: its text.
        tags: its tags, in order.
        count: the execution count that was saved with it; None if it was saved without.
    """

    number: int
    kind: str
    source: str
    tags: tuple[str, ...]
    count: int | None = None


@dataclass(frozen=True)
class Notebook:
    """A notebook without its outputs.

    Attributes:
        path: the file.
        language: lower-case language of its kernel; ``python`` when it names none.
        kernel: name of its kernelspec; empty when it has none.
        cells: all cells in order.
    """

    path: Path
    language: str
    kernel: str
    cells: tuple[Cell, ...]

    @property
    def code(self) -> tuple[Cell, ...]:
        """The cells that a run executes: code that is neither empty nor tagged ``dev``."""
        return tuple(
            cell
            for cell in self.cells
            if cell.kind == "code" and DEV not in cell.tags and cell.source.strip()
        )

    def where(self, cell: Cell, line: int = 0) -> str:
        """Return 'notebooks/train.ipynb, cell 3, line 2'; lines count from 1, 0 names none."""
        return f"{self.path}, cell {cell.number}" + (f", line {line}" if line else "")


def read(path: Path) -> Notebook:
    """Read ``path``.

    Raises:
        NotebookError: the file is missing, truncated, or not a notebook of format 4.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotebookError("no such notebook", where=str(path)) from None
    except IsADirectoryError:
        raise NotebookError("a folder, not a notebook", where=str(path)) from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotebookError(
            f"not a notebook, or cut off: {error}",
            where=str(path),
            remedy=f"Restore it with `git checkout -- {path}`.",
        ) from None
    except OSError as error:
        raise NotebookError(f"cannot be read: {error.strerror}", where=str(path)) from None
    try:
        return _notebook(path, document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise NotebookError(
            f"valid JSON, but not a notebook of format 4 ({type(error).__name__}: {error})",
            where=str(path),
            remedy="Open it in JupyterLab and save it, or run `jupyter nbconvert --to notebook`.",
        ) from None


def _notebook(path: Path, document: Any) -> Notebook:
    if document["nbformat"] != 4:
        raise ValueError(f"nbformat is {document['nbformat']!r}")
    metadata = document.get("metadata", {})
    spec = metadata.get("kernelspec", {})
    language = spec.get("language") or metadata.get("language_info", {}).get("name") or "python"
    cells = tuple(
        Cell(
            number,
            cell["cell_type"],
            _text(cell["source"]),
            _tags(cell),
            cell.get("execution_count"),
        )
        for number, cell in enumerate(document["cells"], 1)
    )
    return Notebook(path, str(language).lower(), str(spec.get("name", "")), cells)


def _text(source: Any) -> str:
    """Return a multi-line field of the format, a string or a list of strings, as one string."""
    if not isinstance(source, str | list):
        raise TypeError("the source of a cell must be text")
    text = source if isinstance(source, str) else "".join(source)
    text.encode()  # half a surrogate pair is JSON, and neither Python nor a file
    return text


def _tags(cell: Any) -> tuple[str, ...]:
    tags = cell.get("metadata", {}).get("tags", [])
    if not isinstance(tags, list):
        raise TypeError(f"tags must be a list, not {tags!r}")
    return tuple(str(tag) for tag in tags)
