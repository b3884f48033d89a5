"""The content of a params, pipeline or lock file, as DVC reads it, parsed once a version."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

from mlnb import files
from mlnb.pipeline.records import PipelineError


def content(path: Path) -> Any:
    """Return the content of a params, pipeline or lock file, as DVC would read it.

    Raises:
        PipelineError: it is not there, or torn.
    """
    if not path.is_file():
        raise PipelineError("no such file", where=str(path))
    return copy.deepcopy(_parsed(path, files.version(path)))


@functools.lru_cache(maxsize=64)
def _parsed(path: Path, version: tuple[int, ...]) -> Any:
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import LOADERS

    try:
        return LOADERS[path.suffix.lower()](str(path))
    except (DvcException, ValueError, OSError, TypeError) as error:
        reason = error.__cause__ or error
        raise PipelineError(f"cannot be read: {reason}", where=str(path)) from error
