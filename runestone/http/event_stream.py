"""The answer of a stream: upstream events as they come, heartbeats while there are none, and the truth at the end."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from starlette.types import Send

from runestone.failover.call import UpstreamCall
from runestone.failover.idle import EARLY_SECONDS
from runestone.http import errors

HEARTBEAT_SECONDS: Final = 15.0
HEARTBEAT: Final = b": ping\n"  # one line end only: after a blank line SDKs dispatch an empty event
HEAD: Final[errors.Headers] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


async def write(call: UpstreamCall, send: Send, head: errors.Headers) -> None:
    """Write ``call`` from its commit point to its end.

    Raises:
        UpstreamError: the upstream failed after the commit point; what came before has been written.
    """
    await send({"type": "http.response.start", "status": 200, "headers": [*HEAD, *head]})
    async with Heartbeat(send) as heartbeat:
        data = call.head
        while not call.ended:
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            heartbeat.waiting()
            try:
                data = await call.read()
            finally:
                heartbeat.busy()
    await send({"type": "http.response.body", "body": data})


class Heartbeat:
    """Writes a comment whenever the upstream has been silent for a while: a client that has left is noticed, and a proxy keeps still.

    Only a timer, until it is needed; what it then sends runs in a task of this scope.
    """

    __slots__ = ("_handle", "_loop", "_send", "_sending", "_since")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._sending: asyncio.Future[None] | None = None
        self._handle = self._loop.call_later(HEARTBEAT_SECONDS, self._beat)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        if self._sending is not None and not self._sending.done():
            self._sending.cancel()
            await asyncio.wait({self._sending})

    def waiting(self) -> None:
        """The writer waits for the upstream from now on."""
        self._since = self._loop.time()

    def busy(self) -> None:
        """The writer has something to write."""
        self._since = None

    def _beat(self) -> None:
        now = self._loop.time()
        due = (now if self._since is None else self._since) + HEARTBEAT_SECONDS
        if due - now <= EARLY_SECONDS:
            due = now + HEARTBEAT_SECONDS
            if self._sending is None or self._sending.done():
                self._since = now
                message = {"type": "http.response.body", "body": HEARTBEAT, "more_body": True}
                self._sending = asyncio.ensure_future(self._send(message))
                self._sending.add_done_callback(_ended)
        self._handle = self._loop.call_at(due, self._beat)


def _ended(sending: asyncio.Future[None]) -> None:
    """A beat that could not be written says nothing: the writer will see for itself."""
    if not sending.cancelled():
        sending.exception()
