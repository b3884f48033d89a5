"""Parameters into a notebook: papermill's injection with exact round trips.

papermill turns a value into source code. For tuples, dates and paths it falls back to strings;
here they arrive as what they are.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def inject(document: Any, values: Mapping[str, Any], *, kernel: str, language: str) -> Any:
    """Return the nbformat ``document`` with a cell of ``values`` after its parameters cell."""
    from papermill.parameterize import parameterize_notebook
    from papermill.translators import papermill_translators

    if language == "python":
        # At call time and in this process only: papermill's entry points load at import and
        # would change papermill for everybody else.
        papermill_translators.register("python", _translator())
        kernel = "python"
    return parameterize_notebook(document, dict(values), kernel_name=kernel, language=language)


def _translator() -> Any:
    from papermill.translators import PythonTranslator, Translator

    class ExactTranslator(PythonTranslator):  # type: ignore[misc]
        """Python source that evaluates to the very value."""

        @classmethod
        def translate(cls, val: Any) -> str:
            return literal(val)

        @classmethod
        def codify(cls, parameters: Any, comment: str = "Parameters") -> str:
            # Past PythonTranslator's, which formats by black where black happens to be installed.
            return str(Translator.codify.__func__(cls, parameters, comment))

    return ExactTranslator


def literal(value: Any) -> str:
    """Return Python source that evaluates to ``value`` in a namespace without imports."""
    if isinstance(value, datetime.date):  # a datetime is one
        return f'__import__("datetime").{repr(value).removeprefix("datetime.")}'
    if isinstance(value, PurePath):
        return f'__import__("pathlib").Path({literal(str(value))})'
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(k)}: {literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return f'float("{value}")'
    return repr(value)
