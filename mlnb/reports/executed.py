"""The executed copy of a notebook: its outputs, and what its run says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlnb import notebook
from mlnb.errors import MlnbError

FORMAT = 1


class ReportError(MlnbError):
    """A report that cannot be rendered from what is there."""


@dataclass(frozen=True)
class Parameter:
    """A value that a run had: an entry of ``metadata.mlnb.parameters``."""

    name: str
    kind: str
    type: str
    value: Any
    default: Any
    help: str
    origin: str

    @property
    def differs(self) -> bool:
        """Whether the run's value is not the notebook's own."""
        return bool(self.value != self.default)


@dataclass(frozen=True)
class Verdict:
    """What a page says in one word; ``reason`` is a sentence, empty when all is well."""

    word: str
    tone: Literal["good", "bad", "unknown"]
    reason: str = ""


@dataclass(frozen=True)
class Run:
    """What an executed copy says about its run: ``metadata.mlnb``, and its cells as JSON."""

    stage: str = ""
    status: str = ""
    cause: str = ""
    failed_cell: int | None = None
    parameters: tuple[Parameter, ...] = ()
    code: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    python: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    language: str = "python"
    cells: tuple[Mapping[str, Any], ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The word on the badge. Gates will have their say here."""
        if self.status == "passed":
            return Verdict("passed", "good")
        if self.status == "failed":
            return Verdict("failed", "bad", self.cause)
        return Verdict("unknown", "unknown", "This copy was not made by mlnb.")


def read(path: Path, *, stage: str) -> Run:
    """Read the executed copy of ``stage``.

    Raises:
        ReportError: it is missing, or of a format that this version does not know.
        NotebookError: it is not a notebook.
    """
    if not path.is_file():
        raise ReportError(
            f"stage {stage!r} has no executed notebook",
            where=str(path),
            remedy=f"Run `dvc repro {stage}`, or `dvc pull` if someone else has run it.",
        )
    notebook.read(path)  # says what is wrong with a file that is not a notebook
    return parse(json.loads(path.read_bytes()), where=str(path))


def parse(document: Mapping[str, Any], *, where: str = "") -> Run:
    """Return the run that an executed notebook of format 4 tells of.

    Raises:
        ReportError: its metadata is of a format that this version does not know.
    """
    metadata = document.get("metadata", {})
    told = metadata.get("mlnb", {})
    if told and told.get("format") != FORMAT:
        raise ReportError(
            f"the executed notebook has format {told.get('format')!r}; known is {FORMAT}",
            where=where,
            remedy="Run the stage again with this version of mlnb.",
        )
    names = ("name", "kind", "type", "value", "default", "help", "origin")
    environment = told.get("environment", {})
    return Run(
        stage=str(told.get("stage", "")),
        status=str(told.get("status", "")),
        cause=str(told.get("cause") or ""),
        failed_cell=told.get("failed_cell"),
        parameters=tuple(
            Parameter(**{name: entry.get(name, "") for name in names})
            for entry in told.get("parameters", ())
        ),
        code=str(told.get("code", "")),
        inputs=told.get("inputs", {}),
        outputs=told.get("outputs", {}),
        python=str(environment.get("python", "")),
        packages=environment.get("packages", {}),
        language=str(metadata.get("language_info", {}).get("name") or "python").lower(),
        cells=tuple(document.get("cells", ())),
    )
