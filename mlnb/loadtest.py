"""Load on an endpoint, as its users make it: requests come when they come, answered or not.

The load is open: the moment of each request is set beforehand, by a Poisson process, and what
keeps it from being sent then counts as waiting. A closed loop, which sends the next request after
the last answer, asks less of a server the slower it is, and so hides what users would see (Tene,
"How NOT to Measure Latency", 2015, calls it coordinated omission; Schroeder et al., "Open Versus
Closed: A Cautionary Tale", NSDI 2006).
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from mlnb.errors import MlnbError

FORMAT = 1
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_KEEP_UP = 0.005
"""Seconds that we may be late ourselves, at the 99th percentile, before the figures are ours."""
_ENOUGH = 10
"""Requests beyond a percentile that must be there before it says anything."""
_now = time.perf_counter
"""The clock: that of an event loop stands still while it works."""
_BARS = "▁▂▃▄▅▆▇█"


class LoadError(MlnbError):
    """A load that cannot be made."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is sent.

    Attributes:
        url: http or https, with its path.
        bodies: JSON texts, which take turns; a GET without any.
        rate: requests per second, on average.
        seconds: for how long.
        connections: at most, at the same time.
        timeout: seconds after which a request counts as failed.
        headers: besides the usual ones.
        content_type: of the bodies.
        seed: of the moments.

    Raises:
        LoadError: a value that cannot be.
    """

    url: str
    bodies: Sequence[bytes] = ()
    rate: float = 100.0
    seconds: float = 10.0
    connections: int = 256
    timeout: float = 10.0
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rate", "seconds", "timeout", "connections"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise LoadError(f"{name} must be above 0, not {value!r}")
        if self.rate * self.seconds > 50e6:
            raise LoadError(f"{self.rate * self.seconds:.0f} requests are too many for one test")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LoadError(
                f"{self.url!r} is no address", remedy="Write it as http://HOST:PORT/PATH."
            )
        for name, value in self.headers.items():
            if "\n" in name + value or "\r" in name + value:
                raise LoadError(f"header {name!r} holds a line break")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the answers must keep to; None where anything goes.

    Attributes:
        p50, p95, p99: milliseconds at most.
        errors: share of requests that may fail.
    """

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    errors: float | None = None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What came of a load.

    Attributes:
        sent: requests.
        failed: those that were answered with 5xx, cut off, or not answered in time.
        seconds: until the last answer.
        latencies: milliseconds from the moment a request was meant to be sent until its answer was
            whole, rising, of those that were answered.
        statuses: how many answers of each HTTP status.
        faults: how many requests failed without one, by what happened.
        versions: how many answers of each model version.
        late: milliseconds by which we ourselves were late, 99th percentile.
    """

    sent: int
    failed: int
    seconds: float
    latencies: Sequence[float] = field(repr=False)
    statuses: Mapping[int, int]
    faults: Mapping[str, int]
    versions: Mapping[str, int]
    late: float

    def percentile(self, share: float) -> float | None:
        """Return the latency in milliseconds below which ``share`` percent of answers came.

        None where there are too few to say: fewer than ten are beyond it.
        """
        count = len(self.latencies)
        if count * min(share, 100 - share) / 100 < _ENOUGH and count * (100 - share) / 100 < 1:
            return None
        return self.latencies[min(count - 1, math.ceil(count * share / 100) - 1)]

    def judge(self, limits: Limits) -> tuple[str, list[str]]:
        """Return ``pass``, ``fail`` or ``inconclusive``, and in words why."""
        words, open_ones = [], []
        for name in ("p50", "p95", "p99"):
            most = getattr(limits, name)
            if most is None:
                continue
            found = self.percentile(float(name[1:]))
            if found is None:
                open_ones.append(f"{name}: {len(self.latencies)} answers are too few to say")
            elif found > most:
                words.append(f"{name} is {found:.2f} ms, and may be {most:g} ms")
        if limits.errors is not None and self.sent and self.failed / self.sent > limits.errors:
            words.append(
                f"{self.failed} of {self.sent} requests failed, and {limits.errors:.2%} may"
            )
        if not self.sent:
            open_ones.append("nothing was sent")
        refused = sum(n for status, n in self.statuses.items() if 300 <= status < 500)
        if refused:
            # An answer of 401 is quick and says nothing of the model.
            open_ones.append(f"{refused} requests were turned away: these were no predictions")
        if self.late > _KEEP_UP * 1000:
            # Being late makes latencies longer, so what passes all the same passes.
            note = f"this machine was {self.late:.1f} ms late itself: send less, or from another"
            (open_ones if words else []).append(note)
        if words and self.late > _KEEP_UP * 1000:
            return "inconclusive", [*words, *open_ones]
        return ("fail", words) if words else ("inconclusive" if open_ones else "pass", open_ones)

    def plain(self) -> dict[str, Any]:
        """Return the figures as JSON holds them."""
        return {
            "format": FORMAT,
            "sent": self.sent,
            "answered": len(self.latencies),
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "requests_per_second": round(len(self.latencies) / max(self.seconds, 1e-9), 1),
            "milliseconds": {f"p{p:g}": self.percentile(p) for p in PERCENTILES}
            | {"max": self.latencies[-1] if self.latencies else None},
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
            "faults": dict(sorted(self.faults.items())),
            "versions": dict(sorted(self.versions.items())),
            "late_milliseconds_p99": round(self.late, 3),
        }

    def words(self) -> list[str]:
        """Return the figures for a person, and the latencies as a picture."""
        lines = [
            f"{self.sent} requests in {self.seconds:.1f} s, {len(self.latencies)} answered,"
            f" {self.failed} failed"
        ]
        for status, count in sorted(self.statuses.items()):
            lines.append(f"  HTTP {status}: {count}")
        lines += [f"  {fault}: {count}" for fault, count in sorted(self.faults.items())]
        if len(self.versions) > 1 or any(self.versions):
            told = ", ".join(f"{v or 'none'}: {n}" for v, n in sorted(self.versions.items()))
            lines.append(f"  by version of the model: {told}")
        known = [(p, self.percentile(p)) for p in PERCENTILES]
        lines.append("  ".join(f"p{p:g} {v:.2f} ms" for p, v in known if v is not None))
        if self.latencies:
            lines.append(self._picture())
        if self.late > _KEEP_UP * 1000:
            lines.append(f"note: this machine was {self.late:.1f} ms late itself (99th percentile)")
        return [line for line in lines if line]

    def _picture(self, width: int = 48) -> str:
        low = max(self.latencies[0], 1e-3)
        high = max(self.latencies[-1], low * 1.01)
        step = math.log(high / low) / width
        bins = [0] * width
        for value in self.latencies:
            bins[min(width - 1, int(math.log(max(value, low) / low) / step))] += 1
        most = max(bins)
        bars = "".join(_BARS[min(7, math.ceil(7 * n / most))] if n else " " for n in bins)
        return f"{low:.2f} ms │{bars}│ {high:.2f} ms"


def run(load: Load, progress: Callable[[int, int], None] | None = None) -> Figures:
    """Send the load and return what came of it.

    Args:
        load: what is sent.
        progress: called each half second with the number of requests sent, and of all.

    Raises:
        LoadError: nobody answers at the address at all.
    """
    try:
        import uvloop
    except ImportError:
        return asyncio.run(_Run(load, progress).go())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Run(load, progress).go())


class _Run:
    def __init__(self, load: Load, progress: Callable[[int, int], None] | None) -> None:
        self.load, self.progress = load, progress
        parts = urlsplit(load.url)
        self.host = parts.hostname or ""
        self.ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self.port = parts.port or (443 if self.ssl else 80)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.requests = [self._request(path, parts.netloc, body) for body in load.bodies or (b"",)]
        self.free: list[_Connection] = []
        self.open = 0
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.latencies: list[float] = []
        self.late: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.left = 0
        self.done = asyncio.Event()

    def _request(self, path: str, host: str, body: bytes) -> bytes:
        lines = [f"{'POST' if self.load.bodies else 'GET'} {path} HTTP/1.1", f"Host: {host}"]
        if self.load.bodies:
            lines += [f"Content-Type: {self.load.content_type}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in self.load.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def go(self) -> Figures:
        await self._knock()
        moments = _moments(self.load)
        self.left = len(moments)
        started = _now()
        told = started
        for number, moment in enumerate(moments):
            if (wait := started + moment - _now()) > 0:
                await asyncio.sleep(wait)
            now = _now()
            self.late.append(max(0.0, now - started - moment))
            # A timer may also ring a little early.
            self._send(min(started + moment, now), self.requests[number % len(self.requests)])
            if self.progress and now - told > 0.5:
                told = now
                self.progress(number, len(moments))
        if self.left:
            await self.done.wait()
        seconds = _now() - started
        for connection in self.free:
            connection.close()
        late = sorted(self.late)
        self.latencies.sort()
        failed = sum(self.faults.values())
        failed += sum(count for status, count in self.statuses.items() if status >= 500)
        return Figures(
            sent=len(moments),
            failed=failed,
            seconds=seconds,
            latencies=self.latencies,
            statuses=self.statuses,
            faults=self.faults,
            versions=self.versions,
            late=1000 * late[math.ceil(0.99 * len(late)) - 1] if late else 0.0,
        )

    async def _knock(self) -> None:
        try:
            self.free.append(await asyncio.wait_for(self._connect(), self.load.timeout))
        except (OSError, TimeoutError) as error:
            raise LoadError(
                f"nobody answers: {error or type(error).__name__}",
                where=self.load.url,
                remedy="Start the server: `mlnb serve`, or `mlnb deploy apply`.",
            ) from None

    async def _connect(self) -> _Connection:
        self.open += 1
        try:
            _, made = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), self.host, self.port, ssl=self.ssl
            )
        except BaseException:
            self.open -= 1
            raise
        return made

    def _send(self, meant: float, request: bytes) -> None:
        while self.free:
            connection = self.free.pop()
            if not connection.closed:
                connection.send(meant, request)
                return
        self.waiting.append((meant, request))
        if self.open < self.load.connections:
            task = asyncio.ensure_future(self._more())
            task.add_done_callback(lambda each: each.exception())

    async def _more(self) -> None:
        try:
            connection = await asyncio.wait_for(self._connect(), self.load.timeout)
        except (OSError, TimeoutError) as error:
            if self.waiting:
                self.waiting.popleft()
                self.failed(f"no connection: {getattr(error, 'strerror', '') or 'in time'}")
            return
        self.ready(connection)

    def ready(self, connection: _Connection) -> None:
        """Give a connection that is free its next request."""
        while self.waiting:
            meant, request = self.waiting.popleft()
            if _now() - meant > self.load.timeout:
                self.failed("not sent in time: all connections are in use")
                continue
            connection.send(meant, request)
            return
        self.free.append(connection)

    def lost(self) -> None:
        """Know that a connection is gone; who waits for one gets another."""
        self.open -= 1
        if self.waiting:
            task = asyncio.ensure_future(self._more())
            task.add_done_callback(lambda each: each.exception())

    def answered(self, seconds: float, status: int, version: str) -> None:
        """Count an answer."""
        self.latencies.append(1000 * seconds)
        self.statuses[status] += 1
        self.versions[version] += 1
        self._one_less()

    def failed(self, fault: str) -> None:
        """Count a request without an answer."""
        self.faults[fault] += 1
        self._one_less()

    def _one_less(self) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()


class _Connection(asyncio.Protocol):
    """A connection that is asked one thing at a time."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.closed = False
        self.transport: Any = None
        self.meant: float | None = None
        self.version = ""
        self.timer: asyncio.TimerHandle | None = None
        self.parser: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, meant: float, request: bytes) -> None:
        from httptools import HttpResponseParser

        self.meant, self.version = meant, ""
        self.parser = HttpResponseParser(self)
        loop = asyncio.get_running_loop()
        self.timer = loop.call_later(self.run.load.timeout, self._late)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        from httptools import HttpParserError

        try:
            if self.parser is not None:
                self.parser.feed_data(data)
        except HttpParserError:
            self._fail("an answer that is no HTTP")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-model-version":
            self.version = value.decode("latin-1")

    def on_message_complete(self) -> None:
        if self.meant is None:
            return
        seconds = _now() - self.meant
        again = self.parser.should_keep_alive()
        status = self.parser.get_status_code()
        self._rest()
        self.run.answered(seconds, status, self.version)
        if not again:
            self.close()
        else:
            self.run.ready(self)

    def connection_lost(self, error: Exception | None) -> None:
        was_closed, self.closed = self.closed, True
        if self.meant is not None:
            self._rest()
            self.run.failed("cut off")
        if not was_closed:
            self.run.lost()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.transport.close()
            self.run.lost()

    def _late(self) -> None:
        self._fail(f"no answer within {self.run.load.timeout:g} s")

    def _fail(self, fault: str) -> None:
        if self.meant is not None:
            self._rest()
            self.run.failed(fault)
        self.close()

    def _rest(self) -> None:
        self.meant = None
        if self.timer:
            self.timer.cancel()
            self.timer = None


def _moments(load: Load) -> list[float]:
    """Return the seconds after the start at which requests come: a Poisson process."""
    chance = random.Random(load.seed)
    moments: list[float] = []
    at = chance.expovariate(load.rate)
    while at < load.seconds:
        moments.append(at)
        at += chance.expovariate(load.rate)
    return moments or [0.0]


def bodies_of(requests: Any) -> list[bytes]:
    """Return bodies of MLflow's protocol, one for each row, of columns and rows.

    Args:
        requests: table as pandas holds it.
    """
    columns = [str(name) for name in requests.columns]
    told = json.loads(requests.to_json(orient="split", date_format="iso"))
    return [
        json.dumps({"dataframe_split": {"columns": columns, "data": [row]}}).encode()
        for row in told["data"]
    ]
