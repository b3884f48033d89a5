"""What a pipeline is made of, as plain data: a stage, its outputs, and a value it is given."""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb.errors import MlnbError


class PipelineError(MlnbError):
    """A dvc.yaml, params.yaml or dvc.lock that cannot be read, or a stage that is not there."""


@dataclass(frozen=True)
class Output:
    """One output of a stage.

    Attributes:
        path: relative to the root.
        kind: ``outs``, ``metrics`` or ``plots``.
        cache: DVC keeps it in its cache.
        persist: DVC does not delete it before the stage runs.
    """

    path: str
    kind: str
    cache: bool = True
    persist: bool = False


@dataclass(frozen=True)
class Given:
    """A value that the pipeline gives to a parameter, and where it comes from."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Stage:
    """One stage, fully resolved.

    Attributes:
        name: its name in reports: ``train``, ``train@gbtree-3``, ``sub/train``.
        target: its address for DVC commands given at the root.
        file: its dvc.yaml, absolute.
        wdir: where its command runs, absolute.
        cmd: the command; several are joined by newlines.
        deps: paths it reads.
        outs: what it writes.
        params: (file, key) pairs it depends on; an empty key means the whole file.
        item: what ``matrix`` or ``foreach`` gives it.
        notebook: the notebook that its ``mlnb run`` command names, absolute; else None.
    """

    name: str
    target: str
    file: Path
    wdir: Path
    cmd: str
    deps: tuple[str, ...]
    outs: tuple[Output, ...]
    params: tuple[tuple[str, str], ...]
    item: Mapping[str, Any] = field(default_factory=dict)
    notebook: Path | None = None

    @property
    def key(self) -> str:
        """Its name inside its own dvc.yaml and dvc.lock."""
        return self.target.rpartition(":")[2]

    @property
    def tool(self) -> str:
        """The mlnb command it runs (``code``, ``run``, ``track``), or an empty string."""
        return next(iter(_mlnb_words(self.cmd)), "")

    def reads(self, path: str) -> bool:
        """Whether ``path`` is, or lies in, a declared dependency."""
        return any(covers(dep, path) for dep in self.deps)

    def writes(self, path: str) -> bool:
        """Whether ``path`` is, or lies in, a declared output."""
        return any(covers(out.path, path) for out in self.outs)


def notebook_of(cmd: str, wdir: Path) -> Path | None:
    """Return the notebook of an ``mlnb run NOTEBOOK`` command."""
    words = _mlnb_words(cmd)
    if words[:1] != ["run"]:
        return None
    for before, word in itertools.pairwise(words):
        if (
            word.endswith(".ipynb")
            and not word.startswith("-")
            and before not in ("-p", "--parameter")
        ):
            return Path(os.path.abspath(wdir / word))
    return None


def covers(outer: str, inner: str) -> bool:
    """Whether path ``inner`` is, or lies in, ``outer``."""
    return outer in (inner, ".") or inner.startswith(outer.rstrip("/") + "/")


def _mlnb_words(cmd: str) -> list[str]:
    """Return what follows ``mlnb`` on a command line; nothing of any other command."""
    try:
        tool, *words = shlex.split(cmd)
    except ValueError:  # unclosed quotes, or no command at all
        return []
    return words if Path(tool).name == "mlnb" else []
