"""A provider whose every byte the test says: a server on loopback, in the loop of the test."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Self

from attrs import define, field


@define(eq=False)
class Peer:
    """The server's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int  # of the connection, from 1
    requests: list[bytes]

    async def request(self) -> bytes:
        """The next request, with its body. Raises :class:`asyncio.IncompleteReadError` when the client has left."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        _, found, length = head.lower().partition(b"content-length: ")
        whole = head + await self.reader.readexactly(int(length.split(b"\r\n")[0]) if found else 0)
        self.requests.append(whole)
        return whole

    async def send(self, data: bytes) -> None:
        """Send ``data``."""
        if self.writer.is_closing():  # uvloop would call it a RuntimeError
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection off."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def until_the_client_leaves(self) -> None:
        """Wait for the end of what it sends."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


@define(eq=False)
class Scripted:
    """A running server."""

    url: str
    server: asyncio.Server
    requests: list[bytes] = field(factory=list)
    tasks: set[asyncio.Task[None]] = field(factory=set)
    connections: int = 0

    async def left(self) -> Self:
        """Wait until no client is connected."""
        while self.tasks:
            await asyncio.wait(self.tasks)
        return self


Script = Callable[[Peer], Awaitable[None]]


def answering(*parts: bytes, keep: bool = True) -> Script:
    """A script that answers each request with ``parts``, and unless ``keep`` closes after the first."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for part in parts:
                await peer.send(part)
            if not keep:
                return

    return script


@asynccontextmanager
async def serving(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    """Run ``script`` for every connection; it is closed at the end of it."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        scripted.tasks.add(task)
        scripted.connections += 1
        try:
            await script(Peer(reader, writer, scripted.connections, scripted.requests))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            # Not passed on: the stream protocol of older Pythons stumbles over a cancelled callback. Nobody else cancels it.
            return
        finally:
            writer.close()
            scripted.tasks.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls, backlog=1024)
    scheme = "https" if tls else "http"
    scripted = Scripted(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", server)
    try:
        yield scripted
    finally:
        server.close()
        for task in list(scripted.tasks):
            task.cancel()
        await scripted.left()
