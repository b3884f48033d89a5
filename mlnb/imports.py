"""Importing Jupyter's libraries without the second that they waste."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import nbformat, papermill and nbconvert inside of this.

    They import jsonschema, which compiles a grammar of internationalised addresses (1.2 s of
    processor time) for a format check that notebooks never ask for. jsonschema carries on without
    the grammar's module, so that module is hidden while the import lasts.
    """
    name = "rfc3987_syntax"
    hide = name not in sys.modules
    if hide:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            sys.modules.pop(name, None)
