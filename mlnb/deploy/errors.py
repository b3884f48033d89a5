"""What can go wrong when a server is deployed."""

from __future__ import annotations

from mlnb.errors import MlnbError


class DeployError(MlnbError):
    """An image or manifests that cannot be made, or do not do what they should."""
