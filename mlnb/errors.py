"""One error base class: what happened, where, and the command that helps.

Every error a person can cause derives from :class:`MlnbError`. The faces catch it once, print it
without a traceback and exit with its ``exit_code``: 2 for bad input, 1 for a run or a check that
failed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MlnbError(Exception):
    """Something a person can mend.

    Args:
        what: what happened, in one sentence.
        where: file, and cell and line where known.
        remedy: what to do, preferably a command.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        lines = [f"{where}: {what}" if where else what]
        if remedy:
            lines.append(f"  {remedy}")
        super().__init__("\n".join(lines))

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the message, without our own frames."""
        return [f"{type(self).__name__}: {self}"]

    @classmethod
    def join(cls, errors: Iterable[MlnbError]) -> MlnbError:
        """Return one error that tells all of ``errors``; a person mends them in one go."""
        found = list(errors)
        if len(found) == 1:
            return found[0]
        return cls("\n".join(str(error) for error in found))


class ProjectError(MlnbError):
    """No project here, or its settings cannot be read."""


class NotebookError(MlnbError):
    """A notebook file that is missing, truncated or not a notebook."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean X?' for the known name nearest to ``name``, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
