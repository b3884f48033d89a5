"""What a worker imports before it forks.

First what every run needs, then what the project's notebooks import, most urgent first, and when
there is nothing to do what children turned out to import. An import that does harm
(:mod:`mlnb.worker.harm`) is noted, and the worker makes room for one that does without: what has
been imported cannot be taken back.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from mlnb.imports import quick_imports
from mlnb.worker import harm, wanted
from mlnb.worker.wanted import INSTALLED

_REFUSED, _PROVEN = "!", "+"
_GOOD, _FAILED, _HARMFUL = b"+", b"-", b"!"


class Preload:
    """The imports of a worker.

    Args:
        root: the project.
        folders: where its local modules lie.
        first: modules to import before the first command; ``module:function`` calls one.
        chosen: modules that the project's settings name.
        later: as ``first``, when there is nothing to do.
        notes: file of what earlier workers have learned: what children import, what of it has
            been imported without harm, and what harms.

    Attributes:
        loaded: what was imported.
        left_out: what was not, and why.
        harmed: why this process must not fork any more; empty while it may.
        trial: process id of the fork that is trying imports out; 0 while there is none.
    """

    def __init__(
        self,
        root: Path,
        folders: Sequence[Path],
        *,
        first: Sequence[str],
        chosen: Sequence[str] = (),
        later: Sequence[str] = (),
        notes: Path,
    ) -> None:
        self._root, self._folders, self._notes = root, folders, notes
        self._first, self._chosen = first, chosen
        lines = notes.read_text("utf-8").splitlines() if notes.is_file() else []
        refused = (line[1:].partition(" ") for line in lines if line.startswith(_REFUSED))
        self.left_out = {name: why for name, _, why in refused}
        self._proven = [line[1:] for line in lines if line.startswith(_PROVEN)]
        self._later = [*later, *(x for x in lines if not x.startswith((_REFUSED, _PROVEN)))]
        self._queue: list[str] = []
        self._passed: list[str] = []
        self._names_only: set[str] = set()
        self._told = -1
        self._own: dict[str, int] = {}
        self._noted = 0
        self.loaded: list[str] = []
        self.harmed = ""
        self.trial = 0

    def __str__(self) -> str:
        return f"{len(self.loaded)} modules, without {', '.join(self.left_out) or 'none'}"

    def start(self) -> None:
        """Import what every command needs, and find out what else there is to do."""
        # matplotlib reads it once, when it is imported.
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        self._paths = _folders_of_packages()
        with quick_imports():
            for name in self._first:
                self._load(name)
        # Last what children will import all the same; no command waits for it.
        self._queue = [*self._chosen, *self._wanted(), *self._proven]
        self._note_files()

    # --- before the first commands ----------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether there is still something to import that notebooks say they want."""
        self._queue = [name for name in self._queue if self._is_open(name)]
        return bool(self._queue)

    def lacks(self, notebook: str) -> list[str]:
        """Return what a notebook wants and is not here yet; ``notebook`` is a path."""
        name = Path(notebook).with_suffix(".py").name
        names = [n for path, found in self._names.items() if path.name == name for n in found]
        return [name for name in [*self._chosen, *names] if self._is_open(name)]

    def step(self, urgent: Sequence[str] = ()) -> None:
        """Import one more module of those that are wanted, an urgent one if there is any."""
        if self.busy:
            self._load(next((name for name in urgent if self._is_open(name)), self._queue[0]))
            self._note_files()

    def _is_open(self, name: str) -> bool:
        known = name in sys.modules or name in self.loaded or name in self._names_only
        return not known and not self._is_out(name)

    def _is_out(self, name: str) -> bool:
        return name in self.left_out or name.partition(".")[0] in self.left_out

    def _load(self, name: str) -> str:
        """Import a module, or call ``module:function``; return how that went."""
        if self._is_out(name) or name in self.loaded:
            return ""
        module, _, function = name.partition(":")
        package = name.partition(".")[0]
        with harm.watching() as found:
            try:
                made = importlib.import_module(module)
                if function:
                    getattr(made, function)()
            except ModuleNotFoundError as error:
                self._names_only.add(name)
                if error.name not in (name, None):
                    self.left_out[name] = f"ModuleNotFoundError: {error}"
                return ""
            except Exception as error:  # noqa: BLE001 - the notebook will hear of it itself
                self.left_out[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
                return ""
        if found.threads:
            self._note_harm(package, "it starts threads when it is imported")
        elif found.spoke:
            self._note_harm(name, "it writes or warns when it is imported")
        elif any(asker.partition(".")[0] == package for asker in found.askers):
            self._note_harm(name, "it asks at import which notebook it is in")
        for asker in found.askers:
            # Another package has imported it for itself; a notebook gets a new one.
            sys.modules.pop(asker, None)
        self.loaded.append(name)
        return self.harmed

    def _note_harm(self, name: str, why: str) -> None:
        self.left_out[name] = why
        self.harmed = f"without {name} from now on: {why}"
        self._write(f"{_REFUSED}{name} {why}")

    def _write(self, *lines: str) -> None:
        with self._notes.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)

    def _wanted(self) -> list[str]:
        """Return what the notebooks import, those first that run first."""
        self._seen = wanted.mirrors(self._root)
        self._names = {
            path: wanted.imported(self._root, self._folders, path)
            for path in wanted.ordered(self._root, self._seen)
        }
        return list(dict.fromkeys(name for names in self._names.values() for name in names))

    # --- when there is nothing to do --------------------------------------------------------------

    @property
    def more(self) -> bool:
        """Whether there is something to import when there is nothing to do."""
        self._later = [name for name in self._later if self._is_open(name)]
        return bool(self._later or self._passed) and not self.trial and not self.harmed

    def go_on(self) -> None:
        """Import a little of what some command may need.

        Nobody knows yet whether these modules are harmless, so a fork imports them first.
        """
        if self._passed:
            name = self._passed.pop(0)
            if not self._load(name):
                self._write(f"{_PROVEN}{name}")
            self._note_files()
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
        try:
            for name in self._later:
                harmed = self._load(name)
                if harmed:
                    os.write(writer, _HARMFUL)
                    break
                os.write(writer, _FAILED if name in self.left_out else _GOOD)
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
        self._passed += [n for n, v in zip(tried, verdicts, strict=True) if v == ord(_GOOD)]
        if verdicts.endswith(_HARMFUL):
            self.left_out[tried[-1]] = "it does more than define things when it is imported"

    def learn(self, names: Iterable[str]) -> None:
        """Import ``names``, too, when there is nothing to do, and after the next start."""
        known = {*sys.modules, *self._later, *self._passed}
        new = [n for n in dict.fromkeys(names) if n not in known and not self._is_out(n)]
        self._later += new
        self._write(*new)

    def _note_files(self) -> None:
        """Note the files just loaded that somebody may be working on: not plainly installed ones.

        Only new modules are looked at: with thousands loaded, a look at all of them after each
        import costs as much as the imports.
        """
        count = max(len(sys.modules) - self._noted, 0)
        new = [sys.modules.get(name) for name in itertools.islice(reversed(sys.modules), count)]
        files = [file for module in new if (file := getattr(module, "__file__", None))]
        self._own |= {file: _mtime(file) for file in files if not file.startswith(INSTALLED)}
        self._noted = len(sys.modules)

    # --- is it still true -------------------------------------------------------------------------

    def changed(self) -> str:
        """Return why what is imported here is no longer what a notebook would import."""
        if _folders_of_packages() != self._paths:
            with contextlib.suppress(FileNotFoundError):
                self._notes.unlink()  # what did harm may have been mended
            return "the installed packages have changed"
        for file, time in self._own.items():
            if _mtime(file) != time:
                return f"{file} has changed"
        if wanted.mirrors(self._root) != self._seen:
            missing = [name for name in self._wanted() if self._is_open(name)]
            if missing and not self.busy:
                return f"notebooks import {', '.join(missing)} now"
            self._queue += missing
        return ""


def _folders_of_packages() -> dict[str, int]:
    """Return when each folder that packages are imported from last gained or lost one."""
    return {folder: _mtime(folder) for folder in sys.path if folder.startswith(INSTALLED)}


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - hundreds at each command
    except OSError:
        return 0
