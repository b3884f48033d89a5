"""The store: the bundles that were promoted, each below its digest.

:func:`open_store` gives that of a project: the folder ``.mlnb/bundles``, or what its settings
name, such as ``s3://bucket/bundles`` for a team. :meth:`Store.put` and :meth:`Store.get` are all
that most need; what is got was verified, byte for byte, and nothing of it was constructed yet.

``places`` is where files lie, ``encryption`` what they look like there.
"""

from __future__ import annotations

from mlnb.project import Project
from mlnb.store.bundles import Store
from mlnb.store.encryption import new_identity, own_recipient
from mlnb.store.errors import StoreError

__all__ = ["Store", "StoreError", "new_identity", "open_store", "own_recipient"]


def open_store(project: Project) -> Store:
    """Return the store of ``project``.

    Raises:
        StoreError: nothing is known that reaches what the settings name.
    """
    url = project.settings.store
    return Store(
        url if "://" in url else project.home / (url or ".mlnb/bundles"),
        cache=project.state / "fetched",
        recipients=project.settings.encrypt_to,
    )
