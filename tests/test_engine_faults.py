"""Runs in process that die, are killed, or leave processes behind; cold and in a warm worker.

Whatever happens: no process is left, what lies in `reports` is true, and the next run works.
Every process that a notebook starts here is written down by itself, so that a test can tell that
it was there, and that it is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_worker import BIN, Place, wait_for

from notebooks import Cell, write

LEFT = '''
import os, subprocess, time
from pathlib import Path

def note(pid):
    """Write down a process by its number and when it started."""
    start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    with open("pids", "a") as file:
        file.write(f"{pid} {start}\\n")

def sleeper():
    note(subprocess.Popen(["sleep", "1000"], start_new_session=True, env={}).pid)

def daemon():
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            os.closerange(0, 100)
            time.sleep(1000)
        note(pid)
        os._exit(0)
    os.wait()

def crowd(size):
    for _ in range(size):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            time.sleep(1000)
        note(pid)
'''
START = (
    "import left, os, time\nleft.note(os.getpid())\nleft.sleeper()\nleft.daemon()\nprint('before')"
)
STARTED = 3

MOMENTS = {
    "writing": """
file = open('out.txt', 'w')
if os.path.exists('again'):
    file.write('whole')
else:
    file.write('half')
    file.flush()
    print('seen')
    time.sleep(1000)
file.close()
""",
    "printing": """
number = 0
while not os.path.exists('again'):
    number += 1
    print('line', number, 'seen' if number > 20 else '')
    time.sleep(0.005)
open('out.txt', 'w').write('whole')
""",
}
"""What a notebook is doing when it is killed; it is not when there is a file `again`."""


class Runs(Place):
    """A project whose one notebook is run again and again."""

    def start(self, *cells: Cell | str) -> subprocess.Popen[str]:
        """Start to run a notebook of these cells."""
        write(self.root / "notebooks/nb.ipynb", *cells, kernel=None)
        return self.popen("run", "notebooks/nb.ipynb")

    def failed(self) -> dict[str, Any]:
        """Return the notebook of the run that failed, which did not pass."""
        assert not (self.root / "reports/executed/nb.ipynb").exists()
        found: dict[str, Any] = json.loads((self.root / "reports/failed/nb.ipynb").read_bytes())
        assert found["metadata"]["mlnb"]["status"] in ("failed", "unfinished")
        return found

    def kept(self) -> str:
        """Return what is kept so far of a run that goes on."""
        try:
            return (self.root / "reports/failed/nb.ipynb").read_text("utf-8")
        except FileNotFoundError:
            return ""

    def noted(self) -> list[int]:
        """Return the processes that were written down."""
        try:
            lines = (self.root / "pids").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [int(line.split()[0]) for line in lines]

    def alive(self) -> list[int]:
        """Return those of them that are still there."""
        lines = [line.split() for line in (self.root / "pids").read_text().splitlines()]
        return [int(pid) for pid, started in lines if _lives(int(pid), started)]

    def end(self, process: subprocess.Popen[str]) -> str:
        """Wait for a command and return what it said."""
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return out + err

    def forget(self) -> None:
        """Remove what earlier runs left."""
        for name in ("pids", "again", "out.txt"):
            (self.root / name).unlink(missing_ok=True)
        for path in self.root.glob("reports/*/nb.*"):
            path.unlink()


def _lives(pid: int, started: str) -> bool:
    with contextlib.suppress(OSError, psutil.Error):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[19] == started and fields[0] not in "ZX"
    return False


@pytest.fixture(scope="module", params=["cold", "warm"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """A project whose runs are cold, or go to a worker of its own."""
    with tempfile.TemporaryDirectory(prefix="mlnb-test-") as sockets:
        made = Runs(tmp_path_factory.mktemp(request.param), Path(sockets))
        (made.root / "left.py").write_text(LEFT)
        if request.param == "cold":
            made.environment["MLNB_WARM"] = "0"
        made.end(made.start("1"))
        assert len(made.workers()) == (request.param == "warm")
        yield made
        made.call("worker", "stop")


@pytest.fixture
def runs(place: Runs) -> Runs:
    """The project, as no run had been there."""
    place.forget()
    return place


@pytest.mark.parametrize("victim", ["command", "notebook", "notebook's parent"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_leaves_the_truth_and_nothing_else(
    runs: Runs, moment: str, victim: str
) -> None:
    """`kill -9` in the middle of an output: what was printed is kept, and the next run passes."""
    process = runs.start(START, MOMENTS[moment])
    wait_for(lambda: "seen" in runs.kept())
    assert len(runs.alive()) == STARTED
    notebook = psutil.Process(runs.noted()[0])
    {
        "command": psutil.Process(process.pid),
        "notebook": notebook,
        "notebook's parent": notebook.parents()[0],
    }[victim].kill()
    said = runs.end(process)
    if victim == "command":
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 1
        assert "killed by SIGKILL" in said
    wait_for(lambda: not runs.alive())
    first, second = runs.failed()["cells"]
    assert first["outputs"][0]["text"] == "before\n"
    assert "seen" in second["outputs"][0]["text"]
    (runs.root / "again").touch()
    _passes(runs)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_at_any_moment_hinders_no_other(runs: Runs, seed: int) -> None:
    """`kill -9` of the command at a random moment: all that lies there is whole and true."""
    process = runs.start(START, *["print('x' * 1000)\ntime.sleep(0.02)"] * 50, MOMENTS["writing"])
    delay = random.Random(seed).uniform(0.05, 2.5)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(delay)
    process.kill()
    runs.end(process)
    assert process.returncode == -signal.SIGKILL
    if runs.noted():
        wait_for(lambda: not runs.alive())
    assert not (runs.root / "reports/executed/nb.ipynb").exists()
    if runs.kept():
        runs.failed()
    (runs.root / "again").touch()
    _passes(runs)


def _passes(runs: Runs) -> None:
    """The notebook runs again as if nothing had happened, and leaves nothing."""
    (runs.root / "pids").unlink(missing_ok=True)
    runs.call("run", "notebooks/nb.ipynb")
    copy = json.loads((runs.root / "reports/executed/nb.ipynb").read_bytes())
    assert copy["metadata"]["mlnb"]["status"] == "passed"
    assert (runs.root / "out.txt").read_text() == "whole"
    assert not runs.kept()
    assert len(runs.noted()) == STARTED
    wait_for(lambda: not runs.alive())


DEATHS = {
    "segfault": ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
    "abort": ("os.abort()", "killed by SIGABRT"),
    "os._exit(0)": ("os._exit(0)", "exit code 0 in cell 2"),
    "SIGTERM": ("os.kill(os.getpid(), 15); time.sleep(60)", "killed by SIGTERM"),
    "out of memory": (
        "import resource as r\nr.setrlimit(r.RLIMIT_AS, (2 << 30,) * 2)\nbytearray(8 << 30)",
        "raised MemoryError",
    ),
    "out of memory, little by little": (
        "import resource as r\nr.setrlimit(r.RLIMIT_AS, (2 << 30,) * 2)\nkept = []\n"
        "while True: kept.append(bytearray(1 << 20))",
        "raised MemoryError",
    ),
}


@pytest.mark.parametrize(("source", "cause"), DEATHS.values(), ids=DEATHS.keys())
def test_a_notebook_that_dies_fails_its_run(runs: Runs, source: str, cause: str) -> None:
    """However a process ends before its last cell, the run says so and takes the rest along."""
    process = runs.start(START, f"print('last words')\n{source}", "open('after', 'w')")
    said = runs.end(process)
    assert process.returncode == 1
    assert cause in said
    assert len(runs.noted()) == STARTED
    wait_for(lambda: not runs.alive())
    cells = runs.failed()["cells"]
    assert cells[0]["outputs"][0]["text"] == "before\n"
    assert cells[1]["outputs"][0]["text"] == "last words\n"
    assert cells[2]["execution_count"] is None
    assert not (runs.root / "after").exists()


LOCK = """
import fcntl
lock = open('lock', 'w')
fcntl.flock(lock, fcntl.LOCK_EX)
"""
REMAINS: dict[str, tuple[str, int]] = {
    "threads and tasks": (
        "import asyncio, threading\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "ThreadPoolExecutor().submit(time.sleep, 1000)\n"
        "task = asyncio.create_task(asyncio.sleep(1000))",
        3,
    ),
    "a subprocess": ("left.note(__import__('subprocess').Popen(['sleep', '1000']).pid)", 4),
    "processes of multiprocessing at work and at a lock": (
        "import multiprocessing as mp\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "lock = mp.Lock()\nlock.acquire()\n"
        "process = mp.Process(target=lock.acquire)\nprocess.start()\nleft.note(process.pid)\n"
        "pool = ProcessPoolExecutor(2)\njobs = [pool.submit(time.sleep, 1000) for _ in '12']\n"
        "[left.note(pid) for pid in pool._processes];",
        6,
    ),
    "a lock that a child holds": (LOCK + "left.sleeper()\nleft.daemon()\nleft.crowd(1)", 6),
    "a hundred processes": ("left.crowd(100)", 103),
    "something that hangs at exit": ("import atexit\natexit.register(time.sleep, 1000);", 3),
}


@pytest.mark.parametrize(("source", "count"), REMAINS.values(), ids=REMAINS.keys())
def test_what_a_notebook_leaves_behind_ends_with_it(runs: Runs, source: str, count: int) -> None:
    """The run passes, ends though something would go on for long, and nothing survives it."""
    process = runs.start(START, source, "print('end')")
    said = runs.end(process)
    assert process.returncode == 0, said
    assert runs.text(2) == "end\n"
    assert len(runs.noted()) == count
    wait_for(lambda: not runs.alive())
    if (runs.root / "lock").exists():
        with (runs.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("source", ["input('name? ')", "import getpass\ngetpass.getpass()"])
def test_a_question_fails_though_there_is_an_answer(runs: Runs, source: str) -> None:
    """`input()` fails clearly, and does not take what stands on the command's standard input."""
    write(runs.root / "notebooks/nb.ipynb", "print('before')", source, kernel=None)
    reader, writer = _pipe_with("an answer\n")
    with reader:
        done = subprocess.run(
            [BIN / "mlnb", "run", "notebooks/nb.ipynb"],
            cwd=runs.root,
            env=runs.environment,
            stdin=reader,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        writer.close()
        assert reader.read() == "an answer\n"
    assert done.returncode == 1
    assert "cell 2 raised StdinNotImplementedError" in done.stderr
    assert runs.failed()["cells"][1]["outputs"][0]["ename"] == "StdinNotImplementedError"


def _pipe_with(text: str) -> tuple[Any, Any]:
    """Return both ends of a pipe in which ``text`` lies."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    return os.fdopen(reader), os.fdopen(writer, "w")
