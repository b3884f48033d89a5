"""Counting how often a test set was used for a decision.

Each candidate that is judged on a test set, and taken or left for it, tells a little of the set;
after many, the best of them is the one that fits its noise (Dwork and others 2015, Science 349).
So the candidates are kept, by the digest of the test rows, in a file that is committed.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlnb.files import write_json
from mlnb.gates.language import WearLimit
from mlnb.gates.verdicts import GateError, Wear

FORMAT = 1


def used(root: Path, limit: WearLimit, test_set: str, candidate: str) -> Wear:
    """Count that ``candidate`` is judged on ``test_set``, once, and return how worn that is.

    Args:
        root: the project's.
        limit: where it is counted, and from which number on is too many.
        test_set: digest of the test rows.
        candidate: digest of the bundle.

    Raises:
        GateError: the file is none of ours.
    """
    path = root / limit.file
    with _alone(root / ".mlnb" / "test-sets.lock"):
        content = _read(path, limit.file)
        judged = content["sets"].setdefault(test_set, [])
        if candidate not in judged:
            judged.append(candidate)
            write_json(path, content)
    return Wear(test_set, judged.index(candidate) + 1, limit.warn)


def _read(path: Path, where: str) -> dict[str, Any]:
    if not path.exists():
        return {"format": FORMAT, "sets": {}}
    try:
        content = json.loads(path.read_bytes())
        number, sets = content["format"], content["sets"]
    except (ValueError, KeyError, TypeError) as error:
        raise GateError(
            "does not count uses of test sets",
            where=where,
            remedy=f"Mend it, or `git checkout -- {where}`.",
        ) from error
    if number != FORMAT:
        raise GateError(f"has format {number!r}; this mlnb reads format {FORMAT}", where=where)
    lists = sets.values() if isinstance(sets, dict) else [None]
    if not all(isinstance(each, list) for each in lists):
        raise GateError("does not count uses of test sets", where=where)
    return {"format": number, "sets": sets}


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
