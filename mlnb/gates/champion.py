"""The model in production, as the signed statement in ``deployments/production.json`` names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlnb.bundle import Bundle
from mlnb.errors import MlnbError
from mlnb.trust import RevokedError, keys, read_published, trusted


@dataclass(frozen=True)
class Champion:
    """The model in production: its version, and its bundle, verified."""

    version: str
    bundle: Bundle


def champion(path: Path, store: Callable[[str], Bundle], *, where: str) -> Champion | None:
    """Return the model in production; None where the file says that there is none.

    Args:
        path: the file of the statement; the keys that are trusted lie in ``keys`` beside it.
        store: gives a promoted bundle by its digest, verified.
        where: the file as people call it.

    Raises:
        MlnbError: no such file, unsigned or not to be trusted, or no such bundle. It never means
            that nothing is in production.
    """
    statement = read_published(path, trusted(path.parent / keys.FOLDER), where=where)
    if statement is None:
        return None
    return Champion(str(statement.version), store(statement.bundle))


def is_revoked(path: Path) -> bool:
    """Whether the key was revoked that signed what is in production."""
    try:
        read_published(path, trusted(path.parent / keys.FOLDER))
    except RevokedError:
        return True
    except MlnbError:  # judging tells what is wrong with it
        pass
    return False
