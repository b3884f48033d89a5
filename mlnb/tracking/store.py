"""Where runs are kept, and how the project's own store comes to be.

The own store is an SQLite file. MLflow would create it on first use by some fifty migrations;
two processes at that, or one that is killed, leave a file that no later process can open. So it
is migrated under a temporary name, under a lock, and takes its own name whole, in one rename.
Whether it is there is a matter for :mod:`sqlite3`: MLflow is not imported to find out.
"""

from __future__ import annotations

import contextlib
import glob
import os
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from mlnb.errors import MlnbError
from mlnb.project import Project

_SQLITE = "sqlite:///"
_PATIENCE = 20.0
"""Seconds to wait for another process's write, as MLflow does."""


class TrackingError(MlnbError):
    """A tracking store that cannot be used."""

    exit_code = 1


def ensure_store(project: Project) -> str:
    """Return the tracking URI; if it names an SQLite file, store and experiment exist afterwards.

    The address is ``tracking_uri`` in ``[tool.mlnb]``, else ``MLFLOW_TRACKING_URI``, else the
    project's own file. Cheap once the file is there.

    Raises:
        TrackingError: there is a file, but it is no usable store; it is left as it is.
    """
    uri = _uri(project)
    path = _file(project, uri)
    if path is None:
        return uri
    name = experiment(project)
    try:
        if not _has(path, name):
            path.parent.mkdir(parents=True, exist_ok=True)
            with alone(path.with_name(f".{path.name}.lock")):
                _complete(path, name)
    except OSError as error:
        raise TrackingError(
            f"the tracking store cannot be made: {error.strerror or error}",
            where=str(path),
            remedy="Look at the free space and the permissions of its folder.",
        ) from error
    return f"{_SQLITE}{path}"


def experiment(project: Project) -> str:
    """Return the name of the MLflow experiment."""
    return project.settings.experiment or project.home.name


def exists(project: Project) -> bool:
    """Whether there is anything to read: a server, or an SQLite file that was made before."""
    path = _file(project, _uri(project))
    return path is None or path.exists()


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock ``path``, which the kernel releases when the process ends, however it does."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def reaching(uri: str) -> Iterator[Any]:
    """Yield an ``MlflowClient`` of the store; what MLflow raises inside tells where and what to do.

    Raises:
        TrackingError: the store cannot be reached, refuses, or has another schema.
    """
    _quiet()
    # What MLflow's parts say of each other while they load is nothing that a person could mend.
    with warnings.catch_warnings(action="ignore"):
        import mlflow

        if uri.startswith("sqlite:"):
            import mlflow.store.tracking.sqlalchemy_store
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

    _hush()
    try:
        yield mlflow.MlflowClient(tracking_uri=uri)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise _unusable(uri, error) from error


def _uri(project: Project) -> str:
    chosen = project.settings.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    return chosen or f"{_SQLITE}{project.state / 'mlflow.db'}"


def _file(project: Project, uri: str) -> Path | None:
    """Return the file of an SQLite address; stages run in several folders, so it is absolute."""
    if not uri.startswith("sqlite:"):
        return None
    text = uri.removeprefix(_SQLITE)
    if text == uri or text in ("", ":memory:") or "?" in text:
        raise TrackingError(
            "the tracking store must be a file",
            where=uri,
            remedy="Write tracking_uri as sqlite:///FOLDER/mlflow.db, or leave it out.",
        )
    return Path(os.path.abspath(project.home / text))


def _has(path: Path, name: str) -> bool:
    """Whether the store has the experiment; without a store, no.

    Raises:
        TrackingError: the file is no store of MLflow.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    if not size:
        raise _broken(path, "it is empty")
    # Opened for writing, so that SQLite can roll back what a killed process left in the journal.
    try:
        address = f"file:{quote(str(path))}?mode=rw"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE)) as store:
            version = store.execute("SELECT version_num FROM alembic_version").fetchone()
            found = store.execute("SELECT 1 FROM experiments WHERE name = ?", (name,)).fetchone()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            raise TrackingError(
                f"the tracking store has been locked by another process for {_PATIENCE:g} s",
                where=str(path),
                remedy="Try again; `lsof` on the file names the process.",
            ) from error
        raise _broken(path, str(error)) from error
    if version is None:
        raise _broken(path, "its migrations have not finished")
    return found is not None


def _complete(path: Path, name: str) -> None:
    """Make the store or the experiment, whichever is missing; the caller holds the lock."""
    _sweep(path)
    if _has(path, name):
        return
    artifacts = str(path.parent / "artifacts")
    if path.exists():
        with reaching(f"{_SQLITE}{path}") as client:
            client.create_experiment(name, artifact_location=artifacts)
    else:
        _create(path, name, artifacts)


def _create(path: Path, name: str, artifacts: str) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        _migrate(f"{_SQLITE}{new}", name, artifacts)
        new.rename(path)
        _sync(path.parent)
    finally:
        _sweep(path)


def _sweep(path: Path) -> None:
    """Delete unfinished stores; only the holder of the lock makes any, so their makers are dead."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.new*"):
        left.unlink()


def _migrate(uri: str, name: str, artifacts: str) -> None:
    """Fill an empty file with MLflow's tables and the experiment, and let go of it."""
    # The migrations rebuild tables and alembic warns of each: nothing that a person could mend.
    with reaching(uri), warnings.catch_warnings(action="ignore"):
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        store = SqlAlchemyStore(uri, artifacts)
        try:
            store.create_experiment(name, artifact_location=artifacts)
        finally:
            store.engine.dispose()
            SqlAlchemyStore._engine_map.pop(uri, None)


def _sync(folder: Path) -> None:
    """Bring a rename in ``folder`` to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _broken(path: Path, reason: str) -> TrackingError:
    return TrackingError(
        f"not a usable MLflow store: {reason}",
        where=str(path),
        remedy="Restore it from a backup, or move it away: `mlnb track` then starts a new one.",
    )


def _unusable(uri: str, error: Exception) -> TrackingError:
    if "out-of-date database schema" in str(error):
        remedy = f"Back it up, then run `mlflow db upgrade {_shown(uri)}`."
    elif uri.startswith("sqlite:"):
        remedy = "Look at free space and permissions; `PRAGMA integrity_check` shows damage."
    else:
        remedy = "Is it up? MLFLOW_TRACKING_URI or tracking_uri in [tool.mlnb] chooses another."
    reason = str(error).partition("\n")[0].replace(uri, _shown(uri)) or type(error).__name__
    what = f"the tracking store cannot be used: {reason}"
    return TrackingError(what, where=_shown(uri), remedy=remedy)


def _shown(uri: str) -> str:
    """Return an address without the user and password in it."""
    return uri.replace(f"{urlsplit(uri).netloc.rpartition('@')[0]}@", "", 1) if "@" in uri else uri


def _quiet() -> None:
    """Set what MLflow reads while it is imported; what a person has set stays."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        # The default tries an absent server for four minutes.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    }.items():
        os.environ.setdefault(name, value)


def _hush() -> None:
    """Leave only what is wrong of what MLflow says; the traceback of an error becomes ours."""
    import logging

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
