"""Many streams at once, read to their last byte or left in the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from attrs import define, field

from tests.e2e.node import Gateway
from tests.support.plain import PLAIN

HELLO: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=0)


@define
class Stream:
    """One stream in progress. ``body`` is what has come so far."""

    body: bytes = b""
    status: int = 0
    headers: dict[str, str] = field(factory=dict)
    error: Exception | None = None
    begun: asyncio.Event = field(factory=asyncio.Event)

    @property
    def whole(self) -> bool:
        """Whether it came to a real end."""
        return self.error is None and self.status == 200 and self.body.endswith(b"data: [DONE]\n\n")

    @property
    def text(self) -> str:
        """What the model said."""
        events = [e.removeprefix(b"data: ") for e in self.body.split(b"\n\n") if e.startswith(b"data: {")]
        return "".join(c["delta"].get("content") or "" for e in events for c in json.loads(e).get("choices", ()))


class Streams:
    """A crowd of clients with a connection each."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url
        self._tasks: list[asyncio.Task[None]] = []
        self.all: list[Stream] = []

    async def start(self, count: int, body: dict[str, Any] | None = None) -> None:
        """Open ``count`` more and wait until each has its first bytes."""
        fresh = [Stream() for _ in range(count)]
        self.all += fresh
        self._tasks += [asyncio.create_task(self._read(stream, body or HELLO)) for stream in fresh]
        async with asyncio.timeout(30):
            for stream in fresh:
                await stream.begun.wait()

    async def finish(self) -> list[Stream]:
        """Wait for all of them."""
        async with asyncio.timeout(90):
            await asyncio.gather(*self._tasks)
        return self.all

    async def leave(self) -> None:
        """Close every connection in the middle."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _read(self, stream: Stream, body: dict[str, Any]) -> None:
        try:
            async with self._client.stream("POST", self._url, json=body) as answer:
                stream.status, stream.headers = answer.status_code, dict(answer.headers)
                async for data in answer.aiter_raw():
                    stream.body += data
                    stream.begun.set()
        except httpx.HTTPError as error:
            stream.error = error
        finally:
            stream.begun.set()


@asynccontextmanager
async def streams(node: Gateway) -> AsyncIterator[Streams]:
    """Clients of ``node``; none is left behind."""
    async with httpx.AsyncClient(limits=_LIMITS, timeout=60, **PLAIN) as client:
        crowd = Streams(client, f"{node.base_url}/chat/completions")
        try:
            yield crowd
        finally:
            if crowd._tasks:
                await crowd.leave()
