"""The bundle in a fresh process: how long it takes for a row, and what it answers.

``python -m mlnb.gates.fresh BUNDLE DIGEST`` is that process. It has one thread, and nothing in it
but what opening and asking the bundle needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlnb.gates.verdicts import GateError

if TYPE_CHECKING:
    from mlnb.bundle import Bundle
    from mlnb.gates.evidence import Evidence

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
_ROUNDS = 12
_PATIENCE = 300


@dataclass(frozen=True)
class Fresh:
    """What a fresh process found.

    Attributes:
        milliseconds: of the processor for one row: the 95th percentile of the golden requests, each
            at its best.
        wall: the same by the clock on the wall, which other processes disturb.
        apart: largest difference of an answer from the golden one.
        requests: how many were asked.
    """

    milliseconds: float
    wall: float
    apart: float
    requests: int


_known: dict[str, Fresh] = {}


def known(bundle: str) -> Fresh | None:
    """Return what a fresh process said of the bundle with a digest, if one was asked."""
    return _known.get(bundle)


def measured(evidence: Evidence) -> Fresh:
    """Return what a fresh process says of the candidate's bundle; asked once for each bundle.

    Raises:
        GateError: the process failed.
    """
    bundle = evidence.bundle
    if bundle.digest not in _known:
        command = [sys.executable, "-P", "-m", __name__, str(bundle.path), bundle.digest]
        environment = {**os.environ, **dict.fromkeys(_THREADS, "1")}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_PATIENCE, env=environment
            )
        except subprocess.TimeoutExpired as error:
            raise GateError(f"the bundle has not answered within {_PATIENCE} s") from error
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise GateError(f"the bundle fails in a fresh process: {last[0]}")
        _known[bundle.digest] = Fresh(**json.loads(done.stdout.splitlines()[-1]))
    return _known[bundle.digest]


def measure(bundle: Bundle) -> Fresh:
    """Return what this process, fresh or not, says of ``bundle``."""
    import numpy as np

    requests, answers = bundle.golden()
    given = bundle.predict(requests)
    apart = float(np.abs(given - answers).max())
    singles = [requests.iloc[[place]] for place in range(len(requests))]
    for single in singles:
        bundle.predict(single)
    # Of each row the best of all rounds: what is above it came from other processes.
    took, clock = np.empty((2, _ROUNDS, len(singles)))
    for round_ in range(_ROUNDS):
        for place, single in enumerate(singles):
            started, began = time.thread_time(), time.perf_counter()
            bundle.predict(single)
            took[round_, place] = time.thread_time() - started
            clock[round_, place] = time.perf_counter() - began
    best, wall = (float(np.quantile(each.min(axis=0), 0.95)) for each in (took, clock))
    return Fresh(best * 1e3, wall * 1e3, apart, len(requests))


def _main() -> None:
    import dataclasses

    from mlnb.bundle import open_bundle

    path, digest = sys.argv[1:]
    bundle = open_bundle(path, expected=digest, allow_marks=True)
    found = measure(bundle)
    print("\n" + json.dumps(dataclasses.asdict(found)))  # below whatever a library has printed


if __name__ == "__main__":
    _main()
