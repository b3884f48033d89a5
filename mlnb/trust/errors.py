"""What can be wrong with a key or a statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlnb.errors import MlnbError

if TYPE_CHECKING:
    from mlnb.trust.statement import Statement


class TrustError(MlnbError):
    """A key or a statement that cannot be trusted, or that is not there."""


class RevokedError(TrustError):
    """A statement whose signature is right, by a key that was revoked since.

    Attributes:
        statement: what it says; whoever also has it from elsewhere may go on from there.
    """

    def __init__(self, what: str, *, statement: Statement, where: str, remedy: str) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.statement = statement
