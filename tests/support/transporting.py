"""A transport for the time of a block, and a look into its pool."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import httpx

from runestone.providers.transport import ConnectionStream, Transport, _Protocol


@asynccontextmanager
async def transporting(
    connect_timeout_seconds: float = 10.0,
    ssl_context: ssl.SSLContext | None = None,
    limit: int = 0,
    on_stale: Callable[[], None] = lambda: None,
) -> AsyncIterator[Transport]:
    """Closed at the end of the block."""
    transport = Transport(
        connect_timeout_seconds=connect_timeout_seconds, ssl_context=ssl_context, limit=limit, on_stale=on_stale
    )
    try:
        yield transport
    finally:
        await transport.aclose()


async def begin(transport: Transport, url: str, content: bytes = b"", **headers: str) -> ConnectionStream:
    """Ask, and wait for the head of the answer only."""
    response = await transport.handle_async_request(httpx.Request("POST", url, content=content, headers=headers))
    assert isinstance(response.stream, ConnectionStream)
    return response.stream


async def ask(transport: Transport, url: str, content: bytes = b"", **headers: str) -> bytes:
    """Ask, and read the body of the answer."""
    stream = await begin(transport, url, content, **headers)
    try:
        return b"".join([data async for data in stream])
    finally:
        await stream.aclose()


def idle(transport: Transport) -> list[_Protocol]:
    """The kept connections."""
    return [cast("_Protocol", protocol) for kept in transport._connector._conns.values() for protocol, _ in kept]


def acquired(transport: Transport) -> list[_Protocol]:
    """The connections in use."""
    return [cast("_Protocol", protocol) for protocol in transport._connector._acquired]


async def until(check: Callable[[], bool]) -> None:
    """Wait for ``check``, which a loop that runs will make true."""
    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.001)
