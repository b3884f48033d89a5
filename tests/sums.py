"""A server on an engine that adds up: everything of a server but the models.

``python sums.py FOLDER '{"workers": 2, …}'`` serves until told to stop.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlnb.bundle.schema import Column, Schema
from mlnb.project import find
from mlnb.serving.access import Access, access_of
from mlnb.serving.checks import checker
from mlnb.serving.errors import RequestError
from mlnb.serving.process import Place, running, serve
from mlnb.serving.settings import ServeSettings

SCHEMA = Schema(
    (
        Column("age", "number", "float64", True, 0.0, 90.0),
        Column("visits", "integer", "int64", False, 0, 9),
        Column("site", "category", "category", False, values=("north", "south")),
        Column("insured", "boolean", "bool", False),
        Column("note", "text", "str", True),
    )
)
ROW: dict[str, Any] = {"age": 30.5, "visits": 3, "site": "north", "insured": True, "note": "x"}
SUM = 34.5
"""Of the numbers of that row, of which a truth value is one."""
CRASH = "crash"
"""A note that a planted fault in the engine cannot bear, where it is planted."""


@dataclass
class Total:
    scores: Any
    version: int = 7
    digest: str = "sha256:" + "5" * 64


class Sums:
    """Adds up the numbers of a row."""

    schema = SCHEMA
    compiled = True

    def __init__(self, seconds: float = 0.0, *, planted: bool = False) -> None:
        self._check, self._seconds, self._planted = checker(SCHEMA), seconds, planted
        self.share = 0.0

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def request(self, route: str, status: int, seconds: float, version: int | str = "") -> None: ...

    def answer(
        self,
        columns: Sequence[str] | None,
        rows: Sequence[Sequence[Any]],
        *,
        key: str,
        request_id: str,
    ) -> Total:
        checked = self._check(columns, rows)
        if self._planted and any(row[-1] is None for row in checked):
            raise RuntimeError(CRASH)
        if self._seconds:
            time.sleep(self._seconds)
        kinds = (int, float, bool)
        return Total(
            np.array([sum(each for each in row if type(each) in kinds) for row in checked], float)
        )

    def versions(self) -> list[dict[str, Any]]:
        return [{"version": 7}]

    def status(self) -> dict[str, Any]:
        return {"share": self.share, "pid": os.getpid()}

    def metrics(self) -> str:
        return "up 1\n"

    def set_share(self, share: float, step: int, digest: str) -> None:
        if digest != "sha256:candidate":
            raise RequestError("it is not the candidate", status=409)
        self.share = share

    def feedback(self, request_id: str, label: Any) -> None: ...


def main(folder: str, told: str) -> int:
    """Serve below ``folder`` with these settings."""
    words = json.loads(told)
    host, insecure = words.pop("host", "127.0.0.1"), words.pop("insecure", False)
    place = Place(Path(folder), host, words.pop("port", 0), words.pop("workers", 1))
    seconds, planted = words.pop("seconds", 0.0), words.pop("planted", False)
    project = words.pop("project", "")
    access = Access(None, "", open=True, local=not insecure)  # type: ignore[arg-type]
    if project:
        access = access_of(find(Path(project)), "production", host, insecure=insecure)
    return serve(
        lambda: Sums(seconds, planted=planted),
        place,
        ServeSettings(**words),
        access,
        tell=lambda line: print(line, flush=True),
    )


class Served:
    """A server process, and words to it."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process, self.folder = process, folder
        (said,) = running(folder)
        self.port: int = said["port"]

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, body (of JSON its value) and headers of the answer to one request."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {} if body is None else {"Content-Type": "application/json"}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        link.request(method, path, data, given | (headers or {}))
        answer = link.getresponse()
        content: Any = answer.read()
        found = {name.lower(): value for name, value in answer.getheaders()}
        link.close()
        if found.get("content-type") == "application/json" and content.strip():
            content = json.loads(content)
        return answer.status, content, found

    def connect(self) -> socket.socket:
        """Return a new connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


@contextmanager
def started(words: Sequence[str], folder: Path, cwd: Path) -> Iterator[Served]:
    """Run a server that says in ``folder`` where it is; end it afterwards, if need be by force."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with (cwd / "server.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout
    try:
        line = process.stdout.readline()
        assert "serves on" in line, (cwd / "server.log").read_text()
        yield Served(process, folder)
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.stdout.close()


@contextmanager
def summing(folder: Path, **words: Any) -> Iterator[Served]:
    """Run the server of this module."""
    folder.mkdir(parents=True, exist_ok=True)
    with started([__file__, str(folder), json.dumps(words)], folder, folder) as served:
        yield served


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
