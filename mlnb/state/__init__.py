"""The state: which version is where, and the journal of how it came there.

* :func:`open_state` opens a state, an SQLite file or a PostgreSQL database, and makes it if there
  is none; :func:`locate` says where the project's is.
* ``State`` (in ``store``) has the verbs: register a bundle as a version, record a verdict, approve,
  move an alias, and read all of it, also as it was at some moment.
* The journal is the state. Each change is one row, each row names the hash of the row before it,
  and versions, aliases and approvals are read from the rows; so there are no two tables that could
  disagree. ``verify`` computes the chain again.

SQLAlchemy is imported when a state is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlnb.project import Project
from mlnb.state.errors import ConflictError, StateError, UnusableError
from mlnb.state.records import Entry, Fault, Report, Version

if TYPE_CHECKING:
    from mlnb.state.store import State

__all__ = [
    "ConflictError",
    "Entry",
    "Fault",
    "Report",
    "StateError",
    "UnusableError",
    "Version",
    "locate",
    "open_state",
]

_SQLITE = "sqlite:///"


def locate(project: Project) -> str | Path:
    """Return where the project's state is: ``state`` in ``[tool.mlnb]``, else its own file."""
    chosen = project.settings.state
    if not chosen:
        return project.state / "state.db"
    # Stages and trials run in several folders, so that a relative path means the project's.
    return project.home / chosen.removeprefix(_SQLITE) if chosen.startswith(_SQLITE) else chosen


def open_state(place: str | Path) -> State:
    """Return the state at ``place``, brought to the present format; made if there is none.

    Any number of processes may open a state that is not there yet at the same time.

    Args:
        place: path of an SQLite file, or an address: ``postgresql://HOST/DATABASE``.

    Raises:
        UnusableError: it cannot be reached, or is no database.
        StateError: a newer mlnb wrote it, or ``place`` is no address.
    """
    from mlnb.state.database import Database
    from mlnb.state.store import State

    return State(Database.open(place))
