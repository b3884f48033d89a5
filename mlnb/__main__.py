"""The ``mlnb`` program: most of what is run often happens in a warm worker.

Only the command's name is looked at here. What a worker can do quicker is handed over, and then
nothing else of mlnb is imported in this process.
"""

from __future__ import annotations

import os
import sys

_HANDED_OVER = ("gate", "package", "repro", "report", "run", "sweep", "track")
_NOT_WITH = ("-h", "--help", "--kernel")
"""A real kernel is a process of its own, and help is quicker here."""


def main() -> None:
    """Be the ``mlnb`` program."""
    words = sys.argv[1:]
    if words and words[0] in _HANDED_OVER and not any(w.startswith(_NOT_WITH) for w in words):
        code = _handed_over(words)
        if code is not None:
            os._exit(code)
    if words[:1] in (["run"], ["sweep"]) and os.environ.get("PYTHONHASHSEED") != "0":
        # The cells run in a fork of this process; the order of sets is fixed when it starts.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-P", "-m", "mlnb", *words])
    from mlnb.cli import entry

    entry()


def _handed_over(words: list[str]) -> int | None:
    """Return the exit code of a command that a worker ran, or None if none could."""
    import signal

    from mlnb.worker import Handover, WorkerError

    try:
        handover = Handover(words, cwd=os.getcwd(), environment=os.environ)
        signal.signal(signal.SIGINT, lambda *_: handover.interrupt())
        signal.signal(signal.SIGTERM, lambda *_: handover.terminate())
        return handover.wait()
    except WorkerError as error:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if error.wanted:
            print(f"mlnb: no warm worker ({error}); running cold", file=sys.stderr)
        os.environ["MLNB_WARM"] = "0"
        return None


if __name__ == "__main__":
    main()
