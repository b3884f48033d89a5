"""Signing and verifying: the Dead Simple Signing Envelope around a statement.

DSSE v1 (secure-systems-lab/dsse, protocol.md): the signature is on the payload and its type, so
that no bytes signed for another use are taken for a statement. An envelope has one signature and
one form of its bytes; in any other form it is refused, as whatever was changed in it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlnb.trust.errors import RevokedError, TrustError
from mlnb.trust.keys import PublicKey, keyid
from mlnb.trust.statement import Statement, parse

TYPE = "application/vnd.in-toto+json"
LIMIT = 1 << 20
"""Bytes of an envelope: a longer one is not even parsed."""


@dataclass(frozen=True)
class _Envelope:
    payload: bytes
    keyid: str
    signature: bytes

    def written(self) -> bytes:
        content = {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": TYPE,
            "signatures": [{"keyid": self.keyid, "sig": base64.b64encode(self.signature).decode()}],
        }
        return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"


def pae(payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding of a payload: the bytes that are signed."""
    return b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE.encode(), len(payload), payload)


def sign(statement: Statement, private_key: Ed25519PrivateKey) -> bytes:
    """Return the envelope of ``statement``, signed.

    Raises:
        TrustError: the statement holds what JSON cannot.
    """
    payload = statement.payload
    signature = private_key.sign(pae(payload))
    return _Envelope(payload, keyid(private_key.public_key()), signature).written()


def verify(
    envelope: bytes,
    trusted: Mapping[str, PublicKey],
    *,
    environment: str,
    after: int | None = None,
    where: str = "",
) -> Statement:
    """Return the statement in ``envelope``, which a trusted key signed. It is read only then.

    Args:
        envelope: the bytes of the file.
        trusted: the keys that the project knows, by their id.
        environment: the one it must speak of.
        after: the counter of the newest statement seen of this environment: only a newer one is
            taken. A rollback has a newer one, too, so that no old rollback can be played again.
        where: the file as people call it.

    Raises:
        TrustError: not an envelope, edited, signed by a key that is unknown or revoked, of another
            environment or format, or not newer.
    """
    found = _parsed(envelope, where)
    key = trusted.get(found.keyid)
    if key is None:
        raise TrustError(
            f"is signed by the key {found.keyid[:16]}, which nobody here trusts",
            where=where,
            remedy="`mlnb keys list` tells whom this project trusts; `git log` who wrote the file.",
        )
    if not key.verifies(found.signature, pae(found.payload)):
        raise TrustError(f"was changed since {key.name} signed it", where=where)
    if key.revoked:
        raise RevokedError(
            f"is signed by the key of {key.name}, which was revoked at {key.revoked.at} by"
            f" {key.revoked.by}: {key.revoked.reason}",
            statement=parse(found.payload, where=where),
            where=where,
            remedy="Somebody whose key is trusted must sign anew: `mlnb rollback --to"
            f" {environment}`, with the number of the present version to stay at it.",
        )
    statement = parse(found.payload, where=where)
    if statement.environment != environment:
        raise TrustError(
            f"is a statement on {statement.environment!r}, not on {environment!r}", where=where
        )
    if after is not None and statement.counter <= after:
        raise TrustError(
            f"is statement {statement.counter} on {environment}, but statement {after} was seen"
            " already: an older one was put back",
            where=where,
            remedy=f"`git log` tells by whom. To go back, run `mlnb rollback --to {environment}`.",
        )
    return statement


def _parsed(data: bytes, where: str) -> _Envelope:
    if len(data) > LIMIT:
        raise TrustError(f"is longer than {LIMIT} bytes", where=where)
    try:
        content = json.loads(data)
        (signature,) = content["signatures"]
        found = _Envelope(
            base64.b64decode(content["payload"], validate=True),
            str(signature["keyid"]),
            base64.b64decode(signature["sig"], validate=True),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrustError(
            "is not a signed statement", where=where, remedy="Publish one: `mlnb promote`."
        ) from error
    if found.written() != data:
        raise TrustError("was edited: it is not in the form that mlnb writes", where=where)
    return found
