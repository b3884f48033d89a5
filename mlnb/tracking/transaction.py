"""Many calls of MLflow as one write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

_SETTINGS = ("foreign_keys = ON", "busy_timeout = 20000", "case_sensitive_like = true")
"""What MLflow sets for each of its sessions."""


def is_sqlite(client: Any) -> bool:
    """Whether ``client`` writes to an SQLite file itself."""
    return bool(getattr(client._tracking_client.store, "db_type", "") == "sqlite")


@contextlib.contextmanager
def at_once(client: Any) -> Iterator[None]:
    """Write what ``client`` logs inside in one transaction, if its store is an SQLite file.

    MLflow commits at every call, and each commit waits for the disk. Inside, its sessions share
    one connection and leave the commit to us: a candidate takes one wait instead of thirty, and a
    process that is killed leaves nothing. Artifacts are files and stay.
    """
    if not is_sqlite(client):
        yield
        return
    store = client._tracking_client.store
    from mlflow.store.db.utils import _get_managed_session_maker
    from sqlalchemy.orm import sessionmaker

    usual = store.ManagedSessionMaker
    with store.engine.connect() as connection:
        for setting in _SETTINGS:
            connection.exec_driver_sql(f"PRAGMA {setting}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        ours = sessionmaker(bind=connection, join_transaction_mode="rollback_only")
        store.ManagedSessionMaker = _get_managed_session_maker(ours, "")
        try:
            yield
            connection.commit()
        finally:
            store.ManagedSessionMaker = usual
