"""What a server says over HTTP: protocols, checks, limits, access, and how it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import http.client
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile
import pandas as pd
import pytest
import served
import sums
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from mlnb.bundle.errors import BundleError
from mlnb.bundle.schema import Column, Schema
from mlnb.errors import ProjectError
from mlnb.people import tokens
from mlnb.project import find
from mlnb.serving import protocols
from mlnb.serving.access import Access, access_of, is_loopback
from mlnb.serving.app import build
from mlnb.serving.checks import checker
from mlnb.serving.errors import RequestError, ServingError
from mlnb.serving.settings import ServeSettings, settings_of

ROW, SUM = sums.ROW, sums.SUM
LIST = list(ROW.values())
TENSORS: list[dict[str, Any]] = [
    {"name": name, "shape": [1], "datatype": kind, "data": [value]}
    for (name, value), kind in zip(
        ROW.items(), ["FP64", "INT64", "BYTES", "BOOL", "BYTES"], strict=True
    )
]


def patiently(true: Callable[[], Any]) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + 60
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


# --- Checks ------------------------------------------------------------------------------------

COLUMNS = [
    Column("x", "boolean", "bool", False),
    Column("x", "boolean", "boolean", True),
    Column("x", "integer", "int64", False),
    Column("x", "integer", "int8", False),
    Column("x", "integer", "uint8", False),
    Column("x", "integer", "Int64", True),
    Column("x", "integer", "UInt16", True),
    Column("x", "number", "float64", False),
    Column("x", "number", "float32", True),
    Column("x", "number", "Float64", True),
    Column("x", "text", "str", True, values=("a", "b")),
    Column("x", "text", "string", True),
    Column("x", "category", "category", True, values=("a", "b", "")),
    Column("x", "category", "category", True, values=(1, 2, 3)),
    Column("x", "category", "category", True, values=(0.5, 1.0)),
    Column("x", "category", "category", True, values=(True, False)),
    Column("x", "date", "datetime64[us]", True),
    Column("x", "date", "datetime64[ns]", True),
    Column("x", "date", "datetime64[ns, UTC]", True),
]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, 2, 3, 127, 128, 255, 256, -1, -129, 2**53 + 1, 2**63, 2**64, 10**400]),
    st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 1e19, -0.0, 1e300, 5e-324, math.nan, math.inf]),
    st.integers(-300, 300),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["a", "b", "", "1", "true", "None", "nan", "ä", "2020-01-01"]),
    st.sampled_from(["2020-02-30", "2020-01-01T10:20:30.5", "2020-01-01 10:20Z", "9999-01-01"]),
    st.datetimes().map(lambda moment: moment.isoformat()),
)


def conformed(column: Column, values: list[Any]) -> Any:
    """Return what Schema.conform makes of the values of a column; None if it refuses them."""
    frame = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    with warnings.catch_warnings(action="ignore"):
        try:
            return Schema((column,)).conform(frame)["x"]
        except (BundleError, OverflowError):
            return None


def stricter(column: Column, value: Any) -> bool:
    """Return whether the value is one that a server refuses although conform would take it."""
    if isinstance(value, float) and not math.isfinite(value):
        return True
    if column.kind == "category" and isinstance(value, int | float):
        return True in (column.values or ())
    if column.kind == "date" and isinstance(value, str):
        return True  # conform reads much more than ISO 8601
    return column.dtype == "float32" and isinstance(value, int | float) and abs(value) > 3.4e38


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(COLUMNS), st.lists(VALUES, min_size=1, max_size=3))
def test_values_pass_as_conform_lets_them(column: Column, values: list[Any]) -> None:
    """What a server takes is what Schema.conform takes, as the same values; and the reverse."""
    wanted = conformed(column, values)
    try:
        taken = [row[0] for row in checker(Schema((column,)))(None, [[each] for each in values])]
    except RequestError as error:
        assert error.status == 422
        assert error.where.startswith("row ") and error.where.endswith(", column 'x'")
        assert wanted is None or any(stricter(column, each) for each in values)
    else:
        assert wanted is not None
        again = conformed(column, taken)
        pd.testing.assert_series_equal(again, wanted)
        for each, mine in zip(wanted.tolist(), taken, strict=True):
            if column.kind != "date" and not pd.isna(each):
                assert mine == each or float(mine) == each


@pytest.mark.parametrize(
    ("columns", "rows", "said"),
    [
        (["age"], [[1.0]], "without the columns 'visits', 'site'"),
        ([*ROW, "agee"], [[*LIST, 1]], "'agee', which the model does not take. Did you mean 'age'"),
        ([*ROW, "age"], [[*LIST, 1]], "names the column 'age' twice"),
        (None, [LIST, LIST[:2]], "row 1: has 2 values for 5 columns"),
        (None, [LIST, [1.0, 1.5, *LIST[2:]]], "row 1, column 'visits': should be a whole number"),
        (None, [[1.0, 2**63, *LIST[2:]]], "goes from -9223372036854775808"),
        (None, [[math.nan, *LIST[1:]]], "a gap is null"),
        (None, [[1e308, 1, "east", True, "x"]], "training did not know it"),
        (None, [[[1.0], *LIST[1:]]], "not a list"),
        (None, [[1.0, None, *LIST[2:]]], "null, which its type cannot hold"),
    ],
)
def test_what_is_wrong_is_said(columns: Any, rows: Any, said: str) -> None:
    """A message names the row and the column, and what was expected."""
    with pytest.raises(RequestError, match=re.escape(said)):
        checker(sums.SCHEMA)(columns, rows)


def test_numbers_whose_sum_overflows_pass() -> None:
    """Large numbers are as finite as small ones."""
    pair = Schema(
        (Column("a", "number", "float64", False), Column("b", "number", "float64", False))
    )
    assert checker(pair)(["b", "a"], [[1.7e308, 1.5e308]]) == [[1.5e308, 1.7e308]]


# --- Protocols, over real connections ----------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sums.Served]:
    """A server that adds up, with small limits; its log must stay free of tracebacks."""
    folder = tmp_path_factory.mktemp("sums")
    limits = {"body_kb": 20, "rows": 10, "requests": 250, "header_seconds": 2, "body_seconds": 2}
    with sums.summing(folder, idle_seconds=2, name="adder", **limits) as served:
        yield served
    assert "Traceback" not in (folder / "server.log").read_text()


@pytest.mark.parametrize(
    "told",
    [
        {"dataframe_split": {"columns": list(ROW), "data": [LIST]}},
        {"dataframe_split": {"columns": list(ROW)[::-1], "index": [0], "data": [LIST[::-1]]}},
        {"dataframe_split": {"data": [LIST]}},
        {"dataframe_records": [ROW]},
        {"instances": [ROW]},
        {"instances": [LIST]},
        {"inputs": {name: [value] for name, value in ROW.items()}},
        {"inputs": ROW},
        {"inputs": [LIST]},
        {"inputs": [ROW]},
    ],
)
def test_invocations(server: sums.Served, told: Any) -> None:
    """Every form of MLflow's protocol gives the same answer, which names its version."""
    status, said, headers = server.ask("POST", "/invocations", told)
    assert (status, said) == (200, {"predictions": [SUM]})
    assert headers["x-model-version"] == "7"
    assert headers["x-model-digest"].startswith("sha256:5")
    assert headers["x-request-id"]


@pytest.mark.parametrize(
    "text",
    [
        "age,visits,site,insured,note\n30.5,3,north,True,x\n",
        '\ufeffnote,insured,site,visits,age\r\n"x,\ny",true,north,3,3.05e1\r\n\r\n',
    ],
)
def test_invocations_in_csv(server: sums.Served, text: str) -> None:
    """CSV has the types of the schema."""
    headers = {"Content-Type": "text/csv; charset=utf-8"}
    assert server.ask("POST", "/invocations", text.encode(), headers)[:2] == (
        200,
        {"predictions": [SUM]},
    )


@pytest.mark.parametrize("path", ["/v2/models/adder/infer", "/v2/models/adder/versions/7/infer"])
def test_infer(server: sums.Served, path: str) -> None:
    """The open inference protocol takes a tensor for each column, flat or not, in any order."""
    upright = [each | {"shape": [1, 1], "data": [each["data"]]} for each in reversed(TENSORS)]
    for tensors in (TENSORS, upright):
        asked = {"id": "mine", "inputs": tensors, "outputs": [{"name": "predict"}]}
        status, said, _ = server.ask("POST", path, asked)
        assert status == 200
        assert said == {
            "model_name": "adder",
            "model_version": "7",
            "id": "mine",
            "outputs": [{"name": "predict", "shape": [1], "datatype": "FP64", "data": [SUM]}],
        }


def test_infer_takes_one_tensor_for_all_columns() -> None:
    """Where all columns are numbers, one tensor of [n, columns] will do."""
    wide = {"name": "all", "shape": [2, 2], "datatype": "FP32"}
    for data in ([1, 2, 3, 4], [[1, 2], [3, 4]]):
        body = json.dumps({"inputs": [wide | {"data": data}]}).encode()
        assert protocols.read_infer(body, ["a", "b"], 9) == (None, [[1, 2], [3, 4]], "")


def test_what_a_server_tells_of_itself(server: sums.Served) -> None:
    """The routes that tools ask answer as their protocols say."""
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/adder/ready", "/ping"):
        assert server.ask("GET", path)[0] == 200
    assert server.ask("GET", "/v2")[1]["name"] == "mlnb"
    told = server.ask("GET", "/v2/models/adder")[1]
    assert told["versions"] == ["7"]
    assert [each["datatype"] for each in told["inputs"]] == [each["datatype"] for each in TENSORS]
    assert server.ask("GET", "/v2/models/adder/versions/7/ready")[0] == 200
    assert server.ask("GET", "/v2/models/adder/versions/8/ready")[0] == 404
    assert server.ask("GET", "/metrics")[1] == b"up 1\n"
    assert server.ask("GET", "/admin/status")[1]["share"] == 0
    share = {"share": 0.5, "step": 1, "digest": "sha256:candidate"}
    assert server.ask("PUT", "/admin/share", share)[1]["share"] == 0.5
    assert server.ask("PUT", "/admin/share", share | {"digest": "x"})[0] == 409
    for wrong in ({"share": 2}, {"share": "1"}, {"step": True}, {"more": 1}):
        assert server.ask("PUT", "/admin/share", share | wrong)[0] == 422
    assert server.ask("POST", "/feedback", {"request_id": "a", "label": [1, 0]})[0] == 200
    assert server.ask("POST", "/feedback", {"request_id": "a", "label": None})[0] == 422
    assert server.ask("GET", "/none")[0] == 404
    assert server.ask("DELETE", "/invocations")[0] == 405


def test_answers_without_a_body_are_sent(server: sums.Served) -> None:
    """HEAD gets its head at once; and requests that come together are answered in turn."""
    for path in ("/ping", "/v2", "/none"):
        status, body, headers = server.ask("HEAD", path)
        assert status in (200, 404) and body == b"" and int(headers["content-length"]) >= 1
    body = json.dumps({"inputs": ROW}).encode()
    head = (
        b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body)
    )
    with server.connect() as link:
        link.sendall((head + body) * 3 + b"HEAD /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = b""
        while said.count(b"HTTP/1.1 200") < 4 or not said.endswith(b"\r\n\r\n"):
            said += link.recv(65536)
    assert said.count(b'{"predictions":[34.5]}') == 3


def test_a_request_keeps_its_id_if_it_is_sane(server: sums.Served) -> None:
    """An id is taken from the request, and not when it could be code or a line of a log."""
    good = {"X-Request-Id": "abc-1.2:3"}
    assert server.ask("GET", "/none", headers=good)[1]["request_id"] == "abc-1.2:3"
    for bad in ("a b", "x" * 200, "<script>"):
        headers = {"X-Request-Id": bad}
        said = server.ask("POST", "/invocations", {"inputs": ROW}, headers)[2]["x-request-id"]
        assert said != bad and len(said) == 24


# --- Bad input ---------------------------------------------------------------------------------

DEEP = b"[" * 10_000
BAD: list[tuple[bytes, int, str]] = [
    (b"", 400, "not JSON"),
    (b"\xff\xfe", 400, "not JSON"),
    (DEEP, 400, "depth"),
    (b'{"inputs":' * 500, 400, "not JSON"),
    (b'{"inputs": [[NaN, 1, "north", true, "x"]]}', 400, "not JSON"),
    (b'{"inputs": [[1e400, 1, "north", true, "x"]]}', 400, "infinity"),
    (b"null", 400, "one of dataframe_split"),
    (b"[]", 400, "one of dataframe_split"),
    (b'{"inputs": 1, "instances": 2}', 400, "nothing else"),
    (b'{"inputs": {"age": [1], "visits": []}}', 400, "one length"),
    (b'{"inputs": {}}', 400, "no row"),
    (b'{"instances": []}', 400, "no row"),
    (b'{"instances": [1]}', 400, "list of values"),
    (b'{"dataframe_split": {"columns": [1], "data": []}}', 400, "texts"),
    (b'{"dataframe_split": {"datas": []}}', 400, "lacks 'data'"),
    (b'{"dataframe_records": [{}, []]}', 400, "row 1"),
    (json.dumps({"instances": [LIST] * 11}).encode(), 413, "more than 10"),
    (b" " * 20_001, 413, "more than 20,000 bytes"),
    (json.dumps({"instances": [ROW, {"age": 1}]}).encode(), 422, "row 1: lacks the column"),
    (json.dumps({"instances": [ROW | {"visits": True}]}).encode(), 422, "column 'visits'"),
    (json.dumps({"instances": [ROW | {"visits": "3"}]}).encode(), 422, "column 'visits'"),
    (json.dumps({"instances": [ROW | {"site": "east"}]}).encode(), 422, "did not know"),
    (json.dumps({"instances": [ROW | {"more": 1}]}).encode(), 422, "'more'"),
]


@pytest.mark.parametrize(("body", "status", "said"), BAD)
def test_bad_input(server: sums.Served, body: bytes, status: int, said: str) -> None:
    """What is wrong is answered by 4xx and what is wrong, never by 5xx."""
    found, told, _ = server.ask("POST", "/invocations", body)
    assert (found, said in told["error"]) == (status, True), told
    assert set(told) == {"error", "error_code", "request_id"}


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": []},
        {"inputs": [TENSORS[0] | {"shape": [2]}]},
        {"inputs": [TENSORS[0] | {"shape": [10**9]}]},
        {"inputs": [TENSORS[0] | {"shape": [1, -1]}]},
        {"inputs": [TENSORS[0] | {"datatype": "FP8"}]},
        {"inputs": [TENSORS[0] | {"datatype": []}]},
        {"inputs": [*TENSORS[:-1], TENSORS[-1] | {"data": [1]}]},
        {"inputs": TENSORS[1:]},
        {"inputs": [*TENSORS, TENSORS[0]]},
        {"inputs": [TENSORS[0] | {"parameters": {"binary_data_size": 8}}]},
        {"outputs": [{"name": "other"}]},
        {"id": 5},
        {"more": 1},
    ],
)
def test_bad_tensors(server: sums.Served, change: dict[str, Any]) -> None:
    """So it is with the open inference protocol."""
    asked = {"inputs": TENSORS} | change
    status, told, _ = server.ask("POST", "/v2/models/adder/infer", asked)
    assert 400 <= status < 500 and told["error"]


def test_other_content(server: sums.Served) -> None:
    """Content that is not said to be what is taken is not looked at."""
    body = json.dumps({"inputs": ROW}).encode()
    for headers in (
        {"Content-Type": "text/plain"},
        {"Content-Type": ""},
        {"Content-Encoding": "gzip"},
        {"Content-Type": "application/json; charset=utf-16"},
    ):
        assert server.ask("POST", "/invocations", body, headers)[0] == 415
    for text in (b"a\x00b", b"age\n\xff", b'"age', b"age,visits\n1", b"age\n" + b"9" * 5000):
        assert (
            400 <= server.ask("POST", "/invocations", text, {"Content-Type": "text/csv"})[0] < 500
        )


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nContent-Length: 9999999999999999999999\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ],
)
def test_what_is_no_http(server: sums.Served, raw: bytes) -> None:
    """Bytes that are not HTTP are answered by 4xx or nothing, and the connection is closed."""
    with server.connect() as link:
        link.sendall(raw)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while more := link.recv(65536):
                said += more
    assert said == b"" or said.startswith(b"HTTP/1.1 4"), said
    assert server.ask("GET", "/ping")[0] == 200


def test_a_body_without_end_is_not_kept(server: sums.Served) -> None:
    """A body that is too large is refused while it comes, whether its length is said or not."""
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    for head, piece in (
        (b"Transfer-Encoding: chunked", chunk),
        (b"Content-Length: 200000000", b" " * 0x8000),
        (b"Content-Length: 200000000", b""),
    ):
        with server.connect() as link:
            link.sendall(
                b"POST /invocations HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\n" + head + b"\r\n\r\n"
            )
            for _ in range(4):
                link.sendall(piece)
            assert link.recv(65536).startswith(b"HTTP/1.1 413")


# --- Time and number ---------------------------------------------------------------------------


def test_slow_connections_are_closed(server: sums.Served) -> None:
    """200 connections that never say their request are closed, and meanwhile others answered."""
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    begun = [b"", b"POST", head, head + b"Content-Length: 100\r\n\r\n{", b"\r\n"]
    links = [server.connect() for _ in range(200)]
    stop = threading.Event()

    def trickle() -> None:
        # Of some, more comes all the time: it is the whole that must come in time.
        while not stop.wait(0.2):
            for link in links[2::5]:
                with contextlib.suppress(OSError):
                    link.sendall(b"X-More: 1\r\n")

    for at, link in enumerate(links):
        link.sendall(begun[at % len(begun)])
    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        assert server.ask("POST", "/invocations", {"inputs": ROW})[0] == 200
        said = []
        for link in links:
            link.settimeout(60)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                said.append(link.recv(65536))
    finally:
        stop.set()
        thread.join()
        for link in links:
            link.close()
    assert sum(each.startswith(b"HTTP/1.1 408") for each in said) > 150
    assert server.ask("POST", "/invocations", {"inputs": ROW})[0] == 200


def test_an_idle_connection_is_closed(server: sums.Served) -> None:
    """A connection that was used and is not any more does not stay for ever."""
    with server.connect() as link:
        link.sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = b""
        while more := link.recv(65536):
            said += more
    assert said.startswith(b"HTTP/1.1 200") and said.count(b"HTTP/1.1") == 1


def test_too_much_at_once(tmp_path: Path) -> None:
    """What is more than a worker may hold is told to come again; that it lives, is said."""
    head = (
        b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n"
    )
    with sums.summing(tmp_path, requests=2, connections=4) as server:
        with server.connect() as one, server.connect() as two:
            one.sendall(head)
            two.sendall(head)

            def turned_away() -> Any:
                found = server.ask("POST", "/invocations", {"inputs": ROW})
                return found if found[0] == 503 else None

            _, said, headers = patiently(turned_away)
            assert headers["retry-after"] == "1" and "come again" in said["error"]
            assert server.ask("GET", "/ping")[0] == 200
        patiently(lambda: server.ask("POST", "/invocations", {"inputs": ROW})[0] == 200)
        with contextlib.ExitStack() as many:
            links = [many.enter_context(server.connect()) for _ in range(6)]
            assert links[-1].recv(65536).startswith(b"HTTP/1.1 503")


# --- Access ------------------------------------------------------------------------------------


@pytest.fixture
def staffed(tmp_path: Path) -> Path:
    """A project of three people, of whom production demands an approver."""
    root = tmp_path / "project"
    root.mkdir()
    people = {"vera": "viewer", "tom": "trainer", "ada": "approver"}
    (root / "pyproject.toml").write_text(
        "[tool.mlnb]\n"
        + "".join(f"[tool.mlnb.people.{name}]\nrole = '{role}'\n" for name, role in people.items())
    )
    return root


def token(root: Path, person: str, days: int = 1, ago: int = 0) -> tuple[str, str]:
    """Make a token; return its id and its text."""
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=ago)
    made, text = tokens.new(find(root), person, days=days, now=now)
    return made.id, text


def test_every_route_has_a_rule() -> None:
    """What changes something takes a role, and so does what tells or predicts of the model."""
    face = build(sums.Sums(), ServeSettings(), Access(None, "", open=True))  # type: ignore[arg-type]
    routes = {
        (method, route.path)
        for route in face.inner.routes
        if isinstance(route, Route) and route.methods
        for method in route.methods - {"HEAD"}
    }
    assert routes == set(face.rules)
    free = {path for (method, path), role in face.rules.items() if not role and method == "GET"}
    assert {path for (_, path), role in face.rules.items() if not role} == free
    assert not any(path.startswith("/admin") for path in free)


def test_roles(staffed: Path) -> None:
    """Each route lets in who may, by a token that counts, as soon as it does and no longer."""
    texts = {name: token(staffed, name)[1] for name in ("vera", "tom", "ada")}
    texts["expired"] = token(staffed, "ada", days=1, ago=2)[1]
    ending, texts["ending"] = token(staffed, "ada")
    share = {"share": 0.5, "step": 1, "digest": "sha256:candidate"}
    asked: list[tuple[str, str, Any, int]] = [
        ("POST", "/invocations", {"inputs": ROW}, 1),
        ("POST", "/v2/models/model/infer", {"inputs": TENSORS}, 1),
        ("POST", "/v2/models/model/versions/7/infer", {"inputs": TENSORS}, 1),
        ("POST", "/feedback", {"request_id": "a", "label": 1}, 1),
        ("GET", "/admin/status", None, 1),
        ("PUT", "/admin/share", share, 3),
    ]
    ranks = {"vera": 1, "tom": 2, "ada": 3, "ending": 3}
    with sums.summing(staffed / "serving", project=str(staffed)) as server:
        for method, path, body, wanted in asked:
            for who, text in {**texts, "made up": "mlnb_x", "empty": ""}.items():
                status, said, headers = server.ask(
                    method, path, body, {"Authorization": f"Bearer {text}"}
                )
                rank = ranks.get(who, 0)
                assert status == (401 if not rank else 200 if rank >= wanted else 403), (who, path)
                assert text == "" or text not in json.dumps(said)
                assert ("www-authenticate" in headers) == (status == 401)
            assert server.ask(method, path, body)[0] == 401
        assert server.ask("GET", "/v2/health/ready")[0] == 200
        secured = server.ask("GET", "/openapi.json")[1]["paths"]
        assert secured["/invocations"]["post"]["security"] == [{"token": []}]
        bearer = {"Authorization": f"Bearer {texts['ending']}"}
        tokens.revoke(find(staffed), ending, now=datetime.datetime.now(datetime.UTC))
        patiently(lambda: server.ask("GET", "/admin/status", headers=bearer)[0] == 401)
        late = {"Authorization": f"Bearer {token(staffed, 'vera')[1]}"}
        patiently(lambda: server.ask("GET", "/admin/status", headers=late)[0] == 200)
        (staffed / "deployments/tokens/broken.json").write_text("{")
        patiently(lambda: server.ask("GET", "/admin/status", headers=late)[0] == 401)
    log = (staffed / "serving/server.log").read_text()
    assert not any(text in log for text in texts.values())


def test_a_public_address_takes_tokens(staffed: Path, tmp_path: Path) -> None:
    """A server that other machines reach does not start without a token, unless it is told to."""
    project = find(staffed)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(ServingError, match="mlnb tokens new"):
            access_of(project, "production", host)
        assert access_of(project, "production", host, insecure=True).open
    token(staffed, "ada", days=1, ago=2)
    with pytest.raises(ServingError):
        access_of(project, "production", "0.0.0.0")
    token(staffed, "vera")
    assert not access_of(project, "production", "0.0.0.0").open
    assert not access_of(project, "production", "127.0.0.1").open
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/pyproject.toml").write_text("[tool.mlnb]\n")
    assert access_of(find(tmp_path / "alone"), "production", "127.0.0.1").open
    with pytest.raises(ServingError):
        access_of(find(tmp_path / "alone"), "production", "0.0.0.0")
    assert [is_loopback(each) for each in ("localhost", "127.9.9.9", "[::1]")] == [True] * 3


def test_pages_do_not_reach_an_open_server(server: sums.Served) -> None:
    """A page in a browser may give this machine another name, and is not answered."""
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example"):
        status, *_ = server.ask("POST", "/invocations", {"inputs": ROW}, {"Host": host})
        assert status == 403
    assert server.ask("GET", "/ping", headers={"Host": "evil.example"})[0] == 200


# --- Settings ----------------------------------------------------------------------------------


def test_every_setting_is_explained() -> None:
    """Each setting has a row on its page, with its default."""
    page = (Path(__file__).parent.parent / "docs/serving.md").read_text()
    for field in dataclasses.fields(ServeSettings):
        default = str(field.default).lower() if field.name != "name" else "the project's folder"
        assert f"| `{field.name.replace('_', '-')}` | {default} |" in page


def test_settings(tmp_path: Path) -> None:
    """Limits are read from the project; a wrong one is said."""
    file = tmp_path / "pyproject.toml"
    file.write_text("[tool.mlnb.serve]\nbody-kb = 5\nrows = 7\naccess-log = true\n")
    found = settings_of(find(tmp_path))
    assert (found.body_bytes, found.rows, found.access_log) == (5000, 7, True)
    assert found.name == tmp_path.name[:63]
    for line in ("rowz = 1", "rows = 0", "rows = 1.5", "rows = true", "name = 'a b'", "name = 5"):
        file.write_text(f"[tool.mlnb.serve]\n{line}\n")
        with pytest.raises(ProjectError, match=r"\[tool.mlnb.serve\]"):
            settings_of(find(tmp_path))


# --- Life and death ----------------------------------------------------------------------------


class Load:
    """Clients that ask without pause, each on a connection that stays as long as it may."""

    def __init__(self, port: int, clients: int = 6) -> None:
        self.answered = 0
        self.lost: list[str] = []
        self._port, self._stop = port, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for each in self._threads:
            each.start()

    def _ask(self) -> None:
        body, kind = json.dumps({"inputs": ROW}), {"Content-Type": "application/json"}
        while not self._stop.is_set():
            link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            try:
                link.connect()
            except ConnectionRefusedError:
                return  # nobody is there any more: nothing was in flight
            link.auto_open = 0
            with contextlib.suppress(http.client.NotConnected):
                while not self._stop.is_set():
                    try:
                        link.request("POST", "/invocations", body, kind)
                        answer = link.getresponse()
                        good = answer.status == 200 and json.loads(answer.read())
                    except http.client.NotConnected:
                        raise
                    except (OSError, http.client.HTTPException) as error:
                        self.lost.append(repr(error))
                        break
                    if good:
                        self.answered += 1
                    else:
                        self.lost.append(str(answer.status))
            link.close()

    def end(self) -> None:
        """Wait for all clients."""
        self._stop.set()
        for each in self._threads:
            each.join(60)


@pytest.mark.parametrize("workers", [1, 2])
def test_stopping_loses_nothing(tmp_path: Path, workers: int) -> None:
    """SIGTERM under load: every request that a connection was there for is answered, code 0."""
    with sums.summing(tmp_path, workers=workers, seconds=0.002) as server:
        load = Load(server.port)
        patiently(lambda: load.answered > 50)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        load.end()
        assert load.lost == [] and load.answered > 50
        assert not list(tmp_path.glob("server-*.json"))
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def test_workers_die_and_come_back(tmp_path: Path) -> None:
    """A worker that is killed is replaced; when the parent is, its workers go and free the port."""
    with sums.summing(tmp_path, workers=2) as server:

        def pids(count: int = 40) -> set[int]:
            return {server.ask("GET", "/admin/status")[1]["pid"] for _ in range(count)}

        def children() -> set[int]:
            path = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
            return {int(each) for each in path.read_text().split()}

        born = children()
        assert len(born) == 2 and pids() <= born
        victim = min(born)
        os.kill(victim, signal.SIGKILL)
        patiently(lambda: len(children() - {victim}) == 2)
        assert patiently(lambda: pids() - born)
        workers = children()
        server.process.kill()
        server.process.wait(60)
        patiently(lambda: not any(Path(f"/proc/{each}").exists() for each in workers))
        with sums.summing(tmp_path / "again", port=server.port) as again:
            assert again.port == server.port and again.ask("GET", "/ping")[0] == 200


def test_a_taken_port_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who starts a second server on one port learns which, and what to do."""
    monkeypatch.setattr("mlnb.serving.process._PATIENCE", 0.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"{port}: cannot listen"):
            sums.main(str(tmp_path), json.dumps({"port": port}))


# --- Hostile requests --------------------------------------------------------------------------


def test_hostile_requests(server: sums.Served) -> None:
    """Some hundred: no 5xx, no part of a program, no growth; what the document allows is answered.

    benchmarks/fuzz_serving.py sends thousands.
    """
    document = server.ask("GET", "/openapi.json")[1]
    found = hostile.campaign(server.port, server.process.pid, document, 200, seed=1)
    assert found.faults == []
    assert found.requests == 201 and set(found.kinds) == {
        "valid", "invalid", "changed", "spliced", "bytes", "raw", "huge",
    }  # fmt: skip
    assert found.answered == found.valid >= 0.05 * found.requests, found.refused[:3]
    assert found.accepted == []
    assert found.growth_mb < 50
    assert server.ask("GET", "/ping")[0] == 200


def test_hostile_requests_find_a_fault(tmp_path: Path) -> None:
    """The control: of an engine with a planted fault, they find it; and nobody sees how it fell."""
    with sums.summing(tmp_path, name="adder", planted=True) as server:
        document = server.ask("GET", "/openapi.json")[1]
        found = hostile.campaign(server.port, server.process.pid, document, 40, 1, huge_mb=2)
    assert {status for _, status, _ in found.faults} == {500}
    assert all(set(json.loads(body)) == {"error", "error_code", "request_id"}
               for _, _, body in found.faults)  # fmt: skip
    assert sums.CRASH in (tmp_path / "server.log").read_text()


# --- The whole ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> served.Served:
    """A project of two versions, the first of which is published; version n answers n."""
    made = served.begun(tmp_path_factory.mktemp("whole") / "project", 2)
    made.publish(1)
    return made


def serving(project: served.Served, *words: str) -> Any:
    """Run ``mlnb serve`` in the project."""
    root = project.project.root
    folder = project.project.state / "serving" / "production"
    return sums.started(["-m", "mlnb", "serve", "--port", "0", *words], folder, root)


def test_serve(whole: served.Served) -> None:
    """``mlnb serve`` answers with what is published, by each protocol, and follows it."""
    row = dict(zip(served.COLUMNS, served.ROW, strict=True))
    with serving(whole) as server:
        status, said, headers = server.ask("POST", "/invocations", {"dataframe_records": [row]})
        assert status == 200 and said["predictions"] == pytest.approx([1.0])
        assert headers["x-model-version"] == "1"
        assert headers["x-model-digest"] == whole.digests[1]
        tensors = [
            {"name": each["name"], "datatype": each["datatype"], "shape": [1], "data": [value]}
            for each, value in zip(
                server.ask("GET", "/v2/models/project")[1]["inputs"], served.ROW, strict=True
            )
        ]
        said = server.ask("POST", "/v2/models/project/infer", {"inputs": tensors})[1]
        assert said["model_version"] == "1" and said["outputs"][0]["data"] == pytest.approx([1.0])
        assert server.ask("POST", "/invocations", {"inputs": row | {"age": "x"}})[0] == 422
        text = server.ask("GET", "/metrics")[1].decode()
        assert 'mlnb_requests_total{route="/invocations",status="422",version=""} 1.0' in text
        whole.publish(2)

        def moved() -> bool:
            _, said, headers = server.ask("POST", "/invocations", {"inputs": row})
            assert said["predictions"] == pytest.approx([float(headers["x-model-version"])])
            return bool(headers["x-model-version"] == "2")

        patiently(moved)


def test_serve_again_after_a_kill(whole: served.Served) -> None:
    """After kill -9 of the parent and its workers under load, the same version answers again."""
    row = dict(zip(served.COLUMNS, served.ROW, strict=True))
    with serving(whole, "--workers", "2") as server:
        version = server.ask("POST", "/invocations", {"inputs": row})[2]["x-model-version"]
        pid = server.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert len(children) == 2
        for each in (pid, *map(int, children)):
            os.kill(each, signal.SIGKILL)
        server.process.wait(60)
    with serving(whole, "--port", str(server.port)) as again:
        assert again.port == server.port
        headers = again.ask("POST", "/invocations", {"inputs": row})[2]
        assert headers["x-model-version"] == version


def test_serve_imports_little(whole: served.Served) -> None:
    """A server of a compiled scorer has neither MLflow, papermill, pandas nor scikit-learn."""
    code = """
import json, os, signal, sys, threading, time, urllib.request
from mlnb.cli import main

def look():
    while not (notes := [n for n in os.listdir(FOLDER) if n.startswith("server-")]):
        time.sleep(0.02)
    address = json.load(open(f"{FOLDER}/{notes[0]}"))["address"]
    for path, body in (("invocations", BODY), ("metrics", None), ("openapi.json", None)):
        asked = urllib.request.Request(f"{address}/{path}", body)
        asked.add_header("Content-Type", "application/json")
        while True:
            try:
                assert urllib.request.urlopen(asked).status == 200
                break
            except urllib.error.URLError:
                time.sleep(0.02)
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=look, daemon=True).start()
sys.exit(main(["serve", "--port", "0"]))
"""
    folder = whole.project.state / "serving" / "production"
    assert not list(folder.glob("server-*.json"))  # not even of the one that was killed
    row = dict(zip(served.COLUMNS, served.ROW, strict=True))
    body = json.dumps({"inputs": row}).encode()
    code = f"FOLDER, BODY = {str(folder)!r}, {body!r}\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=whole.project.root, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"uvicorn", "uvloop", "httptools", "orjson", "numpy", "starlette"} <= modules
    heavy = {"mlflow", "papermill", "pandas", "sklearn", "scipy", "skops", "xgboost", "dvc"}
    assert modules & heavy == set()


def test_serve_refuses(whole: served.Served) -> None:
    """What cannot be served, or not there, ends at once with one sentence and no traceback."""
    for words, said in (
        (["--env", "nowhere"], "no environment 'nowhere'"),
        (["--env", "staging"], "staging"),
        (["--env", "staging", "--workers", "2"], "staging"),
        (["--host", "0.0.0.0"], "mlnb tokens new"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "mlnb", "serve", "--port", "0", *words],
            cwd=whole.project.root, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode in (1, 2) and said in done.stderr, done
        assert "Traceback" not in done.stderr
