"""Importing libraries without what they do unasked: above all Jupyter's, which waste a second.

nbformat, papermill and ipykernel import much that a run never calls: a grammar of
internationalised addresses that takes 1.2 s of processor time to compile, a debugger, the file
systems of other people's clusters. Inside :func:`quick_imports` these wait until
somebody calls them, or, where the importing library carries on without them, are not there.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_GRAMMAR = "rfc3987_syntax"
_HIDDEN = ("debugpy", "pyarrow.fs", "gcsfs", "boto3", "github", "azure")
"""Modules that papermill and ipykernel ask for and do without."""


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import nbformat, papermill, nbconvert and ipykernel inside of this."""
    stand_ins = {_GRAMMAR: _grammar(), **dict.fromkeys(_HIDDEN)}
    hidden = {name: found for name, found in stand_ins.items() if name not in sys.modules}
    sys.modules.update(hidden)  # type: ignore[arg-type] # None means: cannot be imported
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


def onnxruntime() -> ModuleType:
    """Return ONNX Runtime, told not to report its use to its makers.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is first imported
    return importlib.import_module("onnxruntime")


def _grammar() -> ModuleType:
    """Return what jsonschema takes for the grammar's module; it compiles at the first check."""

    def is_valid_syntax(term: str, text: str) -> bool:
        return bool(importlib.import_module(_GRAMMAR).is_valid_syntax(term, text))

    module = ModuleType(_GRAMMAR)
    module.is_valid_syntax = is_valid_syntax  # type: ignore[attr-defined]
    return module
