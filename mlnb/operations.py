"""The commands of operations: serving, deploying; their words, and what they print.

As in :mod:`mlnb.cli`, each calls one function, and nothing heavy is imported before it is known.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

Add = Callable[..., argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Add the commands to the parser, by its ``add(NAME, COMMAND, SUMMARY)``."""
