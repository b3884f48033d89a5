"""What can be wrong with a key or a statement."""

from __future__ import annotations

from mlnb.errors import MlnbError


class TrustError(MlnbError):
    """A key or a statement that cannot be trusted, or that is not there."""
