"""The physical limit: the same cells in a forked process that has everything imported.

No notebook, no tool, no protocol: a process imports what the work imports, forks, and the child
executes the script. What that costs is the work itself; nobody who runs each stage in a process of
its own can go below. ``Forks`` talks to such a process, which is this file run as a program.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import resource
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import BenchmarkError, Cost

Job = dict[str, Any]


class Forks:
    """A process that forks for each piece of work.

    Args:
        environment: its variables.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def learn(self, *jobs: Job) -> None:
        """Import once and for all what ``jobs`` import, also what they import while they run."""
        for job in jobs:
            self._ask({"learn": job})

    def run(self, *jobs: Job, at_once: int = 1) -> Cost:
        """Run ``jobs`` and return what all of them cost.

        Raises:
            BenchmarkError: a job failed.
        """
        answer = self._ask({"run": jobs, "at_once": at_once})
        return Cost(answer["wall"], answer["cpu"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)

    def _ask(self, order: Mapping[str, Any]) -> dict[str, float]:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"failed": "died"}')
        if "failed" in answer:
            raise BenchmarkError(f"a forked control failed:\n{answer['failed']}")
        return answer


def scripts(
    folder: Path, names: Sequence[str], words: Sequence[str], environment: Mapping[str, str]
) -> Job:
    """Return the job of running scripts of ``folder`` one after another in one process."""
    return {
        "folder": str(folder),
        "environment": dict(environment),
        "scripts": [str(Path("scripts") / f"{name}.py") for name in names],
        "words": list(words),
    }


def call(folder: Path, function: str, words: Sequence[str], environment: Mapping[str, str]) -> Job:
    """Return the job of calling ``MODULE:NAME`` with the words of a command line."""
    made = {"folder": str(folder), "environment": dict(environment), "function": function}
    return {**made, "words": list(words)}


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        order = json.loads(line)
        answer = _learn(order["learn"]) if "learn" in order else _run(**order)
        print(json.dumps(answer), file=answers, flush=True)


def _run(run: Sequence[Job], at_once: int) -> dict[str, Any]:
    waiting, running, cpu, started = list(run), 0, 0.0, time.perf_counter()
    while waiting or running:
        while waiting and running < at_once:
            _fork(waiting.pop(0))
            running += 1
        _, status, used = os.wait4(-1, 0)
        running -= 1
        cpu += _seconds(used)
        if status:
            return {"failed": f"wait status {status}"}
    return {"wall": time.perf_counter() - started, "cpu": cpu}


def _learn(job: Job) -> dict[str, Any]:
    reading, writing = os.pipe()
    process = _fork(job, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        names = pipe.read().split()
    if status := os.waitpid(process, 0)[1]:
        return {"failed": f"wait status {status}"}
    for name in names:
        # Some modules are made at run time and cannot be imported by name.
        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(name)
    if "mlflow.utils.requirements_utils" in sys.modules:
        # Which package a module is from is the same for every run, and takes long to look up.
        sys.modules["mlflow.utils.requirements_utils"]._init_modules_to_packages_map()
    return {}


def _fork(job: Job, told: int | None = None) -> int:
    """Return the id of a child that does ``job`` and writes the modules it imported to ``told``."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        before = set(sys.modules)
        os.chdir(job["folder"])
        os.environ.update(job["environment"])
        _do(job)
        code = 0
        if told is not None:
            with os.fdopen(told, "w") as pipe:
                pipe.write("\n".join(name for name in sys.modules if name not in before))
    except BaseException:  # noqa: BLE001 - the child must end here, whatever happens
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _do(job: Job) -> None:
    if "function" in job:
        module, _, name = job["function"].partition(":")
        if getattr(importlib.import_module(module), name)(job["words"]):
            raise BenchmarkError(f"{job['function']} {job['words']} failed")
        return
    for script in job["scripts"]:
        sys.argv = [script, *job["words"]]
        source = Path(script).read_text()
        exec(compile(source, script, "exec"), {"__name__": "__main__"})


def _seconds(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    _serve()
