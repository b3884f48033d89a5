"""Private keys, which are one person's alone.

They lie in the person's own folder, never in a project, and nobody else may read them: mode 0600.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlnb.trust.errors import TrustError
from mlnb.trust.keys import PublicKey, admit, key_file, refuse_known

CHOICE = "MLNB_KEY"
"""Environment variable: the name of the private key to sign with, for who has several."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def new_key(name: str, folder: Path) -> PublicKey:
    """Make a key for ``name``: the private half for the person, the public one for the project.

    A person's key of that name that lies here already, of another project, is taken for this, too.

    Args:
        name: whose it is: letters, digits and ``._@+-``.
        folder: the project's folder of public keys.

    Raises:
        TrustError: the project knows a key of that name, the private half would lie within the
            project, or cannot be written.
    """
    private = _private_file(name)
    if private.resolve().is_relative_to(folder.resolve().parent.parent):
        raise TrustError(
            "lies within the project, where a private key is soon committed",
            where=str(private.parent),
            remedy="Set XDG_CONFIG_HOME to a folder of your own.",
        )
    refuse_known(name, folder)
    if not private.exists():
        made = Ed25519PrivateKey.generate()
        write_private(
            private,
            made.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
    return admit(name, load_private(name).public_key(), folder)


def load_private(name: str = "") -> Ed25519PrivateKey:
    """Return a person's private key.

    Args:
        name: of the key; without it, what ``MLNB_KEY`` names, or the only key that is there.

    Raises:
        TrustError: there is none, there are several, others may read it, or it is no key.
    """
    path = _private_file(name or os.environ.get(CHOICE, "") or _only_private())
    if not path.exists():
        raise TrustError(
            "no private key here", where=str(path), remedy=f"Make one: `mlnb keys new {path.stem}`."
        )
    try:
        key = serialization.load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TrustError("is not a private key without password", where=str(path)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise TrustError("is not a key of Ed25519", where=str(path))
    return key


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


def _private_file(name: str) -> Path:
    return key_file(name, private_folder(), ".pem")


def _only_private() -> str:
    folder = private_folder()
    names = sorted(path.stem for path in folder.glob("*.pem"))
    if len(names) == 1:
        return names[0]
    if not names:
        raise TrustError(
            "no private key here",
            where=str(folder),
            remedy="Make one: `mlnb keys new NAME`, and commit deployments/keys.",
        )
    raise TrustError(
        f"several private keys: {', '.join(names)}",
        where=str(folder),
        remedy=f"Say which: `export {CHOICE}={names[0]}`.",
    )
