"""An upstream that says what was recorded, a byte at a time, over a real socket: ``/KIND/...`` answers with ``recorded/KIND``."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import h11
import orjson

RECORDED: Final = Path(__file__).parents[1] / "providers" / "recorded"


@contextmanager
def replaying() -> Iterator[str]:
    """The base URL of the upstream, for the time of the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def begin() -> asyncio.Server:
        return await asyncio.start_server(_serve, "127.0.0.1", 0)

    async def end(server: asyncio.Server) -> None:
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(begin(), loop).result()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = h11.Connection(h11.SERVER)
    try:
        while True:
            target, body = await _request(connection, reader)
            await _answer(connection, writer, target.split("/")[1], orjson.loads(body))
            connection.start_next_cycle()
    except (ConnectionError, EOFError):
        pass
    finally:
        writer.close()


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[str, bytes]:
    target, body = "", b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            target = event.target.decode()
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return target, body
        else:
            raise EOFError


async def _answer(
    connection: h11.Connection, writer: asyncio.StreamWriter, kind: str, asked: dict[str, object]
) -> None:
    streamed = asked.get("stream") is True
    data = (RECORDED / kind / ("stream.sse" if streamed else "answer.json")).read_bytes()
    type_ = b"text/event-stream" if streamed else b"application/json"
    length = [] if streamed else [(b"content-length", b"%d" % len(data))]
    head = connection.send(h11.Response(status_code=200, headers=[(b"content-type", type_), *length]))
    parts = [connection.send(h11.Data(data=data[at : at + 1])) for at in range(len(data))]
    for part in (head, *parts, connection.send(h11.EndOfMessage())):
        for at in range(len(part or b"")):
            writer.write((part or b"")[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)
