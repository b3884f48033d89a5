"""What an answer costs: `mlnb serve` beside what people serve models with today.

    python benchmarks/serving.py [--rounds 5] [--seconds 2] [--write]
        [--mlserver PYTHON] [--bentoml PYTHON]

One model, XGBoost behind scaling and one-hot encoding, 28 columns. Every server runs with one
worker, answers the same rows, and is asked by Debian's `wrk` in turn, round after round; whether
its answers are those of the pipeline is looked at first. ``mlnb serve`` logs predictions, exports
figures and rolls out a candidate meanwhile. MLServer and BentoML are measured where they are named
an interpreter that has them. What is printed are medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import joblib
import numpy as np
import scorer
import served
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

from mlnb import trust
from mlnb.project import find
from mlnb.store import open_store

PAGE = Path(__file__).parent.parent / "docs" / "serving.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
NAMES = [*(f"n{index}" for index in range(scorer.NUMBERS)), "site"]
WORK = {
    "1 row, 1 connection": (1, 1),
    "1 row, 8 connections": (1, 8),
    "1 row, 64 connections": (1, 64),
    "100 rows, 8 connections": (100, 8),
}
GOALS = {"mlflow": (40, 10), "MLServer": (20, 5), "BentoML": (20, 5), "FastAPI": (20, 5)}
"""How many times as many requests of 1 row, and of 100, are to be answered."""
OURS, EMPTY, TWO = "mlnb serve", "empty Starlette", "mlnb serve --workers 2"
SCRIPT = """
local bodies, at = {}, 0
function init()
  for line in io.lines(os.getenv("BODIES")) do
    bodies[#bodies + 1] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, line)
  end
end
function request() at = at % #bodies + 1; return bodies[at] end
"""
STARLETTE = """
import os, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
async def answer(request):
    await request.body()
    return Response(b'{"predictions":[0.5]}', media_type="application/json")
app = Starlette(routes=[Route("/invocations", answer, methods=["POST"])])
uvicorn.run(app, port=int(os.environ["PORT"]), access_log=False, log_level="error")
"""
FASTAPI = """
import os
import joblib, pandas as pd, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
model = joblib.load("model.joblib")
class Asked(BaseModel):
    columns: list[str]
    data: list[list[float | str | None]]
app = FastAPI()
@app.post("/invocations")
def predict(asked: Asked):
    frame = pd.DataFrame(asked.data, columns=asked.columns)
    return {"predictions": model.predict_proba(frame)[:, 1].tolist()}
uvicorn.run(app, port=int(os.environ["PORT"]), access_log=False, log_level="error")
"""
BENTO = """
import bentoml, joblib, pandas as pd
@bentoml.service(workers=1)
class Model:
    def __init__(self):
        self.model = joblib.load("model.joblib")
    @bentoml.api
    def predict(self, columns: list[str], data: list[list]) -> list[float]:
        return self.model.predict_proba(pd.DataFrame(data, columns=columns))[:, 1].tolist()
"""


@dataclass
class Peer:
    """One way to serve the model.

    Attributes:
        name: how the tables call it.
        command: that serves, with ``PORT`` in its environment and for ``{port}``.
        path: of the route.
        body: makes a body of rows.
        read: finds the answers in what came back; None where nothing is predicted.
        where: the folder to start it in.
        environment: variables of its own.
    """

    name: str
    command: list[str]
    path: str
    body: Callable[[list[list[Any]]], Any]
    read: Callable[[Any], list[float]] | None
    where: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: Any = None
    port: int = 0
    start: float = 0.0
    rates: dict[str, list[float]] = field(default_factory=dict)
    costs: dict[str, list[float]] = field(default_factory=dict)
    memory: float = 0.0


def model(trees: int) -> Pipeline:
    """Return the pipeline, unfitted."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("n", numbers, NAMES[:-1]), ("t", texts, ["site"])])
    boosted = XGBClassifier(n_estimators=trees, max_depth=4, learning_rate=0.05, n_jobs=1)
    return Pipeline([("columns", columns), ("model", boosted)])


def project(root: Path) -> Pipeline:
    """Make a project that rolls out a candidate; return the pipeline of both its versions."""
    (root / "deployments" / "keys").mkdir(parents=True)
    (root / "pyproject.toml").write_text("[tool.mlnb]\n")
    key = Ed25519PrivateKey.generate()
    trust.admit("ada", key.public_key(), root / "deployments" / "keys")
    frame = scorer.table()
    frame.to_parquet(root / "rows.parquet", index=False)
    train = frame[frame["split"] == "train"]
    found = find(root)
    made = [model(trees).fit(train[NAMES], train["yes"]) for trees in (200, 200)]
    made[1].set_params(model__verbosity=0)  # another bundle with the same answers
    digests = {}
    for number, each in enumerate(made, 1):
        bundle = scorer.packed(root, each, frame)
        digests[number] = open_store(found).put(bundle)
        (root / "bundle").rename(root / f"bundle{number}")
    joblib.dump(made[0], root / "model.joblib")
    strategy = {"kind": "canary", "steps": [0.1, 1.0], "latency-factor": 1000}
    told = served.Served(found, key, digests)
    told.roll_out(2, 1, strategy)
    return made[0]


def peers(root: Path, mlserver: str, bentoml: str) -> list[Peer]:
    """Return all that are measured."""

    def split(rows: list[list[Any]]) -> Any:
        return {"dataframe_split": {"columns": NAMES, "data": rows}}

    def plain(rows: list[list[Any]]) -> Any:
        return {"columns": NAMES, "data": rows}

    def tensors(rows: list[list[Any]]) -> Any:
        inputs = []
        for name, values in zip(NAMES, zip(*rows, strict=True), strict=True):
            text = name == "site"
            inputs.append(
                {
                    "name": name,
                    "shape": [len(rows), 1],
                    "datatype": "BYTES" if text else "FP64",
                    "data": list(values),
                    **({"parameters": {"content_type": "str"}} if text else {}),
                }
            )
        outputs = [{"name": "predict_proba"}]
        return {"parameters": {"content_type": "pd"}, "inputs": inputs, "outputs": outputs}

    def of(told: Any) -> list[float]:
        return list(told["predictions"])

    python = sys.executable
    ours = [python, "-m", "mlnb", "serve", "--port", "{port}"]
    (root / "empty.py").write_text(STARLETTE)
    (root / "by_hand.py").write_text(FASTAPI)
    second = root.parent / "second"  # counts and logs of its own
    shutil.copytree(root, second)
    serve = ["models", "serve", "-m", "bundle1", "--env-manager", "local", "-p", "{port}"]
    path = "/invocations"
    found = [
        Peer(OURS, ours, path, split, of, root),
        Peer(TWO, [*ours, "--workers", "2"], path, split, of, second),
        Peer(EMPTY, [python, "empty.py"], path, split, None, root),
        Peer("mlflow", [python, "-m", "mlflow", *serve], path, split, of, root),
        Peer("FastAPI", [python, "by_hand.py"], path, plain, of, root),
    ]
    if mlserver:
        folder = root / "mlserver"
        folder.mkdir()
        shutil.copy(root / "model.joblib", folder)
        told = {"name": "m", "implementation": "mlserver_sklearn.SKLearnModel"}
        told |= {"parameters": {"uri": "./model.joblib"}}  # type: ignore[dict-item]
        (folder / "model-settings.json").write_text(json.dumps(told))

        def probability(said: Any) -> list[float]:
            return list(said["outputs"][0]["data"][1::2])

        ports = {f"MLSERVER_{name}": str(free()) for name in ("GRPC_PORT", "METRICS_PORT")}
        words = [mlserver, "-m", "mlserver.cli.main", "start", "."]
        if (beside := Path(mlserver).parent / "mlserver").exists():
            words = [str(beside), "start", "."]
        more = {**ports, "MLSERVER_HTTP_PORT": "{port}"}
        route = "/v2/models/m/infer"
        found.append(Peer("MLServer", words, route, tensors, probability, folder, more))
    if bentoml:
        folder = root / "bento"
        folder.mkdir()
        shutil.copy(root / "model.joblib", folder)
        (folder / "service.py").write_text(BENTO)
        words = [str(Path(bentoml).parent / "bentoml"), "serve", "service:Model", "-p", "{port}"]
        more = {"BENTOML_DO_NOT_TRACK": "1", "BENTOML_HOME": str(folder / "home")}
        found.append(Peer("BentoML", words, "/predict", plain, list, folder, more))
    return found


def free() -> int:
    """Return a port that is free."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def running(peer: Peer, body: bytes) -> Iterator[None]:
    """Start a server, and end it and its children afterwards."""
    peer.port = free()
    environment = os.environ | {"PORT": str(peer.port), "OMP_NUM_THREADS": "1"}
    environment |= {key: each.format(port=peer.port) for key, each in peer.environment.items()}
    begun = time.perf_counter()
    with (peer.where / f"log-{peer.port}.txt").open("w") as log:
        peer.process = subprocess.Popen(
            [each.format(port=peer.port) for each in peer.command],
            cwd=peer.where,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        while True:
            try:
                ask(peer, body)
                break
            except OSError as error:
                late = time.perf_counter() - begun > 120
                if peer.process.poll() is not None or late:
                    said = (peer.where / f"log-{peer.port}.txt").read_text()[-2000:]
                    raise SystemExit(f"{peer.name} does not answer: {error}\n{said}") from None
                time.sleep(0.005)
        peer.start = time.perf_counter() - begun
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(peer.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            peer.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(peer.process.pid, signal.SIGKILL)


def ask(peer: Peer, body: bytes) -> Any:
    """Return what a server answers."""
    asked = urllib.request.Request(f"http://127.0.0.1:{peer.port}{peer.path}", body)
    asked.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(asked, timeout=60) as reply:
        return json.loads(reply.read())


def family(peer: Peer) -> list[int]:
    """Return the processes of a server: its session, and what they started elsewhere."""
    known = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            told = path.read_text().rpartition(")")[2].split()
            known[int(path.parent.name)] = int(told[1]), int(told[3])
    found = {pid for pid, (_, session) in known.items() if session == peer.process.pid}
    while more := {pid for pid, (parent, _) in known.items() if parent in found} - found:
        found |= more
    return sorted(found)


def busy(peer: Peer) -> float:
    """Return the seconds of processor time that a server has used."""
    total = 0
    for pid in family(peer):
        with contextlib.suppress(OSError):
            told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(told[11]) + int(told[12])
    return total / os.sysconf("SC_CLK_TCK")


def memory(peer: Peer) -> float:
    """Return the megabytes of memory (PSS) of a server."""
    total = 0
    for pid in family(peer):
        with contextlib.suppress(OSError):
            told = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.findall(r"Pss:\s+(\d+) kB", told)[0])
    return total / 1024


def load(peer: Peer, work: str, root: Path, seconds: int) -> None:
    """Ask a server for a while, and keep what came of it."""
    rows, connections = WORK[work]
    bodies = root / f"{re.sub('[^a-z]', '', peer.name)}-{rows}.jsonl"
    before = busy(peer)
    done = subprocess.run(
        [
            *("wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s"),
            *("-s", str(root / "load.lua"), f"http://127.0.0.1:{peer.port}{peer.path}"),
        ],
        env=os.environ | {"BODIES": str(bodies)},
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"{peer.name}, {work}: not all was answered\n{said}")
    count = int(re.findall(r"(\d+) requests in", said)[0])
    peer.rates.setdefault(work, []).append(float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0]))
    peer.costs.setdefault(work, []).append((busy(peer) - before) / max(count, 1) * 1e6)


def report(found: list[Peer], options: argparse.Namespace, loads: list[float]) -> str:
    """Return the tables."""
    by = {each.name: each for each in found}

    def rate(name: str, work: str) -> float:
        return statistics.median(by[name].rates[work])

    lines = [
        f"Measured on {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load"
        f" {min(loads):.1f} to {max(loads):.1f}; Python {platform.python_version()};"
        f" {options.rounds} rounds of {options.seconds:g} s, in turn. Medians.",
        "",
        "| requests a second | " + " | ".join(WORK) + " | start, s | memory (PSS), MB |",
        "|---" * (len(WORK) + 3) + "|",
    ]
    for each in found:
        rates = " | ".join(f"{rate(each.name, work):,.0f}" for work in WORK)
        lines.append(f"| {each.name} | {rates} | {each.start:.1f} | {each.memory:.0f} |")
    lines += ["", "| processor time of a request, µs | " + " | ".join(WORK) + " |"]
    lines.append("|---" * (len(WORK) + 1) + "|")
    for each in found:
        costs = " | ".join(f"{statistics.median(each.costs[work]):,.0f}" for work in WORK)
        lines.append(f"| {each.name} | {costs} |")
    lines += ["", "| `mlnb serve` against | work | times | at least | | by processor time |"]
    lines.append("|---" * 6 + "|")

    def judged(peer: str, work: str, least: float) -> None:
        pairs = zip(by[OURS].rates[work], by[peer].rates[work], strict=True)
        times = statistics.median(a / b for a, b in pairs)
        verdict = "reached" if times >= least else "missed"
        costs = zip(by[peer].costs[work], by[OURS].costs[work], strict=True)
        cost = statistics.median(a / b for a, b in costs)
        lines.append(f"| {peer} | {work} | **{times:.3g}** | {least:g} | {verdict} | {cost:.3g} |")

    for peer, goals in GOALS.items():
        if peer in by:
            for work, (rows, _) in WORK.items():
                judged(peer, work, goals[rows > 1])
    for work, (rows, _) in WORK.items():
        if rows == 1 and EMPTY in by:
            judged(EMPTY, work, 0.45)
    if TWO in by:
        pairs = zip(by[TWO].rates[LAST], by[OURS].rates[LAST], strict=True)
        two = statistics.median(a / b for a, b in pairs)
        said = "reached" if two >= 1.3 else "missed"
        lines.append(f"| one worker, by two | {LAST} | **{two:.3g}** | 1.3 | {said} | |")
    ours = by[OURS]
    start, size = ("reached" if good else "missed" for good in (ours.start < 1, ours.memory < 100))
    lines += [
        "",
        f"Start to first answer {ours.start:.2f} s, to be under 1 s: {start}; memory"
        f" {ours.memory:.0f} MB, to be under 100 MB: {size}.",
    ]
    return "\n".join(lines)


LAST = "1 row, 64 connections"


def main() -> int:
    """Measure and print."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--seconds", type=int, default=2)
    words.add_argument("--mlserver", default="", metavar="PYTHON")
    words.add_argument("--bentoml", default="", metavar="PYTHON")
    words.add_argument("--only", default="", help="names, divided by commas")
    words.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    options = words.parse_args()
    if not shutil.which("wrk"):
        print("It needs Debian's wrk: apt-get install wrk", file=sys.stderr)
        return 2
    for name in ("mlserver", "bentoml"):
        if not getattr(options, name):
            print(f"{name} is left out: name an interpreter that has it by --{name}")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root = Path(folder, "project")
        pipeline = project(root)
        frame = scorer.table().dropna(subset=NAMES)  # not every peer takes gaps
        frame = frame[frame["split"] == "test"]
        found = peers(root, options.mlserver, options.bentoml)
        if options.only:
            found = [each for each in found if each.name in options.only.split(",")]
        (root / "load.lua").write_text(SCRIPT)
        for each in found:
            for rows in (1, 100):
                parts = [frame[NAMES].iloc[at * rows : (at + 1) * rows] for at in range(16)]
                bodies = [json.dumps(each.body(part.values.tolist())) for part in parts]
                name = re.sub("[^a-z]", "", each.name)
                (root / f"{name}-{rows}.jsonl").write_text("\n".join(bodies) + "\n")
                if rows == 1:
                    stack.enter_context(running(each, bodies[0].encode()))
                    print(f"{each.name}: {each.start:.2f} s to its first answer", flush=True)
                if each.read:
                    for part, body in zip(parts, bodies, strict=True):
                        told = each.read(ask(each, body.encode()))
                        expected = pipeline.predict_proba(part)[:, 1]
                        assert np.abs(np.array(told) - expected).max() < 1e-6, each.name
        loads = []
        for number in range(options.rounds):
            for work in WORK:
                for each in found if number % 2 else found[::-1]:
                    loads.append(os.getloadavg()[0])
                    load(each, work, root, options.seconds)
            for each in found:
                each.memory = max(each.memory, memory(each))
            seen = ", ".join(f"{each.name} {each.rates[LAST][-1]:,.0f}/s" for each in found)
            print(f"round {number + 1}, load {os.getloadavg()[0]:.1f}: {seen}", flush=True)
        for each in found:
            if each.name in (OURS, TWO):
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(f"http://127.0.0.1:{each.port}/admin/status") as reply:
                    status = json.loads(reply.read())
                assert status["rollout"]["share"] == 0.1, status["rollout"]
                print(f"{each.name}: {status['log']}")
    text = report(found, options, loads)
    print(text)
    if options.write:
        page = PAGE.read_text()
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
