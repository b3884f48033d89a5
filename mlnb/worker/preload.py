"""What a worker imports before it forks, and whether forking it is safe.

It imports what the project's notebooks import, as their mirrors tell, as far as that is installed
software: local modules change, and each run imports them anew. Some packages do more at import
than to define things. One that starts threads would hang the forks, one that writes would write
nothing in the notebook, and one that asks which notebook it is in would be told: none. Such a
package is left to the notebooks: the worker starts itself again without it.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import functools
import importlib.util
import json
import os
import re
import signal
import sys
import sysconfig
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from mlnb import modules
from mlnb.imports import quick_imports

_MODULE = re.compile(rb"^# imports (\S+) sha256:", re.MULTILINE)
_DELETERS = ("shutil", "os", "posix", "pathlib")
INSTALLED = tuple(
    {
        os.path.realpath(sysconfig.get_path(n))
        for n in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)


class Preload:
    """The imports of a worker.

    Args:
        root: the project.
        folders: where its local modules lie.
        first: modules to import before the first command.
        later: modules to import, or ``module:function`` to call, when there is nothing to do.
        chosen: modules that the project's settings name; also imported first.
        without: packages that did harm when an earlier self imported them, and the harm.
        learned: file of what children turned out to import.
        restart: starts the worker anew without some packages; does not return.

    Attributes:
        loaded: what was imported.
        left_out: what was not, and why.
        trial: process id of the fork that is trying imports out; 0 while there is none.
    """

    def __init__(
        self,
        root: Path,
        folders: Sequence[Path],
        *,
        first: Sequence[str],
        later: Sequence[str] = (),
        chosen: Sequence[str] = (),
        without: dict[str, str] | None = None,
        learned: Path,
        restart: Callable[[dict[str, str]], NoReturn],
    ) -> None:
        self._root, self._folders, self._restart = root, folders, restart
        self._first, self._chosen = first, chosen
        self._learned = learned
        lines = learned.read_text("utf-8").split() if learned.is_file() else []
        self._refused = {line[1:] for line in lines if line.startswith("!")}
        self._later = [name for name in (*later, *lines) if name.lstrip("!") not in self._refused]
        self._passed: list[str] = []
        self._told = -1
        self.trial = 0
        self.left_out = dict(without or {})
        self.loaded: list[str] = []
        self._threads = 0
        self._seen: dict[Path, tuple[int, int]] = {}
        self._paths: dict[str, int] = {}
        self._files: dict[str, int] = {}

    def __str__(self) -> str:
        return f"{len(self.loaded)} modules, without {', '.join(self.left_out) or 'none'}"

    def start(self) -> None:
        """Import what the first command needs."""
        self._paths = _folders_of_packages()
        # matplotlib reads it once, when it is imported.
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        with _guarded_exits(), quick_imports():
            for name in self._first:
                self._load(name)
        with _guarded_exits():
            for name in (*self._chosen, *self._wanted()):
                self._load(name)
        self._threads = _threads()
        self._files = _own_files()

    @property
    def more(self) -> bool:
        """Whether there is something to import when there is nothing to do."""
        self._later = [n for n in self._later if n not in sys.modules and n not in self.loaded]
        return bool(self._later or self._passed) and not self.trial

    def go_on(self) -> None:
        """Import a little of what some command may need.

        Nobody knows yet whether these modules are harmless, so a fork imports them first.
        """
        if self._passed:
            with _guarded_exits():
                self._load(self._passed.pop(0))
            self._threads = _threads()
            self._files = _own_files()
        elif self.more:
            self._told, writer = os.pipe()
            try:
                self.trial = os.fork()
                if not self.trial:
                    self._try_out(writer)
            except OSError:  # no process left; there is no hurry
                os.close(self._told)
            os.close(writer)

    def _try_out(self, writer: int) -> NoReturn:
        """Be the fork: import what is left until something does harm, and say how far that was."""
        signal.set_wakeup_fd(-1)

        def stop(without: dict[str, str]) -> NoReturn:
            os.write(writer, b"!")
            os._exit(0)

        self._restart = stop
        try:
            for name in self._later:
                self.left_out.clear()
                self._load(name)
                os.write(writer, b"-" if name in self.left_out else b"+")
        finally:
            os._exit(0)

    def judged(self) -> None:
        """Take in what the fork has found out; it has ended."""
        verdicts = os.read(self._told, 1 << 16)
        os.close(self._told)
        self.trial = 0
        tried, self._later = self._later[: len(verdicts)], self._later[len(verdicts) :]
        if not verdicts:
            self._later = []  # it died without a word; what is left may do the same
        for name, verdict in zip(tried, verdicts, strict=True):
            if verdict == ord("+"):
                self._passed.append(name)
            elif verdict == ord("!"):
                self._refuse(name)

    def _refuse(self, name: str) -> None:
        self._refused.add(name)
        with self._learned.open("a", encoding="utf-8") as file:
            file.write(f"!{name}\n")

    def learn(self, names: Iterable[str]) -> None:
        """Import ``names``, too, when there is nothing to do, and after the next start."""
        known = {*sys.modules, *self._later, *self._passed, *self._refused}
        new = [name for name in dict.fromkeys(names) if name not in known]
        if new:
            self._later += new
            with self._learned.open("a", encoding="utf-8") as file:
                file.writelines(f"{name}\n" for name in new)

    def changed(self) -> str:
        """Return why what is imported here is no longer what a notebook would import."""
        if _folders_of_packages() != self._paths:
            return "the installed packages have changed"
        for file, time in self._files.items():
            if _mtime(file) != time:
                return f"{file} has changed"
        if self._mirrors() != self._seen:
            missing = [name for name in self._wanted() if name not in sys.modules]
            if missing:
                return f"notebooks import {', '.join(missing)} now"
        return ""

    def unsafe(self) -> str:
        """Return why a fork of this process could hang; empty if it is safe."""
        return "" if _threads() <= self._threads else "threads have been started in the worker"

    # --- importing ------------------------------------------------------------------------------

    def _load(self, name: str) -> None:
        """Import a module; for ``module:function`` call the function, which compiles something."""
        package = name.partition(".")[0]
        if name in sys.modules or name in self.left_out or package in self.left_out:
            return
        module, _, function = name.partition(":")
        written = _written()
        with _asked() as askers, warnings.catch_warnings(record=True) as warned:
            before = list(warnings.filters)
            try:
                found = importlib.import_module(module)
                if function:
                    getattr(found, function)()
            except Exception as error:  # noqa: BLE001 - the notebook will hear of it itself
                self.left_out[name] = f"{type(error).__name__}: {error}"
                return
            added = [rule for rule in warnings.filters if rule not in before]
        cast("list[Any]", warnings.filters)[:0] = added
        self._judge(name, package, askers, bool(warned) or _written() > written)
        self.loaded.append(name)

    def _judge(self, name: str, package: str, askers: set[str], spoke: bool) -> None:
        if _extra_threads():
            self._begin_again(package, "it starts threads when it is imported")
        if spoke:
            self._begin_again(name, "it writes or warns when it is imported")
        if any(asker.partition(".")[0] == package for asker in askers):
            self._begin_again(name, "it asks at import which notebook it is in")
        for asker in askers:
            # Another package has imported it for itself; a notebook gets a new one.
            sys.modules.pop(asker, None)

    def _begin_again(self, without: str, why: str) -> NoReturn:
        self._restart({**self.left_out, without: why})

    def _wanted(self) -> list[str]:
        """Return what the notebooks import of installed software, in the mirrors' order."""
        self._seen = self._mirrors()
        names = dict.fromkeys(
            name
            for path in self._seen
            for source in (path.read_bytes(),)
            for text in (source, *self._local(source))
            for name in _imports(text)
        )
        return [name for name in names if self._is_installed(name)]

    def _mirrors(self) -> dict[Path, tuple[int, int]]:
        stats = {path: path.stat() for path in sorted((self._root / ".mlnb/code").rglob("*.py"))}
        return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}

    def _local(self, mirror: bytes) -> Iterator[bytes]:
        """Yield the local modules that a mirror names."""
        for found in _MODULE.finditer(mirror):
            path = self._root / os.fsdecode(found[1])
            if path.is_file():
                yield path.read_bytes()

    def _is_installed(self, name: str) -> bool:
        package = name.partition(".")[0]
        if package == "mlnb" or modules.locate(package, self._folders):
            return False
        return _is_module(name) and _comes_from(package)


@functools.lru_cache(maxsize=512)
def _imports(source: bytes) -> tuple[str, ...]:
    """Return what a mirror or module imports at any place; magics are passed over."""
    lines = [b"pass" if x[:1] in b"%!" and x else x for x in source.splitlines()]
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(b"\n".join(lines))
    except (SyntaxError, ValueError):
        return _salvaged(lines)
    return tuple(found.module for found in modules.imports(tree))


def _salvaged(lines: Iterable[bytes]) -> tuple[str, ...]:
    found: list[str] = []
    for line in lines:
        if line.startswith((b"import ", b"from ")):
            try:
                found += [item.module for item in modules.imports(ast.parse(line))]
            except (SyntaxError, ValueError):
                continue
    return tuple(found)


@functools.lru_cache(maxsize=2048)
def _is_module(name: str) -> bool:
    """Whether ``name`` is a module, and not a name in one."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


@functools.lru_cache(maxsize=512)
def _comes_from(package: str) -> bool:
    """Whether a package is installed, and no folder that somebody works in."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if spec and spec.origin:
        places.append(spec.origin)
    return any(os.path.realpath(place).startswith(INSTALLED) for place in places)


# --- what an import does besides ----------------------------------------------------------------


class ZMQInteractiveShell:
    """Stands for the shell that there will be, by its name."""

    kernel = True


class _asked:  # noqa: N801 - reads as a context manager does
    """Notes which modules ask for the IPython shell while they are imported."""

    def __enter__(self) -> set[str]:
        import IPython
        from IPython.core import getipython

        self._places = [(m, m.get_ipython) for m in (IPython, getipython)]
        self._askers: set[str] = set()
        self._over = False
        answer = getipython.get_ipython

        def get_ipython() -> Any:
            # Whoever imported this function by its name keeps it, also in the notebooks.
            if self._over:
                return answer()
            frame = sys._getframe(1)
            name = frame.f_globals.get("__name__", "")
            # In a function that is called later it is fine to ask.
            while frame is not None and frame.f_code.co_name != "<module>":
                frame = frame.f_back  # type: ignore[assignment]
            if frame is not None and name.partition(".")[0] not in ("IPython", "ipykernel"):
                self._askers.add(name)
            return answer()

        for module, _ in self._places:
            module.get_ipython = get_ipython
        # pandas asks by the name that IPython gives to cells, and only whether it is a notebook.
        builtins.get_ipython = ZMQInteractiveShell  # type: ignore[attr-defined]
        return self._askers

    def __exit__(self, *_: object) -> None:
        self._over = True
        for module, function in self._places:
            module.get_ipython = function
        del builtins.get_ipython  # type: ignore[attr-defined]


class _guarded_exits:  # noqa: N801
    """Keeps forks from deleting what an import has made for this process."""

    def __enter__(self) -> None:
        self._register = atexit.register

        def register(function: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(function, "__module__", "") in _DELETERS:
                return self._register(_in_process, os.getpid(), function, *args, **kwargs)
            return self._register(function, *args, **kwargs)

        atexit.register = register  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        atexit.register = self._register


def _in_process(owner: int, function: Any, *args: Any, **kwargs: Any) -> None:
    if os.getpid() == owner:
        function(*args, **kwargs)


def _written() -> int:
    """Return how much has been written to the log, which file descriptors 1 and 2 are."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return os.fstat(1).st_size


def _extra_threads() -> int:
    """Return how many threads there are that no library starts merely to be there.

    OpenBLAS and jemalloc start theirs when they are loaded and look after them at a fork. Any
    other, such as a pool of OpenMP, would be missing in a child that waits for it for ever.
    """
    names = _tasks()
    extra = len(names) - 1 - sum(name.startswith("jemalloc") for name in names)
    if extra and threading.active_count() == 1:
        from threadpoolctl import threadpool_info

        extra -= sum(
            info["num_threads"] - 1
            for info in threadpool_info()
            if info["internal_api"] in ("openblas", "blis")
        )
    return max(0, extra)


def _threads() -> int:
    return len(_tasks())


def _tasks() -> list[str]:
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


# --- what may change ----------------------------------------------------------------------------


def _folders_of_packages() -> dict[str, int]:
    """Return when each folder that packages are imported from last gained or lost one."""
    return {folder: _mtime(folder) for folder in sys.path if folder.startswith(INSTALLED)}


def _own_files() -> dict[str, int]:
    """Return the loaded files that somebody may be working on: what is not plainly installed."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return {file: _mtime(file) for file in files if file and not file.startswith(INSTALLED)}


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - hundreds at each command
    except OSError:
        return 0


def restarter(words: Sequence[str]) -> Callable[[dict[str, str]], NoReturn]:
    """Return what starts this program anew with ``words`` and the packages to leave out."""

    def restart(without: dict[str, str]) -> NoReturn:
        print(f"starting again without {', '.join(without)}", flush=True)
        os.execv(sys.executable, [*words, json.dumps(without)])

    return restart
