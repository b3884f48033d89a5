"""Limits of connections: how long a request may take to come, and how many are held at once.

uvicorn has no deadline for the headers of a request, nor for its body. Here every connection knows
since when it waits for its client, and the server looks at all of them twice a second, which costs
a request nothing but two assignments.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server

from mlnb.serving.settings import ServeSettings

TICKS = 5
"""uvicorn ticks ten times a second."""
_RETRY_AFTER = b"1"
_ALWAYS = ("/v2/health/live", "/ping", "/health")
"""What is answered however much there is to do: whether the process lives."""


def error_body(code: str, message: str, request_id: str = "") -> bytes:
    """Return the body of every answer that is an error.

    Args:
        code: as MLflow names it, such as ``BAD_REQUEST``.
        message: for a person, of one or more lines.
        request_id: of the request; empty if it never became one.
    """
    return orjson.dumps({"error": message, "error_code": code, "request_id": request_id})


class Joined:
    """Gives a connection the head of an answer and its body in one write.

    uvicorn writes them apart, which costs a system call, a packet, and two wakes of the client.
    """

    __slots__ = ("_held", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._held = transport, b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Hold the head of an answer; write anything else, after what is held."""
        if not self._held and data.startswith(b"HTTP/1.1 ") and data[9] != 49:  # not 100
            self._held = data
        else:
            held, self._held = self._held, b""
            self._transport.write(held + data)

    def flush(self) -> None:
        """Write what is held: the whole answer, if that has no body."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def close(self) -> None:
        """Close the connection after what is held."""
        self.flush()
        self._transport.close()


class Connection(HttpToolsProtocol):
    """A connection that is closed when its client makes it wait; see :func:`connection_type`."""

    settings: ServeSettings
    waiting_since = 0.0
    """Since when the client owes the rest of a request, or takes its answer; 0 if it owes none."""
    allowed = 0.0
    """Seconds that it has for that."""
    begun = False
    """Whether a part of a request has come."""
    draining = False
    joined: Joined

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for headers; refuse the connection if there are too many."""
        super().connection_made(transport)
        self.joined = Joined(transport)
        self._wait(self.settings.header_seconds)
        if len(self.connections) > self.settings.connections:
            self._end(503, "TEMPORARILY_UNAVAILABLE", "too many connections; come again")

    def data_received(self, data: bytes) -> None:
        """Take bytes; the first ones after an answer start the time of the next headers."""
        if not self.waiting_since and (self.cycle is None or self.cycle.response_complete):
            self._wait(self.settings.header_seconds)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Give the headers their time."""
        super().on_message_begin()
        self.begun = True
        self._wait(self.settings.header_seconds)

    def on_headers_complete(self) -> None:
        """Give the body its time; turn the request away if there is too much to do."""
        self._wait(self.settings.body_seconds)
        full = len(self.tasks) >= self.settings.requests
        self.app = _busy if full else self.config.loaded_app
        super().on_headers_complete()
        self.cycle.transport = self.joined  # type: ignore[assignment]
        if self.draining:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """Send an answer that has no body."""
        self.joined.flush()
        super().on_response_complete()

    def on_message_complete(self) -> None:
        """Wait no more: now it is our turn."""
        self.begun, self.waiting_since = False, 0.0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Give the client its time to take the answer."""
        super().pause_writing()
        self._wait(self.settings.body_seconds)

    def resume_writing(self) -> None:
        """Wait no more."""
        super().resume_writing()
        if self.cycle is not None and not self.cycle.more_body:
            self.waiting_since = 0.0

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._end(400, "BAD_REQUEST", msg)

    def shutdown(self) -> None:
        """Drain: a client that holds a connection open may have sent a request just now.

        So a connection without a request stays for a moment, and whoever uses it in that time is
        answered, and told to close it.
        """
        self.draining = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self._unset_keepalive_if_required()
            self.loop.call_later(_LINGER, self._close_if_idle)

    def overdue(self, now: float) -> bool:
        """Return whether the client took too long, by the clock of the loop."""
        return bool(self.waiting_since) and now - self.waiting_since > self.allowed

    def expire(self) -> None:
        """Close a connection whose client took too long."""
        if self.flow is not None and self.flow.write_paused:
            self.transport.abort()  # it does not read; there is nothing to tell it
        elif self.cycle is not None and self.cycle.response_started:
            self.transport.close()  # it was answered before it had sent all
        else:
            self._end(408, "REQUEST_TIMEOUT", "the request took too long to come")

    def _wait(self, seconds: float) -> None:
        self.waiting_since, self.allowed = self.loop.time(), seconds

    def _close_if_idle(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self.begun and not self.transport.is_closing():
            self.transport.close()

    def _end(self, status: int, code: str, message: str) -> None:
        body = error_body(code, message)
        head = (
            f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n"
        )
        if status == 503:
            head += f"retry-after: {_RETRY_AFTER.decode()}\r\n"
        if not self.transport.is_closing():
            self.transport.write(f"{head}\r\n".encode() + body)
            self.transport.close()


_PHRASES = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}
_LINGER = 1.0
"""Seconds that a connection without a request stays when the server stops."""


def connection_type(settings: ServeSettings) -> type[Connection]:
    """Return the class of connections with these limits."""
    return type("Connection", (Connection,), {"settings": settings})


class WatchedServer(Server):
    """A server of uvicorn that looks at its connections."""

    async def on_tick(self, counter: int) -> bool:
        """Close what is overdue, and do what uvicorn does."""
        if counter % TICKS == 0:
            self.sweep()
        return await super().on_tick(counter)

    def sweep(self) -> None:
        """Close every connection whose client took too long."""
        now = asyncio.get_running_loop().time()
        for each in list(self.server_state.connections):
            if isinstance(each, Connection) and each.overdue(now):
                each.expire()

    async def shutdown(self, sockets: Any = None) -> None:
        """Take what already waits at the door, then stop as uvicorn does, still watching."""
        for _ in range(2):
            await asyncio.sleep(0.02)
        watching = asyncio.ensure_future(self._watch())
        try:
            await super().shutdown(sockets)
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        """Sweep as before; what was let in at the last moment drains as well."""
        while True:
            await asyncio.sleep(0.1)
            self.sweep()
            for each in list(self.server_state.connections):
                if isinstance(each, Connection) and not each.draining:
                    each.shutdown()


async def _busy(scope: Any, receive: Any, send: Any) -> None:
    """Tell a client to come again; unless it only asks whether the process lives."""
    lives = scope["path"] in _ALWAYS
    body = b"\n" if lives else error_body("TEMPORARILY_UNAVAILABLE", "too much to do; come again")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", _RETRY_AFTER),
    ]
    start = {"type": "http.response.start", "status": 200 if lives else 503, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})
