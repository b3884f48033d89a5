"""What can be wrong with a bundle, or with what one is to be made of."""

from __future__ import annotations

from mlnb.errors import MlnbError


class BundleError(MlnbError):
    """A bundle that is not what it says, or that cannot be made."""
