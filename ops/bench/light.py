"""A provider and a client that take as little as can be, so that the gateway between them is what is busy: canned answers, raw HTTP/1.1."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_END = b"0\r\n\r\n"


def _chat(tokens: int) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "word " * tokens}, "finish_reason": "stop"}
    return {**_frame("chat.completion"), "choices": [choice], "usage": _usage(tokens)}


def _frame(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "gpt-4o-mini"}


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 12, "completion_tokens": tokens, "total_tokens": 12 + tokens}


def _events(tokens: int) -> Iterator[bytes]:
    deltas: list[tuple[dict[str, str], str | None]] = [({"content": "word "}, None)] * tokens + [({}, "stop")]
    for delta, reason in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        yield b"data: " + json.dumps({**_frame("chat.completion.chunk"), "choices": [choice]}).encode() + b"\n\n"
    last = {**_frame("chat.completion.chunk"), "choices": [], "usage": _usage(tokens)}
    yield b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n"


class _Provider(asyncio.Protocol):
    """Answers each request at once, a stream in one write."""

    def __init__(self, tokens: int) -> None:
        body = json.dumps(_chat(tokens)).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in _events(tokens))
        stream = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        self._whole, self._stream = head + body, stream + chunks + _END
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not found or len(rest) < (size := int(length[1]) if length else 0):
            return
        self._transport.write(self._stream if b'"stream":true' in rest[:size] else self._whole)
        self._data = rest[size:]


@contextmanager
def provider(tokens: int) -> Iterator[str]:
    """It runs in a thread of this process; its URL."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: _Provider(tokens), "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()


async def load(
    url: str, model: str, requests: int, *, stream: bool, rate: float | None = None, clients: int = 16
) -> None:
    """Ask the gateway at ``url`` so often, ``clients`` at once; ``rate`` of them begin in a second, as many as can be without it."""
    asked = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "Hello there"}]}
    body = json.dumps(asked, separators=(",", ":")).encode()
    where = urlsplit(url)
    head = f"POST {where.path} HTTP/1.1\r\nhost: {where.netloc}\r\ncontent-type: application/json\r\n"
    request = head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body
    left, began = iter(range(requests)), time.perf_counter()

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        for number in left:
            if rate is not None and (early := began + number / rate - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"the gateway says {head.decode()}")
            length = _LENGTH.search(head)
            await (reader.readexactly(int(length[1])) if length else reader.readuntil(_END))
        writer.close()

    await asyncio.gather(*(ask() for _ in range(clients)))
