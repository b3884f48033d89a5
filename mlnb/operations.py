"""The commands of operations: serving, deploying; their words, and what they print.

As in :mod:`mlnb.cli`, each calls one function, and nothing heavy is imported before it is known.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

Add = Callable[..., argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Add the commands to the parser, by its ``add(NAME, COMMAND, SUMMARY)``."""
    serve = add("serve", _serve, "Answer requests with the version that was promoted.")
    serve.add_argument("--env", default="production", metavar="ENV", help="(default %(default)s)")
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default %(default)s)"
    )
    serve.add_argument(
        "--port", type=_port, default=8080, help="0 for any that is free (default %(default)s)"
    )
    serve.add_argument(
        "--workers", type=_workers, default=1, metavar="N", help="processes (default %(default)s)"
    )
    serve.add_argument("--insecure", action="store_true", help="let everybody in, without tokens")


def _serve(options: argparse.Namespace) -> int:
    from mlnb.project import find
    from mlnb.serving.command import run

    return run(
        find(),
        options.env,
        host=options.host,
        port=options.port,
        workers=options.workers,
        insecure=options.insecure,
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be 0 to 65535, not {text!r}")
    return int(text)


def _workers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"must be 1 to 256, not {text!r}")
    return int(text)
