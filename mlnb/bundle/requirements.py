"""The packages that a bundle's model needs, pinned.

Out of the project's lock file, with the digests of all their files, when there is one; else the
versions of this environment. What needs what is asked of the installed packages themselves.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from mlnb.bundle.errors import BundleError

Pinning = Literal["hashed", "versions"]
READERS = ("joblib", "numpy", "pandas", "pydantic", "threadpoolctl")
"""Modules that opening a bundle imports, whatever its model."""

_HASH = re.compile(r"--hash[= ]([a-z0-9]+:[0-9a-f]+)")


@dataclass(frozen=True)
class Pin:
    """One line of a lock file that holds for this interpreter and platform."""

    version: str
    text: str
    hashes: tuple[str, ...]


def pinned(
    modules: Iterable[str], lock: str | None, *, where: str = "", packages: Iterable[str] = ()
) -> tuple[bytes, Pinning]:
    """Return a requirements file for ``modules``, and how its packages are pinned.

    Args:
        modules: top-level modules that the model and its readers import.
        lock: the text of the project's lock file, if it has one.
        where: the name of that file, for messages.
        packages: names of packages that are needed besides.

    Raises:
        BundleError: the lock file pins another version than is installed, or lacks a package.
    """
    needed = _closure(modules, packages)
    pins = _parsed(lock, where) if lock else {}
    if not any(pin.hashes for pin in pins.values()):
        lines = [f"{name}=={version}" for name, version in needed.items()]
        return ("\n".join(lines) + "\n").encode(), "versions"
    for name, version in needed.items():
        pin = pins.get(name)
        if pin is None or not pin.hashes or pin.version != version:
            told = "not pinned there with hashes" if pin is None or not pin.hashes else pin.version
            raise BundleError(
                f"the model needs {name}: installed is {version}, locked is {told}",
                where=where,
                remedy="Install what the file locks, or compile it anew with hashes.",
            )
    blocks = [_block(pins[name]) for name in needed]
    return ("\n".join(blocks) + "\n").encode(), "hashed"


def _closure(modules: Iterable[str], packages: Iterable[str]) -> Mapping[str, str]:
    """Return the version of each distribution that they need, by name, sorted."""
    from packaging.requirements import Requirement

    owners = _owners()
    left = sorted({name for module in modules for name in owners.get(module, ())} | {*packages})
    found: dict[str, str] = {}
    while left:
        name = _normal(left.pop())
        if name in found:
            continue
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # wanted for another platform, or left out on purpose
            continue
        for text in metadata.requires(name) or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                left.append(need.name)
    return dict(sorted(found.items()))


@functools.cache
def _owners() -> Mapping[str, list[str]]:
    """Return which distributions each top-level module comes from; looked up once."""
    return metadata.packages_distributions()


def _parsed(lock: str, where: str) -> dict[str, Pin]:
    """Return the pins of a lock file that hold here, by name; other lines say nothing."""
    from packaging.requirements import InvalidRequirement, Requirement

    found: dict[str, Pin] = {}
    for line in _logical_lines(lock):
        if line.startswith("-"):
            continue
        text = re.split(r"\s--?[a-z]", line, maxsplit=1)[0].strip()
        try:
            need = Requirement(text)
        except InvalidRequirement as error:
            raise BundleError(f"is not a lock file: {text!r}", where=where) from error
        exact = [each.version for each in need.specifier if each.operator == "=="]
        if exact and (need.marker is None or need.marker.evaluate()):
            found[_normal(need.name)] = Pin(exact[0], text, tuple(_HASH.findall(line)))
    return found


def _logical_lines(text: str) -> Iterator[str]:
    """Yield the lines of a requirements file: comments left out, continued ones joined."""
    kept = (re.sub(r"(^|\s)#.*$", "", line).rstrip() for line in text.splitlines())
    for line in re.sub(r"\\\n", " ", "\n".join(kept)).splitlines():
        if line.strip():
            yield line.strip()


def _block(pin: Pin) -> str:
    return " \\\n".join([pin.text, *(f"    --hash={each}" for each in sorted(pin.hashes))])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
