"""One request and its answer on the public port: what has been sent, and what will be told about it afterwards."""

from __future__ import annotations

import asyncio
import re
import time

from starlette.types import Message, Receive, Scope, Send

from runestone.config.settings import InboundKey
from runestone.domain.errors import RunestoneError
from runestone.failover.attempts import Attempts
from runestone.failover.call import UpstreamCall
from runestone.http import errors
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import RequestFinished, RequestStarted
from runestone.telemetry.ids import random_bits

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_LONGEST_STATE = 512
_LONGEST_TRACE = 256  # a header may hold anything, and events are kept


class Exchange:
    """Wraps ``send``: adds the request id to every answer and tells the bus once, before the last byte goes out."""

    __slots__ = (
        "_bus",
        "_started_at",
        "_told",
        "asked",
        "body_read",
        "call",
        "complete",
        "dialect",
        "first_content_seconds",
        "headers",
        "key",
        "outcome",
        "receive",
        "request_id",
        "route",
        "scope",
        "send_raw",
        "started",
        "status",
        "stream",
        "tried",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, bus: Bus) -> None:
        headers = self.headers = dict(scope["headers"])
        self.body_read = headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers
        self.complete = False  # the last byte has been handed to the server
        self.scope = scope
        self.receive = receive
        self.send_raw = send
        self.request_id = _request_id(headers.get(b"x-request-id"))
        self.key: InboundKey | None = None  # whose request it is
        self.route = "other"
        self.dialect = dialect_of(scope["path"], anthropic=b"anthropic-version" in headers)
        self.stream = False
        self.started = False
        self.status = 0
        self.outcome = "ok"
        self.asked: str | None = None
        self.tried: Attempts | None = None
        self.call: UpstreamCall | None = None
        self.first_content_seconds: float | None = None
        self._bus = bus
        self._started_at = time.perf_counter()
        self._told = False

    @property
    def attempts(self) -> int:
        """Upstream calls so far."""
        return self.tried.calls if self.tried else 0

    @property
    def seconds(self) -> float:
        """Since it came."""
        return time.perf_counter() - self._started_at

    def understood(self, model: str, *, stream: bool) -> None:
        """The body has been read, and says what is asked for."""
        self.asked, self.stream = model, stream
        traceparent = self.headers.get(b"traceparent")
        self._bus.emit(
            RequestStarted(
                request_id=self.request_id,
                route=self.route,
                model=model,
                stream=stream,
                key=self.key.name if self.key else "",
                traceparent=None if traceparent is None else traceparent[:_LONGEST_TRACE].decode("latin-1"),
                tracestate=None if traceparent is None else self._tracestate(),
            )
        )

    def _tracestate(self) -> str | None:
        """All of it, which may come in several headers; ``None``: there is none, or more of it than anybody has to hand on."""
        told = b",".join(value for name, value in self.scope["headers"] if name == b"tracestate")
        return told.decode("latin-1") if 0 < len(told) <= _LONGEST_STATE else None

    async def send(self, message: Message) -> None:
        """Send ``message``; the last one of an answer is counted first."""
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            own = self.request_id.encode()
            message["headers"] = [*message["headers"], (b"x-request-id", own)]
            if self.dialect == "anthropic":
                message["headers"].append((b"request-id", own))
        elif not message.get("more_body"):
            self.complete = True
            self.finished()
        await self.send_raw(message)

    async def answer(self, status: int, headers: errors.Headers, body: bytes) -> None:
        """Send an answer in one piece. Who is cancelled while a slow client takes the head sends the body too: no head goes alone."""
        whole: Message = {"type": "http.response.body", "body": body}
        try:
            await self.send({"type": "http.response.start", "status": status, "headers": headers})
        except asyncio.CancelledError:
            await self.send(whole)
            raise
        await self.send(whole)

    async def tell(self, error: RunestoneError) -> None:
        """An error after the head of the answer: in-band in a stream, and no real end follows. Before it, it is raised for the front.

        After the last byte there is nothing more to tell: the answer is whole, however long its client takes to read it. An answer in
        one piece that breaks off is shorter than its head says: the server closes its connection.
        """
        if not self.started:
            raise error
        if self.stream and not self.complete:
            event = errors.event(error, self.dialect, self.request_id)
            await self.send({"type": "http.response.body", "body": event})

    def finished(self) -> None:
        """Tell what became of the request. The first call counts."""
        if self._told:
            return
        self._told = True
        call, tried = self.call, self.tried
        self._bus.emit(
            RequestFinished(
                self.request_id,
                self.route,
                self.stream,
                self.status,
                self.outcome,
                duration_seconds=self.seconds,
                provider=call.lease.choice.provider if call else None,
                model=call.lease.choice.model if call else None,
                attempts=self.attempts,
                asked=self.asked,
                group=tried.group if tried else None,
                key=self.key.name if self.key else "",
                first_content_seconds=self.first_content_seconds,
                upstream_seconds=tried.upstream_seconds if tried else 0.0,
                usage=call.usage if call else None,
                method=self.scope["method"],
                kind=call.lease.settings.kind if call else None,
            )
        )


def dialect_of(path: str, *, anthropic: bool) -> errors.Dialect:
    """Whose errors a client of ``path`` reads. ``anthropic``: it says that it speaks that wire, on a route that both have."""
    if anthropic or path.startswith("/v1/messages"):
        return "anthropic"
    return "responses" if path == "/v1/responses" else "openai"


def _request_id(given: bytes | None) -> str:
    return given.decode() if given is not None and _REQUEST_ID.fullmatch(given) else f"req_{random_bits(96):024x}"
