"""Drives ``dvc repro`` in this process, with a few of DVC's functions replaced while it lasts.

Everything that decides what a stage is, whether it changed and what becomes of its outputs is
DVC's own code. Replaced are the loop over the stages, the moment at which a command runs, the
rwlock, and how YAML files are read and written. ``unexpected`` says whether this DVC is one that
these fit.
"""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from mlnb.reproduce.lockfile import dump_whole
from mlnb.reproduce.locks import PathLock
from mlnb.reproduce.loop import Loop
from mlnb.reproduce.parsing import Parses

# What is replaced and what is called, with its parameters.
_EXPECTED = {
    "dvc.commands.repro:add_parser": "subparsers parent_parser",
    "dvc.commands.repro:CmdRepro.run": "self",
    "dvc.cli.command:CmdBase.do_run": "self",
    "dvc.repo:Repo._reset": "self",
    "dvc.repo.reproduce:_reproduce": (
        "stages graph force_downstream on_error force repro_fn kwargs"
    ),
    "dvc.repo.reproduce:_reproduce_stage": "stage kwargs",
    "dvc.repo.reproduce:_get_upstream_downstream_nodes": "graph node",
    "dvc.repo.reproduce:_raise_error": "exc stages",
    "dvc.stage.run:unlocked_repo": "f",
    "dvc.stage.run:cmd_run": "stage dry run_env",
    "dvc.stage.run:prepare_kwargs": "stage run_env",
    "dvc.stage.run:get_executable": "",
    "dvc.stage.run:display_command": "cmd",
    "dvc.stage.run:_warn_if_fish": "executable",
    "dvc.stage.run:_make_cmd": "executable cmd",
    "dvc.stage.run:_enforce_cmd_list": "cmd",
    "dvc.rwlock:rwlock": "tmp_dir fs cmd read write hardlink",
    "dvc.dvcfile:modify_yaml": "path fs",
    "dvc.utils.strictyaml:parse_yaml": "text path typ",
    "dvc.utils.serialize._yaml:parse_yaml": "text path typ",
    "dvc.utils.serialize._yaml:_dump": "data stream",
    "dvc.utils.serialize._yaml:_dump_data": "path data dumper fs dumper_args",
    "dvc.utils.serialize._yaml:dumps_yaml": "d",
    "dvc.utils.serialize._yaml:parse_yaml_for_update": "text path",
}


def unexpected() -> str:
    """Return the first of DVC's functions that is not as we know it; nothing if all are."""
    for place, parameters in _EXPECTED.items():
        module, _, names = place.partition(":")
        try:
            found: Any = import_module(module)
            for name in names.split("."):
                found = getattr(found, name)
            known = list(inspect.signature(found).parameters)
        except (ImportError, AttributeError, TypeError, ValueError):
            return place
        if known != parameters.split():
            return place
    return ""


def options_of(words: Sequence[str]) -> argparse.Namespace:
    """Return what DVC's own parser of ``repro`` makes of ``words``."""
    from dvc.commands import repro

    shared = argparse.ArgumentParser(add_help=False)
    level = shared.add_mutually_exclusive_group()
    level.add_argument("-q", "--quiet", action="count", default=0, help="Be quiet.")
    level.add_argument("-v", "--verbose", action="count", default=0, help="Be verbose.")
    add_jobs(shared)
    top = argparse.ArgumentParser(prog="mlnb")
    repro.add_parser(top.add_subparsers(), shared)
    options = top.parse_args(["repro", *words])
    options.cd, options.wait_for_lock = os.curdir, False
    return options


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` our one option."""
    parser.add_argument(
        "-j",
        "--jobs",
        type=_count,
        default=_cores(),
        metavar="N",
        help="Stages that may run at the same time (default: the cores there are, %(default)s)."
        " With 1, their output comes through; else it goes to .mlnb/logs.",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text!r}")
    return int(text)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def replaced(loop: Loop, parsed: Path) -> Iterator[None]:
    """Have DVC do it our way while the block lasts.

    Args:
        loop: the way.
        parsed: the file in which parsed texts are kept.
    """
    from dvc import dvcfile, rwlock
    from dvc.repo import reproduce
    from dvc.stage import run
    from dvc.utils import strictyaml
    from dvc.utils.serialize import _yaml

    parses = Parses(parsed, _yaml.parse_yaml)
    ours = [
        (rwlock, "rwlock", PathLock(rwlock.rwlock, loop.pause, loop.tell, loop.hurried)),
        (dvcfile, "modify_yaml", loop.files.modify),
        (_yaml, "_dump_data", dump_whole),
        (_yaml, "parse_yaml", parses.parse),
        (strictyaml, "parse_yaml", parses.parse),
    ]
    if not loop.plain:
        ours += [
            (reproduce, "_reproduce", loop.reproduce),
            (run, "unlocked_repo", loop.unlocked),
        ]
    with ExitStack() as stack:
        stack.callback(parses.save)
        for module, name, function in ours:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, function)
        yield
