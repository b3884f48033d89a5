"""What DVC's YAML parser makes of a text, kept from one run to the next.

The parser is pure Python, and half of what it costs to find that nothing has changed. What it
gives depends on nothing but the text, so it is kept under the text's digest: the same answer,
whichever rules of YAML it follows.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from mlnb import files

FORMAT = 1
"""Of the file; raised when old ones must not be read."""


class Parses:
    """Stands for DVC's ``parse_yaml``.

    Args:
        path: the file that they are kept in.
        original: DVC's own.
    """

    def __init__(self, path: Path, original: Callable[..., Any]) -> None:
        self._path, self._original = path, original
        self._version = f"{FORMAT} {metadata.version('ruamel.yaml')}"
        self._kept = self._load()
        self._used: dict[str, str] = {}
        self._new = False

    def parse(self, text: Any, path: Any, typ: str = "safe") -> Any:
        """Return the content of ``text``, read from ``path``."""
        if typ != "safe" or not isinstance(text, str):
            return self._original(text, path, typ)
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        kept = self._used.get(key) or self._kept.get(key)
        if kept is None:
            value = self._original(text, path, typ)
            if not _is_plain(value, set()):
                return value
            kept, self._new = json.dumps(value), True
        self._used[key] = kept
        return json.loads(kept)

    def save(self) -> None:
        """Keep what this run parsed, and forget what it did not need."""
        if self._new:
            self._new = False
            files.write_json(self._path, {"version": self._version, "parsed": self._used})

    def _load(self) -> dict[str, str]:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            data = json.loads(self._path.read_bytes())
            if data["version"] == self._version:
                return dict(data["parsed"])
        return {}


def _is_plain(value: Any, seen: set[int]) -> bool:
    """Whether JSON gives back the very same: no dates, no other keys, nothing shared."""
    if value is None or type(value) in (str, bool, int):
        return True
    if type(value) is float:
        return math.isfinite(value)
    if type(value) not in (dict, list) or id(value) in seen:
        return False
    seen.add(id(value))
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(
            _is_plain(item, seen) for item in value.values()
        )
    return all(_is_plain(item, seen) for item in value)
