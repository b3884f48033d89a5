"""What a run leaves to be read later: the notebook's metadata for reports, and the run record."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlnb import files, modules
from mlnb.contract import Parameter
from mlnb.execute import Outcome
from mlnb.notebook import Notebook
from mlnb.run.plan import Plan

FORMAT = 1
_FIRST_PART = re.compile(rb"^[^/.,\r\n]+", re.MULTILINE)


def described(plan: Plan, outcome: Outcome, cause: str) -> dict[str, Any]:
    """Return the executed notebook with what a report needs to know of the run.

    Nothing in it depends on when or where the run was, so that DVC sees the same bytes again.
    """
    document: dict[str, Any] = outcome.document
    root = plan.project.root
    document["metadata"]["mlnb"] = {
        **_known(plan),
        "status": "failed" if cause else "passed",
        "cause": cause,
        "failed_cell": None if outcome.failed_cell is None else outcome.failed_cell - 1,
        "inputs": {path: files.digest_tree(root / path) for path in plan.inputs()},
        "outputs": {
            path: files.digest_tree(root / path)
            for path in plan.written()
            if (root / path).exists()
        },
        "environment": {"python": platform.python_version(), "packages": _packages(plan.source)},
    }
    return document


def unfinished(plan: Plan, document: dict[str, Any]) -> dict[str, Any]:
    """Return the notebook of a run that is still going, with what can be said of it."""
    document["metadata"]["mlnb"] = {
        **_known(plan),
        "status": "unfinished",
        "cause": "The run had come this far; if it is not going any more, it was killed.",
    }
    return document


def _known(plan: Plan) -> dict[str, Any]:
    """Return what is known of a run before it starts."""
    return {
        "format": FORMAT,
        "stage": plan.name,
        "notebook": plan.project.relative(plan.source.path),
        "parameters": [_parameter(plan, p) for p in plan.contract.parameters],
        "code": plan.mirror.digest,
    }


def keep(
    plan: Plan,
    outcome: Outcome,
    cause: str,
    copy: str,
    started: datetime.datetime,
    environment: Mapping[str, str],
) -> None:
    """Keep when, how long and how the run went: what differs each time, and DVC never sees.

    The digest of the executed ``copy`` tells whether what lies there later is from this run.
    """
    files.write_json(
        plan.project.root / ".mlnb" / "runs" / f"{plan.name}.json",
        {
            "format": FORMAT,
            "stage": plan.name,
            "notebook": plan.project.relative(plan.source.path),
            "execution": environment["MLNB_EXECUTION"],
            "status": "failed" if cause else "passed",
            "cause": cause,
            "copy": files.digest_bytes(copy.encode()),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(outcome.seconds, 3),
            "cells": {str(k): round(v, 3) for k, v in outcome.cell_seconds.items()},
        },
    )


def serialise(document: Mapping[str, Any]) -> str:
    """Return a notebook as text: sorted keys and fixed spacing, the same bytes each time."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _parameter(plan: Plan, p: Parameter) -> dict[str, Any]:
    given = plan.given.get(p.name)
    return {
        "name": p.name,
        "kind": p.kind,
        "type": p.annotation or type(p.default).__name__,
        "value": _plain(plan.values[p.name]),
        "default": None if p.required or p.template else _plain(p.default),
        "help": p.help,
        "origin": given.origin if given else "notebook",
    }


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it."""
    return json.loads(json.dumps(value, default=str))


def _packages(source: Notebook) -> dict[str, str]:
    """Return the versions of the installed packages that the notebook imports itself."""
    names = {
        item.module.split(".")[0]
        for cell in source.code
        if (tree := modules.parse(cell)) is not None
        for item in modules.imports(tree)
    }
    wanted = {os.fsencode(name) for name in names - sys.stdlib_module_names}
    found = {}
    for folder, modules_of in installed().items():
        if wanted & modules_of:
            head = (folder / "METADATA").read_bytes()
            name, version = (_header(head, key) for key in (b"Name", b"Version"))
            found[name] = version
    return dict(sorted(found.items()))


@functools.cache
def installed() -> dict[Path, frozenset[bytes]]:
    """Return the folder of each distribution and the top-level modules that it brings.

    importlib.metadata answers the same, but parses every line that every distribution lists.
    """
    found = (path for place in sys.path for path in Path(place).glob("*.dist-info/METADATA"))
    folders = (path.parent for path in found)
    return {folder: frozenset(_FIRST_PART.findall(_listed(folder))) for folder in folders}


def _header(metadata: bytes, key: bytes) -> str:
    """Return a header of a distribution's metadata: both that we want stand in every one, once."""
    found = re.search(rb"^%s: *(.*?)\s*$" % key, metadata, re.MULTILINE)
    return found[1].decode() if found else ""


def _listed(folder: Path) -> bytes:
    """Return the files of a distribution, a line each; of one in development, its modules."""
    parts = []
    for name in ("top_level.txt", "RECORD"):
        with contextlib.suppress(FileNotFoundError):
            parts.append((folder / name).read_bytes())
    return b"\n".join(parts)
