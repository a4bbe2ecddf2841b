"""hypercorn with its cures, over real sockets: who waits for a request, and for how long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hypercorn.asyncio.run
import hypercorn.protocol
import pytest
from hypercorn.asyncio import serve
from hypercorn.asyncio.tcp_server import TCPServer
from starlette.responses import PlainTextResponse

from runestone.http import http11
from runestone.http.http11 import ServerConfig
from runestone.http.server import Admission, config
from runestone.http.sockets import bind_tcp

pytestmark = pytest.mark.anyio
GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    await PlainTextResponse("hello")(scope, receive, send)


@asynccontextmanager
async def server(
    keep_alive_seconds: float, most: int = 100
) -> AsyncIterator[tuple[int, ServerConfig, asyncio.Task[None]]]:
    with bind_tcp("127.0.0.1", 0) as listener:
        settings = config(listener.dup(), 5.0, Admission(most=lambda: most))
        settings.keep_alive_timeout = keep_alive_seconds
        over = asyncio.Event()

        async def until_over() -> None:
            await over.wait()
            settings.close_idle()

        task = asyncio.create_task(serve(hello, settings, shutdown_trigger=until_over))
        yield listener.getsockname()[1], settings, task
        over.set()
        async with asyncio.timeout(5):
            await task


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(5):
        return await asyncio.open_connection("127.0.0.1", port)


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        return await reader.readuntil(b"hello")


@pytest.mark.parametrize("requests", [0, 1, 3])
async def test_a_connection_that_waits_too_long_is_closed(requests: int) -> None:
    async with server(0.2) as (port, _, _task):
        reader, writer = await connect(port)
        for _ in range(requests):
            writer.write(GET)
            await answer(reader)

        async with asyncio.timeout(5):
            rest = await reader.read()

        assert rest == b""
        writer.close()


async def test_requests_in_time_keep_a_connection_open() -> None:
    async with server(0.5) as (port, settings, _):
        reader, writer = await connect(port)
        for _ in range(4):
            writer.write(GET)
            assert (await answer(reader)).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.2)

        assert len(settings.idle) == 1
        writer.close()


@pytest.mark.parametrize("requests", [0, 2])
async def test_a_head_that_comes_byte_by_byte_has_its_time_however_busy_it_looks(requests: int) -> None:
    async with server(60) as (port, settings, _task):
        settings.head_seconds = 0.2
        reader, writer = await connect(port)
        for _ in range(requests):
            writer.write(GET)
            await answer(reader)

        async def drip() -> None:
            while True:
                writer.write(b"G" if requests else b"X")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        dripping.cancel()
        writer.close()


async def test_a_head_in_pieces_is_answered_if_it_comes_in_time_and_the_next_one_has_its_own() -> None:
    async with server(60) as (port, settings, _task):
        settings.head_seconds = 0.4
        reader, writer = await connect(port)
        for _ in range(3):
            for start in range(0, len(GET), 15):
                writer.write(GET[start : start + 15])
                await asyncio.sleep(0.05)
            assert (await answer(reader)).startswith(b"HTTP/1.1 200")

        assert len(settings.idle) == 1
        writer.close()


async def test_a_connection_that_its_client_closes_is_forgotten() -> None:
    async with server(60) as (port, settings, _):
        first = await connect(port)
        first[1].write(GET)
        await answer(first[0])
        with_one = len(asyncio.all_tasks())

        for _ in range(20):
            reader, writer = await connect(port)
            writer.write(GET)
            await answer(reader)
            writer.close()
            await writer.wait_closed()

        async with asyncio.timeout(5):
            while len(asyncio.all_tasks()) > with_one:
                await asyncio.sleep(0.01)
        assert len(settings.idle) == 1
        first[1].close()
        async with asyncio.timeout(5):
            while settings.idle:
                await asyncio.sleep(0.01)


async def test_a_client_that_leaves_amid_its_answers_leaves_no_connection_that_waits() -> None:
    async with server(60) as (port, settings, _):
        first = await connect(port)
        first[1].write(GET)
        await answer(first[0])
        with_one = len(asyncio.all_tasks())
        _, writer = await connect(port)
        writer.write(GET * 100)
        async with asyncio.timeout(5):
            while settings.accepted < 2:
                await asyncio.sleep(0)

        writer.transport.abort()

        async with asyncio.timeout(5):
            while len(asyncio.all_tasks()) > with_one:
                await asyncio.sleep(0.01)
        assert len(settings.idle) == 1
        first[1].close()


async def test_a_server_that_ends_closes_what_waits() -> None:
    async with server(60) as (port, _, _task):
        reader, writer = await connect(port)
        writer.write(GET)
        await answer(reader)

    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_a_connection_whose_first_request_is_on_its_way_when_the_server_ends_is_answered() -> None:
    async with server(60) as (port, settings, _task):
        late, silent = await connect(port), await connect(port)
        async with asyncio.timeout(5):
            while len(settings.fresh) < 2:
                await asyncio.sleep(0.01)

        async def ask() -> bytes:
            while not settings.closing:
                await asyncio.sleep(0.01)
            late[1].write(GET)
            return await answer(late[0])

        asked = asyncio.create_task(ask())

    assert (await asked).startswith(b"HTTP/1.1 200")
    async with asyncio.timeout(5):
        assert (await late[0].read(), await silent[0].read()) == (b"", b"")
    for _, writer in (late, silent):
        writer.close()


async def test_requests_in_one_packet_are_all_answered() -> None:
    async with server(60) as (port, _, _task):
        reader, writer = await connect(port)

        writer.write(GET * 3)

        for _ in range(3):
            assert b"200" in await answer(reader)
        writer.close()


def test_hypercorn_takes_the_class_where_it_is_put() -> None:
    http11.install()

    assert vars(hypercorn.protocol)["H11Protocol"] is http11.Http11
    assert vars(hypercorn.asyncio.run)["TCPServer"] is http11._Server
    assert "_idle_timeout" in vars(TCPServer)


async def test_a_connection_above_the_cap_is_told_so_and_closed_and_makes_room_for_none() -> None:
    async with server(60, most=2) as (port, settings, _task):
        kept = [await connect(port) for _ in range(2)]
        for reader, writer in kept:
            writer.write(GET)
            await answer(reader)
        reader, writer = await connect(port)
        writer.write(GET)
        async with asyncio.timeout(5):
            refusal = await reader.read()

        assert refusal.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in refusal
        assert json.loads(refusal.partition(b"\r\n\r\n")[2])["error"]["code"] == "overloaded"
        kept[0][1].write(GET)
        assert (await answer(kept[0][0])).startswith(b"HTTP/1.1 200")
        kept[1][1].close()
        async with asyncio.timeout(5):
            while settings.connections > 1:
                await asyncio.sleep(0.01)
        reader, other = await connect(port)
        other.write(GET)
        assert (await answer(reader)).startswith(b"HTTP/1.1 200")
        for each in (writer, kept[0][1], other):
            each.close()


@pytest.mark.parametrize(
    ("most", "begin", "status"),
    [
        (0, b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 16000000\r\n\r\n", b"503"),
        (9, b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: nonsense\r\n\r\n", b"400"),
        (9, b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n", b"400"),
    ],
    ids=["above the cap", "bad head", "bad body"],
)
async def test_who_is_refused_while_sending_can_send_it_all_and_reads_the_answer(
    most: int, begin: bytes, status: bytes
) -> None:
    async with server(60, most=most) as (port, settings, _task):
        reader, writer = await connect(port)
        writer.write(begin)
        async with asyncio.timeout(20):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 " + status)
            writer.write(b"x" * 16_000_000)
            await writer.drain()
            writer.write_eof()
            await reader.read()
            writer.close()
            await writer.wait_closed()
            while settings.connections:
                await asyncio.sleep(0.01)


async def test_who_is_refused_and_never_closes_is_closed_in_the_end() -> None:
    async with server(60, most=0) as (port, settings, _task):
        settings.linger_seconds = 0.1
        reader, writer = await connect(port)
        writer.write(GET)
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
            assert settings.connections == 0
            with pytest.raises(ConnectionError):
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.02)
        writer.close()


async def test_of_too_many_that_are_refused_while_they_send_the_last_are_closed_at_once() -> None:
    async with server(60, most=0) as (port, settings, _task):
        settings.most_leaving = 2
        crowd = [await connect(port) for _ in range(3)]
        async with asyncio.timeout(10):
            for reader, writer in crowd:
                writer.write(GET)
                assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 503 ")
            with pytest.raises(ConnectionError):
                while True:
                    crowd[-1][1].write(b"x")
                    await crowd[-1][1].drain()
                    await asyncio.sleep(0.02)

            assert len(settings.leaving) == 2
            for _, writer in crowd:
                writer.close()
            while settings.leaving:
                await asyncio.sleep(0.01)


async def test_connections_are_counted_out_however_they_end() -> None:
    async with server(0.2, most=5) as (port, settings, _task):
        for end in ("close", "reset", "wait", "half a request"):
            reader, writer = await connect(port)
            if end == "half a request":
                writer.write(GET[:10])
            if end == "reset":
                writer.transport.abort()
            elif end != "wait":
                writer.close()
            async with asyncio.timeout(5):
                await reader.read() if end == "wait" else None
                while settings.connections:
                    await asyncio.sleep(0.01)
            writer.close()

        assert settings.connections == 0
