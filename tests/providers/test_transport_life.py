"""A transport's life: many streams at once, cancels at any point, closing while streams are open. Nothing is left of any of it."""

from __future__ import annotations

import asyncio
import gc
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from runestone.domain.failure import UpstreamError
from runestone.providers.transport import Transport
from tests.support.scripted import Peer, answering, serving
from tests.support.transporting import acquired, ask, begin, idle, transporting, until

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


def sockets() -> int:
    gc.collect()
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one of the listing itself
            found += str(descriptor.readlink()).startswith("socket:")
    return found


@asynccontextmanager
async def leaving_nothing() -> AsyncIterator[None]:
    """Sockets and tasks are as many after the block as before it."""
    open_before, tasks_before = sockets(), asyncio.all_tasks()
    yield
    await until(lambda: asyncio.all_tasks() <= tasks_before)
    await until(lambda: sockets() <= open_before)


def assert_unused(transport: Transport) -> None:
    """No request is known to the transport or to the pool."""
    assert acquired(transport) == []
    assert transport._streams == set()
    assert transport._pending == 0
    assert not transport._connector._waiters


# -- cancels ---------------------------------------------------------------------------------------------------------


async def slow_stream(peer: Peer) -> None:
    """An answer in several turns of the loop, so that a cancel can come between any two."""
    while True:
        await peer.request()
        for part in (HEAD[:20], HEAD[20:], b"2\r\nok\r\n", b"2\r\nok\r\n", b"0\r\n", b"\r\n"):
            await peer.send(part)
            for _ in range(3):
                await asyncio.sleep(0)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("limit", [0, 4], ids=["no limit", "limit"])
async def test_cancels_at_any_point_leave_no_socket_no_task_and_no_entry_in_the_pool(*, tls: bool, limit: int) -> None:
    authority, numbers = trustme.CA(), random.Random(f"{tls} {limit}")
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    authority.configure_trust(ours)

    async with leaving_nothing():
        async with (
            serving(slow_stream, tls=theirs if tls else None) as server,
            transporting(ssl_context=ours, limit=limit) as transport,
        ):

            async def ask_and_cancel() -> None:
                asking = asyncio.create_task(ask(transport, server.url))
                for _ in range(numbers.choice((1, 2, 2))):
                    for _ in range(numbers.randrange(40)):
                        await asyncio.sleep(0)
                    asking.cancel()
                await asyncio.wait({asking})
                assert asking.cancelled() or asking.result() == b"okok"

            for _ in range(25):
                await asyncio.gather(*(ask_and_cancel() for _ in range(8)))
            await until(lambda: not acquired(transport))
            assert_unused(transport)

            assert await asyncio.gather(*(ask(transport, server.url) for _ in range(8))) == [b"okok"] * 8
            assert_unused(transport)
        await server.left()


async def test_a_cancel_while_the_pool_is_full_gives_the_place_to_the_next() -> None:
    async def never_ends_the_first(peer: Peer) -> None:
        if peer.number == 1:
            await peer.request()
            await peer.send(HEAD)
            await peer.until_the_client_leaves()
        await slow_stream(peer)

    async with serving(never_ends_the_first) as server, transporting(limit=1) as transport:
        holding = await begin(transport, server.url)
        waiting = [asyncio.create_task(ask(transport, server.url)) for _ in range(3)]
        await until(lambda: len(next(iter(transport._connector._waiters.values()), ())) == 3)
        waiting[0].cancel()
        await holding.aclose()

        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [b"okok"] * 2
        assert_unused(transport)


# -- closing ---------------------------------------------------------------------------------------------------------


async def test_a_closing_transport_lets_open_streams_finish_and_closes_with_the_last() -> None:
    go = asyncio.Event()

    async def in_two_parts(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"5\r\nfirst\r\n")
        await go.wait()
        await peer.send(b"6\r\nsecond\r\n0\r\n\r\n")
        await peer.until_the_client_leaves()

    async with leaving_nothing(), serving(in_two_parts) as server:
        transport = Transport(connect_timeout_seconds=10)
        streams = [await begin(transport, server.url) for _ in range(3)]
        await transport.aclose()

        assert not transport._connector.closed
        assert [await anext(stream) for stream in streams] == [b"first"] * 3
        go.set()
        for number, stream in enumerate(streams, 1):
            assert [data async for data in stream] == [b"second"]
            await stream.aclose()
            assert transport._connector.closed == (number == 3)
        await server.left()


async def test_a_closing_transport_waits_for_a_stream_that_is_left_early_too() -> None:
    async with serving(slow_stream) as server:
        transport = Transport(connect_timeout_seconds=10)
        stream = await begin(transport, server.url)
        await transport.aclose()
        await stream.aclose()

        assert transport._connector.closed
        await server.left()


async def test_a_request_that_waits_for_its_answer_is_not_cut_by_closing() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def late(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await go.wait()
        await peer.send(OK)
        await peer.until_the_client_leaves()

    async with serving(late) as server:
        transport = Transport(connect_timeout_seconds=10)
        asking = asyncio.create_task(ask(transport, server.url))
        await asked.wait()
        await transport.aclose()
        open_yet = not transport._connector.closed
        go.set()

        assert await asking == b"ok"
        assert open_yet
        assert transport._connector.closed
        await server.left()


async def test_a_request_that_fails_while_closing_closes_too() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def hangs_up(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await go.wait()

    async with serving(hangs_up) as server:
        transport = Transport(connect_timeout_seconds=10)
        asking = asyncio.create_task(ask(transport, server.url))
        await asked.wait()
        await transport.aclose()
        go.set()

        with pytest.raises(UpstreamError):
            await asking
        assert transport._connector.closed


async def test_a_closing_transport_takes_no_requests_and_keeps_no_idle_connections() -> None:
    async with serving(answering(OK)) as server:
        transport = Transport(connect_timeout_seconds=10)
        open_stream, other = await begin(transport, server.url), await begin(transport, server.url)
        await other.aclose()
        await transport.aclose()
        await transport.aclose()

        assert idle(transport) == []
        with pytest.raises(UpstreamError) as caught:
            await ask(transport, server.url)
        assert caught.value.failure.kind == "refused"
        assert "replaced" in caught.value.failure.message

        await open_stream.aclose()
        await server.left()


async def test_a_transport_that_was_never_used_closes() -> None:
    async with leaving_nothing():
        transport = Transport(connect_timeout_seconds=10)
        await transport.aclose()

        assert transport._connector.closed


# -- many ------------------------------------------------------------------------------------------------------------


async def test_five_hundred_streams_are_open_at_once_and_their_connections_are_kept() -> None:
    go = asyncio.Event()

    async def held(peer: Peer) -> None:
        while True:
            request = await peer.request()
            await peer.send(HEAD + b"5\r\nfirst\r\n")
            await go.wait()
            await peer.send(b"3\r\n%b\r\n0\r\n\r\n" % request[-3:])

    async with leaving_nothing():
        async with serving(held) as server, transporting() as transport:
            for _ in range(2):
                go.clear()
                streams = await asyncio.gather(*(begin(transport, server.url, b"%03d" % n) for n in range(500)))
                assert len(acquired(transport)) == server.connections == 500
                assert [await anext(stream) for stream in streams] == [b"first"] * 500
                go.set()
                assert [[data async for data in stream] for stream in streams] == [[b"%03d" % n] for n in range(500)]
                for stream in streams:
                    await stream.aclose()

                assert_unused(transport)
                assert len(idle(transport)) == 500
        await server.left()


async def test_no_more_connections_are_opened_than_the_limit() -> None:
    async with serving(slow_stream) as server, transporting(limit=3) as transport:
        assert await asyncio.gather(*(ask(transport, server.url) for _ in range(30))) == [b"okok"] * 30

        assert server.connections == 3
