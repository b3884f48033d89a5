"""What can be wrong with a store of bundles."""

from __future__ import annotations

from mlnb.errors import MlnbError


class StoreError(MlnbError):
    """A store that cannot be reached or read, or that has not what was asked for."""
