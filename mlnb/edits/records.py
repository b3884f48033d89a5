"""Edits and what becomes of a file, as plain data."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlnb.errors import MlnbError


class EditError(MlnbError):
    """An edit that cannot be made without touching what it should leave alone."""


@dataclass(frozen=True)
class Entry:
    """An entry of one of a stage's lists.

    Attributes:
        file: the dvc.yaml.
        stage: the stage's key there.
        section: ``deps``, ``params``, ``outs``, ``metrics`` or ``plots``.
        path: the entry as it should be written.
        flags: its flags, such as ``(("cache", False),)``.
        leaves: the list that it leaves, if it moves.
    """

    file: Path
    stage: str
    section: str
    path: str
    flags: tuple[tuple[str, Any], ...] = ()
    leaves: str = ""


@dataclass(frozen=True)
class Value:
    """A value of a section of params.yaml; an empty section means the top level."""

    file: Path
    section: str
    name: str
    value: Any


@dataclass(frozen=True)
class NewValues:
    """Other values for names that the file holds, by dotted name."""

    file: Path
    values: Mapping[str, Any]


@dataclass(frozen=True)
class NewStage:
    """A whole stage; ``body`` has its keys in order."""

    file: Path
    stage: str
    body: Mapping[str, Any]


Edit = Entry | Value | NewValues | NewStage


@dataclass(frozen=True)
class Change:
    """What becomes of a file; nothing is written yet."""

    path: Path
    before: str
    after: str

    def diff(self, root: Path) -> str:
        """Return the change as a unified diff with paths relative to ``root``."""
        name = self.path.relative_to(root).as_posix()
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True), self.after.splitlines(keepends=True), name, name
        )
        return "".join(lines)
