"""Swaps and bad candidates under load, on a real server process: what users see of them.

Each version answers every row with its own number, so that an answer tells who computed it.

    python benchmarks/rollouts.py [swaps] [bad] [healthy] [restart] [--seconds 60] [--workers 1]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import served

from mlnb.project import find
from mlnb.rollout import Counts, Strategy, decide

BODY = json.dumps({"dataframe_split": {"columns": served.COLUMNS, "data": [served.ROW]}}).encode()
CANARY: dict[str, Any] = {"kind": "canary", "steps": [0.1, 0.5, 1.0]}
BAD = {"fails": 60, "nan": 60, "shape": 60, "errors": 600, "slow": 600}
"""How a candidate is bad, and by how many requests it must be out."""
SERVER = """
import sys
sys.path.insert(0, {tests!r})
import served
from mlnb.project import find
from mlnb.serving import command, versions
versions.load = served.spoil(2, {how!r})
command.run(find(), "production", host="127.0.0.1", port={port}, workers={workers})
"""


@dataclasses.dataclass
class Seen:
    """What clients saw."""

    answers: list[tuple[float, float, int, float, str]] = dataclasses.field(default_factory=list)
    """When, seconds taken, version named, value, request key."""
    failed: list[str] = dataclasses.field(default_factory=list)

    def told(self) -> str:
        """Return the figures in words."""
        times = sorted(each[1] for each in self.answers)
        span = max(each[0] for each in self.answers) - min(each[0] for each in self.answers)
        wrong = sum(round(value) != version for _, _, version, value, _ in self.answers)
        return (
            f"{len(times)} requests, {len(times) / span:.0f}/s; {len(self.failed)} failed, {wrong}"
            f" of another version than named; p50 {times[len(times) // 2] * 1e3:.2f} ms,"
            f" p99 {times[int(len(times) * 0.99)] * 1e3:.2f} ms, max {times[-1] * 1e3:.1f} ms"
        )


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(self, key: str) -> tuple[int, float]:
        """Return the version that answered, and its answer."""
        headers = {"Content-Type": "application/json", "X-Request-Key": key}
        self._connection.request("POST", "/invocations", BODY, headers)
        reply = self._connection.getresponse()
        said = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{reply.status} {said[:200]!r}")
        return int(reply.headers["X-Model-Version"]), float(json.loads(said)["predictions"][0])

    def status(self) -> Any:
        """Return the status of the server."""
        self._connection.request("GET", "/admin/status")
        return json.loads(self._connection.getresponse().read())


@contextlib.contextmanager
def server(project: served.Served, how: str = "", workers: int = 1, port: int = 0) -> Iterator[Any]:
    """Run a server; yield its process and its port."""
    code = SERVER.format(
        tests=str(Path(served.__file__).parent), how=how, workers=workers, port=port
    )
    command = [sys.executable, "-m", "mlnb", "serve", "--workers", str(workers)]
    process = subprocess.Popen(
        [sys.executable, "-c", code] if how else [*command, "--port", str(port)],
        cwd=project.project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        yield process, int(line.partition("http://127.0.0.1:")[2].partition(";")[0])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert process.stdout
        process.stdout.close()


@contextlib.contextmanager
def load(port: int, rate: float, threads: int = 4) -> Iterator[Seen]:
    """Keep asking, ``rate`` times a second if the server can, until the block ends."""
    seen, done = Seen(), threading.Event()

    def go_on(number: int) -> None:
        client, turn = Client(port), 0
        due = time.perf_counter()
        while not done.is_set():
            due += threads / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            key, start = f"{number}-{turn}", time.perf_counter()
            turn += 1
            try:
                version, value = client.ask(key)
                seen.answers.append((start, time.perf_counter() - start, version, value, key))
            except Exception as error:  # noqa: BLE001 - every failure is a finding
                seen.failed.append(repr(error))
                client = Client(port)

    running = [threading.Thread(target=go_on, args=(n,)) for n in range(threads)]
    for each in running:
        each.start()
    try:
        yield seen
    finally:
        done.set()
        for each in running:
            each.join()


def swaps(project: served.Served, seconds: float, workers: int) -> None:
    """20 swaps under load."""
    project.publish(1)
    with server(project, workers=workers) as (_, port), load(port, 400) as seen:
        time.sleep(seconds / 40)
        delays = []
        client = Client(port)
        for number in range(20):
            version, start = 1 + (number + 1) % 3, time.perf_counter()
            project.publish(version)
            while client.ask("probe")[0] != version:
                time.sleep(0.005)
            delays.append(time.perf_counter() - start)
            time.sleep(max(0.0, start + seconds / 20 - time.perf_counter()))
    print(f"20 swaps in {seconds:.0f} s, {workers} workers: {seen.told()}")
    print(f"  from publishing to the first answer: at most {max(delays):.2f} s")
    for each in sorted(set(seen.failed))[:5]:
        print(f"  failed: {each}")


def bad(made: served.Served, workers: int) -> None:
    """Five bad candidates, each on a server of its own."""
    for how, most in BAD.items():
        with copied(made) as project:
            project.publish(1)
            with server(project, how, workers) as (_, port):
                client = Client(port)
                for number in range(500):
                    client.ask(f"before-{number}")
                said = project.roll_out(2, 1, CANARY)
                while client.status()["statement"] != said.counter:
                    time.sleep(0.01)
                asked = candidate = errors = number = 0
                while not (told := client.status()["rollout"])["tripped"] and asked < 5000:
                    try:
                        version, value = client.ask(f"user-{number}")
                        errors += round(value) != version
                        candidate += version == 2
                    except RuntimeError:
                        errors += 1
                    asked, number = asked + 1, number + 1
                counts = told["counts"]["candidate"]
                tried = counts["requests"]
                limit = 0.1 * asked + 3 * (0.09 * asked) ** 0.5
                right = told["tripped"] and (counts["failures"] <= 3 or asked <= most)
                print(
                    f"{how}: out {told['tripped']} after {asked} requests, of which {tried:.0f} to"
                    f" the candidate (at most {limit:.0f}), {counts['failures']:.0f} failures;"
                    f" {errors} errors seen by users; {'ok' if right and not errors else 'NOT OK'}"
                )
                print(f"  {told['why']}")


def simulated(
    failures: float, slow: float, own: tuple[float, float], generator: random.Random, most: int
) -> tuple[str, int, int]:
    """Simulate a canary at 10 %; return the last decision, and requests and failures until then.

    Args:
        failures, slow: rates of the candidate.
        own: those of stable.
        generator: of random numbers.
        most: requests, of both, after which it ends.
    """
    strategy = Strategy.parse({"from": "sha256:" + "0" * 64, **CANARY})
    sums = {True: [0, 0, 0], False: [0, 0, 0]}
    for number in range(1, most + 1):
        is_candidate = generator.random() < 0.1
        of = sums[is_candidate]
        rates = (failures, slow) if is_candidate else own
        of[0] += 1
        failed = generator.random() < rates[0]
        of[1] += failed
        late = not failed and generator.random() < rates[1]
        of[2] += late
        if is_candidate and (failed or late):
            decision = decide(strategy, 0, Counts(*sums[True]), Counts(*sums[False]))
            if decision.action == "rollback":
                return "rollback", number, sums[True][1]
    return "hold", most, sums[True][1]


def healthy(count: int = 200) -> None:
    """Candidates that are as good as stable, and one with 5 % errors at random; by simulation."""
    generator = random.Random(0)
    for failures, slow in ((0.0, 0.01), (0.001, 0.05), (0.001, 0.1)):
        ends = [
            simulated(failures, slow, (failures, slow), generator, 20_000) for _ in range(count)
        ]
        back = sum(action == "rollback" for action, _, _ in ends)
        print(
            f"as good as stable, {failures:.1%} failures and {slow:.0%} slow answers: {back} of"
            f" {count} were sent back in 20,000 requests each"
        )
    ends = [simulated(0.05, 0.01, (0.0, 0.01), generator, 20_000) for _ in range(count)]
    totals = sorted(number for _, number, _ in ends)
    right = sum(number <= 600 or failed <= 3 for _, number, failed in ends)
    print(
        f"5 % failures at random: sent back after {totals[count // 2]} requests in the median,"
        f" {totals[int(count * 0.95)]} in 95 of 100, at most {totals[-1]}, of which a tenth to the"
        f" candidate; {right} of {count} within 600 requests or 3 failures"
    )


def restart(project: served.Served) -> None:
    """kill -9 under load with something bad published meanwhile, and a start anew."""
    project.publish(3)
    with server(project) as (process, port):
        with load(port, 400) as seen:
            time.sleep(2)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(f"killed: {len(seen.answers)} requests answered before")
    good = project.path.read_bytes()
    for words, content in (("the same", good), ("an edited statement", good[:-40] + good[-38:])):
        project.path.write_bytes(content)
        start = time.perf_counter()
        with server(project, port=port) as (_, again):
            version, _ = Client(again).ask("a")
            taken = time.perf_counter() - start
            problem = Client(again).status()["problem"].partition("\n")[0]
        print(f"  {words} published: version {version} after {taken:.2f} s; problem: {problem!r}")
    project.path.write_bytes(good)


@contextlib.contextmanager
def copied(made: served.Served) -> Iterator[served.Served]:
    """Yield a copy of a project."""
    with tempfile.TemporaryDirectory() as folder:
        root = shutil.copytree(made.project.root, Path(folder) / "project")
        yield served.Served(find(Path(root)), made.key, made.digests)


def main() -> None:
    """Run what is named, or all."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("what", nargs="*", default=["swaps", "bad", "healthy", "restart"])
    words.add_argument("--seconds", type=float, default=60)
    words.add_argument("--workers", type=int, default=1)
    options = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = served.begun(Path(folder) / "project", 3)
        for what in options.what:
            with copied(made) as project:
                if what == "swaps":
                    swaps(project, options.seconds, options.workers)
                elif what == "bad":
                    bad(made, options.workers)
                elif what == "healthy":
                    healthy()
                elif what == "restart":
                    restart(project)
                else:
                    words.error(f"there is no {what!r}")


if __name__ == "__main__":
    main()
