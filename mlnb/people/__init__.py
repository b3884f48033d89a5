"""People: who asks, and what they may do.

* ``roles`` has the three roles, the rule of each command, and what ``[tool.mlnb.people]`` and
  ``[tool.mlnb.policy]`` say; ``identity`` finds out who asks: by a token, by JupyterHub, or by git.
* ``tokens`` are for those who have neither, such as CI: shown once, kept as a digest, expiring.

A story asks :func:`admit` first, whatever face it is called from, and gets the :class:`Person`.
Without a table of people the project is one person's, who may do everything.
"""

from __future__ import annotations

from mlnb.people.identity import Person, admit, who
from mlnb.people.roles import ROLES, RULES, PeopleError, Policy, RefusedError, policy

__all__ = [
    "ROLES",
    "RULES",
    "PeopleError",
    "Person",
    "Policy",
    "RefusedError",
    "admit",
    "policy",
    "who",
]
