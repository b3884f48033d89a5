"""What can be wrong with a state, or with what is asked of it."""

from __future__ import annotations

from mlnb.errors import MlnbError


class StateError(MlnbError):
    """A change or a question that the state does not take; nothing was changed."""


class UnusableError(StateError):
    """A state that cannot be reached, or refuses: no server, no space, locked, damaged."""

    exit_code = 1


class ConflictError(StateError):
    """An alias is not where the change expected it: somebody else moved it meanwhile."""

    exit_code = 1
