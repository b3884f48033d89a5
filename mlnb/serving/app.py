"""The routes of a server, on an engine that answers.

Starlette keeps the table of routes; each is an :class:`Endpoint`, which admits, reads, answers and
says what is wrong. Those that predict get their requests from :class:`Face` without the way through
the table.

What is wrong with a request is answered by 4xx and one sentence; an error of our own by 500 and the
request's id, by which the server's log says what it was.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mlnb import __version__
from mlnb.bundle.schema import Schema
from mlnb.serving import logs, openapi, protocols
from mlnb.serving.access import Access, is_loopback
from mlnb.serving.errors import RequestError, ServingError
from mlnb.serving.limits import error_body
from mlnb.serving.settings import ServeSettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Handler = Callable[["Asked"], "Reply"]

JSON = b"application/json"
_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    405: "METHOD_NOT_ALLOWED",
    409: "RESOURCE_CONFLICT",
    413: "REQUEST_LIMIT_EXCEEDED",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "INVALID_PARAMETER_VALUE",
    503: "TEMPORARILY_UNAVAILABLE",
}
_dice = random.Random()
"""Of ids, which are to be different and need not be secret; see :class:`Face`."""
_log = logging.getLogger("mlnb.serving")


class Answer(protocols.Answered, Protocol):
    """What an engine answers: scores, the version that computed them, and its bundle."""

    @property
    def digest(self) -> str:
        """Digest of the bundle."""


class Engine(Protocol):
    """What answers."""

    @property
    def schema(self) -> Schema:
        """Of the version that most requests get."""

    def answer(
        self,
        columns: Sequence[str] | None,
        rows: Sequence[Sequence[Any]],
        *,
        key: str,
        request_id: str,
    ) -> Answer:
        """Return the answer for the rows; RequestError and ServingError say why there is none."""

    @property
    def compiled(self) -> bool:
        """Whether answers take microseconds; else they are asked for in a thread."""

    def request(self, route: str, status: int, seconds: float, version: int | str = "") -> None:
        """Count a request."""

    def versions(self) -> Sequence[Mapping[str, Any]]:
        """Return what is loaded, each with its ``version``; what most requests get comes first."""

    def status(self) -> Mapping[str, Any]:
        """Return what the server does, for people."""

    def metrics(self) -> str | bytes:
        """Return the metrics as Prometheus reads them."""

    def set_share(self, share: float, step: int, digest: str) -> None:
        """Set the candidate's share."""

    def feedback(self, request_id: str, label: Any) -> None:
        """Keep what the answer to a request should have been."""


@dataclass(slots=True)
class Asked:
    """What matters of a request.

    Attributes:
        id: in ``X-Request-Id`` if it is sane, else a new one.
        key: in ``X-Request-Key``: requests of one key get one version; else the id.
        kind: the content type.
        encoding: the content encoding.
        authorization: the header of that name.
        host: the header of that name.
        length: in ``Content-Length``; -1 if it is not said.
        parameters: in the path.
        body: of the request.
    """

    id: str = ""
    key: str = ""
    kind: str = ""
    encoding: str = ""
    authorization: str = ""
    host: str = ""
    length: int = -1
    parameters: Mapping[str, str] | None = None
    body: bytes = b""


@dataclass(slots=True)
class Reply:
    """What is answered."""

    body: bytes
    status: int = 200
    kind: bytes = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()
    version: int | str = ""


class _GoneError(Exception):
    """The client left."""


class Endpoint:
    """One route, as an ASGI application.

    Attributes:
        role: that it takes; empty for none.
    """

    def __init__(self, face: Face, path: str, handler: Handler, role: str, most: int) -> None:
        self.role = role
        self._face, self._path, self._handler, self._most = face, path, handler, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        start = time.perf_counter()
        asked = _asked(scope)
        try:
            if self.role:
                self._face.admit(asked, self.role)
            if self._most:
                asked.body = await self._read(asked, receive)
            if self._most and not self._face.quick:
                reply = await self._face.aside(self._handler, asked)
            else:
                reply = self._handler(asked)
        except (RequestError, ServingError) as error:
            reply = _refusal(error, asked.id)
        except _GoneError:
            return
        except Exception:  # noqa: BLE001 - a client learns nothing of it but the id
            _log.exception("request %s failed", asked.id)
            body = error_body("INTERNAL_ERROR", "the server failed; its log says how", asked.id)
            reply = Reply(body, 500)
        headers = [
            (b"content-type", reply.kind),
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", asked.id.encode()),
            *reply.headers,
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        seconds = time.perf_counter() - start
        self._face.count(self._path, scope["method"], reply, seconds, asked.id)

    async def _read(self, asked: Asked, receive: Receive) -> bytes:
        if asked.encoding not in ("", "identity"):
            raise RequestError("a packed body is not taken; send it plainly", status=415)
        if asked.length > self._most:
            raise self._too_large()
        message = await receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._most:
                raise self._too_large()
        if message["type"] == "http.disconnect":
            raise _GoneError
        if len(body) > self._most:
            raise self._too_large()
        return body

    def _too_large(self) -> RequestError:
        return RequestError(f"the body has more than {self._most:,} bytes", status=413)


class Face:
    """The whole server as an ASGI application.

    Attributes:
        settings: its limits.
        inner: Starlette with the table of the routes.
        rules: the role that each method and path takes; empty for none.
        ready: whether it should get requests; false while it stops.
    """

    def __init__(self, engine: Engine, settings: ServeSettings, access: Access) -> None:
        self.settings, self.ready = settings, True
        _dice.seed(os.urandom(32))  # not that of the other workers
        self._engine, self._access = engine, access
        self._thread = ThreadPoolExecutor(1, "mlnb-answer")
        self._schema: Schema | None = None
        self._document = b""
        self._names: list[str] = []
        self._said: dict[tuple[int, str], Headers] = {}
        most, model = settings.body_bytes, f"/v2/models/{settings.name}"
        version = f"{model}/versions/{{version}}"
        table: list[tuple[str, str, Handler, str, int]] = [
            ("POST", "/invocations", self._invocations, "viewer", most),
            ("POST", f"{model}/infer", self._infer, "viewer", most),
            ("POST", f"{version}/infer", self._infer, "viewer", most),
            ("POST", "/feedback", self._feedback, "viewer", most),
            ("GET", "/v2", self._server, "", 0),
            ("GET", "/v2/health/live", self._live, "", 0),
            ("GET", "/v2/health/ready", self._is_ready, "", 0),
            ("GET", model, self._model, "", 0),
            ("GET", f"{model}/ready", self._is_ready, "", 0),
            ("GET", version, self._model, "", 0),
            ("GET", f"{version}/ready", self._is_ready, "", 0),
            ("GET", "/ping", self._ping, "", 0),
            ("GET", "/health", self._ping, "", 0),
            ("GET", "/version", self._version, "", 0),
            ("GET", "/metrics", self._metrics, "", 0),
            ("GET", "/openapi.json", self._openapi, "", 0),
            ("GET", "/admin/status", self._status, "viewer", 0),
            ("PUT", "/admin/share", self._share, "trainer", most),
        ]
        self.rules = {(method, path): role for method, path, _, role, _ in table}
        ends = [
            (method, path, Endpoint(self, path, handler, role, size))
            for method, path, handler, role, size in table
        ]
        self._hot = {path: end for method, path, end in ends[:2]}
        self.inner = Starlette(
            routes=[Route(path, end, methods=[method], name=path) for method, path, end in ends],
            exception_handlers={HTTPException: self._no_route},
        )
        self.inner.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        end = self._hot.get(scope["path"]) if scope["type"] == "http" else None
        if end is not None and scope["method"] == "POST":
            await end(scope, receive, send)
        else:
            await self.inner(scope, receive, send)

    def admit(self, asked: Asked, role: str) -> None:
        """Let a request pass.

        Raises:
            RequestError: nobody known asks, or who may not.
        """
        self._access.admit(asked.authorization, role)
        # What is open to this machine is not open to a page in its browser, which may reach it
        # under a name of its own.
        if self._access.local and not is_loopback(_hostname(asked.host)):
            raise RequestError("this server answers to the names of its own machine", status=403)

    @property
    def quick(self) -> bool:
        """Whether an answer takes no longer than handing it to a thread."""
        try:
            return self._engine.compiled
        except ServingError:
            return True  # it has nothing to answer with, and says so

    async def aside(self, handler: Handler, asked: Asked) -> Reply:
        """Answer in the one thread that is for it, so that the server goes on meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, handler, asked)

    def count(self, path: str, method: str, reply: Reply, seconds: float, id: str) -> None:
        """Count a request that was answered, and log it if that is wanted."""
        self._engine.request(path, reply.status, seconds, reply.version)
        if self.settings.access_log:
            logs.access(method, path, reply.status, seconds, id)

    def _invocations(self, asked: Asked) -> Reply:
        schema = self._engine.schema
        found = protocols.read_invocations(asked.body, asked.kind, schema, self.settings.rows)
        answer = self._answer(found, asked)
        body = protocols.render_predictions(answer)
        return Reply(body, headers=self._by(answer), version=answer.version)

    def _infer(self, asked: Asked) -> Reply:
        wanted = self._wanted(asked) if asked.parameters else ""
        if asked.kind.partition(";")[0].strip().lower() not in ("", "application/json"):
            raise RequestError("the content type must be application/json", status=415)
        if (schema := self._engine.schema) is not self._schema:
            self._schema, self._names, self._document = schema, schema.names, b""
        found = protocols.read_infer(asked.body, self._names, self.settings.rows)
        answer = self._answer(found, asked)
        if wanted and wanted != str(answer.version):
            raise RequestError(
                f"version {answer.version} is being rolled out and answers requests of this key",
                status=409,
                remedy="Ask without a version, or with another X-Request-Key.",
            )
        body = protocols.render_infer(answer, self.settings.name, found.id or asked.id)
        return Reply(body, headers=self._by(answer), version=answer.version)

    def _answer(self, found: protocols.Rows, asked: Asked) -> Answer:
        return self._engine.answer(
            found.columns, found.rows, key=asked.key or asked.id, request_id=asked.id
        )

    def _by(self, answer: Answer) -> Headers:
        """Return the headers that say which version computed an answer."""
        said = answer.version, answer.digest
        if (found := self._said.get(said)) is None:
            found = [
                (b"x-model-version", b"%d" % answer.version),
                (b"x-model-digest", answer.digest.encode()),
            ]
            self._said = {**dict(list(self._said.items())[-7:]), said: found}
        return found

    def _server(self, _: Asked) -> Reply:
        return _json({"name": "mlnb", "version": __version__, "extensions": []})

    def _live(self, _: Asked) -> Reply:
        return _json({"live": True})

    def _is_ready(self, asked: Asked) -> Reply:
        versions = self._engine.versions()
        if asked.parameters:
            self._wanted(asked)
        if not self.ready or not versions:
            raise ServingError("no version is ready" if self.ready else "the server stops")
        return _json({"name": self.settings.name, "ready": True})

    def _model(self, asked: Asked) -> Reply:
        versions = [str(each["version"]) for each in self._engine.versions()]
        if asked.parameters:
            versions = [self._wanted(asked)]
        inputs = [
            {"name": each.name, "datatype": protocols.datatype(each), "shape": [-1]}
            for each in self._engine.schema.columns
        ]
        return _json(
            {
                "name": self.settings.name,
                "versions": versions,
                "platform": "mlnb",
                "inputs": inputs,
                "outputs": [{"name": protocols.OUTPUT, "datatype": "FP64", "shape": [-1]}],
            }
        )

    def _wanted(self, asked: Asked) -> str:
        """Return the version that the path names; it must be what most requests get."""
        wanted = (asked.parameters or {})["version"]
        served = [str(each["version"]) for each in self._engine.versions()[:1]]
        if wanted not in served:
            raise RequestError(
                f"version {wanted[:20]!r} is not served; {', '.join(served) or 'none'} is",
                status=404,
            )
        return wanted

    def _ping(self, _: Asked) -> Reply:
        return Reply(b"\n")

    def _version(self, _: Asked) -> Reply:
        return Reply(__version__.encode(), kind=b"text/plain; charset=utf-8")

    def _metrics(self, _: Asked) -> Reply:
        found = self._engine.metrics()
        text = found.encode() if isinstance(found, str) else found
        return Reply(text, kind=b"text/plain; version=0.0.4; charset=utf-8")

    def _openapi(self, _: Asked) -> Reply:
        if (schema := self._engine.schema) is not self._schema or not self._document:
            self._schema, self._names = schema, schema.names
            secured = {route for route, role in self.rules.items() if role}
            told = openapi.document(
                schema, self.settings, set() if self._access.open else secured, list(self.rules)
            )
            self._document = orjson.dumps(told)
        return Reply(self._document)

    def _feedback(self, asked: Asked) -> Reply:
        told = _object(asked, ("request_id", "label"))
        of, label = told["request_id"], told["label"]
        if type(of) is not str or not _ID.fullmatch(of):
            raise RequestError("'request_id' must be that of a request", status=422)
        labels = label if type(label) is list else [label]
        if not 1 <= len(labels) <= self.settings.rows or not all(map(_is_label, labels)):
            raise RequestError("'label' must be a value, or a list of one for each row", status=422)
        self._engine.feedback(of, label)
        return _json({"request_id": of, "labels": len(labels)})

    def _status(self, _: Asked) -> Reply:
        return _json(self._engine.status())

    def _share(self, asked: Asked) -> Reply:
        told = _object(asked, ("share", "step", "digest"))
        share, step, digest = told["share"], told["step"], told["digest"]
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise RequestError("'share' must be a number from 0 to 1", status=422)
        if type(step) is not int or not 0 <= step < 1 << 31:
            raise RequestError("'step' must be a whole number, 0 or more", status=422)
        if type(digest) is not str:
            raise RequestError("'digest' must be that of the candidate", status=422)
        self._engine.set_share(float(share), step, digest)
        return _json(self._engine.status())

    async def _no_route(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        what = "no such route" if status == 404 else "this route takes another method"
        id = _asked(request.scope).id
        reply = Reply(error_body(_CODES[status], what, id), status)
        self.count("other", request.method, reply, 0.0, id)
        headers = dict(getattr(error, "headers", None) or {}) | {"x-request-id": id}
        return Response(reply.body, status, headers, "application/json")


def build(engine: Engine, settings: ServeSettings, access: Access) -> Face:
    """Return the application that serves what ``engine`` answers."""
    return Face(engine, settings, access)


def _asked(scope: Scope) -> Asked:
    asked = Asked(parameters=scope.get("path_params"))
    for name, value in scope["headers"]:
        if name == b"content-type":
            asked.kind = value.decode("latin-1")
        elif name == b"content-length":
            asked.length = int(value)
        elif name == b"host":
            asked.host = value.decode("latin-1")
        elif name == b"authorization":
            asked.authorization = value.decode("latin-1")
        elif name == b"content-encoding":
            asked.encoding = value.decode("latin-1").lower()
        elif name == b"x-request-key":
            asked.key = value.decode("latin-1")
        elif name == b"x-request-id" and _ID.fullmatch(found := value.decode("latin-1")):
            asked.id = found
    if not asked.id:
        asked.id = f"{_dice.getrandbits(96):024x}"
    return asked


def _is_label(told: Any) -> bool:
    if type(told) is str:
        return len(told) <= openapi.LONGEST_LABEL
    return type(told) in (int, float, bool)


def _object(asked: Asked, fields: Sequence[str]) -> Mapping[str, Any]:
    if asked.kind.partition(";")[0].strip().lower() != "application/json":
        raise RequestError("the content type must be application/json", status=415)
    told = protocols.parse_json(asked.body)
    if type(told) is not dict or set(told) != set(fields):
        raise RequestError(f"the body must be an object of {', '.join(fields)}", status=422)
    return told


def _refusal(error: RequestError | ServingError, id: str) -> Reply:
    headers: Headers = []
    if error.status == 401:
        headers = [(b"www-authenticate", b"Bearer")]
    elif error.status == 503:
        headers = [(b"retry-after", b"1")]
    code = _CODES.get(error.status, "BAD_REQUEST" if error.status < 500 else "INTERNAL_ERROR")
    return Reply(error_body(code, str(error), id), error.status, headers=headers)


def _json(told: Any) -> Reply:
    return Reply(orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY))


def _hostname(host: str) -> str:
    """Return the name in a ``Host`` header, without the port."""
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0]
