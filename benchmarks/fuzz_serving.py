"""Thousands of hostile requests on a real server, slow connections, and how long a start takes.

    python benchmarks/fuzz_serving.py [--requests 5000] [--seed 0] [--huge-mb 200]

Prints figures as JSON, and ends with 1 if one is not what it must be.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import hostile
import served
import sums


def main() -> int:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--huge-mb", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = served.begun(Path(folder) / "project", 1)
        project.publish(1)
        found = {"start": starts(project), "slow": slow(project)}
        found["hostile"] = fuzzed(project, options.requests, options.seed, options.huge_mb)
        found["control"] = control(Path(folder) / "control", options.seed)
    print(json.dumps(found, indent=2))
    fuzz, dangling = found["hostile"], found["slow"]
    good = (
        not fuzz["faults"]
        and fuzz["growth_mb"] < 50
        and fuzz["answered"] >= 0.05 * fuzz["requests"]
        and fuzz["answered"] == fuzz["valid"]
        and fuzz["alive"]
        and found["control"]["faults_found"] > 0
        and dangling["open_after_10_s"] == 0
    )
    return 0 if good else 1


def serving(project: served.Served) -> Any:
    """Run ``mlnb serve`` in the project."""
    folder = project.project.state / "serving" / "production"
    words = ["-m", "mlnb", "serve", "--port", "0"]
    return sums.started(words, folder, project.project.root)


def starts(project: served.Served, times: int = 5) -> dict[str, Any]:
    """Return the seconds from the start of the process to its first answer."""
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        with serving(project) as server:
            status, *_ = server.ask("POST", "/invocations", {"instances": [served.ROW]})
            took.append(round(time.perf_counter() - begun, 3))
            memory = pss_mb(server.process.pid)
            assert status == 200
    return {"seconds": took, "median": statistics.median(took), "pss_mb": round(memory, 1)}


def slow(project: served.Served, count: int = 200) -> dict[str, Any]:
    """Return what becomes of connections that never say their request, and of a normal client."""
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    begun = [b"", b"POST /inv", head, head + b"Content-Length: 100\r\n\r\n{"]
    with serving(project) as server:
        before = latencies(server, 3.0)
        links = [server.connect() for _ in range(count)]
        start, closed = time.monotonic(), []
        for at, link in enumerate(links):
            link.sendall(begun[at % len(begun)])

        def wait(link: Any) -> None:
            link.settimeout(15)
            with contextlib.suppress(OSError):
                while link.recv(65536):
                    pass
                closed.append(time.monotonic() - start)

        threads = [threading.Thread(target=wait, args=(link,)) for link in links]
        for each in threads:
            each.start()
        during = latencies(server, 3.0)
        for each in threads:
            each.join()
        for link in links:
            link.close()
    return {
        "connections": count,
        "last_closed_after_s": round(max(closed), 2),
        "open_after_10_s": count - sum(each <= 10 for each in closed),
        "p99_ms_alone": round(before, 3),
        "p99_ms_meanwhile": round(during, 3),
    }


def latencies(server: sums.Served, seconds: float) -> float:
    """Return the 99th percentile of the milliseconds of requests, one after the other."""
    import http.client

    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = json.dumps({"instances": [served.ROW]})
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter()
        link.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = link.getresponse()
        answer.read()
        assert answer.status == 200
        took.append((time.perf_counter() - begun) * 1e3)
    link.close()
    return statistics.quantiles(took, n=100)[98]


def fuzzed(project: served.Served, count: int, seed: int, huge_mb: int) -> dict[str, Any]:
    """Return what came of a campaign."""
    with serving(project) as server:
        for _ in range(200):
            server.ask("POST", "/invocations", {"instances": [served.ROW]})
        document = server.ask("GET", "/openapi.json")[1]
        found = hostile.campaign(
            server.port, server.process.pid, document, count, seed, huge_mb=huge_mb
        )
        alive = server.ask("GET", "/v2/health/ready")[0] == 200
    return {
        "requests": found.requests,
        "seed": seed,
        "statuses": {str(status): n for status, n in sorted(found.statuses.items())},
        "kinds": dict(found.kinds),
        "valid": found.valid,
        "answered": found.answered,
        "invalid_but_accepted": len(found.accepted),
        "faults": [repr(each)[:600] for each in found.faults[:5]],
        "refused": [repr(each)[:600] for each in found.refused[:5]],
        "growth_mb": round(found.growth_mb, 1),
        "alive": alive,
    }


def control(folder: Path, seed: int) -> dict[str, Any]:
    """Return how many requests of a campaign a planted fault shows itself to."""
    with sums.summing(folder, name="adder", planted=True) as server:
        document = server.ask("GET", "/openapi.json")[1]
        found = hostile.campaign(server.port, server.process.pid, document, 300, seed, huge_mb=2)
    return {"requests": found.requests, "faults_found": len(found.faults)}


def pss_mb(pid: int) -> float:
    """Return a process's share of memory, in megabytes of 10^6 bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
