"""hypercorn's HTTP/1.1 with three cures. They lean on private parts of one minor version; tests from outside guard them.

- A plain connection is never turned to HTTP/2: hypercorn does so whenever asked, and cannot be told not to.
- An idle connection that its client closes is forgotten at once: hypercorn keeps its socket and three tasks until the keep-alive is over.
- Waiting for the next request costs a timer: hypercorn makes two tasks for it, and cancels them, with every request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import h11
import hypercorn.protocol
from hypercorn.config import Config
from hypercorn.events import Closed, Event, Updated
from hypercorn.protocol.h11 import H11Protocol


class ServerConfig(Config):
    """hypercorn's settings for one server, and the connections of it that wait for a request."""

    def __init__(self) -> None:
        super().__init__()
        self.idle: set[Http11] = set()
        self.closing = False

    def close_idle(self) -> None:
        """The server takes no more: close what waits, now and from now on."""
        self.closing = True
        for connection in list(self.idle):
            connection.expire()


class Http11(H11Protocol):
    """One connection."""

    config: ServerConfig

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._to_server: Callable[[Event], Awaitable[None]] = self.send
        self.send = self._send
        self._fresh = True  # hypercorn's own idle task runs until the first request
        self._timer: asyncio.TimerHandle | None = None

    async def handle(self, event: Event) -> None:
        """Take what has come from the socket, or the news that it is closed."""
        await super().handle(event)
        if isinstance(event, Closed) and self.stream is None:
            await self._wake()

    def expire(self) -> None:
        """Close the connection: it has waited long enough."""
        self._stop_waiting()
        self.task_group.spawn(self._to_server, Closed())

    async def _send(self, event: Event) -> None:
        if type(event) is not Updated:
            await self._to_server(event)
        elif event.idle:
            self._rest()
        else:
            await self._wake()

    def _rest(self) -> None:
        if self.config.closing:
            self.expire()
        else:
            self.config.idle.add(self)
            self._timer = asyncio.get_running_loop().call_later(self.config.keep_alive_timeout, self.expire)

    async def _wake(self) -> None:
        self._stop_waiting()
        if self._fresh:
            self._fresh = False
            await self._to_server(Updated(idle=False))

    def _stop_waiting(self) -> None:
        self.config.idle.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _check_protocol(self, event: h11.Request) -> None:
        """No upgrade."""


def install() -> None:
    """Make hypercorn use it."""
    hypercorn.protocol.H11Protocol = Http11  # type: ignore[assignment, attr-defined] # not meant to be replaced
