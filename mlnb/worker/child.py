"""A fork of the worker, as the process that its client would have started itself."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mlnb.forks import become_own, take_environment
from mlnb.worker import lessons
from mlnb.worker.wanted import INSTALLED


def become(
    request: dict[str, Any],
    streams: Sequence[int],
    parent: int,
    command: Callable[[Sequence[str]], int],
) -> NoReturn:
    """Run the command that was asked for, and end with its exit code.

    Args:
        request: the client's.
        streams: what become file descriptors 0, 1 and 2.
        parent: process id of the worker.
        command: runs the words of a command and returns the exit code.
    """
    code = 1
    try:
        _settle_in(request, streams, parent)
        code = command(request["words"])
        lessons.tell(INSTALLED)
        atexit._run_exitfuncs()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:  # noqa: BLE001 - nothing may return into the worker's code
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _settle_in(request: dict[str, Any], streams: Sequence[int], parent: int) -> None:
    become_own(parent)
    lessons.begin()
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    _bind(request)
    os.chdir(request["cwd"])
    take_environment({**request["environment"], "PYTHONHASHSEED": "0"})
    sys.argv = ["mlnb", *request["words"]]
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc] # noqa: SIM115
    sys.stdout = sys.__stdout__ = _text(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text(2)  # type: ignore[misc]


def _text(number: int) -> Any:
    """Return a text stream as an interpreter makes it for a standard stream."""
    errors = "backslashreplace" if number == 2 else "strict"
    return open(number, "w", buffering=1, encoding="utf-8", errors=errors, closefd=False)


def _bind(request: dict[str, Any]) -> None:
    """Take on the client's mask, limits and cores."""
    import resource

    os.umask(request["umask"])
    for name, (soft, hard) in request["limits"].items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (soft, hard))
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, request["cores"])
