"""A port that can be closed and opened again: it stays ours in between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

_BACKLOG: Final = 4096

Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]


class Listener:
    """Listens on ``host`` once it is opened. While it refuses, a socket that is bound but does not listen holds the port."""

    def __init__(self, accept: Accept) -> None:
        self._accept = accept
        self._host, self.port = "", 0
        self._held: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._changing = asyncio.Lock()

    async def open(self, host: str, port: int) -> None:
        """Listen on ``port``, 0 for any. Raises :class:`OSError` if somebody else does."""
        if port:
            _bound(host, port, shared=False).close()  # two that share would share the requests too
        self._held = _bound(host, port, shared=True)
        self._host, self.port = host, self._held.getsockname()[1]
        await self.listen()

    async def reopen(self) -> None:
        """Listen where it did before it was closed. Raises :class:`OSError` if somebody else does now."""
        await self.open(self._host, self.port)

    async def listen(self) -> None:
        """Accept connections, if the listener is open and does not yet."""
        async with self._changing:
            if self._server is None and self._held is not None:
                listening = _bound(self._host, self.port, shared=True)
                self._server = await asyncio.start_server(self._accept, sock=listening, backlog=_BACKLOG)

    async def refuse(self) -> None:
        """Accept no connections until it listens again."""
        async with self._changing:
            self._stop()

    def close(self) -> None:
        """Give the port up."""
        self._stop()
        if self._held is not None:
            self._held.close()
            self._held = None

    def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


def _bound(host: str, port: int, *, shared: bool) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    bound.settimeout(0)
    return bound
