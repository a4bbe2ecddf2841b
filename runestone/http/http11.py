"""hypercorn's HTTP/1.1 with a cap on connections and six cures. They lean on private parts of one minor version; tests guard them.

- A plain connection is never turned to HTTP/2: hypercorn does so whenever asked, and cannot be told not to.
- An idle connection that its client closes is forgotten at once: hypercorn keeps its socket and three tasks until the keep-alive is over.
- A head that comes byte by byte has ten seconds: hypercorn gives it as long as a connection may be idle.
- A connection whose first request is on its way when the server is told to end has a second to bring it: hypercorn hangs up.
- A connection that is refused while its client still sends is half closed, and what comes is thrown away until the client closes it too,
  has had five seconds or has sent 16 MiB: hypercorn closes the socket with unread bytes, which resets the connection and can take the
  answer with it.
- Waiting for the next request costs a timer: hypercorn makes two tasks for it, and cancels them, with every request.

And an application that listens on a unix socket may know who has connected.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import h11
import hypercorn.asyncio.run
import hypercorn.protocol
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol

from runestone.http import sockets

_HEAD_SECONDS = 10.0  # for the head of a request, from its first byte on
_FRESH_SECONDS = 1.0  # for the first request of a connection that a server which ends has just taken
_UNWANTED_SECONDS = 5.0  # for a connection above the cap to send its request, so that it reads the answer
_LINGER_SECONDS = 5.0  # for a client that still sends to read its refusal
_LINGER_BYTES = 16 * 1024 * 1024  # that it may send meanwhile


def refusal(message: str) -> bytes:
    """A whole answer of 503 that needs no request, and ends the connection."""
    body = b'{"error":{"message":"%s","type":"server_error","param":null,"code":"overloaded"}}' % message.encode()
    head = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(body)
    return head + b"retry-after: 1\r\nconnection: close\r\n\r\n" + body


_TOO_MANY = refusal("This gateway has as many connections as it may have. Try again later.")


class ServerConfig(Config):
    """hypercorn's settings for one server, how many connections it has and has ever had, and those that wait for a request.

    ``most`` tells how many it may have; what comes above that is told to come back later, and ``refused`` of it. With ``knows_peers``,
    which takes a unix socket, ``peer`` in a scope's state is the process that has connected: pid and uid.
    """

    def __init__(
        self,
        most: Callable[[], int] = lambda: sys.maxsize,
        refused: Callable[[], None] = lambda: None,
        *,
        knows_peers: bool = False,
    ) -> None:
        super().__init__()
        self.most = most
        self.refused = refused
        self.head_seconds = _HEAD_SECONDS
        self.linger_seconds = _LINGER_SECONDS
        self.most_leaving = sockets.most_leaving()
        self.knows_peers = knows_peers
        self.connections = 0
        self.accepted = 0
        self.idle: set[Http11] = set()
        self.fresh: set[Http11] = set()  # no request has come yet
        self.leaving: set[Http11] = set()  # they are refused, and still send
        self.closing = False

    def close_idle(self) -> None:
        """The server takes no more: close what waits, now and from now on."""
        self.closing = True
        for connection in list(self.idle):
            connection.expire()
        for connection in self.fresh:
            connection.wait(_FRESH_SECONDS)


class Http11(H11Protocol):
    """One connection."""

    config: ServerConfig

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._to_server: Callable[[Event], Awaitable[None]] = self.send
        self._server: TCPServer = self.send.__self__  # type: ignore[attr-defined] # it is a method of it
        if self.config.knows_peers:
            self.connection_state["peer"] = sockets.peer(self._server.writer.get_extra_info("socket"))
        self.send = self._send
        self._timer: asyncio.TimerHandle | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._open = True
        self._refused = False
        self._thrown_away = 0  # bytes that came behind a refusal
        self.config.connections += 1
        self.config.accepted += 1
        self._unwanted = self.config.connections > self.config.most()
        if self._unwanted:
            self.wait(_UNWANTED_SECONDS)
        else:
            self.config.fresh.add(self)
            self.wait(_FRESH_SECONDS if self.config.closing else self.config.keep_alive_timeout)

    async def handle(self, event: Event) -> None:
        """Take what has come from the socket, or the news that it is closed."""
        if isinstance(event, Closed):
            self._count_out()
        elif self._refused:
            self._throw_away(event)
            return
        elif self._unwanted:
            self._count_out()
            self.config.refused()
            await self._to_server(RawData(_TOO_MANY))
            self._linger()
            return
        await super().handle(event)
        if self.stream is not None:
            return
        if isinstance(event, Closed):
            self._stop_waiting()
        elif self._head_timer is None and self._open and self.connection.trailing_data[0]:
            self._head_timer = asyncio.get_running_loop().call_later(self.config.head_seconds, self.expire)

    def _count_out(self) -> None:
        if self._open:
            self._open = False
            self.config.connections -= 1

    def wait(self, seconds: float) -> None:
        """Close the connection in so many seconds, unless a request comes."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.expire)

    def expire(self) -> None:
        """Close the connection: it has waited long enough."""
        self._stop_waiting()
        self.task_group.spawn(self._to_server, Closed())

    def _linger(self) -> None:
        self._refused = True
        if len(self.config.leaving) >= self.config.most_leaving:
            self.expire()
            return
        self.config.leaving.add(self)
        self.wait(self.config.linger_seconds)
        with suppress(OSError, RuntimeError):  # it is gone
            self._server.writer.write_eof()

    def _throw_away(self, event: Event) -> None:
        if isinstance(event, RawData):
            self._thrown_away += len(event.data)
            if self._thrown_away > _LINGER_BYTES:
                self.expire()

    async def _send(self, event: Event) -> None:
        if type(event) is Closed and self.connection.their_state is h11.ERROR:
            if not self._refused:
                self._linger()
                await self._close_stream()
        elif type(event) is not Updated:
            await self._to_server(event)
        elif event.idle:
            self._rest()
        else:
            self._stop_waiting()

    def _rest(self) -> None:
        if not self._open:  # its client has left while it was answered: nothing is waited for
            return
        if self.config.closing:
            self.expire()
        else:
            self.config.idle.add(self)
            self.wait(self.config.keep_alive_timeout)

    def _stop_waiting(self) -> None:
        self.config.idle.discard(self)
        self.config.fresh.discard(self)
        self.config.leaving.discard(self)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _check_protocol(self, event: h11.Request) -> None:
        """No upgrade."""


class _Server(TCPServer):
    """hypercorn's side of the socket, without its own idea of when a connection has waited too long."""

    async def _idle_timeout(self) -> None:
        """Leave that to the protocol."""


def install() -> None:
    """Make hypercorn use it."""
    hypercorn.asyncio.run.TCPServer = _Server  # type: ignore[attr-defined] # not meant to be replaced
    hypercorn.protocol.H11Protocol = Http11  # type: ignore[assignment, attr-defined] # not meant to be replaced
