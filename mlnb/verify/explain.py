"""Why a stage failed, in words, with the line that dvc.yaml lacks."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

from mlnb import modules
from mlnb.verify.box import Box
from mlnb.verify.command import Ended

_ABSENT = re.compile(r"no such file|not (?:be )?found|not exist|n[o']t (?:open|access|read)", re.I)
_QUOTED = re.compile(r"'([^'\n]+)'|\"([^\"\n]+)\"")
_BARE = re.compile(r"[^\s'\"`,;:()\[\]<>=]*[./][^\s'\"`,;:()\[\]<>=]*")
_MODULE = re.compile(r"No module named '?([\w.]+)")
_KEY = re.compile(r"KeyError: '([^']+)'")


def ending(ended: Ended, box: Box) -> list[str]:
    """Return what is wrong with the end of the command: its code, and what it did not find."""
    if ended.late:
        return ["its command was ended at the deadline"]
    if not ended.code:
        return []
    how = f"with exit code {ended.code}"
    if ended.code < 0:
        how = f"by {signal.Signals(-ended.code).name}"
    return [f"its command ended {how}", *_reads(ended.output, box)]


def missing(ended: Ended, box: Box) -> list[str]:
    """Return the declared outputs that a command which ended well did not write."""
    if ended.code or ended.late:
        return []
    return [
        f"does not write {out.path}, which dvc.yaml declares"
        for out in box.stage.outs
        if not (box.root / out.path).exists()
    ]


def writes(box: Box) -> list[str]:
    """Return what the stage wrote besides its outputs."""
    told = [_undeclared("writes", path, "outs", box) for path in box.written()]
    told += [
        f"changes its input {path}: a second run reads what the first one left"
        for path in box.modified()
    ]
    return told


def _reads(output: str, box: Box) -> Iterator[str]:
    """Yield what the command tried to read, which is in the workspace and was not declared."""
    found = dict.fromkeys([*_files(output, box), *_modules(output, box)])
    for path in found:
        if not any(path.startswith(f"{other}/") for other in found if other != path):
            yield _undeclared("reads", path, "deps", box)
    for file, keys in box.left_out.items():
        for name in dict.fromkeys(_KEY.findall(output)):
            for key in keys:
                if key.rpartition(".")[2] == name:
                    yield _line(
                        f"reads {key} of {file}, which dvc.yaml does not declare",
                        key,
                        "params",
                        box,
                    )


def _files(output: str, box: Box) -> Iterator[str]:
    """Yield the paths in ``output`` that exist in the workspace but not in the box."""
    for word in dict.fromkeys(_words(output)):
        path = os.path.normpath(box.wdir / word)
        try:
            name = Path(path).relative_to(box.root).as_posix()
            there = (box.project.root / name).exists() and not Path(path).exists()
        except (ValueError, OSError):
            continue  # outside of the project, or no path at all
        if there and name != "." and not box.stage.writes(name):
            yield name


def _words(output: str) -> Iterator[str]:
    """Yield what may be a path; a plain word only where the line speaks of something missing."""
    for line in output.splitlines():
        quoted = (a or b for a, b in _QUOTED.findall(line))
        yield from (word for word in quoted if re.search("[./]", word) or _ABSENT.search(line))
        yield from _BARE.findall(line)


def _modules(output: str, box: Box) -> Iterator[str]:
    """Yield the local modules that an import did not find."""
    beside = [(box.project.root / dep).parent for dep in box.stage.deps if dep.endswith(".py")]
    folders = [box.stage.wdir, *beside, *box.project.sources]
    for module in _MODULE.findall(output):
        for file in modules.locate(module, list(dict.fromkeys(folders))):
            name = box.project.relative(file)
            if not (box.root / name).exists():
                yield name


def _undeclared(verb: str, path: str, section: str, box: Box) -> str:
    line = os.path.relpath(box.root / path, box.wdir)
    return _line(f"{verb} {path}, which dvc.yaml does not declare", line, section, box)


def _line(what: str, entry: str, section: str, box: Box) -> str:
    file = box.project.relative(box.stage.file)
    key = box.stage.key.partition("@")[0]
    return f"{what}: add `- {Path(entry).as_posix()}` to `{section}` of stage {key} in {file}"
