"""Requests that nobody means well, and what a server makes of them.

A part is made by schemathesis from what the server says that it accepts (and does not), a part by
changing such requests, and a part is bytes, some of which are no HTTP. One seed gives the same.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

JSON = "application/json"
TRACES = (b"Traceback", b'File "', b".py", b"site-packages")
"""What no answer may hold."""
NASTY: tuple[Any, ...] = (
    None, True, "", "\x00", "NaN", 1e308, -1e308, 2**63, 2**64, -(2**63) - 1, 0.1, [], {}, [[]],
    {"a": {}}, "x" * 5000, [None] * 50, {"": ""}, "\ud7ff", -0.0, 5e-324, "1", "__proto__",
)  # fmt: skip
SPLICES: tuple[bytes, ...] = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-", b"01", b"\xff", b"\x00", b"[" * 2000,
    b'{"a":' * 2000, b"9" * 5000, b"/**/", b"'", b"\\ud800", b",", b"0x10", b"]", b"}",
)  # fmt: skip


class Sent(NamedTuple):
    """One request: how it was made, and what it is; without a method, bytes to send as they are."""

    kind: str
    method: str
    path: str
    content: str
    body: bytes


@dataclass
class Figures:
    """What came of a campaign.

    Attributes:
        requests: that were sent.
        statuses: how often each came; 0 for a connection that was closed without an answer.
        kinds: how many of each kind were sent.
        valid: how many were made to be valid.
        answered: how many of these were answered by 200.
        accepted: how many were made to be invalid, by the document, and were answered by 200.
        faults: answers of 500 and more, and such as hold parts of a program, with what was sent.
        growth_mb: of the memory of the server, from the first hundred requests to the most.
    """

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    valid: int = 0
    answered: int = 0
    accepted: list[Sent] = field(default_factory=list)
    refused: list[tuple[Sent, bytes]] = field(default_factory=list)
    faults: list[tuple[Sent, int, bytes]] = field(default_factory=list)
    growth_mb: float = 0.0


def campaign(
    port: int, pid: int, document: dict[str, Any], count: int, seed: int, *, huge_mb: int = 20
) -> Figures:
    """Send ``count`` requests and one huge one to the server at ``port``; return what came of it.

    Args:
        port: on this machine.
        pid: of the process whose memory is looked at.
        document: OpenAPI, as the server gives it.
        count: of requests.
        seed: other requests for another one.
        huge_mb: of the body of the huge one.
    """
    figures, first, most = Figures(), 0.0, 0.0
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for sent in requests(document, count, seed):
        status, body = _raw(port, sent.body) if not sent.method else _sent(link, sent)
        _count(figures, sent, status, body)
        if figures.requests % 50 == 0:
            memory = rss_mb(pid)
            first = first or memory
            most = max(most, memory)
    status, body = _huge(port, huge_mb)
    _count(figures, Sent("huge", "POST", "/invocations", JSON, b""), status, body)
    figures.growth_mb = max(most, rss_mb(pid)) - first
    link.close()
    return figures


def requests(document: dict[str, Any], count: int, seed: int) -> Iterator[Sent]:
    """Yield the requests of one seed."""
    dice = random.Random(seed)
    part = max(12, count // 10)
    good = made(document, part, seed, good=True)
    bad = made(document, part, seed, good=False)
    yield from (good + bad)[: 2 * count // 5]
    bodies = [sent for sent in good if sent.content == JSON]
    for number in range(max(0, count - len(good) - len(bad))):
        like = dice.choice(bodies)
        match number % 5:
            case 0:
                yield like
            case 1 | 2:
                told = _changed(json.loads(like.body), dice)
                yield like._replace(kind="changed", body=json.dumps(told).encode())
            case 3:
                at = dice.randrange(len(like.body))
                spliced = (
                    like.body[:at] + dice.choice(SPLICES) + like.body[at + dice.randrange(9) :]
                )
                yield like._replace(kind="spliced", body=spliced)
            case _:
                yield _bytes(like, dice)


def made(document: dict[str, Any], count: int, seed: int, *, good: bool) -> list[Sent]:
    """Return requests that schemathesis makes of the document: all that it allows, or breaks."""
    from schemathesis.generation import GenerationMode

    found: list[Sent] = []
    mode = GenerationMode.POSITIVE if good else GenerationMode.NEGATIVE
    posts = [path for path, told in document["paths"].items() if "post" in told or "put" in told]
    paths = [path for path in posts if "{" not in path and "admin" not in path]
    for path in paths:
        for content, body in _cases(document, path, mode, max(4, count // len(paths)), seed):
            if good and content != JSON:
                continue  # of CSV, the document cannot say what its columns are
            data = body if isinstance(body, bytes) else _dumped(body)
            found.append(Sent("valid" if good else "invalid", "POST", path, content, data))
    random.Random(seed).shuffle(found)
    return found


def _cases(
    document: dict[str, Any], path: str, mode: Any, count: int, seed: int
) -> list[tuple[str, Any]]:
    import hypothesis
    import schemathesis

    found: list[tuple[str, Any]] = []
    with warnings.catch_warnings(action="ignore"):
        operation = schemathesis.openapi.from_dict(document)[path]["POST"]

        @hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.seed(seed)
        @hypothesis.given(operation.as_strategy(generation_mode=mode))
        def keep(case: Any) -> None:
            found.append((str(case.media_type), case.body))

        keep()
    return found


def rss_mb(pid: int) -> float:
    """Return the memory of a process, in megabytes of 10^6 bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) * 1024 / 1e6


def _dumped(body: Any) -> bytes:
    with contextlib.suppress(TypeError, ValueError):
        return json.dumps(body).encode("utf-8", "replace")
    return repr(body).encode("utf-8", "replace")


def _changed(told: Any, dice: random.Random) -> Any:
    """Return JSON in which something is another thing, gone, or there twice."""
    if isinstance(told, dict) and told and dice.random() < 0.8:
        name = dice.choice(list(told))
        match dice.randrange(6):
            case 0:
                return {each: value for each, value in told.items() if each != name}
            case 1:
                return told | {dice.choice(["", "x", name.upper(), "y" * 900]): told[name]}
            case _:
                return told | {name: _changed(told[name], dice)}
    if isinstance(told, list) and told and dice.random() < 0.8:
        at = dice.randrange(len(told))
        match dice.randrange(6):
            case 0:
                return told[:at] + told[at + 1 :]
            case 1:
                return told * dice.choice([2, 30])
            case _:
                return [*told[:at], _changed(told[at], dice), *told[at + 1 :]]
    return dice.choice(NASTY)


def _bytes(like: Sent, dice: random.Random) -> Sent:
    noise = dice.randbytes(dice.randrange(400))
    match dice.randrange(4):
        case 0:
            return Sent("bytes", "POST", like.path, JSON, noise)
        case 1:
            text = "text/csv" if dice.random() < 0.7 else "application/octet-stream"
            return Sent("bytes", "POST", like.path, text, b"age,site\n" + noise)
        case 2:
            return Sent("raw", "", "", "", noise)
        case _:
            head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
            at = dice.randrange(len(head))
            return Sent("raw", "", "", "", head[:at] + noise[:9] + head[at:] + b"\r\n[[[[[")


def _sent(link: http.client.HTTPConnection, sent: Sent) -> tuple[int, bytes]:
    for _ in range(2):
        try:
            link.request(sent.method, sent.path, sent.body, {"Content-Type": sent.content})
            answer = link.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            link.close()  # the server may close a connection; another one must do
    return 0, b""


def _raw(port: int, data: bytes) -> tuple[int, bytes]:
    said = b""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=60) as link,
    ):
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        while more := link.recv(65536):
            said += more
    status = said[9:12]
    return int(status) if said.startswith(b"HTTP/1.1 ") and status.isdigit() else 0, said


def _huge(port: int, megabytes: int) -> tuple[int, bytes]:
    """Send a body in pieces without saying its length, until there is an answer."""
    head = (
        b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    piece = b"10000\r\n" + b"[" * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        with contextlib.suppress(OSError):
            link.sendall(head)
            for _ in range(megabytes * 1_000_000 // 0x10000):
                link.sendall(piece)
        said = b""
        with contextlib.suppress(OSError):
            said = link.recv(65536)
    return int(said[9:12] or 0), said


def _count(figures: Figures, sent: Sent, status: int, body: bytes) -> None:
    figures.requests += 1
    figures.statuses[status] += 1
    figures.kinds[sent.kind] += 1
    if sent.kind == "valid":
        figures.valid += 1
        figures.answered += status == 200
        if status != 200:
            figures.refused.append((sent, body))
    if sent.kind == "invalid" and status == 200:
        figures.accepted.append(sent)
    if status >= 500 or (status != 200 and any(each in body for each in TRACES)):
        figures.faults.append((sent, status, body[:500]))
