"""Public keys: a project trusts those in its folder.

A public key is one JSON file in ``deployments/keys/``, named by its owner and committed: whoever
reviews that folder decides who may sign. To revoke a key is to say so in its file, for then it
cannot be forgotten that it was trusted once. Nothing that a revoked key signed is believed any
more, old or new: nobody can tell when a stolen key was used.

Ed25519 (RFC 8032). The id of a key is the SHA-256 of its 32 bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mlnb.errors import did_you_mean
from mlnb.files import write_json
from mlnb.trust.errors import TrustError

FORMAT = 1
FOLDER = "keys"
"""Beside the statements: ``deployments/keys``."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


@dataclass(frozen=True)
class Revocation:
    """Why a key is trusted no more: when (ISO 8601, UTC), by whom, and for what reason."""

    at: str
    by: str
    reason: str
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True)
class PublicKey:
    """A public key that the project knows.

    Attributes:
        name: whose it is.
        public: the key as PEM, as OpenSSL reads it.
        revoked: since when and why it is trusted no more; None while it is.
        format: of the file.
    """

    name: str
    public: str
    revoked: Revocation | None = None
    format: int = FORMAT
    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}

    @functools.cached_property
    def keyid(self) -> str:
        """The SHA-256 of the key's 32 bytes, in hexadecimal."""
        return keyid(self._key)

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Return whether ``signature`` is one of this key on ``data``; a revoked key signs too."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    @functools.cached_property
    def _key(self) -> Ed25519PublicKey:
        try:
            key = serialization.load_pem_public_key(self.public.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise TrustError("is not a public key", where=self.name) from error
        if not isinstance(key, Ed25519PublicKey):
            raise TrustError("is not a key of Ed25519", where=self.name)
        if _pem(key) != self.public:
            raise TrustError("is not a public key in the form that mlnb writes", where=self.name)
        return key


def keyid(key: Ed25519PublicKey) -> str:
    """Return the id of a key: the SHA-256 of its 32 bytes, in hexadecimal."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def admit(name: str, key: Ed25519PublicKey, folder: Path) -> PublicKey:
    """Trust ``key`` as that of ``name``: write it to the project's folder of public keys.

    Raises:
        TrustError: the project knows a key of that name, or this key by another.
    """
    refuse_known(name, folder)
    made = PublicKey(name, _pem(key))
    if same := trusted(folder).get(made.keyid):
        raise TrustError(f"is the key of {same.name}, too", where=str(key_file(name, folder)))
    _write(made, folder)
    return made


def trusted(folder: Path) -> dict[str, PublicKey]:
    """Return the keys that the project knows, by their id; the revoked ones are among them.

    Raises:
        TrustError: a file of the folder is no key, or says another name than its own, or two are
            one key: a copy without the revocation would undo it.
    """
    found: dict[str, PublicKey] = {}
    for path in sorted(folder.glob("*.json")):
        key = _read(path)
        if other := found.get(key.keyid):
            raise TrustError(f"is the key of {other.name}, too", where=str(path))
        found[key.keyid] = key
    return found


def revoke(name: str, folder: Path, *, by: str, reason: str) -> PublicKey:
    """Trust the key of ``name`` no more; return it. Revoked already, it stays as it is.

    Raises:
        TrustError: the project knows no such key.
    """
    known = {key.name: key for key in trusted(folder).values()}
    if name not in known:
        raise TrustError(
            f"no key of {name!r}.{did_you_mean(name, known)}",
            where=str(folder),
            remedy=f"Known: {', '.join(sorted(known)) or 'none'}.",
        )
    key = known[name]
    if key.revoked:
        return key
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    key = dataclasses.replace(key, revoked=Revocation(now, by, reason))
    _write(key, folder)
    return key


def key_file(name: str, folder: Path, suffix: str = ".json") -> Path:
    """Return the file of the key ``name`` in ``folder``.

    Raises:
        TrustError: the name could be a path, or is none.
    """
    if not _NAME.fullmatch(name):
        raise TrustError(
            f"{name!r} is no name for a key",
            remedy="Letters, digits and ._@+-, at most 64, such as `ada`.",
        )
    return folder / f"{name}{suffix}"


def refuse_known(name: str, folder: Path) -> None:
    """Refuse the name of a key that the project knows, or knew.

    Raises:
        TrustError: it does.
    """
    path = key_file(name, folder)
    if path.exists():
        raise TrustError(
            "is there already; it is left alone",
            where=str(path),
            remedy="Take another name: a key that was revoked keeps its own.",
        )


def _pem(key: Ed25519PublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


def _write(key: PublicKey, folder: Path) -> None:
    path = key_file(key.name, folder)
    try:
        write_json(path, dataclasses.asdict(key))
    except OSError as error:
        raise TrustError(f"cannot be written: {error.strerror}", where=str(path)) from error


def _read(path: Path) -> PublicKey:
    from pydantic import TypeAdapter, ValidationError

    try:
        data = path.read_bytes()
        content = json.loads(data)
        number = content.get("format") if isinstance(content, Mapping) else None
        if type(number) is not int or number != FORMAT:
            raise TrustError(f"has format {number!r}; this mlnb reads {FORMAT}", where=str(path))
        key = TypeAdapter(PublicKey).validate_json(data, strict=True)
    except OSError as error:
        raise TrustError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (ValidationError, ValueError, RecursionError) as error:
        raise TrustError(
            "is not a public key",
            where=str(path),
            remedy="`git checkout` it, or look who changed it.",
        ) from error
    if key.name != path.stem:
        raise TrustError(f"says that it is the key of {key.name!r}", where=str(path))
    key.keyid  # noqa: B018 - what is no key is refused here, not when it is needed
    return key
