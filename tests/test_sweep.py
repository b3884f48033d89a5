"""Sweeps on a real DVC project, with real processes that are really killed.

Commands run in forks of one process that has imported what `mlnb` needs, as in a warm worker. What
notebooks did is told by what they wrote to a file outside, and what is in a store by sqlite3.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlnb import edits, files, project, sweep
from mlnb.edits import EditError, NewValues
from mlnb.errors import MlnbError
from mlnb.sweep import Request
from mlnb.sweep.record import FAILED, FINISHED, RUNNING, Record, Spec, SweepError, Trial, create
from mlnb.sweep.sampling import propose
from mlnb.sweep.space import Choices, Key, Range, SpaceError, grid, parse, size
from notebooks import parameters, write

REPOSITORY = Path(__file__).parent.parent

DVC_YAML = """
stages:
  code:
    cmd: mlnb code
    deps: [notebooks]
    outs:
      - .mlnb/code/prepare.py: {cache: false, persist: true}
      - .mlnb/code/train.py: {cache: false, persist: true}
      - .mlnb/code/evaluate.py: {cache: false, persist: true}
  prepare:
    cmd: mlnb run notebooks/prepare.ipynb
    deps: [.mlnb/code/prepare.py]
    params: [prepare]
    outs: [data/points.csv, reports/executed/prepare.ipynb]
    metrics:
      - reports/metrics/prepare.json: {cache: false}
  train:
    cmd: mlnb run notebooks/train.ipynb
    deps: [.mlnb/code/train.py, data/points.csv]
    params: [train]
    outs: [models/model.json, reports/executed/train.ipynb]
  weigh:
    cmd: wc -c < models/model.json > models/size.txt
    deps: [models/model.json]
    outs: [models/size.txt]
  evaluate:
    cmd: mlnb run notebooks/evaluate.ipynb
    deps: [.mlnb/code/evaluate.py, data/points.csv, models/model.json, models/size.txt]
    params: [evaluate]
    outs: [reports/executed/evaluate.ipynb]
    metrics:
      - reports/metrics/evaluate.json: {cache: false}
  track:
    cmd: mlnb track
    deps:
      - reports/metrics/evaluate.json
      - reports/executed/prepare.ipynb
      - reports/executed/train.ipynb
      - reports/executed/evaluate.ipynb
    outs: [reports/candidate.json]
"""

PARAMS_YAML = """# What the experiment is made of.
prepare: {rows: 40}

train:
  degree: 1      # of the polynomial
  ridge: 1e-3    # how much it is held back
  kind: plain    # plain, or what should go wrong
  unread: 1

evaluate:
  folds: 2
other: 7
"""

PREPARE = """
import numpy as np
rng = np.random.default_rng(0)
x = rng.uniform(-1, 1, rows)
np.savetxt(points, np.c_[x, np.sin(3 * x) + rng.normal(0, 0.1, rows)], delimiter=",")
open(metrics, "w").write(f'{{"rows": {rows}}}')
"""

TRAIN = """
import json, os, signal, numpy as np
with open(os.environ["SWEEP_TOLD"], "a") as told:
    told.write(f"train {degree} {ridge} {kind} {os.getpid()}\\n")
if "SWEEP_GATE" in os.environ and kind == "plain":
    with open(os.environ["SWEEP_GATE"], "w") as gate:   # a pipe: waits for somebody to read it
        gate.write(f"{os.getpid()} {os.getppid()}\\n")
    signal.pause()
if kind == "input":
    open(points, "a").write("0,0\\n")
if kind == "stray":
    open("data/stray.txt", "w").write("stray")
if kind == "raise":
    raise ValueError("it went wrong")
if kind == "segfault":
    os.kill(os.getpid(), signal.SIGSEGV)
if kind == "trial":
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
table = np.loadtxt(points, delimiter=",")
basis = np.vander(table[::2, 0], degree + 1)
fit = np.linalg.solve(basis.T @ basis + ridge * np.eye(degree + 1), basis.T @ table[::2, 1])
json.dump(fit.tolist(), open(model, "w"))
"""

EVALUATE = """
import json, os, numpy as np
with open(os.environ["SWEEP_TOLD"], "a") as told:
    told.write(f"evaluate {os.getpid()}\\n")
table = np.loadtxt(points, delimiter=",")[1::2]
error = np.polyval(json.load(open(model)), table[:, 0]) - table[:, 1]
json.dump({"rmse": float(np.sqrt((error ** 2).mean()))}, open(metrics, "w"))
"""

# A process that has everything imported, forks, and runs commands in its forks.
WARM = f"""
import contextlib, importlib, json, os, signal, sys, threading
sys.path.insert(0, {str(REPOSITORY)!r})
from mlnb import cli, execute, run, sweep
execute.load()
for name in sweep.PRELOAD:
    module, _, function = name.partition(":")
    found = importlib.import_module(module)
    getattr(found, function)() if function else None

def command(asked):
    os.setpgid(0, 0)
    os.chdir(asked["root"])
    os.environ.update(asked["environment"])
    out = os.open(asked["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    fork = os.fork
    def checked():
        assert threading.active_count() == 1, f"a process forks with {{threading.enumerate()}}"
        return fork()
    os.fork = checked
    return cli.main(asked["words"])

for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        code = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
        print(code, flush=True)
        continue
    pid = os.fork()
    if not pid:
        code = 99
        with contextlib.suppress(SystemExit):
            code = command(asked)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(pid, flush=True)
"""


class Warm:
    """Runs `mlnb` commands in forks of a process that has imported everything."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, **question: Any) -> int:
        """Return the process's answer."""
        assert self._process.stdin and self._process.stdout
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def start(self, root: Path, *words: str, **environment: str) -> int:
        """Start a command in a process group of its own, and return its process id."""
        told = {"SWEEP_TOLD": str(root / "told.txt")}
        out = str(root / "out.txt")
        return self.ask(root=str(root), words=words, out=out, environment=told | environment)

    def wait(self, pid: int) -> int:
        """Return the exit code of a command once it has ended."""
        return self.ask(wait=pid)

    def run(self, root: Path, *words: str, code: int = 0) -> str:
        """Run a command and return what it printed."""
        found = self.wait(self.start(root, *words))
        said = (root / "out.txt").read_text()
        assert found == code, said
        return said


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    """Return a process that commands are forked from."""
    with subprocess.Popen(
        [sys.executable, "-W", "error::DeprecationWarning:mlnb", "-c", WARM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(),
    ) as process:
        yield Warm(process)


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": tempfile.gettempdir() + "/mlnb-test-site",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "MLNB_WARM": "0",
        "PYTHONHASHSEED": "0",
    }


def _call(root: Path, *command: str) -> str:
    done = subprocess.run(
        command,
        cwd=root,
        env=_environment() | {"SWEEP_TOLD": str(root / "told.txt")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that `dvc repro` has run once, committed."""
    root = tmp_path_factory.mktemp("projects") / "waves"
    root.mkdir()
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "params.yaml").write_text(PARAMS_YAML)
    (root / "pyproject.toml").write_text('[tool.mlnb]\nexperiment = "waves"\n')
    (root / ".gitignore").write_text("/.mlnb/*\n!/.mlnb/code/\n/told.txt\n/out.txt\n/gate\n")
    head = "from typing import Annotated, Literal\nfrom annotated_types import Ge, Gt, Le\n"
    head += "from mlnb import In, Metrics, Out\n"
    points, model = '"data/points.csv"', '"models/model.json"'
    write(
        root / "notebooks" / "prepare.ipynb",
        parameters(
            f"{head}points: Out = {points}\nrows: int = 40\n"
            'metrics: Metrics = "reports/metrics/prepare.json"'
        ),
        PREPARE,
    )
    kinds = ["plain", "input", "stray", "raise", "segfault", "trial"]
    write(
        root / "notebooks" / "train.ipynb",
        parameters(
            f"{head}points: In = {points}\nmodel: Out = {model}\n"
            "degree: Annotated[int, Ge(0), Le(9)] = 1\nridge: Annotated[float, Gt(0)] = 1e-3\n"
            f"kind: Literal[{', '.join(map(repr, kinds))}] = 'plain'\nunread: int = 1"
        ),
        TRAIN,
    )
    write(
        root / "notebooks" / "evaluate.ipynb",
        parameters(
            f"{head}points: In = {points}\nmodel: In = {model}\n"
            'size: In = "models/size.txt"\n'
            'metrics: Metrics = "reports/metrics/evaluate.json"\nfolds: int = 2'
        ),
        EVALUATE,
    )
    _call(root, "git", "init", "-q", "-b", "main")
    _call(root, "dvc", "init", "-q")
    _call(root, "dvc", "repro")
    _call(root, "git", "add", "-A")
    _call(root, "git", "-c", "user.name=ada", "-c", "user.email=a@b", "commit", "-qm", "all")
    return root


@pytest.fixture
def waves(reproduced: Path, tmp_path: Path) -> Path:
    """Return a copy of the project, whose notebooks have not told anything yet."""
    root = tmp_path / "waves"
    shutil.copytree(reproduced, root, symlinks=True)
    (root / "told.txt").unlink()
    return root


def _told(root: Path, stage: str = "") -> list[str]:
    """Return a line for each run of a notebook."""
    path = root / "told.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.startswith(stage)]


def _found(root: Path, name: str = "") -> dict[int, Trial]:
    """Return the trials of the one sweep there is, or of a named one."""
    here = project.find(root)
    (record,) = [r for r in sweep.sweeps(here) if name in ("", r.name)]
    return {trial.number: trial for trial in record.trials()}


def _runs(root: Path) -> list[tuple[str, str, dict[str, str]]]:
    """Return id, status and tags of each candidate's run in the store."""
    with sqlite3.connect(root / ".mlnb" / "mlflow.db") as store:
        found = []
        for id, status in store.execute("SELECT run_uuid, status FROM runs"):
            tags = dict(store.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (id,)))
            if "mlnb.candidate" in tags:
                found.append((id, status, tags))
    store.close()
    return found


# --- the space ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a=3,4,6", Choices(Key("params.yaml", "a"), (3, 4, 6))),
        ("a.b=x", Choices(Key("params.yaml", "a.b"), ("x",))),
        ("a='1,2',[1, 2],{b: 3}", Choices(Key("params.yaml", "a"), ("1,2", [1, 2], {"b": 3}))),
        ("a=true,1,1.0,null", Choices(Key("params.yaml", "a"), (True, 1, 1.0, None))),
        ("a=x:y,z", Choices(Key("params.yaml", "a"), ("x:y", "z"))),
        ("sub/other.yaml:a=1:5", Range(Key("sub/other.yaml", "a"), 1, 5)),
        ("a=1:9:step=2", Range(Key("params.yaml", "a"), 1, 9, step=2)),
        ("a=0.01:0.3:log", Range(Key("params.yaml", "a"), 0.01, 0.3, log=True, step=0.0)),
        ("a=1:2.5", Range(Key("params.yaml", "a"), 1.0, 2.5, step=0.0)),
    ],
)
def test_the_space_language(text: str, meant: Choices | Range) -> None:
    """Choices are YAML, split outside of brackets and quotes; two numbers are a range."""
    (found,) = parse([text])
    assert found == meant
    assert repr(found) == repr(meant)  # 1 is not 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("degree", "not a parameter and its values"),
        ("=3", "not a parameter and its values"),
        ("a=1,,2", "a value is missing"),
        ("a=1,1", "is there twice"),
        ("a=5:1", "5 is not below 1"),
        ("a=0:1:log", "must begin above 0"),
        ("a=1:9:log:step=2", "cannot have a step"),
        ("a=1:9:step=0", "above 0"),
        ("a=1:9:steps=2", "'steps=2' says nothing"),
        ("a=[1", "no value of YAML"),
        ("a=2024-05-01", "goes in quotes"),
    ],
)
def test_a_space_that_cannot_be_read(text: str, said: str) -> None:
    """Each mistake is named, with the text it is in."""
    with pytest.raises(SpaceError, match=said.replace("[", r"\[")) as caught:
        parse([text, "b=1,2"])
    assert text in str(caught.value)


def test_a_grid_has_every_point_once() -> None:
    """In order, the last parameter first; ranges of numbers with a step count, others do not."""
    space = parse(["a=1:2", "b=0:0.3:step=0.1", "c=x,y"])
    points = [tuple(point.values()) for point in grid(space)]
    assert size(space) == len(points) == 16
    assert points[:3] == [(1, 0.0, "x"), (1, 0.0, "y"), (1, 0.1, "x")]
    assert points[-1] == (2, 0.3, "y")
    with pytest.raises(SpaceError, match="Give a step"):
        size(parse(["a=0.1:0.5"]))


# --- what to try next ---------------------------------------------------------------------------


def _spec(sampler: str, texts: Sequence[str], seed: int = 0) -> Spec:
    return Spec(tuple(texts), "m", False, sampler, seed, "base")


def _proposed(spec: Spec, count: int, known: Sequence[Trial] = ()) -> list[Trial]:
    """Return ``count`` trials of which each is as good as its `a` is high."""
    trials = list(known)
    for number in range(len(trials), count):
        values = propose(spec, parse(spec.space), number, trials)
        assert values is not None
        trials.append(Trial(number, values, FINISHED, value=float(values["a"])))
    return trials


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_seed_gives_the_same_trials_again(sampler: str) -> None:
    """Also to a sweep that was cut off and goes on; another seed gives others."""
    texts = ["a=1:50", "b=0.001:1:log", "c=x,[1, 2],{d: 1}"]
    whole = _proposed(_spec(sampler, texts), 14)
    assert _proposed(_spec(sampler, texts), 14, whole[:12]) == whole
    assert _proposed(_spec(sampler, texts, seed=1), 3) != whole[:3]
    assert all(1 <= t.values["a"] <= 50 and 0.001 <= t.values["b"] <= 1 for t in whole)
    assert len({json.dumps(t.values["c"]) for t in whole}) == 3


def test_tpe_learns() -> None:
    """Its later trials are better than its first, which are drawn at random."""
    values = [trial.values["a"] for trial in _proposed(_spec("tpe", ["a=0.0:100.0"]), 40)]
    assert sum(values[25:]) / 15 > 20 + sum(values[:10]) / 10


def test_trials_that_failed_or_run_are_known_to_tpe() -> None:
    """They have no value, and are no reason to stop."""
    trials = _proposed(_spec("tpe", ["a=1:5"]), 12)
    mixed = [*trials[:10], Trial(10, {"a": 1}, FAILED), Trial(11, {"a": 2}, RUNNING)]
    assert propose(_spec("tpe", ["a=1:5"]), parse(["a=1:5"]), 12, mixed)


# --- refusals -----------------------------------------------------------------------------------


def _never(*_: Any) -> None:
    raise AssertionError("a trial was started")


@pytest.mark.parametrize(
    ("space", "more", "said"),
    [
        (["train.degre=1,2"], {}, "no 'train.degre'. Did you mean 'train.degree'?"),
        (["train.degree=1,20"], {}, "parameter 'degree' cannot be 20"),
        (["train.degree=0.5:3"], {}, "parameter 'degree' cannot be 0.5"),
        (["train.degree=1:20"], {}, "parameter 'degree' cannot be 20"),
        (["train.ridge=0:1"], {}, "parameter 'ridge' cannot be 0"),
        (["train.kind=plain,fancy"], {}, "parameter 'kind' cannot be 'fancy'"),
        (["other=1,2"], {}, "no stage depends on 'other'"),
        (["gone.yaml:a=1,2"], {}, "no such file"),
        (["train.degree=1,2"], {"metric": "evaluate.rmsee"}, "Did you mean 'evaluate.rmse'?"),
        (["train.degree=1,2"], {"metric": "prepare.rows"}, "does not depend on train.degree"),
        (["train.ridge=0.1:1"], {"sampler": "grid"}, "Give a step"),
        (["train.ridge=0.1:1"], {"sampler": "gird"}, "Did you mean 'grid'?"),
        (["train.degree=1,2"], {"name": "../up"}, "no name for a sweep"),
        (["train.degree=1,2", "train.degree=3,4"], {}, "train.degree is there twice"),
    ],
)
def test_what_cannot_be_swept_is_refused(
    reproduced: Path, space: list[str], more: dict[str, Any], said: str
) -> None:
    """Before anything is written; the message names what is accepted."""
    before = sorted(reproduced.rglob("*"))
    asked = Request(**{"space": tuple(space), "metric": "evaluate.rmse"} | more)
    with pytest.raises(MlnbError) as caught:
        sweep.sweep(project.find(reproduced), asked, run=_never, warm=_never, watch=_never)
    assert said in str(caught.value)
    assert caught.value.exit_code == 2
    assert sorted(reproduced.rglob("*")) == before


def test_all_mistakes_are_told_at_once(reproduced: Path) -> None:
    """A person mends them in one go."""
    asked = Request(("train.degree=1,20", "train.kind=fancy", "train.x=1"), "evaluate.rmse")
    with pytest.raises(MlnbError) as caught:
        sweep.sweep(project.find(reproduced), asked, run=_never, warm=_never, watch=_never)
    assert all(word in str(caught.value) for word in ("20", "fancy", "train.x"))


@pytest.mark.parametrize("change", ["data", "notebook"])
def test_a_checkout_that_is_not_up_to_date_is_refused(waves: Path, change: str) -> None:
    """What trials build on must be what dvc.lock says; the message says what is not."""
    if change == "data":
        path = waves / "data" / "points.csv"
        path.unlink()
        path.write_text("0,0\n1,1\n")
    else:
        path = waves / "notebooks" / "prepare.ipynb"
        path.write_text(path.read_text().replace("0.1, rows", "0.2, rows"))
    asked = Request(("train.degree=1,2",), "evaluate.rmse")
    with pytest.raises(MlnbError, match=rf"{path.name}[^$]*Run `dvc repro` first") as caught:
        sweep.sweep(project.find(waves), asked, run=_never, warm=_never, watch=_never)
    assert caught.value.exit_code == 1
    assert not (waves / ".mlnb" / "sweeps").exists()


# --- sweeps -------------------------------------------------------------------------------------


def test_a_grid_finds_the_best_and_dvc_has_all_of_it(warm: Warm, waves: Path) -> None:
    """Only touched stages run, each point is a candidate, and `dvc repro` then runs nothing."""
    words = ("sweep", "train.degree=1,3,5", "train.ridge=0.001,0.1", "--sampler", "grid")
    metric = ("--metric", "evaluate.rmse", "--minimize")
    said = warm.run(waves, *words, *metric, "-j", "2", "--name", "waves")

    trials = _found(waves)
    assert len(trials) == 6
    assert {trial.state for trial in trials.values()} == {FINISHED}
    assert len(_told(waves, "train")) == len(_told(waves, "evaluate")) == 5  # one was there
    assert all(line.split()[1] in "135" for line in _told(waves, "train"))
    best = min(trials.values(), key=lambda trial: trial.value or 9)
    assert best.values["train.degree"] > 1
    rows = [line.split() for line in said.splitlines() if line.strip()[:1].isdecimal()]
    assert [int(row[0]) for row in rows] == [
        trial.number for trial in sorted(trials.values(), key=lambda t: (t.value, t.number))
    ]

    runs = {id: (status, tags) for id, status, tags in _runs(waves)}
    assert {runs[trial.run][0] for trial in trials.values()} == {"FINISHED"}
    assert all(runs[t.run][1]["mlnb.candidate"] == t.candidate for t in trials.values())
    swept = [t for t in trials.values() if "mlnb.sweep" in runs[t.run][1]]
    assert [runs[t.run][1]["mlnb.trial"] for t in swept] == [str(t.number) for t in swept]
    assert len(swept) == 5
    assert {runs[t.run][1]["mlnb.git.dirty"] for t in swept} == {"true"}
    assert not (waves / ".mlnb" / "trials" / "waves").exists()
    assert _call(waves, "git", "status", "--porcelain") == ""

    said = warm.run(waves, "sweep", "apply", "waves/best")
    assert "+  degree:" in said
    text = (waves / "params.yaml").read_text()
    degree, ridge = best.values["train.degree"], best.values["train.ridge"]
    assert text == PARAMS_YAML.replace("degree: 1 ", f"degree: {degree} ").replace(
        "ridge: 1e-3", f"ridge: {ridge}"
    )
    done = _call(waves, "dvc", "repro")
    for stage in ("train", "weigh", "evaluate", "track"):
        assert f"Stage '{stage}' is cached" in done
    assert "Running" not in done
    document = json.loads((waves / "reports" / "candidate.json").read_text())
    assert document["candidate"] == best.candidate
    warm.run(waves, "track")  # the candidate that DVC's own lock tells is the trial's
    assert len(_runs(waves)) == len(runs)


def test_what_was_computed_is_not_computed_again(warm: Warm, waves: Path) -> None:
    """A repeated point comes from the run cache, in the same sweep and in another."""
    words = ("sweep", "train.degree=2,3", "--metric", "evaluate.rmse", "-n", "5")
    warm.run(waves, *words, "--sampler", "random")
    degrees = [trial.values["train.degree"] for trial in _found(waves).values()]
    assert sorted(set(degrees)) == [2, 3]
    assert len(_told(waves, "train")) == 2
    said = json.loads(
        warm.run(waves, *words, "--sampler", "grid", "--name", "again", "--json").partition("{")[1]
        + (waves / "out.txt").read_text().partition("{")[2]
    )
    assert len(_told(waves, "train")) == 2
    assert {tuple(trial["computed"]) for trial in said["trials"]} == {()}
    assert {trial.candidate for trial in _found(waves, "again").values()} == {
        trial.candidate for trial in _found(waves, said["sweep"]).values()
    }
    assert len(_runs(waves)) == 3  # two points, and what the checkout has
    assert "again: 2 of 2 trials finished, best" in warm.run(waves, "sweep", "list")


def test_trials_harm_nobody(warm: Warm, waves: Path) -> None:
    """Not the data they read, not each other; what failed keeps its log and stops nothing."""
    data = waves / "data" / "points.csv"
    before = data.read_bytes()
    cached = {path: files.digest_file(path) for path in files.walk(waves / ".dvc" / "cache")}
    _call(waves, "dvc", "config", "cache.type", "hardlink")
    _call(waves, "dvc", "checkout", "--relink")
    kinds = "input,raise,segfault,trial,stray,plain"
    words = ("sweep", f"train.kind={kinds}", "train.degree=2", "--sampler", "grid")
    said = warm.run(waves, *words, "--metric", "evaluate.rmse", "--name", "kinds", "-j", "2")
    trials = {trial.values["train.kind"]: trial for trial in _found(waves).values()}
    failed = ("input", "raise", "segfault", "trial")
    assert [kind for kind in trials if trials[kind].state == FAILED] == list(failed)
    assert trials["plain"].state == trials["stray"].state == FINISHED
    assert "'train' changed what it reads: data/points.csv" in trials["input"].cause
    assert "cell 2 raised ValueError: it went wrong" in trials["raise"].cause
    assert "SIGSEGV" in trials["segfault"].cause
    assert "SIGKILL" in trials["trial"].cause
    for kind in failed:
        assert trials[kind].cause in said
        log = waves / ".mlnb" / "trials" / "kinds" / f"{trials[kind].number}.log"
        assert "train: cell" in log.read_text()
        assert (log.with_suffix("") / "params.yaml").is_file()
    assert not (waves / ".mlnb" / "trials" / "kinds" / f"{trials['plain'].number}").exists()
    assert data.read_bytes() == before
    assert {p: d for p in cached if (d := files.digest_file(p))} == cached
    assert not (waves / "data" / "stray.txt").exists()
    assert _call(waves, "git", "status", "--porcelain", "data", "models", "reports") == ""
    for line in _told(waves):
        _goes(int(line.split()[-1]))


class Gate:
    """Lets a test know that a notebook is running: it waits in its first cell to be read."""

    def __init__(self, root: Path) -> None:
        self.path = root / "gate"
        os.mkfifo(self.path)
        # Open at both ends, so that the notebook's end can come and go.
        self._file = os.fdopen(os.open(self.path, os.O_RDWR), "rb", buffering=0)

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def pids(self) -> list[int]:
        """Return the ids of a notebook that has come, and of its trial."""
        assert select.select([self._file], [], [], 60)[0], "no notebook has come"
        return [int(pid) for pid in self._file.readline().split()]


def _runs_on(pid: int) -> bool:
    """Whether a process is there and not only waits for its parent to hear of its end."""
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"


def _goes(pid: int) -> None:
    """Wait until a process is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([handle], [], [], 30)[0], f"process {pid} is still there"
    os.close(handle)


def test_a_sweep_goes_on_after_a_kill(warm: Warm, waves: Path) -> None:
    """Killed whole with two trials running, it repeats these and no other, and none twice."""
    words = ("sweep", "train.degree=2,3,4,5", "--metric", "evaluate.rmse", "--sampler", "grid")
    jobs = ("-j", "2", "--name", "cut")
    warm.run(waves, *words, "-n", "1", "--name", "cut")
    with Gate(waves) as gate:
        pid = warm.start(waves, *words, *jobs, SWEEP_GATE=str(gate.path))
        running = [*gate.pids(), *gate.pids()]
    assert [trial.state for trial in _found(waves).values()] == [FINISHED, RUNNING, RUNNING]
    os.killpg(pid, signal.SIGKILL)
    assert warm.wait(pid) == -signal.SIGKILL
    for process in running:
        _goes(process)
    assert [trial.state for trial in _found(waves).values()] == [FINISHED, RUNNING, RUNNING]
    told = len(_told(waves, "train"))

    said = warm.run(waves, *words, *jobs)
    trials = _found(waves)
    assert "4 trials, 1 of them done" in said
    assert [trial.state for trial in trials.values()] == [FINISHED] * 4
    assert [trial.values["train.degree"] for trial in trials.values()] == [2, 3, 4, 5]
    assert len(_told(waves, "train")) == told + 3
    runs = _runs(waves)
    assert [status for _, status, _ in runs] == ["FINISHED"] * len(runs)
    assert len(runs) == 5
    assert not (waves / ".mlnb" / "trials" / "cut").exists()
    assert warm.run(waves, *words, *jobs) and len(_told(waves, "train")) == told + 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_trials(warm: Warm, waves: Path, number: int) -> None:
    """At once and with their notebooks; meanwhile nobody else can run the same sweep."""
    words = ("sweep", "train.degree=2,3,4", "--metric", "evaluate.rmse", "--name", "stopped")
    with Gate(waves) as gate:
        pid = warm.start(waves, *words, "-j", "2", "-n", "3", SWEEP_GATE=str(gate.path))
        running = [*gate.pids(), *gate.pids()]
    if number == signal.SIGINT:
        other = Request(words[1:2], words[3], name="stopped")
        with pytest.raises(SweepError, match="another process runs this sweep"):
            sweep.sweep(project.find(waves), other, run=_never, warm=_never, watch=_never)
    os.kill(pid, number)
    assert warm.wait(pid) == 130
    assert not any(_runs_on(process) for process in running)
    assert {trial.state for trial in _found(waves).values()} == {"interrupted"}
    if number == signal.SIGINT:
        warm.run(waves, *words, "-n", "3")
        assert {trial.state for trial in _found(waves).values()} == {FINISHED}


def test_a_name_stands_for_one_search(warm: Warm, waves: Path) -> None:
    """Going on with other parameters, or on other data, is refused; it says what differs."""
    words = ("sweep", "train.degree=2", "--metric", "evaluate.rmse", "-n", "1", "--name", "one")
    warm.run(waves, *words)
    said = warm.run(waves, *words, "--seed", "5", code=2)
    assert "it was begun with other seed" in said
    text = (waves / "params.yaml").read_text()
    (waves / "params.yaml").write_text(text.replace("folds: 2", "folds: 3"))
    assert "other code, data or other values" in warm.run(waves, *words, code=2)
    (waves / "params.yaml").write_text(text.replace("degree: 1 ", "degree: 4 "))
    warm.run(waves, *words)  # its own parameter is not what it depends on


def test_a_terminal_shows_a_bar_with_the_best(warm: Warm, waves: Path) -> None:
    """It moves as trials end, and is no matter of theirs."""
    ours, theirs = os.openpty()
    out = os.ttyname(theirs)
    words = ("sweep", "train.degree=2,3", "--metric", "evaluate.rmse", "--sampler", "grid")
    told = {"SWEEP_TOLD": str(waves / "told.txt"), "TERM": "xterm"}
    pid = warm.ask(root=str(waves), words=words, out=out, environment=told)
    assert warm.wait(pid) == 0
    said = os.read(ours, 1 << 16).decode()
    os.close(ours)
    os.close(theirs)
    assert "1/2" in said
    assert "2/2" in said
    assert "(trial 0)" in said
    assert {trial.state for trial in _found(waves).values()} == {FINISHED}


def test_a_sweep_without_a_finished_trial_fails(warm: Warm, waves: Path) -> None:
    """The exit code tells a script that there is nothing to apply."""
    words = ("sweep", "train.kind=raise", "--metric", "evaluate.rmse", "-n", "1")
    assert "it went wrong" in warm.run(waves, *words, code=1)


# --- applying -----------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path: Path) -> Record:
    """Return a sweep of three trials in a project without a pipeline."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").write_text(PARAMS_YAML)
    made = create(tmp_path / ".mlnb" / "sweeps" / "deep.db", _spec("tpe", ["train.degree=1:9"]))
    made.put(
        Trial(0, {"train.degree": 3}, FINISHED, 0.5, candidate="abcd12", run="run-0"),
        Trial(1, {"train.degree": 7}, FINISHED, 0.9, candidate="abff34", run="run-1"),
        Trial(2, {"train.degree": 9}, FAILED, cause="it broke"),
    )
    return made


@pytest.mark.parametrize(
    ("reference", "degree"),
    [("deep/0", 3), ("deep/best", 7), ("best", 7), ("run-0", 3), ("abff", 7), ("abcd12", 3)],
)
def test_a_trial_has_many_names(recorded: Record, reference: str, degree: int) -> None:
    """By number, as the best, by MLflow's run and by the beginning of its digest."""
    here = project.find(recorded.path.parents[2])
    _, trial, changes = sweep.apply(here, reference)
    assert trial.values == {"train.degree": degree}
    assert [change.after for change in changes] == [
        PARAMS_YAML.replace("degree: 1 ", f"degree: {degree} ")
    ]
    assert (here.root / "params.yaml").read_text() == PARAMS_YAML


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("deep/2", "no such finished trial"),
        ("deap/0", "Did you mean 'deep'?"),
        ("ab", "no finished trial of a sweep"),
        ("zzzz", "Sweeps: deep"),
    ],
)
def test_a_name_that_means_no_trial(recorded: Record, reference: str, said: str) -> None:
    """The message says how to find one."""
    with pytest.raises(SweepError, match=said.replace("?", r"\?")):
        sweep.apply(project.find(recorded.path.parents[2]), reference)


def test_a_record_that_was_never_finished_is_no_record(recorded: Record) -> None:
    """It gets its name when it is whole; one of another format is refused."""
    folder = recorded.path.parent
    assert [path.name for path in folder.iterdir()] == ["deep.db"]
    (folder / ".deep2.db.new").write_bytes(b"torn")
    assert create(folder / "deep2.db", recorded.spec).trials() == []
    with sqlite3.connect(recorded.path) as store:
        store.execute("UPDATE sweep SET format = 99")
    store.close()
    with pytest.raises(SweepError, match="of format 99"):
        sweep.read(recorded.path)
    recorded.path.write_text("no database at all, but long enough to be looked at" * 20)
    with pytest.raises(SweepError, match="cannot be used"):
        sweep.read(recorded.path)


def test_values_are_changed_where_they_stand() -> None:
    """Comments, order and spelling of everything else survive."""
    before = "a:\n  b: 1   # one\n  c: [x, 'y']  # two\n  d:\n  e: {f: 1, g: \"h\"}\nz: 0\n"
    values = {"a.b": 1e-5, "a.c": ["u", 2], "a.d": True, "a.e.g": "on, off", "z": None}
    after = edits.edited(before, NewValues(Path("params.yaml"), values))
    assert after == (
        "a:\n  b: 1e-05   # one\n  c: [u, 2]  # two\n  d: true\n"
        '  e: {f: 1, g: "on, off"}\nz: null\n'
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a:\n  - 1\n  - 2\n", "a"),
        ("a: [1, # one\n  2]\n", "a"),
        ("a: &x 1\nb: *x\n", "a"),
        ("a: &x 1\nb: *x\n", "b"),
        ("a: 1\n", "b"),
    ],
)
def test_values_that_cannot_be_changed_alone_are_refused(text: str, name: str) -> None:
    """A block, a comment inside, a value that another name shares, or no value at all."""
    with pytest.raises(EditError):
        edits.edited(text, NewValues(Path("params.yaml"), {name: 5}))
