"""`mlnb repro`: the same as `dvc repro`, at the same time, and never stuck."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import pytest
from dvc.utils.serialize import modify_yaml, parse_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlnb.reproduce import lanes
from mlnb.reproduce.commands import is_ours
from mlnb.reproduce.lockfile import LockFiles
from mlnb.reproduce.parsing import Parses
from notebooks import parameters, write

# `left` is slower than `right` where SLOW is set, which a serial run must not wait for.
DIAMOND = """
stages:
  start:
    cmd: cat seed.txt > start.txt
    deps: [seed.txt]
    outs: [start.txt]
  left:
    cmd: >-
      . ./wait.sh; test -z "$SLOW" || wait_for right.txt;
      cat start.txt > left.txt; echo left >> left.txt
    deps: [start.txt]
    outs: [left.txt]
  right:
    cmd:
      - test ${ok} = yes || { echo no luck; exit 3; }
      - cat start.txt > right.txt; echo ${number} >> right.txt
    deps: [start.txt]
    params: [number]
    outs: [right.txt]
    metrics: []
  join:
    cmd: cat left.txt right.txt > join.txt
    deps: [left.txt, right.txt]
    outs: [join.txt: {cache: false}]
  other:
    cmd: cp seed.txt other.txt
    deps: [seed.txt]
    outs: [other.txt]
"""
# For the shell: wait for a file, not for ever.
WAIT = """
wait_for() {
    n=0
    until [ -e "$1" ]; do n=$((n + 1)); [ $n -lt "${PATIENCE:-600}" ] || exit 9; sleep 0.05; done
}
"""
SITE = Path(tempfile.gettempdir()) / "mlnb-test-site"


def environment(more: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Return an environment in which `mlnb` and `dvc` are found and no worker is started."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLNB_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(SITE), "MLNB_WARM": "0"}
    return {**kept, **own, **more}


def start(
    root: Path, *command: str, env: Mapping[str, str] = MappingProxyType({})
) -> subprocess.Popen[str]:
    """Start a command in ``root``, in a process group of its own."""
    return subprocess.Popen(
        command,
        cwd=root,
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )


def run(
    root: Path, *command: str, code: int = 0, env: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Run a command in ``root`` and return what it printed."""
    process = start(root, *command, env=env)
    said = output(process)
    assert process.returncode == code, f"{command} ended with {process.returncode}:\n{said}"
    return said


def output(process: subprocess.Popen[str]) -> str:
    """Return what ``process`` still prints; it ends soon, or all it started is killed."""
    timer = threading.Timer(120, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    try:
        return process.communicate()[0]
    finally:
        timer.cancel()


def make(root: Path, dvc: str, **texts: str) -> Path:
    """Make a project with git and DVC; ``texts`` are files by name without suffix."""
    root.mkdir(parents=True, exist_ok=True)
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    (root / "dvc.yaml").write_text(dvc)
    (root / "wait.sh").write_text(WAIT)
    (root / "seed.txt").write_text("seed\n")
    (root / "params.yaml").write_text(texts.get("params", "ok: yes_\nnumber: 1\n"))
    return root


def commit(root: Path, *command: str) -> None:
    """Run a command of git's and commit."""
    run(root, *command)
    run(root, "git", "-c", "user.name=n", "-c", "user.email=e@x", "commit", "-qm", "one")


def params(root: Path, *, ok: str = "yes", number: float = 1) -> None:
    """Write the parameters of the diamond."""
    (root / "params.yaml").write_text(f"ok: '{ok}'\nnumber: {number}\n")


def state(root: Path) -> dict[str, bytes]:
    """Return what a run leaves: dvc.lock, .gitignore, outputs, and DVC's whole cache."""
    kept = [*root.glob("*.txt"), *root.rglob("dvc.lock"), *root.rglob(".gitignore")]
    cache = [path for path in (root / ".dvc/cache").rglob("*") if path.is_file()]
    paths = [path for path in (*kept, *cache) if ".mlnb" not in path.parts]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def wait_until(path: Path) -> None:
    """Wait for a file that another process writes."""
    limit = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < limit, f"{path} never came"
        time.sleep(0.02)


def wait_for_line(process: subprocess.Popen[str], text: str) -> str:
    """Read what ``process`` prints up to a line that holds ``text``; return all of it."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it never said {text!r}, but:\n{said}")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two equal projects: one for `dvc repro`, one for `mlnb repro`."""
    folder = tmp_path_factory.mktemp("pair")
    return make(folder / "serial", DIAMOND), make(folder / "ours", DIAMOND)


def test_the_same_as_a_serial_run(pair: tuple[Path, Path]) -> None:
    """Lock, cache, run cache and .gitignore are those of `dvc repro`, run after run."""
    serial, ours = pair

    def both(*options: str, code: int = 0) -> str:
        run(serial, "dvc", "repro", *options, code=255 if code else 0)
        said = run(ours, "mlnb", "repro", "-j", "2", *options, code=code, env={"SLOW": "yes"})
        assert state(ours) == state(serial)
        return said

    for root in pair:
        params(root)
    first = both()
    # The control: they did end in another order, so that the order of dvc.lock was made.
    assert first.index("right  done") < first.index("left  done")
    assert "right.txt" in (ours / "dvc.lock").read_text()
    for root in pair:
        params(root, number=2.5e-7)
    assert "left  unchanged" in both()
    for root in pair:
        params(root, ok="no")
        (root / "seed.txt").write_text("another\n")
    failed = both("--keep-going", code=1)
    assert "join  skipped" in failed
    for root in pair:
        params(root)
        (root / "seed.txt").write_text("seed\n")
    assert "left  cached" in both()
    for root in pair:
        params(root, number=7)
    assert "join  done" in both("--force-downstream")
    assert "5 unchanged" in both()


def test_one_job_is_the_serial_run(pair: tuple[Path, Path]) -> None:
    """With one job, stages come in DVC's order and their output comes through."""
    serial, ours = pair
    said = [
        run(serial, "dvc", "repro", "--force"),
        run(ours, "mlnb", "repro", "-j", "1", "--force"),
    ]
    order = [[line for line in text.splitlines() if line.startswith("> ")] for text in said]
    assert order[0] == order[1]
    assert len(order[0]) == 6
    assert state(ours) == state(serial)


def test_options_are_those_of_dvc(pair: tuple[Path, Path]) -> None:
    """Targets and options go to DVC's own parser, anywhere on the line."""
    _, ours = pair
    dry = run(ours, "mlnb", "repro", "right", "--force", "--dry", "--single-item")
    assert "> cat start.txt > right.txt" in dry
    assert "start.txt" not in dry.replace("> cat start.txt > right.txt", "")
    assert "--force-downstream" in run(ours, "mlnb", "repro", "--help")
    assert "left" not in run(ours, "mlnb", "repro", "--glob", "ri*", "-j2")
    assert run(ours, "mlnb", "repro", "-q") == ""


@pytest.mark.parametrize(
    "words", [["--nonsense"], ["-j", "0"], ["nobody"]], ids=["option", "jobs", "target"]
)
def test_bad_input_ends_with_2(pair: tuple[Path, Path], words: list[str]) -> None:
    """What DVC does not know is bad input."""
    said = run(pair[1], "mlnb", "repro", *words, code=2)
    assert "Traceback" not in said


TOGETHER = """
stages:
  one:
    cmd: . ./wait.sh; touch one.flag; wait_for two.flag; echo 1 > one.txt
    outs: [one.txt]
  two:
    cmd: . ./wait.sh; touch two.flag; wait_for one.flag; echo 2 > two.txt
    outs: [two.txt]
"""


def test_independent_stages_run_at_the_same_time(tmp_path: Path) -> None:
    """Two stages that wait for each other come through together, and only together."""
    make(tmp_path, TOGETHER)
    run(tmp_path, "mlnb", "repro", "-j", "2", "two", "one")
    for flag in tmp_path.glob("*.flag"):
        flag.unlink()
    run(tmp_path, "mlnb", "repro", "-j", "1", "--force", code=1, env={"PATIENCE": "10"})


FAILING = """
stages:
  bad:
    cmd: . ./wait.sh; wait_for good.flag; echo before the end; ls nowhere.txt
    outs: [bad.txt]
  good:
    cmd: . ./wait.sh; touch good.flag; echo fine > good.txt
    outs: [good.txt]
  later:
    cmd: cp bad.txt later.txt
    deps: [bad.txt]
    outs: [later.txt]
"""


def test_a_failure_is_told_with_its_log(tmp_path: Path) -> None:
    """A failed stage shows the end of its log and where it is; what needs it is skipped."""
    make(tmp_path, FAILING)
    said = run(tmp_path, "mlnb", "repro", "-j", "2", code=1)
    assert "before the end" in said
    assert "later  skipped: needs bad" in said
    assert "bad failed: failed to run: . ./wait.sh" in said
    assert "(log: .mlnb/logs/bad.log)" in said
    assert "nowhere.txt" in (tmp_path / ".mlnb/logs/bad.log").read_text()
    # What ran beside it is kept.
    assert "good.txt" in (tmp_path / "dvc.lock").read_text()
    assert not (tmp_path / "later.txt").exists()


ENDLESS = """
stages:
  endless:
    cmd: test -n "$SHORT" || { echo $$ > endless.pid; sleep 300; }; echo done > endless.txt
    outs: [endless.txt]
  beside:
    cmd: test -n "$SHORT" || { echo $$ > beside.pid; sleep 300; }; echo done > beside.txt
    outs: [beside.txt]
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    """All stages end, DVC's locks are free, and both commands go on afterwards."""
    make(tmp_path, ENDLESS)
    process = start(tmp_path, "mlnb", "repro", "-j", "2")
    pids = []
    for name in ("endless.pid", "beside.pid"):
        wait_until(tmp_path / name)
        pids.append(int((tmp_path / name).read_text()))
    family = psutil.Process(process.pid).children(recursive=True)
    assert {child.pid for child in family} >= set(pids)
    process.send_signal(number)
    said = output(process)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not [child for child in family if child.is_running()]
    assert not any(json.loads((tmp_path / ".dvc/tmp/rwlock").read_text()).values())
    assert "2 done" in run(tmp_path, "mlnb", "repro", "-j", "2", env={"SHORT": "yes"})
    run(tmp_path, "dvc", "repro", "--force", env={"SHORT": "yes"})


HELD = """
stages:
  held:
    cmd: . ./wait.sh; echo once >> count; touch held.flag; wait_for go.flag; echo 1 > held.txt
    outs: [held.txt]
"""


def test_two_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """The second says for whom it waits, and finds the work done."""
    make(tmp_path, HELD)
    first = start(tmp_path, "mlnb", "repro", "-j", "2")
    wait_until(tmp_path / "held.flag")
    second = start(tmp_path, "mlnb", "repro", "-j", "2")
    wait_for_line(second, f"waiting for another mlnb repro (pid {first.pid})")
    (tmp_path / "go.flag").touch()
    output(first)
    assert first.returncode == 0
    assert "1 unchanged" in output(second)
    assert second.returncode == 0
    assert (tmp_path / "count").read_text() == "once\n"


def test_another_dvc_is_waited_for(tmp_path: Path) -> None:
    """While another process holds DVC's lock, or a stage's paths, we wait and say so."""
    make(tmp_path, HELD)
    (tmp_path / "go.flag").touch()
    lock = (tmp_path / ".dvc/tmp/lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    print(os.getpid(), file=lock, flush=True)
    entry = {"pid": os.getpid(), "cmd": "dvc repro"}
    (tmp_path / ".dvc/tmp/rwlock").write_text(
        json.dumps({"write": {str(tmp_path / "held.txt"): entry}})
    )
    process = start(tmp_path, "mlnb", "repro")
    wait_for_line(process, f"waiting for another DVC process (pid {os.getpid()})")
    lock.close()
    assert "dvc repro" in wait_for_line(process, "waiting: ") + wait_for_line(process, "PID")
    (tmp_path / ".dvc/tmp/rwlock").write_text("{}")
    assert "1 done" in output(process)
    assert process.returncode == 0


# A `dvc repro` that dies between the emptying of a file and its writing.
KILLED_AT_RWLOCK = """
import os, signal, sys, types, json
import dvc.rwlock
die = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
dvc.rwlock.json = types.SimpleNamespace(load=json.load, dump=die, JSONDecodeError=ValueError)
from dvc.cli import main
sys.exit(main(["repro", "--force"]))
"""
KILLED_AT_LOCK = """
import os, signal, sys
from dvc.utils.serialize import _yaml
whole = _yaml._dump
def die(data, stream):
    if stream.name.endswith("dvc.lock"):
        os.kill(os.getpid(), signal.SIGKILL)
    whole(data, stream)
_yaml._dump = die
from dvc.cli import main
sys.exit(main(["repro", "--force"]))
"""


def kill(root: Path, script: str) -> None:
    """Run a process that kills itself, and make sure that it did."""
    run(root, sys.executable, "-c", script, code=-signal.SIGKILL)


@pytest.fixture(scope="module")
def healed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that ran once by `dvc repro` and is committed."""
    root = make(tmp_path_factory.mktemp("healed"), DIAMOND)
    params(root)
    run(root, "dvc", "repro", "-q")
    commit(root, "git", "add", ".")
    return root


def test_a_torn_rwlock_is_removed(healed: Path) -> None:
    """DVC stops at it for ever; we remove it, say so, and both go on."""
    kill(healed, KILLED_AT_RWLOCK)
    assert (healed / ".dvc/tmp/rwlock").read_bytes() == b""
    assert "corrupted" in run(healed, "dvc", "repro", code=255)
    said = run(healed, "mlnb", "repro", "-j", "2")
    assert "removed" in said
    assert "rwlock" in said
    run(healed, "dvc", "repro")


def test_a_torn_lock_is_restored(healed: Path) -> None:
    """From the last good run or from git, whichever is newer; without either it is removed."""

    def tear() -> None:
        kill(healed, KILLED_AT_LOCK)
        assert (healed / "dvc.lock").read_bytes() == b""
        assert "validation failed" in run(healed, "dvc", "repro", code=255)

    whole = (healed / "dvc.lock").read_bytes()
    copy = healed / ".mlnb/repro/dvc.lock"
    for source in ("the last good run", "git's HEAD", ""):
        if source != "the last good run":
            copy.unlink()
        if not source:
            commit(healed, "git", "rm", "-q", "--cached", "dvc.lock")
        tear()
        said = run(healed, "mlnb", "repro", "-j", "2")
        assert (f"from {source}" if source else "removed dvc.lock, which was torn") in said
        assert (healed / "dvc.lock").read_bytes() == whole
        assert "up to date" in run(healed, "dvc", "repro")


def test_a_lock_that_is_being_merged_is_left_alone(healed: Path) -> None:
    """Conflict markers are a person's work, not a tear."""
    whole = (healed / "dvc.lock").read_text()
    conflict = whole + "<<<<<<< HEAD\n=======\n>>>>>>> theirs\n"
    (healed / "dvc.lock").write_text(conflict)
    try:
        assert "merge conflicts" in run(healed, "mlnb", "repro", code=2)
        assert (healed / "dvc.lock").read_text() == conflict
    finally:
        (healed / "dvc.lock").write_text(whole)


# Starts `mlnb repro` again and again with everything imported; each dies when it puts a new file
# in its place, later ones later. One that opens a lock file of DVC's to write into it ends with 99.
KILLED_AT_RENAME = """
import importlib, json, os, signal, sys
from pathlib import Path
from mlnb import cli
from mlnb.reproduce import PRELOAD
for name in PRELOAD:
    importlib.import_module(name)
replace = os.replace
def watch(event, args):
    if event == "open" and str(args[0]).endswith(("/rwlock", "/dvc.lock")) and args[2] & 3:
        os._exit(99)
def reproduce(at):
    left = [at]
    def die(old, new):
        left[0] -= 1
        os.kill(os.getpid(), signal.SIGKILL) if not left[0] else replace(old, new)
    os.replace = die
    sys.addaudithook(watch)
    os._exit(cli.main(["repro", "-j", "2", "--force", "-q"]))
ends = []
while not ends or ends[-1] == -signal.SIGKILL:
    Path("params.yaml").write_text(f"ok: 'yes'\\nnumber: {len(ends)}\\n")
    pid = os.fork() or reproduce(2 * len(ends) + 1)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    json.loads(Path(".dvc/tmp/rwlock").read_bytes())
    assert b"schema" in Path("dvc.lock").read_bytes()
print(json.dumps(ends))
"""


def test_we_tear_nothing_ourselves(healed: Path) -> None:
    """Killed at each write of a lock file in turn, we leave it whole, and go on the next time."""
    ends = json.loads(run(healed, sys.executable, "-c", KILLED_AT_RENAME).splitlines()[-1])
    assert ends[-1] == 0
    assert ends.count(-signal.SIGKILL) == len(ends) - 1 >= 10
    params(healed)
    run(healed, "dvc", "repro")


@pytest.mark.parametrize("seen", ["began later", "no Python"])
def test_a_number_that_another_process_has_now_holds_nothing(healed: Path, seen: str) -> None:
    """DVC believes in any process of that number; we look whether it can have been the one."""
    rwlock = healed / ".dvc/tmp/rwlock"
    stranger = subprocess.Popen(["sleep", "300"])
    try:
        entry = {"pid": stranger.pid, "cmd": "/somewhere/bin/dvc repro"}
        rwlock.write_text(json.dumps({"write": {str(healed / "start.txt"): entry}}))
        if seen == "began later":
            past = time.time() - 3600
            os.utime(rwlock, (past, past))
        assert "is busy" in run(healed, "dvc", "repro", "--force", "start", code=255)
        said = run(healed, "mlnb", "repro", "--force", "start")
        assert f"released what process {stranger.pid} held" in said
        run(healed, "dvc", "repro")
    finally:
        stranger.kill()
        stranger.wait()


STRANGE = """
import sys
import dvc.rwlock
old = dvc.rwlock.rwlock
dvc.rwlock.rwlock = lambda paths: old(paths)
from mlnb import cli
sys.exit(cli.main(["repro", "-j", "2", "--force", "start"]))
"""


def test_a_dvc_that_we_do_not_know_is_left_alone(healed: Path) -> None:
    """If what we replace looks otherwise, plain `dvc repro` does it, with a line that says so."""
    said = run(healed, sys.executable, "-c", STRANGE)
    assert "dvc.rwlock:rwlock differs" in said
    assert "Running stage 'start'" in said


GRID = """
stages:
  first:
    cmd: cp seed.txt first.txt
    deps: [seed.txt]
    outs: [first.txt]
  grid:
    matrix: {kind: [a, b], depth: [1, 2]}
    cmd: >-
      . ./wait.sh; test -z "$SLOW" || test ${item.kind} = b || wait_for b-${item.depth}.txt;
      cat first.txt > ${item.kind}-${item.depth}.txt
    deps: [first.txt]
    outs: ["${item.kind}-${item.depth}.txt"]
"""
SUB = """
stages:
  last:
    wdir: ..
    cmd: cat a-1.txt b-2.txt > last.txt
    deps: [a-1.txt, b-2.txt]
    outs: [last.txt]
"""


def test_matrix_and_subfolder(tmp_path: Path) -> None:
    """Templated stages and a dvc.yaml elsewhere are the same as in a serial run."""
    roots = [make(tmp_path / name, GRID) for name in ("serial", "ours")]
    for root in roots:
        (root / "sub").mkdir()
        (root / "sub/dvc.yaml").write_text(SUB)
    run(roots[0], "dvc", "repro", "-P")
    run(roots[1], "mlnb", "repro", "-P", "-j", "5", env={"SLOW": "yes"})
    assert state(roots[1]) == state(roots[0])
    assert (roots[1] / ".mlnb/logs/sub/last.log").is_file()
    assert (roots[1] / ".mlnb/logs/grid@a-1.log").is_file()
    assert "up to date" in run(roots[1] / "sub", "mlnb", "repro")


# Starts `mlnb repro` again and again with everything imported, kills each at a random moment
# with its whole process group, and prints how each ended.
KILLS = """
import importlib, json, os, random, signal, sys, time
from mlnb import cli
from mlnb.reproduce import PRELOAD
for name in PRELOAD:
    importlib.import_module(name)
moments, log = random.Random(int(sys.argv[1])), os.open("kills.log", os.O_CREAT | os.O_WRONLY)
def fork(*words):
    pid = os.fork()
    if pid == 0:
        os.dup2(log, 1), os.dup2(log, 2)
        os._exit(cli.main(["repro", "-j", "2", *words]))
    os.setpgid(pid, pid)
    return pid
began = time.monotonic()
os.waitpid(fork("--force"), 0)
whole, ends = time.monotonic() - began, []
while sum(end == -signal.SIGKILL for end in ends) < 20 and len(ends) < 60:
    pid = fork("--force")
    time.sleep(moments.uniform(0, whole))
    os.killpg(pid, signal.SIGKILL)  # a zombie takes it as well, and keeps its own end
    ends.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    if mended := os.waitstatus_to_exitcode(os.waitpid(fork(), 0)[1]):
        sys.exit(f"after {ends} it did not go on: {mended}")
print(json.dumps(ends))
"""


def test_random_kills_need_no_hand_work(healed: Path) -> None:
    """Twenty times killed with all it started, the next run always goes on to the same end."""
    run(healed, "dvc", "repro", "-q")
    before = state(healed)
    seed = str(time.time_ns() % 1000)
    said = run(healed, sys.executable, "-c", KILLS, seed)
    ends = json.loads(said.splitlines()[-1])
    assert ends.count(-signal.SIGKILL) == 20, f"seed {seed}: {ends}"
    assert "up to date" in run(healed, "dvc", "repro")
    assert {k: v for k, v in state(healed).items() if k in before} == before


def test_orphans_of_a_killed_run_are_ended(tmp_path: Path) -> None:
    """A stage that outlived its killed `mlnb repro` cannot write into the next one."""
    make(tmp_path, ENDLESS)
    process = start(tmp_path, "mlnb", "repro", "-j", "2", "endless")
    wait_until(tmp_path / "endless.pid")
    orphan = psutil.Process(int((tmp_path / "endless.pid").read_text()))
    process.kill()
    output(process)
    assert orphan.is_running()
    said = run(tmp_path, "mlnb", "repro", env={"SHORT": "yes"})
    assert "which a killed mlnb repro had left running" in said
    assert not psutil.wait_procs([orphan], timeout=10)[1]


NOTEBOOKS = """
stages:
  code:
    cmd: mlnb code
    deps: [notebooks]
    outs:
      - .mlnb/code/one.py: {cache: false, persist: true}
      - .mlnb/code/two.py: {cache: false, persist: true}
  one:
    cmd: mlnb run notebooks/one.ipynb
    deps: [.mlnb/code/one.py]
    params: [wait]
    outs: [one.txt, reports/executed/one.ipynb]
  two:
    cmd: mlnb run notebooks/two.ipynb
    deps: [.mlnb/code/two.py]
    params: [wait]
    outs: [two.txt, reports/executed/two.ipynb]
"""


def test_notebooks_go_to_the_warm_worker(tmp_path: Path) -> None:
    """Stages that run notebooks are forks of one worker, at the same time, and end with us."""
    make(tmp_path, NOTEBOOKS, params="wait: 0\n")
    for name, other in (("one", "two"), ("two", "one")):
        write(
            tmp_path / f"notebooks/{name}.ipynb",
            parameters(f"wait: int = 0\nout: 'Out' = '{name}.txt'"),
            "import pathlib, time",
            f"pathlib.Path('{name}.flag').touch()\n"
            f"while not pathlib.Path('{other}.flag').exists():\n    time.sleep(0.02)\n"
            "time.sleep(wait)",
            "pathlib.Path(out).write_text('done') and None",
        )
    with tempfile.TemporaryDirectory(prefix="mlnb-test-") as sockets:
        more = {"MLNB_WARM": "1", "XDG_RUNTIME_DIR": sockets}
        run(tmp_path, "mlnb", "code", env=more)
        try:
            assert "3 done" in run(tmp_path, "mlnb", "repro", "-j", "2", env=more)
            served = run(tmp_path, "mlnb", "worker", "log", env=more)
            assert {"run notebooks/one.ipynb: 0", "run notebooks/two.ipynb: 0"} <= {
                line.partition(" ")[2].partition(" after")[0] for line in served.splitlines()
            }
            assert "cell 5 of 5" in (tmp_path / ".mlnb/logs/one.log").read_text()
            run(tmp_path, "dvc", "repro")  # the control: nothing is left to do
            _interrupt_while_both_wait(tmp_path, more)
        finally:
            run(tmp_path, "mlnb", "worker", "stop", env=more)


def _interrupt_while_both_wait(root: Path, more: dict[str, str]) -> None:
    (root / "params.yaml").write_text("wait: 300\n")
    for name in ("one", "two"):
        (root / f"{name}.flag").unlink()
    process = start(root, "mlnb", "repro", "-j", "2", env=more)
    for name in ("one", "two"):
        wait_until(root / f"{name}.flag")
    # Handed over without a shell or another interpreter.
    words = [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])]
    assert not [line for line in words if line[-2:] == ["run", "notebooks/one.ipynb"]]
    process.send_signal(signal.SIGINT)
    said = output(process)
    assert process.returncode == 130, said
    (worker,) = json.loads(run(root, "mlnb", "worker", "status", "--json", env=more))
    assert worker["children"] == []
    assert not any(json.loads((root / ".dvc/tmp/rwlock").read_text()).values())


entries = st.dictionaries(
    st.sampled_from(["cmd", "params", "deps", "a: b", "1", "long"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    ),
    min_size=1,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), entries), min_size=1, max_size=5))
def test_entries_are_written_as_dvc_writes_them(updates: list[tuple[str, Any]]) -> None:
    """Whatever an entry holds, the file is what DVC makes by reading and writing all of it."""
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Path(folder, "theirs.lock"), Path(folder, "dvc.lock")
        files = LockFiles()
        files.ranks = {str(ours): {}}
        for name, entry in updates:
            for path, modify in ((theirs, modify_yaml), (ours, files.modify)):
                with modify(str(path)) as data:
                    if not data:
                        data.update({"schema": "2.0"})
                    data["stages"] = data.get("stages", {})
                    data["stages"].update({name: OrderedDict(entry)})
            assert ours.read_bytes() == theirs.read_bytes()


def test_a_lock_with_comments_is_written_as_dvc_does(tmp_path: Path) -> None:
    """What a person wrote into dvc.lock stays as DVC would leave it."""
    text = "schema: '2.0'\n# by hand\nstages:\n  b: {cmd: b}   # short\n  a:\n    cmd: a\n"
    theirs, ours = tmp_path / "theirs.lock", tmp_path / "dvc.lock"
    files = LockFiles()
    files.ranks = {str(ours): {"c": 1}}
    for path, modify in ((theirs, modify_yaml), (ours, files.modify)):
        path.write_text(text)
        with modify(str(path)) as data:
            data["stages"].update({"c": {"cmd": "c"}})
    assert ours.read_text() == theirs.read_text()
    assert "# by hand" in ours.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "a: 0o17\nb: 017\nc: 1:30\nd: yes\ne: 1e3\nf: 0x1F\ng: ~\nh: 1_000\n",
        "a: &x [1, 2]\nb: *x\n",
        "a: 2020-01-01\n",
        "1: one\n",
        "a: .nan\nb: .inf\n",
        "",
        "just text",
    ],
)
def test_a_kept_parse_is_the_parsers_own(tmp_path: Path, text: str) -> None:
    """What a second run gets is what the parser gives, to the types."""
    for _ in range(2):
        parses = Parses(tmp_path / "parsed.json", parse_yaml)
        assert repr(parses.parse(text, "x.yaml")) == repr(parse_yaml(text, "x.yaml"))
        parses.save()


def test_a_kept_parse_is_found_and_torn_ones_are_not(tmp_path: Path) -> None:
    """A text is parsed once for all runs; a file that is torn or of another format is no answer."""
    asked = []

    def parse(text: str, path: str, typ: str = "safe") -> Any:
        asked.append(text)
        return parse_yaml(text, path, typ)

    kept = tmp_path / "parsed.json"
    for spoil in ("", "", "{", '{"version": "0", "parsed": {}}', "[]"):
        if spoil:
            kept.write_text(spoil)
        parses = Parses(kept, parse)
        assert parses.parse("a: 1", "x.yaml") == {"a": 1}
        parses.save()
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("mlnb run notebooks/train.ipynb", True),
        ("mlnb run notebooks/train.ipynb -p rate=1e-3", True),
        ("mlnb run a.ipynb && rm -r models", False),
        ("mlnb run $NOTEBOOK", False),
        ("mlnb run 'a b.ipynb'", False),
        ("mlnb run *.ipynb", False),
        ("mlnb run =ipython", False),
        ("RATE=1 mlnb run a.ipynb", False),
        ("python -m mlnb.cli run a.ipynb", False),
        ("mlnb", False),
    ],
)
def test_only_plain_commands_of_ours_go_without_a_shell(line: str, ours: bool) -> None:
    """Whatever a shell would read otherwise than we do is left to a shell."""
    assert is_ours(line, environment()) is ours
    assert not is_ours(line, {"PATH": "/nowhere"})


def test_the_graph_is_drawn_beside_the_stages() -> None:
    """Lanes open at a stage that several read and join where they meet."""
    needs: Mapping[str, set[str]] = {
        "start": set(),
        "left": {"start"},
        "right": {"start"},
        "alone": set(),
        "join": {"left", "right", "start"},
    }
    assert lanes.draw(list(needs), needs) == [
        "●─╮  ",
        "● │  ",
        "│ ●  ",
        "│ │ ●",
        "●─╯  ",
    ]
    wide = {"root": set[str]()} | {f"leaf {i}": {"root"} for i in range(20)}
    assert set(lanes.draw(list(wide), wide)) == {"●"}
