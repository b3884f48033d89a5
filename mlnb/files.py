"""Whole writes and digests.

A reader of a file that mlnb writes sees the old bytes or the new ones, never a part: the new
bytes go to a temporary file beside it, reach the disk, and take the name in one rename.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically, making its folder; keep an existing file's mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not path.name whole: with the rest it may be longer than a file system allows.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, _mode(path))
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys; NaN and infinity are refused.

    Raises:
        ValueError: ``value`` holds a number that JSON cannot.
    """
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of the bytes of ``path`` in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def digest_tree(path: Path) -> str:
    """Return one digest of a file, or of a folder's relative names and bytes.

    Raises:
        FileNotFoundError: there is neither.
    """
    if not path.is_dir():
        return digest_file(path)
    digest = hashlib.sha256()
    for file in walk(path):
        name = os.fsencode(file.relative_to(path).as_posix())
        digest.update(name + f"\0{digest_file(file)}\n".encode())
    return digest.hexdigest()


def version(path: Path) -> tuple[int, int, int]:
    """Return what changes when ``path`` is written: two writes may fall in one tick of a clock."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files below ``folder``, sorted by path."""
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _mode(path: Path) -> int:
    """Return the mode of ``path``, or what a newly created file would get."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mode & 0o7777
    return 0o666 & ~umask()


def umask() -> int:
    """Return the mask of new files; asked without setting it where the system tells."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    mask = os.umask(0)
    os.umask(mask)
    return mask
