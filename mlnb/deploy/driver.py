"""What a driver does: the same verbs, wherever a server runs.

A server follows the signed statement by itself. A driver starts and stops it, tells what it says of
itself, and sets the candidate's share; versions are told by the digest of their bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mlnb.trust import Statement


@dataclass(frozen=True)
class Finding:
    """Something that a target lacks, or that a person should know before.

    Attributes:
        what: it is.
        where: it is so.
        remedy: what helps.
        blocks: whether nothing may be started.
    """

    what: str
    where: str = ""
    remedy: str = ""
    blocks: bool = True


class Driver(Protocol):
    """Where the server of one environment runs."""

    name: str

    def preflight(self, statement: Statement) -> list[Finding]:
        """Return what the target lacks to serve a statement; change nothing."""

    def start(self, statement: Statement) -> None:
        """Start the server; return once it answers.

        Raises:
            DeployError: it did not start.
        """

    def status(self) -> Mapping[str, Any] | None:
        """Return what the server says of itself (``/admin/status``); None if none runs.

        Raises:
            DeployError: one runs, and does not say it.
        """

    def set_share(self, share: float, step: int, digest: str) -> None:
        """Set the share of the candidate ``digest``.

        Raises:
            DeployError: the server refuses.
        """

    def stop(self) -> None:
        """Stop the server after what is in flight; do nothing if none runs."""
