"""``mlnb repro``: ``dvc repro`` with independent stages at the same time, and no way to get stuck.

It is the one module that drives DVC inside the process; others meet it as files and a command.
What a stage is, whether it changed, what is cached: all that is DVC's own code and remains so.

* ``takeover`` says which functions of DVC are replaced, and by what.
* ``loop`` stands for DVC's loop: a ``crew`` of workers takes the stages; ``commands`` runs theirs.
* ``board`` shows it, with the graph of ``lanes``.
* ``locks`` and ``turn`` wait for others; ``healing`` mends what a kill left torn.
* ``lockfile`` and ``parsing`` write and read DVC's files, whole and once.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlnb.errors import MlnbError
from mlnb.project import Project

if TYPE_CHECKING:
    from mlnb.reproduce.turn import Turn

__all__ = ["PRELOAD", "ReproError", "reproduce"]

PRELOAD = (
    "mlnb.reproduce.healing",
    "mlnb.reproduce.takeover",
    "configobj",
    "dulwich.client",
    "dulwich.ignore",
    "dulwich.trailers",
    "dulwich.worktree",
    "dvc.cachemgr",
    "dvc.commands.repro",
    "dvc.data_cloud",
    "dvc.dirs",
    "dvc.lock",
    "dvc.repo.artifacts",
    "dvc.repo.datasets",
    "dvc.repo.graph",
    "dvc.repo.index",
    "dvc.repo.metrics",
    "dvc.repo.open_repo",
    "dvc.repo.params",
    "dvc.repo.plots",
    "dvc.repo.stage",
    "dvc.repo.trie",
    "dvc.rwlock",
    "dvc.scm",
    "dvc.utils.strictyaml",
    "dvc_data.hashfile.db.local",
    "flatten_dict",
    "fsspec.implementations.memory",
    "networkx",
    "platformdirs.unix",
    "psutil",
    "rich.live",
    "rich.table",
    "ruamel.yaml",
)
"""Modules that a warm worker may have imported before ``reproduce`` is called in its child."""


class ReproError(MlnbError):
    """DVC could not be driven to an end: a full disk, a lock."""

    exit_code = 1


def reproduce(project: Project, words: Sequence[str]) -> int:
    """Do what ``dvc repro WORDS`` does and return an exit code: 0, 1 failed, 2 bad input.

    Args:
        project: the project.
        words: what follows ``mlnb repro``.

    Raises:
        ReproError: the system refused something.
        KeyboardInterrupt: it was interrupted; nothing is left running.
    """
    from mlnb.reproduce import takeover
    from mlnb.reproduce.turn import Turn

    state = project.root / ".mlnb"
    strange = takeover.unexpected()
    options = None if strange else takeover.options_of(words)
    with Turn(state / "repro.lock", _say) as turn:
        if options is None:
            _say(f"not a DVC that we know ({strange} differs): plain dvc repro, stage by stage")
            return _plain(words)
        try:
            return _reproduce(project, options, state / "repro", turn)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ReproError(f"the system refused it: {error}") from error


def _reproduce(project: Project, options: argparse.Namespace, state: Path, turn: Turn) -> int:
    from dvc.exceptions import DvcException, ReproductionError
    from dvc.lock import LockError
    from dvc.logger import set_loggers_level
    from dvc.ui import ui

    from mlnb.reproduce.healing import Copies

    if not options.quiet:
        ui.enable()
    _rebind_logs()
    copies = Copies(project.root, state)
    said: DvcException
    with set_loggers_level(_level(options)):
        while True:
            try:
                copies.keep(_once(project, options, state, turn))
            except (ReproductionError, LockError) as error:
                code, said = 1, error
            except DvcException as error:
                if healed := copies.restore(error):
                    _say(healed)
                    continue
                code, said = 2, error
            else:
                return 0
            # In DVC's own words, which may point into a file.
            logging.getLogger("dvc").error("", exc_info=said)
            return code


def _once(project: Project, options: argparse.Namespace, state: Path, turn: Turn) -> Iterable[Path]:
    """Let DVC reproduce, our way; return the dvc.lock files that it worked with."""
    from dvc.commands.repro import CmdRepro
    from dvc.repo.open_repo import clean_repos

    from mlnb.reproduce.healing import heal_rwlock
    from mlnb.reproduce.loop import Loop
    from mlnb.reproduce.takeover import replaced

    loop = Loop(
        jobs=options.jobs,
        root=project.root,
        turn=turn,
        say=_say,
        level=_level(options),
        plain=options.dry or options.interactive,
    )
    with replaced(loop, state / "parsed.json"):
        command = CmdRepro(options)
        repo = command.repo
        heal_rwlock(Path(repo.tmp_dir), bool(repo.config["core"].get("hardlink_lock")), _say)
        repo.lock = loop.patient(repo.lock)
        try:
            command.do_run()
        finally:
            clean_repos()  # copies of other repositories that stages import from
    return map(Path, loop.files.ranks)


def _level(options: argparse.Namespace) -> int:
    """Return the logging level that ``-q`` and ``-v`` mean to DVC."""
    if options.quiet:
        return logging.CRITICAL
    return (logging.INFO, logging.DEBUG, logging.DEBUG - 5)[min(options.verbose, 2)]


def _rebind_logs() -> None:
    """Let DVC log to this process's streams; a forked worker imported it with others."""
    for name in ("dvc", "dvc_objects", "dvc_data"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler):
                error = handler.level >= logging.WARNING
                handler.setStream(sys.stderr if error else sys.stdout)


def _plain(words: Sequence[str]) -> int:
    """Run plain ``dvc repro`` and return an exit code of ours."""
    from mlnb.reproduce.takeover import add_jobs

    own = argparse.ArgumentParser(prog="mlnb repro", add_help=False, allow_abbrev=False)
    add_jobs(own)
    _, rest = own.parse_known_args(words)
    code = subprocess.call([sys.executable, "-m", "dvc", "repro", *rest])
    # What DVC ends with: 254 for its command line, 252 for Ctrl-C, 251 and 253 for its set-up.
    return {0: 0, 251: 2, 252: 130, 253: 2, 254: 2}.get(code, 1)


def _say(text: str) -> None:
    print(f"mlnb: {text}", file=sys.stderr, flush=True)
