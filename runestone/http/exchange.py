"""One request and its answer on the public port: what has been sent, and what will be told about it afterwards."""

from __future__ import annotations

import random
import re
import time

from starlette.types import Message, Receive, Scope, Send

from runestone.config.settings import InboundKey
from runestone.domain.errors import RunestoneError
from runestone.failover.call import UpstreamCall
from runestone.http import errors
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import RequestFinished

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ids = random.Random()  # seeded by the system; ids must differ, not be secret


class Exchange:
    """Wraps ``send``: adds the request id to every answer and tells the bus once, before the last byte goes out."""

    __slots__ = (
        "_bus",
        "_started_at",
        "_told",
        "attempts",
        "body_read",
        "call",
        "complete",
        "dialect",
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
        self.attempts = 0
        self.call: UpstreamCall | None = None
        self._bus = bus
        self._started_at = time.perf_counter()
        self._told = False

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

    async def tell(self, error: RunestoneError) -> None:
        """An error after the head of the answer: in-band in a stream, and no real end follows. Before it, it is raised for the front.

        After the last byte there is nothing more to tell: the answer is whole, however long its client takes to read it.
        """
        if not self.started:
            raise error
        if self.complete:
            return
        await self.send({"type": "http.response.body", "body": self._event(error) if self.stream else b""})

    def _event(self, error: RunestoneError) -> bytes:
        return errors.event(error, self.dialect, self.request_id)

    def finished(self) -> None:
        """Tell what became of the request. The first call counts."""
        if self._told:
            return
        self._told = True
        call = self.call
        self._bus.emit(
            RequestFinished(
                request_id=self.request_id,
                route=self.route,
                stream=self.stream,
                status=self.status,
                outcome=self.outcome,
                duration_seconds=time.perf_counter() - self._started_at,
                provider=call.lease.choice.provider if call else None,
                model=call.lease.choice.model if call else None,
                attempts=self.attempts,
            )
        )


def dialect_of(path: str, *, anthropic: bool) -> errors.Dialect:
    """Whose errors a client of ``path`` reads. ``anthropic``: it says that it speaks that wire, on a route that both have."""
    if anthropic or path.startswith("/v1/messages"):
        return "anthropic"
    return "responses" if path == "/v1/responses" else "openai"


def _request_id(given: bytes | None) -> str:
    return given.decode() if given is not None and _REQUEST_ID.fullmatch(given) else f"req_{_ids.getrandbits(96):024x}"
