"""Load that comes when it comes: what is counted, and from when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import served
import sums

from mlnb import cli
from mlnb.loadtest import Figures, Limits, Load, LoadError, bodies_of, run

Answer = Callable[[int, bytes], "tuple[float, bytes | None]"]
"""Of the number of a request and its body: seconds to wait, and what to write; None closes."""

OK = b"HTTP/1.1 200 OK\r\nX-Model-Version: 7\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """A server in a thread of its own, which answers as it is told."""

    def __init__(self, answer: Answer) -> None:
        self.answer, self.seen, self.connections = answer, 0, 0
        self.head = b""
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)

    async def _live(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._end.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(
            asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError
        ):
            while True:
                head = self.head = await reader.readuntil(b"\r\n\r\n")
                size = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
                body = await reader.readexactly(int(size or 0))
                self.seen += 1
                wait, answer = self.answer(self.seen, body)
                await asyncio.sleep(wait)
                if answer is None:
                    break
                writer.write(answer)
        writer.close()

    def __enter__(self) -> Server:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/invocations"


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    with contextlib.ExitStack() as stack:
        yield lambda answer: stack.enter_context(Server(answer))


def test_every_request_is_counted_once(serve: Callable[[Answer], Server]) -> None:
    """Bodies take turns, connections are used again, and all is in the report."""
    bodies: list[bytes] = []
    server = serve(lambda number, body: (0, bodies.append(body) or OK))  # type: ignore[func-returns-value]
    found = run(Load(url=server.url, bodies=[b'{"a": 1}', b'{"a": 2}'], rate=400, seconds=0.5))
    assert found.sent == server.seen == len(found.latencies) == found.statuses[200]
    assert 100 < found.sent < 300
    assert not found.failed and not found.faults
    assert found.versions == {"7": found.sent}
    assert abs(bodies.count(b'{"a": 1}') - bodies.count(b'{"a": 2}')) <= 1
    assert server.connections < found.sent
    told = found.plain()
    assert told["answered"] == found.sent and json.loads(json.dumps(told)) == told
    assert "HTTP 200" in "\n".join(found.words())


def test_waiting_counts_from_the_moment_that_was_meant(serve: Callable[[Answer], Server]) -> None:
    """One connection that is held up delays all that follow, and each of them says so."""
    server = serve(lambda number, body: (0.5 if number == 2 else 0, OK))
    found = run(Load(url=server.url, bodies=[b"{}"], rate=200, seconds=0.5, connections=1))
    assert not found.failed
    delayed = [value for value in found.latencies if value > 100]
    assert len(delayed) > found.sent * 0.4  # a closed loop would have told of one


def test_failures_of_every_kind_are_told_apart(serve: Callable[[Answer], Server]) -> None:
    """An error, a cut connection, silence and what is no HTTP fail; a refusal is an answer."""
    answers: dict[int, tuple[float, bytes | None]] = {
        1: (0, b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"),
        2: (0, None),
        3: (30, OK),
        4: (0, b"what?\r\n\r\n"),
        5: (0, b"HTTP/1.1 400 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
    }
    server = serve(lambda number, body: answers.get(number, (0, OK)))
    found = run(Load(url=server.url, rate=100, seconds=0.4, timeout=1))
    assert found.failed == 4
    assert found.statuses[500] == found.statuses[400] == 1
    assert found.faults == {
        "cut off": 1,
        "no answer within 1 s": 1,
        "an answer that is no HTTP": 1,
    }
    assert found.sent == sum(found.statuses.values()) + sum(found.faults.values())


def test_nobody_at_the_address_is_bad_input() -> None:
    """It is said before anything is measured."""
    with Server(lambda number, body: (0, OK)) as server:
        port = server.port
    with pytest.raises(LoadError, match="nobody answers"):
        run(Load(url=f"http://127.0.0.1:{port}/", seconds=1))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"rate": 0}, "rate must be above 0"),
        ({"seconds": float("nan")}, "seconds must be above 0"),
        ({"rate": 1e9, "seconds": 1e3}, "too many"),
        ({"url": "ftp://x"}, "no address"),
        ({"url": "localhost:80"}, "no address"),
        ({"headers": {"a": "b\r\nc: d"}}, "line break"),
    ],
)
def test_a_load_that_cannot_be_is_refused(more: dict[str, object], says: str) -> None:
    """With what may be."""
    with pytest.raises(LoadError, match=says):
        Load(**({"url": "http://localhost/"} | more))  # type: ignore[arg-type]


def figures(latencies: list[float], failed: int = 0, late: float = 0.0) -> Figures:
    return Figures(
        sent=len(latencies) + failed,
        failed=failed,
        seconds=1.0,
        latencies=sorted(latencies),
        statuses={200: len(latencies)},
        faults={"cut off": failed} if failed else {},
        versions={"": len(latencies)},
        late=late,
    )


def test_percentiles_are_of_the_answers_that_came() -> None:
    """By nearest rank; none where hardly an answer lies beyond."""
    found = figures([float(n) for n in range(1, 1001)])
    assert [found.percentile(p) for p in (50, 95, 99)] == [500, 950, 990]
    assert figures([1.0] * 20).percentile(99) is None
    assert figures([]).percentile(50) is None


@pytest.mark.parametrize(
    ("found", "limits", "verdict"),
    [
        (figures([1.0] * 2000), Limits(p99=2, errors=0), "pass"),
        (figures([1.0] * 1900 + [9.0] * 100), Limits(p99=2), "fail"),
        (figures([1.0] * 1900 + [9.0] * 100), Limits(p50=2), "pass"),
        (figures([1.0] * 2000, failed=30), Limits(errors=0.01), "fail"),
        (figures([1.0] * 2000, failed=10), Limits(errors=0.01), "pass"),
        (figures([1.0] * 30), Limits(p99=2), "inconclusive"),
        (figures([9.0] * 2000, late=20), Limits(p99=2), "inconclusive"),
        (figures([1.0] * 2000, late=20), Limits(p99=2), "pass"),
        (figures([]), Limits(p99=2), "inconclusive"),
    ],
)
def test_limits_judge(found: Figures, limits: Limits, verdict: str) -> None:
    """Too few answers, and a machine that cannot keep up, leave it open."""
    assert found.judge(limits)[0] == verdict


def test_a_table_becomes_one_body_a_row() -> None:
    """Gaps are null, and names stay as they are."""
    made = bodies_of(pd.DataFrame({"a": [1.5, None], 'n "x"': ["é", None]}))
    assert [json.loads(each) for each in made] == [
        {"dataframe_split": {"columns": ["a", 'n "x"'], "data": [row]}}
        for row in ([1.5, "é"], [None, None])
    ]


# --- The command -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A project whose version 1 is served; its folder and the port."""
    made = served.begun(tmp_path_factory.mktemp("load") / "project", 1)
    made.publish(1)
    folder = made.project.state / "serving" / "production"
    words = ["-m", "mlnb", "serve", "--port", "0"]
    with sums.started(words, folder, made.project.root) as server:
        yield made.project.root, server.port


QUICK = ["--rate", "100", "--seconds", "0.5", "--timeout", "60"]


@pytest.mark.parametrize(
    ("more", "code", "verdict", "says"),
    [
        (["--max-p50", "60000"], 0, "pass", "by version of the model: 1: "),
        (["--max-p50", "0.000001"], 1, "fail", "and may be 1e-06 ms"),
        (["--max-p99", "60000", "--seconds", "0.1"], 2, "inconclusive", "are too few to say"),
        (["--data", "wrong.jsonl"], 2, "inconclusive", "requests were turned away"),
    ],
)
def test_the_command_judges_the_server_that_runs(
    project: tuple[Path, int],
    more: list[str],
    code: int,
    verdict: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Without a URL it asks the local server golden requests; exit codes and report agree."""
    monkeypatch.chdir(project[0])
    (project[0] / "wrong.jsonl").write_text('{"instances": [[1]]}\n\n{"instances": []}\n')
    monkeypatch.setattr("mlnb.loadtest._KEEP_UP", 60.0)  # however busy this machine is
    report = tmp_path / "load.json"
    found = cli.main(["loadtest", *QUICK, *more, "--json", str(report)])
    printed = capsys.readouterr().out
    assert found == code, printed
    assert says in printed and printed.splitlines()[-1] == verdict
    told = json.loads(report.read_text())
    assert told["verdict"] == verdict and told["sent"] == sum(told["statuses"].values())
    assert told["url"].endswith(f":{project[1]}/invocations")


def test_the_command_sends_headers(
    project: tuple[Path, int],
    serve: Callable[[Answer], Server],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A URL with a path is asked as it is, with headers and the token of a variable."""
    monkeypatch.chdir(project[0])
    monkeypatch.setenv("LOAD_TOKEN", "mlnb_secret")
    server = serve(lambda number, body: (0, OK))
    more = ["--header", "X-Request-Key=ada", "--token-env", "LOAD_TOKEN"]
    cli.main(["loadtest", server.url, *QUICK, *more])
    head = server.head.decode().splitlines()
    assert head[0] == "POST /invocations HTTP/1.1"
    assert {"X-Request-Key: ada", "Authorization: Bearer mlnb_secret"} <= set(head)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--env", "staging"], "0 servers run on this machine: none"),
        (["--env", "stagging"], "Did you mean 'staging'?"),
        (["http://127.0.0.1:1", "--env", "staging"], "staging.json"),
        (["http://127.0.0.1:1"], "nobody answers"),
        (["--data", "pyproject.toml"], "pyproject.toml, body 1: is not JSON"),
        (["--data", "none.jsonl"], "none.jsonl: cannot be read"),
        (["--header", "X"], "a header is NAME=VALUE, not 'X'"),
        (["--token-env", "NO_SUCH_TOKEN"], "no variable NO_SUCH_TOKEN"),
        (["--rate", "0"], "rate must be above 0"),
    ],
)
def test_the_command_refuses(
    project: tuple[Path, int],
    words: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bad input is exit 2 and one sentence."""
    monkeypatch.chdir(project[0])
    assert cli.main(["loadtest", *words]) == 2
    assert says in capsys.readouterr().err
