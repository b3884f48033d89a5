"""What lies in the working tree, checked against what dvc.lock records of it.

A candidate is told from dvc.lock. Its metrics and plots are read from files, which a person may
have edited or git may have switched since; then they belong to another state and are refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.errors import MlnbError
from mlnb.project import Project

if TYPE_CHECKING:
    from mlnb.pipeline import Stage


class CandidateError(MlnbError):
    """A state of the pipeline that is not complete, or not the one that dvc.lock records."""

    exit_code = 1


def verify(project: Project, path: str, checksums: Mapping[str, str]) -> Path:
    """Return the output at ``path`` after a look whether it is what dvc.lock records.

    Raises:
        CandidateError: it is not recorded, is missing, or has changed since.
    """
    file = project.root / path
    checksum = checksums.get(path, "")
    if not checksum:
        raise CandidateError("dvc.lock does not record it", where=path, remedy="Run `dvc repro`.")
    if not file.exists():
        raise CandidateError(
            "dvc.lock records it, but it is not there",
            where=path,
            remedy="Run `dvc checkout`, or `dvc pull` if it was made elsewhere.",
        )
    # Only DVC can compute a folder's checksum, which ends in `.dir`.
    if file.is_file() and len(checksum) == 32 and _md5(file) != checksum:
        raise CandidateError(
            "changed since its stage ran",
            where=path,
            remedy="Run `dvc repro` to make it again, or `dvc checkout` to restore it.",
        )
    return file


def metrics(project: Project, stage: Stage, checksums: Mapping[str, str]) -> dict[str, float]:
    """Return the numbers of a stage's JSON metrics files, by names that start with the stage's.

    Files of other formats have no names that DVC and MLflow would agree on; they are kept as files.

    Raises:
        CandidateError: a file is missing, was changed, or holds a number that is not finite.
    """
    found: dict[str, float] = {}
    for out in stage.outs:
        if out.kind != "metrics" or not out.path.endswith(".json"):
            continue
        path = verify(project, out.path, checksums)
        for name, value in _numbers(path, out.path):
            full = f"{stage.name}.{name}"
            if full in found:
                raise CandidateError(
                    f"metric {name!r} of stage {stage.name!r} is there twice",
                    where=out.path,
                    remedy="Give it another name, or put it in a section of its own.",
                )
            found[full] = value
    return found


def _numbers(path: Path, where: str) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a metrics file; text and truth values beside them are no metrics."""
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CandidateError(f"not JSON: {error}", where=where, remedy="Run `dvc repro`.") from None
    if not isinstance(document, dict):
        raise CandidateError("metrics are a JSON object of names and numbers", where=where)
    for name, value in _leaves(document):
        if value is None or (isinstance(value, int | float) and not _is_finite(value)):
            raise CandidateError(
                f"metric {name!r} is {value}; a candidate needs finite numbers",
                where=where,
                remedy="Mend the notebook that computes it and run `dvc repro`.",
            )
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield name, float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what nested objects and lists hold, by dotted name; items of a list by position."""
    if isinstance(value, dict | list):
        pairs: Iterable[tuple[Any, Any]] = (
            value.items() if isinstance(value, dict) else enumerate(value)
        )
        for key, item in pairs:
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
