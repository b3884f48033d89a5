"""Many who promote at once in one project, with the whole verb; and what must agree afterwards."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from nursery import Nursery
from promoted import published, state_of
from promotion_acts import PRODUCTION

from mlnb import gate, promotion, trust
from mlnb.bundle import open_bundle
from mlnb.project import Project, find
from mlnb.promotion import PromotionError, decide, publish
from mlnb.promotion.candidate import Candidate
from mlnb.state import ConflictError
from mlnb.trust.published import nothing


def prepare(root: str) -> None:
    """Load all that a promotion needs, so that the children of a nursery find it."""
    os.chdir(root)
    promotion.promote(find(), "production", reason="tests", dry_run=True)


def promote_many(root: str, history: str, name: str, each: str, back: str) -> None:
    """Promote new candidates until so many promotions are made, and write down what came of each.

    A candidate is a bundle that differs in a parameter. It is as if each were judged well: judging
    takes far longer than all the rest, and writes nothing of the state.

    Args:
        root: the project's.
        history: file to write to.
        name: of who promotes, in what the candidates differ.
        each: how many promotions.
        back: after how many of them to roll back once; 0 for never.
    """
    os.chdir(root)
    project, lies = find(), _candidates(name)
    for done in range(1, int(each) + 1):
        with Path(history).open("a") as file:
            while not _promoted(project, next(lies), file):
                pass  # it was overtaken by a newer one
            if int(back) and done % int(back) == 0:
                _decided(promotion.rollback, project, file)


def _candidates(name: str) -> Iterator[Candidate]:
    project = find()
    judgement, found = gate.read(project), open_bundle(Path(gate.gates(project).bundle))
    for number in itertools.count():
        parameters = {**found.manifest.parameters, "trial": f"{name}-{number}"}
        manifest = dataclasses.replace(found.manifest, parameters=parameters)
        bundle = dataclasses.replace(found, manifest=manifest)
        yield Candidate(bundle, judgement, bundle.digest.removeprefix("sha256:"), commit="")


def _promoted(project: Project, candidate: Candidate, file: TextIO) -> bool:
    """Promote a candidate until it is, or is older than what runs."""
    vars(decide)["judged"] = lambda project, *, write: candidate
    while not _decided(promotion.promote, project, file):
        state = state_of(project.root)
        mine = [v.number for v in state.versions() if v.bundle == candidate.bundle.digest]
        if mine and mine[0] < state.aliases()["production"]:
            return False
    return True


def _decided(verb: Any, project: Project, file: TextIO) -> bool:
    """Decide once, and write down the move, or how it was refused."""
    try:
        change = verb(project, "production", reason="tests")
    except (ConflictError, PromotionError) as error:
        print("refused", re.sub(r"\d+", "N", error.what).partition(":")[0], file=file)
        return False
    print("moved", change.entry.number, change.version, file=file)
    return True


def together(
    nursery: Nursery, root: Path, folder: Path, processes: int, each: int, back: int = 0
) -> dict[str, Any]:
    """Let processes begin at once, and return what came of it; ``faults`` is empty if all is well.

    Args:
        nursery: of this module.
        root: a project in which something is in production.
        folder: for what the processes write down.
        processes: how many.
        each: promotions of each.
        back: after how many of its promotions each rolls back once.
    """
    histories = [folder / f"history{n}" for n in range(processes)]
    before = state_of(root).journal()
    for number, history in enumerate(histories):
        nursery.fork("promote_many", str(root), str(history), str(number), str(each), str(back))
    deaths = nursery.go()
    lines = [line.split(" ", 1) for path in histories for line in path.read_text().splitlines()]
    said = sorted(tuple(map(int, rest.split())) for what, rest in lines if what == "moved")
    moves = [row for row in state_of(root).journal() if row.kind in publish.MOVES]
    new = [row for row in moves if row.number > len(before)]
    kept = {row.number: _statement(root, row) for row in moves}
    promoted = [row for row in new if row.kind == "promote"]
    found = {
        "promotions": len(promoted),
        "rollbacks": len(new) - len(promoted),
        "versions": len(state_of(root).versions()),
        "commits": len(_committed(root)),
        "refused": dict(collections.Counter(rest for what, rest in lines if what == "refused")),
        "lost": len(set(said) ^ {(row.number, row.version) for row in new}),
        "too few": processes * each - len(promoted),
        "backward": sum(row.version <= (row.previous or 0) for row in promoted),
        "torn": sum(b.previous != a.version for a, b in itertools.pairwise(moves)),
        "counters": sum(
            kept[row.number].counter != n or kept[row.number].version != row.version
            for n, row in enumerate(moves, start=1)
        ),
        "published backward": sum(
            later <= earlier for earlier, later in itertools.pairwise(_committed(root))
        ),
    }
    report = promotion.audit(find(root))
    last = publish.last_moves(state_of(root))["production"]
    wrong = {
        "died": [death for death in deaths if death.code],
        "audit": report.faults,
        "not the last move": not publish.is_published(find(root), last),
        "not in git": _git(root, "status", "--porcelain"),
        "version": published(root).version != state_of(root).aliases()["production"],
        **{
            name: found[name]
            for name in ("lost", "too few", "backward", "torn", "counters", "published backward")
        },
    }
    return {**found, "faults": [f"{name}: {what}" for name, what in wrong.items() if what]}


def _statement(root: Path, row: Any) -> trust.Statement:
    project = find(root)
    data = publish.kept(project, row.statement).read_bytes()
    return trust.verify(data, publish.keys(project), environment=row.alias)


def _committed(root: Path) -> list[int]:
    """Return the counters of what was committed, the oldest first."""
    keys, found = publish.keys(find(root)), []
    for commit in _git(root, "log", "--reverse", "--format=%H", "--", PRODUCTION).split():
        text = _git(root, "show", f"{commit}:{PRODUCTION}")
        if text != nothing("production"):
            found.append(trust.verify(text.encode(), keys, environment="production").counter)
    return found


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout
