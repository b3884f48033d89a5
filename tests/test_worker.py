"""The warm worker: real workers of small projects, their life and their faults."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from notebooks import Cell, project, write

BIN = Path(sys.executable).parent


class Place:
    """A project with workers of its own."""

    def __init__(self, root: Path, sockets: Path, settings: str = "") -> None:
        self.root = project(root)
        (root / "pyproject.toml").write_text(f"[tool.mlnb]\n{settings}")
        (root / "notebooks").mkdir(exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLNB_", "COV_"))}
        self.environment = {
            **kept,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "XDG_RUNTIME_DIR": str(sockets),
        }

    def notebook(self, *cells: Cell | str, name: str = "nb") -> None:
        """Write a notebook and its mirror."""
        write(self.root / f"notebooks/{name}.ipynb", *cells)
        self.call("code")

    def popen(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [BIN / "mlnb", *words],
            cwd=self.root,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def call(self, *words: str, code: int = 0, **variables: str) -> str:
        """Run a command, and return what it said."""
        process = self.popen(*words, **variables)
        said = "".join(process.communicate(timeout=120))
        assert process.returncode == code, said
        return said

    def run(self, name: str = "nb", *, code: int = 0, **variables: str) -> str:
        """Run a notebook, and return what it said."""
        return self.call("run", f"notebooks/{name}.ipynb", code=code, **variables)

    def workers(self) -> list[dict[str, Any]]:
        """Return what the workers say of themselves."""
        found: list[dict[str, Any]] = json.loads(self.call("worker", "status", "--json"))
        return found

    def worker(self) -> dict[str, Any]:
        """Return what the only worker says of itself."""
        (found,) = self.workers()
        return found

    def text(self, cell: int = 0, name: str = "nb") -> str:
        """Return what a cell of the executed copy printed."""
        copy = json.loads((self.root / f"reports/executed/{name}.ipynb").read_bytes())
        return "".join(o.get("text", "") for o in copy["cells"][cell]["outputs"])


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    """A short private folder: the paths of sockets may not be long."""
    with tempfile.TemporaryDirectory(prefix="mlnb-test-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, sockets: Path) -> Iterator[Place]:
    """A project whose worker most tests share."""
    made = Place(tmp_path_factory.mktemp("project"), sockets)
    made.notebook("print('hello')", name="quick")
    made.notebook("print('hello')")
    made.run()
    yield made
    made.call("worker", "stop")


@pytest.fixture
def fresh(tmp_path: Path, sockets: Path) -> Iterator[Callable[..., Place]]:
    """Make a project for a test alone; its workers end with the test."""
    made: list[Place] = []

    def make(settings: str = "") -> Place:
        made.append(Place(tmp_path, sockets, settings))
        return made[-1]

    yield make
    for one in made:
        one.call("worker", "stop")


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until ``condition`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


# --- life ---------------------------------------------------------------------------------------


def test_runs_share_one_worker(place: Place) -> None:
    """The first run has started a worker, the next one uses it, and it says what it is."""
    before = place.worker()
    place.run()
    after = place.worker()
    assert after["pid"] == before["pid"]
    assert after["served"] == before["served"] + 1
    assert after["memory"]["proportional"] > 10e6
    assert f"worker {after['pid']}: up" in place.call("worker", "status")
    assert "run notebooks/nb.ipynb: 0 after" in place.call("worker", "log")


def test_two_first_runs_end_with_one_worker(fresh: Callable[..., Place]) -> None:
    """Runs that start at the same moment, before there is a worker, get the same one."""
    place = fresh()
    for name in ("a", "b", "c"):
        place.notebook("1", name=name)
    processes = [place.popen("run", f"notebooks/{name}.ipynb") for name in ("a", "b", "c")]
    said = ["".join(p.communicate(timeout=120)) for p in processes]
    assert [p.returncode for p in processes] == [0, 0, 0], said
    assert place.worker()["served"] == 3


def test_the_worker_leaves_when_idle(fresh: Callable[..., Place]) -> None:
    """A worker that nobody needs ends by itself and takes its socket along."""
    place = fresh("worker-idle = 0.5")
    place.notebook("1")
    place.run()
    pids = [found["pid"] for found in place.workers()]
    wait_for(lambda: all(map(gone, pids)))
    assert place.workers() == []
    place.run()


def test_a_killed_worker_leaves_no_trace_that_matters(fresh: Callable[..., Place]) -> None:
    """After `kill -9` of the worker its socket lies there; the next run starts another."""
    place = fresh()
    place.notebook("1")
    place.run()
    old = place.worker()["pid"]
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: gone(old))
    said = place.run()
    assert "cold" not in said
    assert place.worker()["pid"] != old


def test_switched_off_there_is_no_worker(fresh: Callable[..., Place]) -> None:
    """With MLNB_WARM=0, and for a real kernel, no worker is started, and nobody is told."""
    place = fresh()
    place.notebook("print(1)")
    assert "worker" not in place.run(MLNB_WARM="0")
    assert "worker" not in place.call("run", "notebooks/nb.ipynb", "--kernel", "python3")
    assert place.workers() == []


def test_help_is_not_a_matter_for_workers(fresh: Callable[..., Place]) -> None:
    """`mlnb run --help` starts no worker."""
    place = fresh()
    assert "usage: mlnb run" in place.call("run", "--help")
    assert place.workers() == []


def test_without_a_private_folder_runs_are_cold_and_say_so(place: Place) -> None:
    """A folder for sockets that others may read is refused, in one line, and the run goes on."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / f"mlnb-{os.getuid()}").mkdir(mode=0o777)
        (Path(name) / f"mlnb-{os.getuid()}").chmod(0o777)
        said = place.run(XDG_RUNTIME_DIR=name)
    assert said.count("no warm worker") == 1
    assert "not a private folder" in said


# --- replaced when what it knows is no longer true ------------------------------------------------


def test_variables_that_libraries_read_at_import_get_a_worker_of_their_own(place: Place) -> None:
    """The number of OpenMP threads is fixed at import, so another number is another worker."""
    place.notebook("import os; print(os.environ.get('OMP_NUM_THREADS'))", name="threads")
    place.run("threads", OMP_NUM_THREADS="1")
    assert place.text(name="threads") == "1\n"
    assert len(place.workers()) == 2
    place.run("threads")
    assert place.text(name="threads") == "None\n"


def test_newly_installed_packages_replace_the_worker(place: Place) -> None:
    """When a package comes or goes, the worker that does not know of it goes."""
    place.run()
    before = {found["pid"] for found in place.workers()}
    marker = Path(psutil.__file__).parents[1] / f"mlnb-test-{os.getpid()}"
    marker.mkdir()
    try:
        place.run()
        assert {found["pid"] for found in place.workers()} - before
        assert "the installed packages have changed" in place.call("worker", "log")
    finally:
        marker.rmdir()


def test_a_notebook_that_imports_more_replaces_the_worker(fresh: Callable[..., Place]) -> None:
    """What notebooks import, as their mirrors tell, is what the worker has imported."""
    place = fresh()
    place.notebook("1")
    place.run()
    before = place.worker()["pid"]
    code = "import sys\nprint('wave' in sys.modules)\nimport wave"
    place.notebook(code)
    place.run()
    assert place.worker()["pid"] != before
    assert place.text() == "True\n"


def test_local_modules_are_never_imported_beforehand(place: Place) -> None:
    """A module of the project may change between two runs of one worker."""
    module = place.root / "notebooks/mine.py"
    module.write_text("value = 1")
    place.notebook("import sys\nprint('mine' in sys.modules)\nimport mine\nprint(mine.value)")
    place.run()
    assert place.text() == "False\n1\n"
    pids = {found["pid"] for found in place.workers()}
    module.write_text("value = 22")
    place.run()
    assert place.text() == "False\n22\n"
    assert {found["pid"] for found in place.workers()} == pids


def test_what_children_import_later_is_imported_beforehand(place: Place) -> None:
    """The worker learns what a function imports when it is called; local modules stay out."""
    (place.root / "notebooks/later.py").write_text("")
    place.notebook(
        "import importlib, sys\nprint('wave' in sys.modules, 'later' in sys.modules)\n"
        "for name in ('wav' + 'e', 'late' + 'r'):\n    importlib.import_module(name)",
        name="later",
    )
    place.run("later")
    first = place.text(name="later")
    wait_for(lambda: any("wave" in found["preloaded"] for found in place.workers()))
    place.run("later")
    assert (first, place.text(name="later")) == ("False False\n", "True False\n")


def test_a_new_worker_imports_what_an_older_one_has_proven(fresh: Callable[..., Place]) -> None:
    """What children were seen to import is there from the start, while the first ones run."""
    place = fresh()
    place.notebook("import importlib\nimportlib.import_module('wav' + 'e')", name="later")
    place.notebook(
        "import os, time\nopen('on', 'w')\nwhile not os.path.exists('go'): time.sleep(0.01)"
    )
    place.run("later")
    wait_for(lambda: "wave" in place.worker()["preloaded"])
    place.call("worker", "stop")
    process = place.popen("run", "notebooks/nb.ipynb")
    wait_for(lambda: (place.root / "on").exists() and "wave" in place.worker()["preloaded"])
    assert len(place.worker()["children"]) == 1
    (place.root / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == 0


# --- safe to fork ---------------------------------------------------------------------------------

FITS = """
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
x = np.random.default_rng(0).normal(size=(2000, 10))
HistGradientBoostingClassifier(max_iter=3).fit(x, x[:, 0] > 0)
"""


THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=[1e6], daemon=True).start()
"""


def test_threads_of_models_work_in_children(fresh: Callable[..., Place]) -> None:
    """Fits with OpenMP threads do not hang, as no such thread was started in the worker."""
    place = fresh()
    place.notebook(
        f"{FITS}\nimport xgboost\n"
        "xgboost.XGBClassifier(n_estimators=3, n_jobs=2).fit(x, x[:, 0] > 0)\nprint('fitted')"
    )
    place.run()
    assert place.text() == "fitted\n"
    pid = place.worker()["pid"]
    loaded = Path(f"/proc/{pid}/maps").read_text()
    assert "libgomp" in loaded
    assert "libxgboost" in loaded
    place.run()
    assert place.worker()["pid"] == pid
    assert psutil.Process(pid).num_threads() <= _known_threads(pid)


def _known_threads(pid: int) -> int:
    """Return how many threads OpenBLAS and jemalloc start when loaded, and the main one."""
    names = [p.read_text().strip() for p in Path(f"/proc/{pid}/task").glob("*/comm")]
    maps = Path(f"/proc/{pid}/maps").read_text().split()
    copies = {Path(path).name for path in maps if "openblas" in path}
    cores = len(os.sched_getaffinity(0))
    return 1 + sum(n.startswith("jemalloc") for n in names) + len(copies) * (cores - 1)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (FITS, "starts threads"),
        (THREAD, "starts threads"),
        ("print('welcome')", "writes or warns"),
        ("import warnings\nwarnings.warn('old')", "writes or warns"),
        ("from IPython import get_ipython\nshell = get_ipython()", "which notebook"),
        ("raise RuntimeError('broken')", "RuntimeError: broken"),
    ],
    ids=["fits a model", "thread", "prints", "warns", "asks", "fails"],
)  # fmt: skip
def test_a_package_that_does_more_than_define_is_left_to_the_notebook(
    fresh: Callable[..., Place], tmp_path: Path, code: str, why: str
) -> None:
    """What would hang or mislead a fork is found when it is imported, and done without."""
    place = fresh('preload = ["doing_more"]')
    (tmp_path / "path").mkdir()
    (tmp_path / "path/doing_more.py").write_text(f"{code}\n")
    place.environment["PYTHONPATH"] = str(tmp_path / "path")
    place.notebook(f"{FITS}\nprint('fitted')")
    assert "cold" not in place.run()
    assert place.text() == "fitted\n"
    assert why in place.worker()["left_out"]["doing_more"]


# --- what a child has of its own ------------------------------------------------------------------


def test_a_child_has_what_its_client_had(place: Place) -> None:
    """Environment, working directory, mask, limits, time zone and streams are the client's."""
    place.notebook(
        "import os, resource, sys, time\n"
        "print(os.environ['COLOUR'], os.getcwd(), time.tzname[0])\n"
        "mask = os.umask(0); print(oct(mask), resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
        "print(len(sys.argv), os.getpgrp() == os.getpid(), sys.stdin.read() == '')"
    )
    script = f"umask 027; ulimit -c 0; exec {BIN}/mlnb run notebooks/nb.ipynb"
    environment = place.environment | {"COLOUR": "teal", "TZ": "Asia/Tokyo"}
    subprocess.run(["sh", "-c", script], cwd=place.root, env=environment, check=True)
    lines = place.text().splitlines()
    assert lines[0] == f"teal {place.root} JST"
    assert lines[1] == "0o27 0"
    assert lines[2] == "1 True True"


def test_children_draw_different_random_numbers(place: Place) -> None:
    """Two runs of one worker do not share a stream of random numbers; seeds still hold."""
    place.notebook(
        "import random, numpy as np\nprint(random.random(), np.random.rand())",
        "random.seed(1); np.random.seed(1)\nprint(random.random(), np.random.rand())\nhash('a')",
    )
    place.run()
    drawn, seeded = place.text(0), place.text(1)
    place.run()
    assert not set(place.text(0).split()) & set(drawn.split())
    assert place.text(1) == seeded


def test_output_streams_while_the_notebook_runs(place: Place) -> None:
    """What a cell prints is on the terminal before the cell has ended."""
    place.notebook(
        "import os, time\nprint('now')\nwhile not os.path.exists('go'): time.sleep(0.01)"
    )
    process = place.popen("run", "notebooks/nb.ipynb")
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    (place.root / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_run_does_not_hold_on_to_its_terminal(place: Place) -> None:
    """A pipe from a command that started a worker ends with the command."""
    place.call("worker", "stop")
    command = f"{BIN}/mlnb run notebooks/quick.ipynb | cat"
    subprocess.run(
        ["sh", "-c", command], cwd=place.root, env=place.environment, check=True, timeout=60
    )
    assert len(place.workers()) == 1


# --- faults ---------------------------------------------------------------------------------------

WAITS = (
    "import os, subprocess, time\n"
    "p = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
    "open('pids', 'w').write(f'{os.getpid()} {os.getppid()} {p.pid} ')\n"
    "time.sleep(1000)"
)


@pytest.fixture
def waiting(place: Place) -> tuple[subprocess.Popen[str], list[int]]:
    """A run that waits in its only cell: the client, and the pids of cell, child and subprocess."""
    place.notebook(WAITS, name="waits")
    (place.root / "pids").unlink(missing_ok=True)
    client = place.popen("run", "notebooks/waits.ipynb")

    def pids() -> list[int]:
        path = place.root / "pids"
        found = path.read_text().split(" ") if path.exists() else []
        return [int(pid) for pid in found[:-1]]

    wait_for(lambda: len(pids()) == 3)
    return client, pids()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_to_the_client_ends_the_run(
    place: Place, waiting: tuple[subprocess.Popen[str], list[int]], number: int
) -> None:
    """Ctrl-C and SIGTERM reach the notebook; the run says where it was, and nothing is left."""
    client, pids = waiting
    client.send_signal(number)
    said = "".join(client.communicate(timeout=30))
    assert client.returncode == 130, said
    assert "interrupted in cell 1" in said
    wait_for(lambda: all(map(gone, pids)))


def test_the_death_of_the_client_ends_the_run(
    place: Place, waiting: tuple[subprocess.Popen[str], list[int]]
) -> None:
    """A client that is killed cannot say so; its run ends all the same, with all it started."""
    client, pids = waiting
    client.kill()
    client.communicate()
    wait_for(lambda: all(map(gone, pids)))
    assert not (place.root / "reports/executed/waits.ipynb").exists()


@pytest.mark.parametrize("which", [0, 1], ids=["notebook", "child"])
def test_a_killed_child_is_a_failed_run(
    place: Place, waiting: tuple[subprocess.Popen[str], list[int]], which: int
) -> None:
    """`kill -9` of the notebook or of what looks after it fails the run; the worker goes on."""
    client, pids = waiting
    worker = place.workers()[0]["pid"]
    os.kill(pids[which], signal.SIGKILL)
    said = "".join(client.communicate(timeout=30))
    assert client.returncode == 1
    assert "killed by SIGKILL" in said
    wait_for(lambda: all(map(gone, pids)))
    place.run("quick")
    assert worker in {found["pid"] for found in place.workers()}


def test_the_death_of_the_worker_makes_the_run_cold(
    place: Place, waiting: tuple[subprocess.Popen[str], list[int]]
) -> None:
    """A client whose worker is killed says so in one line and runs the notebook itself."""
    client, pids = waiting
    place.notebook("print('cold and well')", name="waits")
    (worker,) = {p.pid for pid in pids[1:2] for p in psutil.Process(pid).parents()[:1]}
    os.kill(worker, signal.SIGKILL)
    said = "".join(client.communicate(timeout=60))
    assert client.returncode == 0, said
    assert said.count("no warm worker (the worker died)") == 1
    assert place.text(name="waits") == "cold and well\n"
    wait_for(lambda: all(map(gone, pids[:2])))


def test_stop_ends_what_runs(
    place: Place, waiting: tuple[subprocess.Popen[str], list[int]]
) -> None:
    """`mlnb worker stop` ends the worker and the run in it."""
    client, pids = waiting
    workers = [found["pid"] for found in place.workers()]
    assert "stopped" in place.call("worker", "stop")
    assert client.wait(timeout=30) == 130
    client.communicate()
    wait_for(lambda: all(map(gone, [*pids, *workers])))


def test_a_crash_in_native_code_does_not_reach_the_worker(place: Place) -> None:
    """A segfault ends its run, with what it had printed; the worker serves the next."""
    place.notebook("print('before')", "import ctypes; ctypes.string_at(0)", name="crash")
    assert "SIGSEGV" in place.run("crash", code=1)
    copy = json.loads((place.root / "reports/failed/crash.ipynb").read_bytes())
    assert copy["cells"][0]["outputs"][0]["text"] == "before\n"
    pid = place.worker()["pid"]
    place.run("quick")
    assert place.worker()["pid"] == pid


def test_a_worker_that_cannot_fork_goes_on(fresh: Callable[..., Place], tmp_path: Path) -> None:
    """When the system has no process left, the client runs cold, and the worker lives."""
    place = fresh('preload = ["full"]')
    (tmp_path / "path").mkdir()
    (tmp_path / "path/full.py").write_text(
        "import os\nfork = os.fork\n"
        "def refuse():\n"
        "    if os.path.exists('full'):\n"
        "        raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        "    return fork()\n"
        "os.fork = refuse\n"
    )
    place.environment["PYTHONPATH"] = str(tmp_path / "path")
    place.notebook("1")
    place.run()
    pid = place.worker()["pid"]
    (place.root / "full").touch()
    assert "no warm worker (cannot fork: Resource temporarily unavailable)" in place.run()
    (place.root / "full").unlink()
    assert "cold" not in place.run()
    assert place.worker()["pid"] == pid


def test_a_stranger_at_the_socket_does_no_harm(place: Place) -> None:
    """Garbage, silence and half a request end their connection, and nothing else."""
    import socket

    place.run("quick")
    (found,) = Path(place.environment["XDG_RUNTIME_DIR"]).rglob("*.sock")
    for body in (b"", b"\0\0\0\4junk", b"\0\0\1\0half", b"\xff" * 64):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(found))
            link.sendall(body)
    assert "cold" not in place.run("quick")
    assert found.stat().st_mode & 0o777 == 0o600
    assert found.parent.stat().st_mode & 0o777 == 0o700
