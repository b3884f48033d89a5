"""Writing a folder whole: nobody sees a part of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlnb.bundle import manifest
from mlnb.bundle.errors import BundleError
from mlnb.files import umask


def replace(path: Path, files: Mapping[str, bytes]) -> None:
    """Make ``path`` a folder of exactly these files.

    They are written to a folder beside it, which then takes the name. What had the name before
    must be an older bundle or an empty folder: a slip in a setting should cost nobody a project.

    Raises:
        BundleError: something else is there.
    """
    if path.is_symlink() or (path.exists() and not _is_replaceable(path)):
        raise BundleError(
            "is there already and is no bundle; it is left alone",
            where=str(path),
            remedy="Move it away, or write to another folder: package.output in params.yaml.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp"))
    try:
        new, old = made / "new", made / "old"
        new.mkdir()
        for name, data in files.items():
            _write(new / name, data)
        new.chmod(0o777 & ~umask())
        take_name(new, path, old if path.exists() else None)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def take_name(new: Path, path: Path, old: Path | None) -> None:
    """Give the folder ``new`` the name ``path``.

    What has the name is moved to ``old``, and back if this fails; for None nothing may have it.

    Raises:
        OSError: a folder with files in it has the name, or the disk refuses.
    """
    if old:
        path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        if old:
            with contextlib.suppress(OSError):
                old.rename(path)
        raise


def _is_replaceable(path: Path) -> bool:
    return path.is_dir() and ((path / manifest.NAME).is_file() or not any(path.iterdir()))


def _write(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
