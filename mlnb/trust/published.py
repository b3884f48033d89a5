"""What is published for an environment: its statement in ``deployments/ENV.json``, or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from mlnb.trust.envelope import LIMIT, verify
from mlnb.trust.errors import TrustError
from mlnb.trust.keys import PublicKey
from mlnb.trust.statement import Statement

FOLDER = "deployments"
FORMAT = 1


def nothing(environment: str) -> str:
    """Return the content of the file of an environment in which nothing runs yet."""
    return json.dumps({"format": FORMAT, environment: None}) + "\n"


def read_published(
    path: Path, trusted: Mapping[str, PublicKey], *, after: int | None = None, where: str = ""
) -> Statement | None:
    """Return the verified statement in ``path``; None where the file says that nothing runs yet.

    Args:
        path: the file; its name without suffix is the environment.
        trusted: the keys that the project knows, by their id.
        after: the counter of the newest statement seen of this environment, if one was. Then
            nothing but a newer one is taken; see :func:`mlnb.trust.verify`.
        where: the file as people call it.

    Raises:
        TrustError: no such file, unsigned, or not to be trusted. It never means that nothing runs.
    """
    environment, where = path.stem, where or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise TrustError(
            f"cannot be read: {error.strerror}",
            where=where,
            remedy=f"Where nothing runs yet, commit it saying {nothing(environment).strip()}",
        ) from error
    if not _says_nothing(data, environment):
        return verify(data, trusted, environment=environment, after=after, where=where)
    if after is not None:
        raise TrustError(
            f"says that nothing runs in {environment}, but statement {after} was seen already",
            where=where,
            remedy="`git log` tells who put it back; `git checkout` the newest.",
        )
    return None


def _says_nothing(data: bytes, environment: str) -> bool:
    try:
        content = json.loads(data)
        return json.dumps(content, sort_keys=True) == json.dumps(
            {"format": FORMAT, environment: None}, sort_keys=True
        )
    except (ValueError, RecursionError):
        return False
