"""One request and its answer on the public port: what has been sent, and what will be told about it afterwards."""

from __future__ import annotations

import re
import secrets
import time

from starlette.types import Message, Receive, Scope, Send

from runestone.failover.call import UpstreamCall
from runestone.http.body import header
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import RequestFinished

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


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
        self.body_read = header(scope, b"content-length") in (None, "0") and header(scope, b"transfer-encoding") is None
        self.complete = False  # the last byte has been handed to the server
        self.scope = scope
        self.receive = receive
        self.send_raw = send
        self.request_id = _request_id(scope)
        self.route = "other"
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
            message["headers"] = [*message["headers"], (b"x-request-id", self.request_id.encode())]
        elif not message.get("more_body"):
            self.complete = True
            self.finished()
        await self.send_raw(message)

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


def _request_id(scope: Scope) -> str:
    given = header(scope, b"x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
