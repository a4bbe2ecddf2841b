"""Answers of a provider: what is whole, what is not, and what is not read at all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trustme

from runestone.domain.failure import Failure, UpstreamError
from runestone.providers.connection_errors import BROKEN, TOO_LARGE
from runestone.providers.stream import UpstreamStream
from runestone.providers.transport import ANSWER_BYTES
from tests.support.scripted import Peer, Script, answering, serving
from tests.support.transporting import acquired, ask, begin, idle, transporting, until

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
NOT_HTTP = Failure(kind="invalid_answer", message="the answer is not HTTP")
MEBIBYTE = bytes(1024 * 1024)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def with_length(data: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data


async def read(stream: UpstreamStream) -> tuple[bytes, Failure | None]:
    """All that can be read, and why there is no more."""
    got = b""
    try:
        async for data in stream:
            got += data
    except UpstreamError as error:
        return got, error.failure
    finally:
        await stream.aclose()
    return got, None


async def outcome(script: Script) -> tuple[bytes, Failure | None]:
    async with serving(script) as server, transporting() as transport:
        try:
            stream = await begin(transport, server.url)
        except UpstreamError as error:
            assert acquired(transport) == idle(transport) == []
            return b"", error.failure
        return await read(stream)


# -- whole answers ---------------------------------------------------------------------------------------------------


async def test_the_head_is_given_as_it_came() -> None:
    head = b"HTTP/1.1 299 Odd\r\nX-One: 1\r\nx-two:   b  \r\nX-One: \xfc\r\nContent-Length: 0\r\n\r\n"

    async with serving(answering(head)) as server, transporting() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", server.url))
        await response.aclose()

    assert response.status_code == 299
    assert response.headers.raw == [
        (b"X-One", b"1"),
        (b"x-two", b"b"),
        (b"X-One", b"\xfc"),
        (b"Content-Length", b"0"),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        with_length(b"hello world"),
        CHUNKED + chunk(b"hello") + chunk(b" world") + b"0\r\n\r\n",
        CHUNKED + b"5;name=value\r\nhello\r\n006\r\n world\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + with_length(b"hello world"),
        HEAD + b"Upgrade: h2c\r\nConnection: upgrade\r\n" + with_length(b"hello world").removeprefix(HEAD),
    ],
    ids=["length", "chunked", "extensions and trailers", "1xx", "offers an upgrade"],
)
async def test_an_answer_is_the_same_however_it_is_cut_and_its_connection_is_kept(answer: bytes) -> None:
    for cuts in ([answer], [answer[n : n + 1] for n in range(len(answer))], [answer[:-1], answer[-1:]]):
        async with serving(answering(*cuts)) as server, transporting() as transport:
            assert [await ask(transport, server.url) for _ in range(2)] == [b"hello world"] * 2

            assert server.connections == 1


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
async def test_an_answer_without_a_length_ends_with_its_connection(version: bytes) -> None:
    script = answering(version + b" 200 OK\r\n\r\n", b"hello", b" world", keep=False)

    async with serving(script) as server, transporting() as transport:
        assert [await ask(transport, server.url) for _ in range(2)] == [b"hello world"] * 2

        assert server.connections == 2


@pytest.mark.parametrize("head", [b"HTTP/1.1 204 No Content\r\n\r\n", with_length(b"")], ids=["204", "length 0"])
async def test_an_answer_without_a_body_is_over_at_once(head: bytes) -> None:
    async with serving(answering(head)) as server, transporting() as transport:
        assert [await ask(transport, server.url) for _ in range(2)] == [b""] * 2

        assert server.connections == 1


@pytest.mark.parametrize("says_so", [True, False])
async def test_a_connection_that_the_provider_will_close_is_not_kept(*, says_so: bool) -> None:
    answer = HEAD + b"Connection: close\r\n" * says_so + with_length(b"ok").removeprefix(HEAD)

    async with serving(answering(answer)) as server, transporting() as transport:
        assert [await ask(transport, server.url) for _ in range(2)] == [b"ok"] * 2

        assert server.connections == 1 + says_so


async def test_what_has_come_is_given_before_the_rest_has() -> None:
    go = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + chunk(b"first"))
        await go.wait()
        await peer.send(chunk(b"second") + b"0\r\n\r\n")

    async with serving(slow) as server, transporting() as transport:
        stream = await begin(transport, server.url)
        assert await anext(stream) == b"first"
        go.set()

        assert await read(stream) == (b"second", None)


@pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
async def test_a_large_answer_is_whole_for_a_slow_reader(framing: str) -> None:
    body = b"".join(n.to_bytes(4, "big") * 16384 for n in range(96))
    answer = {
        "length": with_length(body),
        "chunked": CHUNKED + b"".join(chunk(body[n : n + 1000]) for n in range(0, len(body), 1000)) + b"0\r\n\r\n",
        "until close": HEAD + b"\r\n" + body,
    }[framing]

    async with serving(answering(answer, keep=False)) as server, transporting() as transport:
        stream, got = await begin(transport, server.url), []
        async for data in stream:
            got.append(data)
            for _ in range(20):
                await asyncio.sleep(0)
        await stream.aclose()

        assert b"".join(got) == body


# -- answers that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 1000 Large\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 Small\r\nContent-Length: 0\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b"X: a\0b\r\n\r\n",
        HEAD + b"X: " + b"a" * 20_000 + b"\r\n\r\n",
        HEAD + b"a" * 20_000 + b": X\r\n\r\n",
        HEAD + b"X: " + b"a" * 20_000,
        HEAD + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 " + b"a" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc",
    ],
    ids=lambda answer: repr(bytes(answer[:60]).removeprefix(HEAD)),
)
async def test_nonsense_and_heads_that_are_too_large_are_invalid_answers(answer: bytes) -> None:
    assert await outcome(answering(answer)) == (b"", NOT_HTTP)


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"identity, gzip", b" GZIP "])
async def test_a_compressed_answer_is_refused(encoding: bytes) -> None:
    answer = HEAD + b"Content-Encoding: " + encoding + b"\r\n" + with_length(b"\x1f\x8b\x08").removeprefix(HEAD)

    assert await outcome(answering(answer)) == (
        b"",
        Failure(kind="invalid_answer", message="the answer is compressed, which was not asked for"),
    )


async def test_an_answer_that_is_compressed_in_a_second_header_is_refused_too() -> None:
    answer = HEAD + b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"

    _, found = await outcome(answering(answer))

    assert found is not None
    assert found.kind == "invalid_answer"


@pytest.mark.parametrize("encoding", [b"identity", b" Identity ", b""])
async def test_an_answer_that_says_that_it_is_not_compressed_is_read(encoding: bytes) -> None:
    answer = HEAD + b"Content-Encoding: " + encoding + b"\r\n" + with_length(b"ok").removeprefix(HEAD)

    assert await outcome(answering(answer)) == (b"ok", None)


# -- too large -------------------------------------------------------------------------------------------------------


async def many_mebibytes(peer: Peer, kind: bytes, count: int) -> None:
    await peer.request()
    await peer.send(HEAD + b"Content-Type: " + kind + b"\r\n\r\n")
    for _ in range(count):
        await peer.send(MEBIBYTE)


async def test_an_answer_whose_length_is_over_the_limit_is_not_read() -> None:
    answer = HEAD + b"Content-Length: %d\r\n\r\n"

    assert await outcome(answering(answer % (ANSWER_BYTES + 1))) == (b"", TOO_LARGE)
    assert await outcome(answering(answer % ANSWER_BYTES, keep=False)) == (b"", BROKEN)


@pytest.mark.parametrize(
    ("kind", "count", "expected"),
    [
        (b"application/json", 64, None),
        (b"application/json", 65, TOO_LARGE),
        (b"text/event-stream", 65, None),
        (b"Text/Event-Stream; charset=utf-8", 65, None),
    ],
)
async def test_an_answer_that_grows_over_the_limit_is_ended_but_a_stream_is_not(
    kind: bytes, count: int, expected: Failure | None
) -> None:
    async def script(peer: Peer) -> None:
        await many_mebibytes(peer, kind, count)

    got, found = 0, None
    async with serving(script) as server, transporting() as transport:
        stream = await begin(transport, server.url)
        try:
            async for data in stream:
                got += len(data)
        except UpstreamError as error:
            found = error.failure
        await stream.aclose()
        await server.left()

    assert found == expected
    assert got == count * len(MEBIBYTE) if expected is None else got <= ANSWER_BYTES


# -- broken answers --------------------------------------------------------------------------------------------------

BEGINNINGS = {
    "length": HEAD + b"Content-Length: 100\r\n\r\nhello",
    "chunked": CHUNKED + chunk(b"hello"),
    "in a chunk": CHUNKED + b"64\r\nhello",
    "until close": HEAD + b"\r\nhello",
}


@pytest.mark.parametrize("framing", ["length", "chunked", "in a chunk"])
@pytest.mark.parametrize("together", [False, True])
async def test_an_answer_that_ends_too_early_is_truncated_and_what_came_is_given(
    framing: str, *, together: bool
) -> None:
    read_it = asyncio.Event()

    async def breaks(peer: Peer) -> None:
        await peer.request()
        await peer.send(BEGINNINGS[framing])
        if not together:
            await read_it.wait()

    async with serving(breaks) as server, transporting() as transport:
        stream = await begin(transport, server.url)
        asyncio.get_running_loop().call_soon(read_it.set)

        assert await read(stream) == (b"hello", BROKEN)
        assert acquired(transport) == idle(transport) == []


@pytest.mark.parametrize("framing", BEGINNINGS)
async def test_an_answer_whose_connection_is_reset_is_truncated_even_if_it_said_no_length(framing: str) -> None:
    read_it = asyncio.Event()

    async def breaks(peer: Peer) -> None:
        await peer.request()
        await peer.send(BEGINNINGS[framing])
        await read_it.wait()
        peer.reset()

    async with serving(breaks) as server, transporting() as transport:
        stream = await begin(transport, server.url)
        assert await anext(stream) == b"hello"
        read_it.set()

        assert await read(stream) == (b"", BROKEN)
        assert acquired(transport) == idle(transport) == []


@pytest.mark.parametrize("framing", BEGINNINGS)
async def test_what_came_before_a_reset_is_given_also_to_a_reader_that_comes_late(framing: str) -> None:
    arrived = asyncio.Event()

    async def breaks(peer: Peer) -> None:
        await peer.request()
        await peer.send(BEGINNINGS[framing])
        await arrived.wait()
        peer.reset()

    async with serving(breaks) as server, transporting() as transport:
        stream = await begin(transport, server.url)
        await until(lambda: stream._content.total_bytes == 5)
        arrived.set()
        await until(lambda: not any(protocol.is_connected() for protocol in acquired(transport)))

        assert await read(stream) == (b"hello", BROKEN)


async def test_a_slow_reader_gets_all_that_came_before_a_large_answer_was_cut() -> None:
    sent = HEAD + b"Content-Length: 9999999\r\n\r\n" + MEBIBYTE * 3

    async with serving(answering(sent, keep=False)) as server, transporting() as transport:
        stream, got = await begin(transport, server.url), 0
        with pytest.raises(UpstreamError) as caught:
            while True:
                got += len(await anext(stream))
                for _ in range(20):
                    await asyncio.sleep(0)
        await stream.aclose()

    assert (got, caught.value.failure) == (len(MEBIBYTE) * 3, BROKEN)


async def test_nonsense_in_the_middle_of_a_body_ends_it() -> None:
    read_it = asyncio.Event()

    async def breaks(peer: Peer) -> None:
        await peer.request()
        await peer.send(BEGINNINGS["chunked"])
        await read_it.wait()
        await peer.send(b"zz\r\nnonsense")
        await peer.until_the_client_leaves()

    async with serving(breaks) as server, transporting() as transport:
        stream = await begin(transport, server.url)
        assert await anext(stream) == b"hello"
        read_it.set()

        assert await read(stream) == (b"", BROKEN)
        assert acquired(transport) == idle(transport) == []


# -- ended from here -------------------------------------------------------------------------------------------------

STALLED = UpstreamError(Failure(kind="idle_timeout", message="nothing came"))


async def begins_and_stalls(peer: Peer) -> None:
    await peer.request()
    await peer.send(CHUNKED + chunk(b"hello"))
    await peer.until_the_client_leaves()


def fail_soon(stream: UpstreamStream) -> None:
    asyncio.get_running_loop().call_soon(stream.fail, STALLED)


def fail_now(stream: UpstreamStream) -> None:
    stream.fail(STALLED)


@pytest.mark.parametrize("fail", [fail_soon, fail_now], ids=["waiting", "not waiting"])
async def test_fail_ends_the_read_in_progress_and_every_later_one(fail: Callable[[UpstreamStream], None]) -> None:
    async with serving(begins_and_stalls) as server, transporting() as transport:
        stream = await begin(transport, server.url)
        assert await anext(stream) == b"hello"
        fail(stream)

        for _ in range(2):
            with pytest.raises(UpstreamError) as caught:
                await anext(stream)
            assert caught.value.failure == STALLED.failure

        await stream.aclose()
        await server.left()
        assert acquired(transport) == idle(transport) == []


async def test_a_stream_that_is_closed_early_closes_its_connection() -> None:
    async with serving(begins_and_stalls) as server, transporting() as transport:
        stream = await begin(transport, server.url)
        await stream.aclose()
        await stream.aclose()

        await server.left()
        assert acquired(transport) == idle(transport) == []


async def test_a_stream_that_nobody_read_is_closed_though_the_provider_sends_more_than_fits() -> None:
    async def floods(peer: Peer) -> None:
        await many_mebibytes(peer, b"text/event-stream", 1000)

    async with serving(floods) as server, transporting() as transport:
        stream = await begin(transport, server.url)
        await stream.aclose()

        await server.left()


async def test_a_request_that_the_provider_does_not_take_is_ended_by_a_cancel() -> None:
    connected = asyncio.Event()

    async def deaf(peer: Peer) -> None:
        await peer.reader.read(1)
        connected.set()
        await asyncio.Event().wait()

    async with serving(deaf) as server, transporting() as transport:
        asking = asyncio.create_task(ask(transport, server.url, MEBIBYTE * 16))
        await connected.wait()
        asking.cancel()
        await asyncio.wait({asking})

        assert acquired(transport) == idle(transport) == []


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_connection_on_which_a_large_request_was_refused_is_not_kept_for_the_rest_may_be_unsent(
    *, tls: bool
) -> None:
    authority = trustme.CA()
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(theirs)
    authority.configure_trust(ours)

    async def answers_early(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.Event().wait()

    async with (
        serving(answers_early, tls=theirs if tls else None) as server,
        transporting(ssl_context=ours) as transport,
    ):
        assert await ask(transport, server.url, MEBIBYTE * 16) == b"no"
        assert acquired(transport) == idle(transport) == []
        assert await ask(transport, server.url, b"x") == b"no"
        assert server.connections == 2
        assert len(idle(transport)) == 1
