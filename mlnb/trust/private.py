"""Files that are one person's alone: they lie in the person's own folder, with mode 0600."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from mlnb.trust.errors import TrustError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_folder() -> Path:
    """Return the folder of private keys: ``mlnb/keys`` in ``$XDG_CONFIG_HOME`` or ``~/.config``.

    As the XDG Base Directory Specification asks, a relative path in the variable does not count.
    """
    told = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(told) if Path(told).is_absolute() else Path.home() / ".config"
    return base / "mlnb" / "keys"


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that nobody else may read, whole or not at all.

    Raises:
        TrustError: it is there already, or cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(name, path)
        finally:
            os.unlink(name)
    except FileExistsError as error:
        raise TrustError("is there already; it is left alone", where=str(path)) from error
    except OSError as error:
        raise TrustError(f"cannot be written: {error.strerror}", where=str(path)) from error


def read_private(path: Path) -> bytes:
    """Return the bytes of a file that nobody else may read.

    Raises:
        TrustError: there is none, or others may read it.
    """
    try:
        with path.open("rb") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & _OTHERS:
                raise TrustError(
                    "others may read it; who did may sign with it",
                    where=str(path),
                    remedy=f"Run `chmod 600 {path}`, or better make a new key: `mlnb keys new`.",
                )
            return file.read()
    except OSError as error:
        raise TrustError(f"cannot be read: {error.strerror}", where=str(path)) from error
