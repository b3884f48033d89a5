"""Trust: who says what an environment is to run, and that nobody else did.

* A person makes a key (:func:`new_key`); the private half stays with the person
  (:func:`load_private`), the public one is committed to ``deployments/keys/`` (:func:`trusted`),
  where it may be revoked (:func:`revoke`).
* A :class:`Statement` says which bundle an environment runs, and on what that was decided.
  :func:`sign` makes a signed envelope of it, which ``deployments/ENV.json`` holds.
* :func:`verify` gives it back if a trusted key signed it, it is on that environment, and newer than
  what was seen before; :func:`read_published` does so for the file.

The statement names the bundle by its digest, and :func:`mlnb.bundle.open_bundle` verifies every
byte of it: so nothing is deserialised that no trusted key signed for.
"""

from __future__ import annotations

from mlnb.trust.envelope import pae, sign, verify
from mlnb.trust.errors import RevokedError, TrustError
from mlnb.trust.keys import PublicKey, Revocation, admit, revoke, trusted
from mlnb.trust.private import load_private, new_key
from mlnb.trust.published import nothing, read_published
from mlnb.trust.statement import Statement

__all__ = [
    "PublicKey",
    "Revocation",
    "RevokedError",
    "Statement",
    "TrustError",
    "admit",
    "load_private",
    "new_key",
    "nothing",
    "pae",
    "read_published",
    "revoke",
    "sign",
    "trusted",
    "verify",
]
