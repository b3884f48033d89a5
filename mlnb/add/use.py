"""What a notebook reads and writes, from its contract, its code and one observed run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlnb import agreement, mirror
from mlnb.add.observe import Observation
from mlnb.analysis import analyse
from mlnb.analysis.accesses import is_absolute
from mlnb.contract import Contract
from mlnb.notebook import Notebook
from mlnb.pipeline import Output, covers
from mlnb.project import Project

_KIND = {"out": "outs", "predictions": "outs", "metrics": "metrics", "plots": "plots"}
_MANY = 3
"""As many observed reads in one folder, of all its files, become the folder."""


@dataclass(frozen=True)
class Use:
    """What a notebook reads and writes; ``source`` says where an undeclared path comes from."""

    reads: tuple[str, ...]
    outs: tuple[Output, ...]
    source: tuple[tuple[str, str, bool], ...] = ()

    def covers(self, path: str) -> bool:
        """Whether ``path`` is read or written already."""
        return any(covers(known, path) for known in (*self.reads, *(o.path for o in self.outs)))

    def joined(self, more: tuple[Sequence[str], Sequence[str]], source: str) -> Use:
        """Return this use with more reads and writes, as far as it does not cover them."""
        reads, outs, origins = [*self.reads], [*self.outs], [*self.source]
        for path in more[1]:
            if not any(covers(out.path, path) for out in outs):
                outs.append(Output(path, _kind(path), cache=_kind(path) == "outs"))
                origins.append((path, source, True))
        for path in more[0]:
            if not any(covers(known, path) for known in (*reads, *(out.path for out in outs))):
                reads.append(path)
                origins.append((path, source, False))
        return Use(tuple(reads), tuple(outs), tuple(origins))


def _kind(path: str) -> str:
    """Return the list for an output that no contract names: metrics by its name, else a file."""
    is_metrics = path.endswith(".json") and "metrics" in path.lower()
    return "metrics" if is_metrics else "outs"


def declared_use(project: Project, declared: Contract) -> Use:
    """Return what the contract declares, with its defaults."""
    bound = agreement.bound_paths(project, declared, {})
    reads: list[str] = []
    outs: list[Output] = []
    for name, paths in bound.items():
        kind = _KIND.get(declared[name].kind, "")
        reads += paths if not kind else []
        outs += [Output(path, kind, cache=kind == "outs") for path in paths if kind]
    return Use(tuple(reads), tuple(outs))


def literal_use(project: Project, source: Notebook) -> tuple[list[str], list[str]]:
    """Return the project's paths that are written out in the code: (reads, writes)."""
    found = analyse(source, mirror.search(project, source.path)).accesses
    inside = [
        (project.relative(project.root / a.path), a.writes)
        for a in found
        if not is_absolute(a.path) and ".." not in Path(a.path).parts
    ]
    return [p for p, writes in inside if not writes], [p for p, writes in inside if writes]


def whole_folders(project: Project, use: Use, reads: Iterable[str]) -> list[str]:
    """Return the paths that ``use`` lacks, those that are a folder's every file as the folder."""
    by_folder: dict[str, list[str]] = {}
    for path in reads:
        if not use.covers(path):
            by_folder.setdefault(path.rpartition("/")[0], []).append(path)
    found: list[str] = []
    for folder, paths in by_folder.items():
        here = [p for p in (project.root / folder).iterdir() if not p.name.startswith(".")]
        whole = folder and len(paths) >= _MANY and len(paths) == len(here)
        found += [folder] if whole and not any(covers(folder, o.path) for o in use.outs) else paths
    return found


def about_run(seen: Observation) -> Iterator[str]:
    """Yield what the observed run could not tell."""
    if seen.failure:
        yield f"the observed run ended early ({seen.failure}): what follows is unknown"
    if not seen.saw_all_reads:
        yield (
            "this file system keeps no access times, so what compiled libraries read (parquet, "
            "XGBoost) is known only where its path is written in the code"
        )


def about_use(declared: Contract, use: Use) -> Iterator[str]:
    """Yield what the notebook should declare."""
    if declared.cell is None:
        yield (
            "the notebook has no parameters cell; tag one `parameters` and declare its paths "
            "and values there, so that they can be checked"
        )
        return
    for path, source, writes in use.source:
        marker = "Out" if writes else "In"
        stem = re.sub(r"\W", "_", Path(path).name.partition(".")[0]) or "path"
        declaration = f'{stem}: {marker} = "{path}"'
        yield f"{path} is known from {source} only; `mlnb run` wants it declared: `{declaration}`"
