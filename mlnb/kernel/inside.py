"""What a Python kernel under test runs first; sent to it as text, so it imports nothing of ours.

A kernel's streams differ from a script's in three ways that make a test lie. Text that cannot be
encoded is lost without an error. What a child process or native code writes arrives through a
pipe, at any time, perhaps after the cell has ended. And where the reader is held up, messages
beyond the thousandth are thrown away, the one that ends the cell among them.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

_MARK = "\0"
_PATIENCE = 1.0


def _strict(base: Any) -> Any:
    """Return a stream class that refuses what it cannot send, and can wait for its pipe."""

    class Strict(base):  # type: ignore[misc]
        _waits: threading.Event | None = None

        # IPython puts a function of its own in the place of `write` around every cell. A
        # property stands before it, which a method would not.
        @property
        def write(self) -> Callable[..., Any]:
            inner = self.__dict__.get("_inner") or super().write

            def checked(text: str, *more: Any) -> Any:
                text.encode()
                if self._waits is not None and _MARK in text:
                    self._waits.set()
                    text = text.replace(_MARK, "", 1)
                return inner(text, *more)

            checked.inner = inner  # type: ignore[attr-defined]
            return checked

        @write.setter
        def write(self, function: Callable[..., Any]) -> None:
            self._inner = getattr(function, "inner", function)

        def settle(self) -> None:
            """Wait until all that was written to the file descriptor has come through the pipe."""
            if getattr(self, "_should_watch", False):
                self._waits = threading.Event()
                os.write(self._original_stdstream_fd, _MARK.encode())
                self._waits.wait(_PATIENCE)
                self._waits = None

    return Strict


def _settle() -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "settle"):
            stream.settle()


def _keep_all(thread: Any) -> None:
    """Let messages wait for their reader, however many they are."""
    import zmq

    thread.schedule(lambda: thread.socket.setsockopt(zmq.SNDHWM, 0))


_keep_all(get_ipython().kernel.iopub_thread)  # type: ignore[name-defined] # noqa: F821
for _stream in (sys.stdout, sys.stderr):
    _stream.__class__ = _strict(type(_stream))
get_ipython().events.register("post_execute", _settle)  # type: ignore[name-defined] # noqa: F821
