"""Decisions that are killed, and whose system calls fail, at every system call that changes files;
and, with ``--together``, decisions of 8 processes at once.

    python benchmarks/promotions.py [--acts promote rollback approve] [--step 1]
    python benchmarks/promotions.py --together [0 5] [--each 25]

Judging is left out where a decision is killed or fails, or many promote: it takes long, and writes
nothing of the state. All else is real: git, SQLite, signing, the store, the published file. Prints
figures as JSON, and ends with 1 if one is not what it must be.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import promotion_acts as acts
import promotion_crowd as crowd
from nursery import Nursery
from promoted import published, state_of

from mlnb import gate, promotion, trust
from mlnb.project import find
from mlnb.promotion import publish

CALLS = "?rename,renameat,renameat2,?unlink,unlinkat,fsync,fdatasync,pwrite64,?link,?mkdir,mkdirat"
FAILING = f"{CALLS},write"
ERRORS = ("ENOSPC", "EIO", "EROFS")


def main() -> int:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--acts", nargs="+", default=["promote", "rollback", "approve"])
    parser.add_argument("--step", type=int, default=1, help="only each so-manieth system call")
    parser.add_argument("--kills", action="store_true", help="kills only, no failing calls")
    parser.add_argument(
        "--together", nargs="*", type=int, metavar="N",
        help="8 processes at once, no kills; a rollback after N of each: 0 (never) and 5",
    )  # fmt: skip
    parser.add_argument("--each", type=int, default=25, help="promotions of each of them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _alone(folder)
        second, third, split = _projects(folder)
        if options.together is not None:
            found = _together(second, folder, options.each, options.together or [0, 5])
            print(json.dumps(found, indent=2))
            return int(any(trial["faults"] for trial in found.values()))
        found = {"seconds": split}
        with Nursery("promotion_acts", folder) as nursery:
            for act in options.acts:
                source = second if act == "promote" else third
                print(f"{act} ...", file=sys.stderr, flush=True)
                place = folder / "trial"
                found[act] = _trials(nursery, act, source, place, options.step, not options.kills)
    print(json.dumps(found, indent=2))
    return int(any(found[act]["faults"] for act in options.acts))


def _alone(folder: Path) -> None:
    """Use no settings, keys or DVC folders of whoever runs this."""
    for name in ("MLNB_TOKEN", "MLNB_KEY", "JUPYTERHUB_USER", "GIT_AUTHOR_EMAIL"):
        os.environ.pop(name, None)
    os.environ |= {
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }


def _projects(folder: Path) -> tuple[Path, Path, dict[str, float]]:
    """Return a project before and after a second promotion, and how long that took."""
    second = acts.begun(folder / "second")
    trust.new_key("ada", second / "deployments/keys")
    os.chdir(second)
    acts.train(second, "binary-logistic")
    promotion.promote(find(), "production", reason="the first")
    acts.train(second, "binary-forest")
    third = Path(shutil.copytree(second, folder / "third"))
    os.chdir(third)
    began = time.perf_counter()
    gate.gate(find())
    judged = time.perf_counter()
    promotion.promote(find(), "production", reason="better")
    done = time.perf_counter()
    split = {"judging alone": judged - began, "promotion with judging": done - judged}
    return second, third, {name: round(each, 3) for name, each in split.items()}


def _together(source: Path, folder: Path, each: int, backs: list[int]) -> dict[str, Any]:
    """Let 8 processes promote, and roll back so often; return what came of it."""
    found = {}
    with Nursery("promotion_crowd", folder) as nursery:
        nursery.call("prepare", str(source))
        for back in backs:
            name = f"a rollback after {back} promotions" if back else "promotions only"
            print(f"{name} ...", file=sys.stderr, flush=True)
            root = Path(shutil.copytree(source, folder / f"together{back}"))
            histories = folder / f"histories{back}"
            histories.mkdir()
            began = time.perf_counter()
            found[name] = crowd.together(nursery, root, histories, 8, each, back)
            found[name]["seconds"] = round(time.perf_counter() - began, 1)
    return found


def _trials(
    nursery: Nursery, act: str, source: Path, root: Path, step: int, failing: bool
) -> dict[str, Any]:
    """Let each system call kill, or fail; return how many did what, and what was wrong."""
    outcomes: collections.Counter[str] = collections.Counter()
    faults = []
    kills = [
        (f"{call}:signal=KILL:when={k}", CALLS)
        for call, k in _points(nursery, act, CALLS, source, root)
    ]
    fails = [
        (f"{call}:error={error}:when={k}", FAILING)
        for call, k in (_points(nursery, act, FAILING, source, root) if failing else ())
        for error in ERRORS
    ]
    for inject, calls in [*kills[::step], *fails[::step]]:
        shutil.copytree(source, root)
        death, _ = nursery.traced(calls, act, str(root), inject=inject)
        killed = "KILL" in inject
        if (death.code != -9) if killed else (death.code not in (0, 1, 2)):
            faults.append(f"{inject}: {death}")
        try:
            at = _sound(root)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            faults.append(f"{inject}: then {error!r}")
        else:
            outcomes[f"{'killed' if killed else f'failed, exit code {death.code}'}: {at}"] += 1
        shutil.rmtree(root)
    return {
        "kills": len(kills[::step]),
        "failures": len(fails[::step]),
        "outcomes": dict(outcomes),
        "faults": faults,
    }


def _points(
    nursery: Nursery, act: str, calls: str, source: Path, root: Path
) -> list[tuple[str, int]]:
    shutil.copytree(source, root)
    points = nursery.points(calls, act, str(root))
    shutil.rmtree(root)
    return points


def _sound(root: Path) -> str:
    """Let the next command run; return where the alias is, after all that must agree does."""
    project = find(root)
    promotion.models(project)
    state = state_of(root)
    at = state.aliases()["production"]
    if not state.verify().sound or not promotion.audit(project).sound:
        raise ValueError("the journal does not verify")
    if published(root).version != at:
        raise ValueError("the statement is not on the version")
    if not publish.is_published(project, publish.last_moves(state)["production"]):
        raise ValueError("the last move is not published")
    approvals = [row for row in state.journal() if row.kind == "approve"]
    return f"version {at}, {len(approvals)} approvals"


if __name__ == "__main__":
    sys.exit(main())
