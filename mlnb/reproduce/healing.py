"""Mends what a kill in the middle of a write left behind, which DVC stops at for ever.

DVC empties ``.dvc/tmp/rwlock`` and ``dvc.lock`` before it writes them anew (treeverse/dvc#7615).
A rwlock only says who is at work, so a torn one is removed. A dvc.lock is restored to any state
that was whole, for DVC compares every digest in it with the files: an older one runs more stages,
never fewer.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlnb import files
from mlnb.reproduce.locks import BEGAN
from mlnb.reproduce.turn import born, lives

_OURS = re.compile(rf"\b{BEGAN} (\d+(?:\.\d+)?)\]$")
_CONFLICT = re.compile(r"(?m)^(<{7}|={7}|>{7})(?: |$)")
_PROGRAMS = ("python", "pypy", "dvc", "mlnb")


def heal_rwlock(tmp_dir: Path, hardlink: bool, say: Callable[[str], None]) -> None:
    """Remove a torn rwlock, or its entries of processes that are no more, and say so.

    Args:
        tmp_dir: the folder that DVC keeps it in.
        hardlink: DVC locks by hard links here.
        say: tells the person a line.

    Raises:
        dvc.lock.LockError: another process writes it and does not end.
    """
    path = tmp_dir / "rwlock"
    if not path.exists():
        return
    content = _read_rwlock(path)
    if content is not None and not any(content.values()):
        return
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_LOCK

    # Whoever writes it holds this one, so nobody is in the middle of it now.
    guard = os.fspath(tmp_dir / RWLOCK_LOCK)
    with make_lock(guard, tmp_dir=os.fspath(tmp_dir), hardlink_lock=hardlink):
        try:
            written = path.stat().st_mtime
        except FileNotFoundError:
            return
        content = _read_rwlock(path)
        if content is None:
            path.unlink()
            say(f"removed {path}, which a killed process had left torn")
            return
        gone = {pid: cmd for pid, cmd in _owners(content) if not _alive(pid, cmd, written)}
        if gone:
            kept = json.dumps(_without(content, set(gone)))
            files.write_text(path, kept)
        for pid, cmd in gone.items():
            say(f"released what process {pid} held ({cmd.partition(' [')[0]}); it is no more")


def _read_rwlock(path: Path) -> dict[str, Any] | None:
    """Return the content of a rwlock; None if it is torn."""
    from dvc.rwlock import SCHEMA
    from voluptuous import Invalid

    try:
        return dict(SCHEMA(json.loads(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return {}
    except (ValueError, Invalid):
        return None


def _owners(content: dict[str, Any]) -> Iterator[tuple[int, str]]:
    for entry in content["write"].values():
        yield entry["pid"], entry["cmd"]
    for entries in content["read"].values():
        for entry in entries:
            yield entry["pid"], entry["cmd"]


def _without(content: dict[str, Any], gone: set[int]) -> dict[str, Any]:
    read = {
        path: [entry for entry in entries if entry["pid"] not in gone]
        for path, entries in content["read"].items()
    }
    write = {path: entry for path, entry in content["write"].items() if entry["pid"] not in gone}
    kept = {"write": write, "read": {path: entries for path, entries in read.items() if entries}}
    return {mode: entries for mode, entries in kept.items() if entries}


def _alive(pid: int, cmd: str, written: float) -> bool:
    """Whether the process that wrote an entry lives, or another one may have its number by now.

    In doubt it lives: to wait is better than to write what another one writes.
    """
    import psutil

    if ours := _OURS.search(cmd):
        return lives(pid, float(ours[1]))
    began = born(pid)
    if not began or began > written + 1:
        return False  # it began after the entry was written
    try:
        process = psutil.Process(pid)
        words = [Path(word).name for word in (process.name(), *process.cmdline()[:2])]
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
    return any(word.startswith(_PROGRAMS) for word in words)


class Copies:
    """Copies of the project's dvc.lock files as the last good runs left them.

    Args:
        root: DVC's root.
        folder: where they are kept.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root, self._folder = root, folder

    def keep(self, paths: Iterable[Path]) -> None:
        """Copy those that changed since."""
        for path in paths:
            copy = self._copy(path)
            with contextlib.suppress(FileNotFoundError):
                data = path.read_bytes()
                if not copy.exists() or copy.read_bytes() != data:
                    files.write_bytes(copy, data)

    def restore(self, error: BaseException | None) -> str:
        """Restore the dvc.lock that DVC found torn; return what was done, or nothing.

        One that a person is merging is not torn.
        """
        while error is not None:
            path = Path(os.path.abspath(str(getattr(error, "path", ""))))
            if path.name == "dvc.lock" and path.is_file():
                return self._restore(path)
            error = error.__cause__
        return ""

    def _restore(self, path: Path) -> str:
        text = path.read_bytes().decode(errors="replace")
        if _CONFLICT.search(text) or _is_lock(text):
            return ""
        torn = self._copy(path).with_suffix(".torn")
        torn.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, torn)
        name = path.relative_to(self._root) if path.is_relative_to(self._root) else path
        found = [(when, text, source) for when, text, source in self._known(path) if _is_lock(text)]
        if not found:
            path.unlink()
            return f"removed {name}, which was torn; stages run again (it is kept as {torn})"
        _, text, source = max(found)
        files.write_text(path, text)
        return f"restored {name}, which was torn, from {source} (it is kept as {torn})"

    def _copy(self, path: Path) -> Path:
        name = os.path.relpath(path, self._root)
        return self._folder / quote(name, safe="")

    def _known(self, path: Path) -> Iterator[tuple[float, str, str]]:
        """Yield the whole states that there are: when they were made, their text, their source."""
        copy = self._copy(path)
        if copy.exists():
            text = copy.read_text(encoding="utf-8", errors="replace")
            yield copy.stat().st_mtime, text, "the last good run"
        when = _git(path, "log", "-1", "--format=%ct", "--", path.name).strip()
        if when.isdecimal():
            yield float(when), _git(path, "show", f"HEAD:./{path.name}"), "git's HEAD"


def _is_lock(text: str) -> bool:
    from dvc.dvcfile import Lockfile
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import parse_yaml

    try:
        return bool(text) and bool(Lockfile.validate(parse_yaml(text, "dvc.lock")))
    except DvcException:
        return False


def _git(path: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=path.parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
