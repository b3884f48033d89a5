"""What children turn out to import, for the worker to import before the next ones.

A notebook's own imports stand in its mirror. What those import later, when they are first called,
nobody can read off; so each child says at its end what it had to import itself. Only names of
modules are told, and the worker judges them as it judges all others.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys

_PIECE = 2000
"""Bytes of one write: what several children write at once must not mix."""

_pipe: tuple[int, int] | None = None
_known = 0


def open_book() -> None:
    """Be the worker, which is told."""
    global _pipe
    _pipe = os.pipe()
    for fd in _pipe:
        os.set_blocking(fd, False)


def begin() -> None:
    """Be a child: from here on, what is imported is news."""
    global _known
    _known = len(sys.modules)  # looking at each name would copy the memory that it shares


def tell(places: tuple[str, ...]) -> None:
    """Tell the worker, if there is one, what was imported from ``places`` since."""
    if _pipe is None:
        return
    names = list(itertools.islice(reversed(sys.modules), len(sys.modules) - _known))
    news = [
        name
        for name in reversed(names)
        if str(getattr(sys.modules[name], "__file__", "")).startswith(places)
    ]
    lines, size = [], 0
    with contextlib.suppress(OSError):  # it is a hint; no child fails for it
        for name in news:
            lines.append(f"{name}\n")
            size += len(name) + 1
            if size > _PIECE:
                os.write(_pipe[1], "".join(lines).encode())
                lines, size = [], 0
        os.write(_pipe[1], "".join(lines).encode())


def read() -> list[str]:
    """Return what was told since the last time."""
    assert _pipe is not None
    data = b""
    with contextlib.suppress(BlockingIOError):
        while part := os.read(_pipe[0], 1 << 16):
            data += part
    return data.decode("utf-8", "replace").split()
