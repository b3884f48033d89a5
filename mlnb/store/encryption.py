"""Encryption at rest, by age (age-encryption.org/v1): whoever has the disk has no model.

Files are encrypted to the recipients that the settings name, each under its name with ``.age``.
A person's identity is a file of the person's own, in the form of ``age-keygen``. That a file
decrypts says nothing of who wrote it: what is read is verified as ever, by its digest.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mlnb.bundle.opening import Reader
from mlnb.store.errors import StoreError
from mlnb.trust.private import private_folder, read_private, write_private

SUFFIX = ".age"
_CHUNK, _TAG, _HEADER = 64 << 10, 16, 64 << 10
"""age's payload has a tag of 16 bytes for each 64 KiB; its header grows with the recipients."""


def identity_file() -> Path:
    """Return the file of a person's identity."""
    return private_folder() / "age.txt"


def new_identity() -> str:
    """Make an identity for a person; return its recipient, which settings may name.

    Raises:
        MlnbError: there is one already, it cannot be written, or pyrage is missing.
    """
    made = _age().x25519.Identity.generate()
    recipient = str(made.to_public())
    write_private(identity_file(), f"# public key: {recipient}\n{made}\n".encode())
    return recipient


def own_recipient(project: Path) -> str:
    """Return the recipient of a person's identity, which is made if there is none.

    Args:
        project: a folder in which no identity may lie, for it would soon be committed.

    Raises:
        MlnbError: it lies there, others may read it, it cannot be written, or pyrage is missing.
    """
    path = identity_file()
    if path.resolve().is_relative_to(project.resolve()):
        raise StoreError(
            "lies within the project, where an identity is soon committed",
            where=str(path),
            remedy="Set XDG_CONFIG_HOME to a folder of your own.",
        )
    return str(_identity(str(path)).to_public()) if path.exists() else new_identity()


def encrypted(files: Mapping[str, bytes], recipients: Iterable[str]) -> dict[str, bytes]:
    """Return the files as they are stored, in the same order, encrypted to ``recipients``.

    Raises:
        StoreError: one is no recipient, or pyrage is missing.
    """
    age = _age()
    known = []
    for text in recipients:
        try:
            known.append(age.x25519.Recipient.from_str(text))
        except age.RecipientError as error:
            raise StoreError(
                f"{text!r} is no recipient of age: {error}",
                where="encrypt-to in [tool.mlnb]",
                remedy="A recipient looks like age1…; `age-keygen -y` shows that of an identity.",
            ) from error
    return {name + SUFFIX: age.encrypt(data, known) for name, data in files.items()}


def decrypted(files: Mapping[str, Reader], *, where: str) -> dict[str, Reader]:
    """Return the files by their names in the bundle, where encrypted through the identity.

    Raises:
        StoreError: a name is there in both forms, or there is no identity and one is needed.
    """
    found: dict[str, Reader] = {}
    identity: Any = None
    for name, read in files.items():
        plain = name.removesuffix(SUFFIX)
        if plain in found:
            raise StoreError(f"{plain} is there twice, plain and encrypted", where=where)
        if plain != name:
            identity = identity or _identity(where)
            read = functools.partial(_decrypt, read, identity, f"{where}/{name}")
        found[plain] = read
    return found


def _decrypt(read: Reader, identity: Any, where: str, limit: int) -> bytes:
    age = _age()
    bound = limit + 1 + (limit // _CHUNK + 2) * _TAG + _HEADER
    try:
        data: bytes = age.decrypt(read(bound), [identity])
    except age.DecryptError as error:
        raise StoreError(
            f"cannot be decrypted: {error}",
            where=where,
            remedy="It was changed, or is for other recipients than the identity in"
            f" {identity_file()}.",
        ) from error
    return data


def _identity(where: str) -> Any:
    path = identity_file()
    if not path.exists():
        raise StoreError(
            "is encrypted, and there is no identity to decrypt it with",
            where=where,
            remedy=f"Put yours into {path}, as `age-keygen` writes it; `mlnb keys encryption`"
            " makes a new one, for what is stored from then on.",
        )
    lines = read_private(path).decode("utf-8", "replace").splitlines()
    secret = next((line.strip() for line in lines if line.startswith("AGE-SECRET-KEY-")), "")
    age = _age()
    try:
        return age.x25519.Identity.from_str(secret)
    except age.IdentityError as error:
        raise StoreError("holds no identity of age", where=str(path)) from error


def _age() -> ModuleType:
    try:
        import pyrage
    except ImportError as error:
        raise StoreError(
            "encrypted stores need pyrage, which is not installed",
            remedy="Run `pip install 'mlnb[encryption]'`.",
        ) from error
    module: ModuleType = pyrage
    return module
