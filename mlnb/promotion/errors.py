"""What can be wrong with a decision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mlnb.errors import MlnbError


class PromotionError(MlnbError):
    """A decision that cannot be taken."""


class BlockedError(PromotionError):
    """A candidate that must not be promoted, or not yet."""

    exit_code = 1


@contextlib.contextmanager
def room(what: str) -> Iterator[None]:
    """Say as one of our errors that the disk is full, or takes no file."""
    try:
        yield
    except OSError as error:
        failed = PromotionError(
            f"{what}: {error.strerror or error}",
            where=str(error.filename or ""),
            remedy="Make room, then `mlnb doctor` finishes what was begun.",
        )
        failed.exit_code = 1
        raise failed from error
