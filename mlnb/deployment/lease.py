"""The lease: one controller at a time works on an environment.

The kernel holds the lock for as long as the process lives, so that of a dead one is free at once,
and a process number that is used again holds nobody up. The file says who has it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import IO

from mlnb.deploy.errors import DeployError

FORMAT = 1


class LeaseError(DeployError):
    """Somebody else works on the environment."""

    exit_code = 1


class Lease:
    """The right to change one environment on this machine.

    Args:
        folder: of the environment.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "deploy.lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> Lease:
        """Take it.

        Raises:
            LeaseError: a living process has it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+")  # noqa: PTH123
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise LeaseError(
                f"is being deployed by {self.holder()}",
                where=str(self.path),
                remedy="Wait for it, or end that process: what it began goes on then.",
            ) from error
        self._file = file
        self._since = time.time()
        self.beat()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        if self._file:
            self._file.close()
            self._file = None

    def beat(self) -> None:
        """Write down that its holder still works."""
        assert self._file is not None
        told = {
            "format": FORMAT,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": self._since,
            "beat": time.time(),
        }
        self._file.seek(0)
        self._file.write(json.dumps(told) + "\n")
        self._file.truncate()
        self._file.flush()

    def holder(self) -> str:
        """Return who has it, or had it last, for a person to read."""
        try:
            told = json.loads(self.path.read_text())
            ago = time.time() - float(told["beat"])
            return f"process {told['pid']} on {told['host']}, seen {ago:.0f} s ago"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
