"""What an import does besides defining things, and whether a fork survives it.

A package that starts threads would hang the forks, one that writes would write nothing in the
notebook, and one that asks which notebook it is in would be told: none.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

_DELETERS = ("shutil", "os", "posix", "pathlib")
_ASKS_ALWAYS = ("IPython", "ipykernel")


@dataclass
class Watched:
    """What an import did.

    Attributes:
        askers: modules that asked for the IPython shell.
        spoke: it wrote or warned.
        threads: it started threads that a fork would miss.
    """

    askers: set[str] = field(default_factory=set)
    spoke: bool = False
    threads: bool = False


@contextlib.contextmanager
def watching() -> Iterator[Watched]:
    """Watch the import inside of this; the result is known when it is over.

    File descriptor 1 must be a regular file, the log.
    """
    found = Watched()
    written = _written()
    with (
        _asked(found.askers),
        _guarded_exits(),
        warnings.catch_warnings(record=True) as warned,
    ):
        before = list(warnings.filters)
        yield found
        added = [rule for rule in warnings.filters if rule not in before]
    cast("list[Any]", warnings.filters)[:0] = added
    found.spoke = bool(warned) or _written() > written
    found.threads = extra_threads() > 0


class ZMQInteractiveShell:
    """Stands for the shell that there will be, by its name."""

    kernel = True


@contextlib.contextmanager
def _asked(askers: set[str]) -> Iterator[None]:
    """Note which modules ask for the IPython shell while they are imported."""
    import IPython
    from IPython.core import getipython

    answer = getipython.get_ipython
    is_over = False

    def get_ipython() -> Any:
        # Whoever imported this function by its name keeps it, also in the notebooks.
        if is_over:
            return answer()
        frame = sys._getframe(1)
        name = frame.f_globals.get("__name__", "")
        # In a function that is called later it is fine to ask.
        while frame is not None and frame.f_code.co_name != "<module>":
            frame = frame.f_back  # type: ignore[assignment]
        if frame is not None and name.partition(".")[0] not in _ASKS_ALWAYS:
            askers.add(name)
        return answer()

    places = [(module, module.get_ipython) for module in (IPython, getipython)]
    for module, _ in places:
        module.get_ipython = get_ipython
    # pandas asks by the name that IPython gives to cells, and only whether it is a notebook.
    builtins.get_ipython = ZMQInteractiveShell  # type: ignore[attr-defined]
    try:
        yield
    finally:
        is_over = True
        for module, function in places:
            module.get_ipython = function
        del builtins.get_ipython  # type: ignore[attr-defined]


@contextlib.contextmanager
def _guarded_exits() -> Iterator[None]:
    """Keep forks from deleting, when they exit, what an import has made for this process."""
    usual = atexit.register

    def register(function: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(function, "__module__", "") in _DELETERS:
            return usual(_in_process, os.getpid(), function, *args, **kwargs)
        return usual(function, *args, **kwargs)

    atexit.register = register  # type: ignore[assignment]
    try:
        yield
    finally:
        atexit.register = usual


def _in_process(owner: int, function: Any, *args: Any, **kwargs: Any) -> None:
    if os.getpid() == owner:
        function(*args, **kwargs)


def _written() -> int:
    """Return how much has been written to the log."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return os.fstat(1).st_size


def extra_threads() -> int:
    """Return how many threads there are that no library starts merely to be there.

    OpenBLAS and jemalloc start theirs when they are loaded and look after them at a fork. Any
    other, such as a pool of OpenMP, would be missing in a child that waits for it for ever.
    """
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    extra = len(names) - 1 - sum(name.startswith("jemalloc") for name in names)
    if extra and threading.active_count() == 1:
        from threadpoolctl import threadpool_info

        extra -= sum(
            info["num_threads"] - 1
            for info in threadpool_info()
            if info["internal_api"] in ("openblas", "blis")
        )
    return max(0, extra)
