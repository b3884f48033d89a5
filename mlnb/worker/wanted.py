"""What the project's notebooks import of installed software, as their mirrors tell."""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mlnb import modules

INSTALLED = tuple(
    {
        place
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
        for place in (sysconfig.get_path(name), os.path.realpath(sysconfig.get_path(name)))
    }
)
"""Where installed software lies; it changes only when somebody installs something."""

_MODULE = re.compile(rb"^# imports (\S+) sha256:", re.MULTILINE)


def mirrors(root: Path) -> dict[Path, tuple[int, int]]:
    """Return the mirrors of a project, and what changes when one is written."""
    stats = {path: path.stat() for path in sorted((root / ".mlnb/code").rglob("*.py"))}
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}


def ordered(root: Path, mirrors: Iterable[Path]) -> list[Path]:
    """Return mirrors in the order in which dvc.yaml names their notebooks: about that of running.

    What the last notebooks want can then be imported while the first ones run.
    """
    try:
        text = (root / "dvc.yaml").read_text("utf-8", errors="replace")
    except OSError:
        text = ""
    places = {path: text.find(f"{path.stem}.ipynb") for path in mirrors}
    return sorted(places, key=lambda path: (places[path] < 0, places[path]))


def imported(root: Path, folders: Sequence[Path], mirror: Path) -> list[str]:
    """Return what a notebook imports of installed software, itself or by local modules.

    Some are names in a module: ``from a import b`` gives ``a`` and ``a.b``.

    Args:
        root: the project.
        folders: where its local modules lie.
        mirror: the notebook's.
    """
    source = mirror.read_bytes()
    names = (name for text in (source, *_local(root, source)) for name in _imports(text))
    return [name for name in dict.fromkeys(names) if _is_installed(name, folders)]


def _local(root: Path, mirror: bytes) -> Iterator[bytes]:
    """Yield the local modules that a mirror names."""
    for found in _MODULE.finditer(mirror):
        path = root / os.fsdecode(found[1])
        if path.is_file():
            yield path.read_bytes()


def _is_installed(name: str, folders: Sequence[Path]) -> bool:
    package = name.partition(".")[0]
    if package == modules.TOOL or modules.locate(package, folders):
        return False
    # Whether the rest of the name is a module too, only an import tells: to look for a module
    # imports what lies above it, and an import must be watched.
    return _comes_from(package)


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


@functools.lru_cache(maxsize=512)
def _comes_from(package: str) -> bool:
    """Whether a package is installed, and no folder that somebody works in."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if spec and spec.origin:
        places.append(spec.origin)
    known = ("built-in", "frozen")
    return any(place in known or os.path.realpath(place).startswith(INSTALLED) for place in places)
