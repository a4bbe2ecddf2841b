"""The way to a provider, before there is an answer: what cannot be connected, what is not trusted, what was closed meanwhile."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import httpx
import pytest
import trustme
from attrs import define, field

from runestone.domain.failure import Failure, UpstreamError
from runestone.providers.connection_errors import UNSENDABLE
from tests.support.scripted import Peer, answering, serving
from tests.support.transporting import acquired, ask, begin, idle, transporting, until

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


async def failure(
    url: str, connect_timeout_seconds: float = 10.0, ssl_context: ssl.SSLContext | None = None
) -> Failure:
    async with transporting(connect_timeout_seconds, ssl_context) as transport:
        with pytest.raises(UpstreamError) as caught:
            await ask(transport, url)
    return caught.value.failure


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port that does not take another connection: its queue is full, and nobody accepts."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for client in waiting:
            client.close()


# -- what cannot be connected ----------------------------------------------------------------------------------------


async def test_a_port_where_nobody_listens_is_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))

        assert await failure(f"http://127.0.0.1:{unused.getsockname()[1]}") == Failure(
            kind="refused", message="the connection failed: connection refused"
        )


@pytest.mark.parametrize(
    "host", [".".join(["a" * 60] * 5), "a" * 64, "two..dots"], ids=["long name", "long label", "empty label"]
)
async def test_what_cannot_be_a_name_does_not_resolve(host: str) -> None:
    assert await failure(f"http://{host}/") == Failure(kind="dns", message="the host name could not be resolved")


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://:80/"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    assert await failure(url) == Failure(kind="refused", message="the base URL is no address")


async def test_a_port_that_does_not_accept_runs_into_the_connect_timeout() -> None:
    with deaf_port() as port:
        assert await failure(f"http://127.0.0.1:{port}", 0.2) == Failure(
            kind="connect_timeout", message="the connection took too long"
        )


async def test_a_tls_handshake_that_nobody_answers_runs_into_the_connect_timeout() -> None:
    async with serving(Peer.until_the_client_leaves) as server:
        found = await failure(server.url.replace("http:", "https:"), 0.2)

        assert found == Failure(kind="connect_timeout", message="the connection took too long")


async def test_the_connect_timeout_is_not_one_for_the_answer() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def late(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await go.wait()
        await peer.send(OK)

    async with serving(late) as server, transporting(0.05) as transport:
        answer = asyncio.create_task(ask(transport, server.url))
        await asked.wait()
        await asyncio.sleep(0.1)
        go.set()

        assert await answer == b"ok"


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def certificate(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_a_certificate_of_an_unknown_authority_is_not_trusted(authority: trustme.CA) -> None:
    async with serving(answering(OK), tls=certificate(authority, "127.0.0.1")) as server:
        found = await failure(server.url)

    assert found.kind == "tls"
    assert found.message == "the TLS handshake failed: unable to get local issuer certificate"
    assert server.requests == []


async def test_a_certificate_for_another_host_is_not_trusted_and_no_name_is_told(authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async with serving(answering(OK), tls=certificate(authority, "elsewhere.test")) as server:
        found = await failure(server.url, ssl_context=context)

    assert found.kind == "tls"
    assert found.message == "the TLS handshake failed: IP address mismatch"
    assert server.requests == []


async def test_a_certificate_of_an_authority_in_the_given_context_is_trusted(authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async with (
        serving(answering(OK), tls=certificate(authority, "127.0.0.1")) as server,
        transporting(ssl_context=context) as transport,
    ):
        assert [await ask(transport, server.url) for _ in range(3)] == [b"ok"] * 3

        assert server.connections == 1


async def test_a_plain_port_that_answers_the_handshake_in_clear_text_is_a_failure_of_tls() -> None:
    async def plain(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await peer.until_the_client_leaves()

    async with serving(plain) as server:
        assert await failure(server.url.replace("http:", "https:")) == Failure(
            kind="tls", message="the TLS handshake failed: wrong version number"
        )


async def test_a_plain_port_that_hangs_up_on_the_handshake_is_a_failure_of_tls() -> None:
    async def plain(peer: Peer) -> None:
        await peer.reader.read(65536)

    async with serving(plain) as server:
        assert await failure(server.url.replace("http:", "https:")) == Failure(
            kind="tls", message="the connection was lost in the TLS handshake"
        )


async def test_a_connection_that_is_reset_in_the_handshake_is_refused_for_it_may_work_the_next_time() -> None:
    async def resets(peer: Peer) -> None:
        await peer.reader.read(65536)
        peer.reset()

    async with serving(resets) as server:
        assert await failure(server.url.replace("http:", "https:")) == Failure(
            kind="refused", message="the connection failed: connection reset by peer"
        )


# -- lost before an answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("began", [b"", b"HTTP/1.1 200 O", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["-", "head", "100"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_first_connection_that_is_lost_before_the_answer_is_refused_and_not_tried_again(
    began: bytes, reset: bool
) -> None:
    async def loses(peer: Peer) -> None:
        await peer.request()
        await peer.send(began)
        if reset:
            peer.reset()

    async with serving(loses) as server:
        assert await failure(server.url) == Failure(
            kind="disconnected", message="the connection was lost before an answer"
        )
        assert len(server.requests) == server.connections == 1


async def test_a_request_on_a_kept_connection_that_was_closed_before_it_came_is_sent_once_more_on_a_new_one() -> None:
    async with one_answer_each() as server, transporting(on_stale=lambda: stale.append(1)) as transport:
        stale: list[int] = []
        assert await ask(transport, server.url, b"first") == b"ok"
        server.connections[0].close()  # and before the loop hears of it, the next request is written

        assert await ask(transport, server.url, b"second" * 50_000) == b"ok"

        assert [len(request) for request in server.requests] == [5, 300_000]
        assert len(server.connections) == 2
        assert stale == [1]


async def test_where_nobody_tells_what_has_been_acknowledged_nothing_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(socket, "TCP_INFO")
    async with one_answer_each() as server, transporting() as transport:
        assert await ask(transport, server.url, b"first") == b"ok"
        server.connections[0].close()
        with pytest.raises(UpstreamError) as caught:
            await ask(transport, server.url, b"second")

    assert caught.value.failure.kind == "disconnected"


@pytest.mark.parametrize("end", ["reset", "closed", "closed unread"])
async def test_it_is_not_sent_again_if_the_provider_may_have_seen_a_byte_of_it(end: str) -> None:
    async with one_answer_each() as server, transporting(on_stale=lambda: stale.append(1)) as transport:
        stale: list[int] = []
        assert await ask(transport, server.url, b"first") == b"ok"
        (kept,) = server.connections
        asked = asyncio.create_task(ask(transport, server.url, b"second"))
        await until(lambda: bool(taken(kept, socket.MSG_PEEK if end == "closed unread" else 0)))
        if end == "reset":
            resetting(kept)
        kept.close()
        with pytest.raises(UpstreamError) as caught:
            await asked

    assert caught.value.failure == Failure(kind="disconnected", message="the connection was lost before an answer")
    assert (server.requests, len(server.connections), stale) == ([b"first"], 1, [])


async def test_a_reset_proves_nothing_for_it_acknowledges_nothing() -> None:
    async with one_answer_each() as server, transporting() as transport:
        assert await ask(transport, server.url, b"first") == b"ok"
        resetting(server.connections[0]).close()
        with pytest.raises(UpstreamError) as caught:
            await ask(transport, server.url, b"second")

    assert caught.value.failure.kind == "disconnected"
    assert len(server.connections) == 1


async def test_under_tls_too_it_is_not_sent_again_if_the_provider_may_have_seen_it(authority: trustme.CA) -> None:
    async def reads_the_second(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        if peer.number == 1:
            await peer.request()

    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with (
        serving(reads_the_second, tls=certificate(authority, "127.0.0.1")) as server,
        transporting(ssl_context=context) as transport,
    ):
        assert await ask(transport, server.url) == b"ok"
        with pytest.raises(UpstreamError) as caught:
            await ask(transport, server.url)

        assert caught.value.failure.kind == "disconnected"
        assert len(server.requests) == 2


def resetting(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return connection


def taken(connection: socket.socket, flags: int) -> bytes:
    try:
        return connection.recv(100_000, flags)
    except BlockingIOError:
        return b""


@define(eq=False)
class Raw:
    """A server that answers the first request of each connection, and closes none: the test does, at once."""

    url: str
    connections: list[socket.socket] = field(factory=list)
    requests: list[bytes] = field(factory=list)


@asynccontextmanager
async def one_answer_each() -> AsyncIterator[Raw]:
    loop = asyncio.get_running_loop()

    async def serve(server: Raw, listener: socket.socket) -> None:
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setblocking(False)
            server.connections.append(connection)
            data = b""
            while (size := data.lower().partition(b"content-length: ")[2]) == b"" or len(
                data.partition(b"\r\n\r\n")[2]
            ) < int(size.split(b"\r\n")[0]):
                data += await loop.sock_recv(connection, 65536)
            server.requests.append(data.partition(b"\r\n\r\n")[2])
            await loop.sock_sendall(connection, OK)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        server = Raw(f"http://127.0.0.1:{listener.getsockname()[1]}")
        task = asyncio.create_task(serve(server, listener))
        try:
            yield server
        finally:
            task.cancel()
            await asyncio.wait({task})
            for connection in server.connections:
                connection.close()


@pytest.mark.parametrize("began", [b"H", b"HTTP/1.1 200 OK\r\nX: y", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_on_a_kept_connection_it_is_not_sent_again_when_the_answer_had_begun(began: bytes, reset: bool) -> None:
    async def begins(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(began)
        if reset:
            await until(
                lambda: all(protocol._answered for protocol in acquired(transport))
            )  # a reset overtakes what was sent
            peer.reset()

    async with serving(begins) as server, transporting() as transport:
        assert await ask(transport, server.url) == b"ok"
        with pytest.raises(UpstreamError) as caught:
            await ask(transport, server.url)

        assert caught.value.failure.kind == "disconnected"
        assert len(server.requests) == 2


async def test_on_a_kept_connection_it_is_not_sent_again_when_it_had_time_to_be_worked_on() -> None:
    async def dies_at_work(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await asyncio.sleep(1.1)

    async with serving(dies_at_work) as server, transporting() as transport:
        assert await ask(transport, server.url) == b"ok"
        with pytest.raises(UpstreamError) as caught:
            await ask(transport, server.url)

        assert caught.value.failure.kind == "disconnected"
        assert len(server.requests) == 2


async def test_a_stale_connection_takes_the_other_idle_ones_with_it() -> None:
    async with one_answer_each() as server, transporting() as transport:
        await asyncio.gather(ask(transport, server.url), ask(transport, server.url))
        assert len(server.connections) == 2
        for connection in server.connections:
            connection.close()

        assert await ask(transport, server.url) == b"ok"

        assert (len(server.connections), len(server.requests)) == (3, 3)
        assert len(idle(transport)) == 1


@pytest.mark.parametrize(
    "unasked",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["answer", "408", "nonsense"],
)
@pytest.mark.parametrize("together", [False, True], ids=["later", "with the end of the answer"])
async def test_an_answer_that_nobody_asked_for_is_never_given_to_the_next_request(
    unasked: bytes, together: bool
) -> None:
    begun, more = asyncio.Event(), asyncio.Event()

    async def talks_on(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK[:-1])
        if peer.number == 1:
            await begun.wait()
            await peer.send(b"k" + unasked if together else b"k")
            await more.wait()
            await peer.send(b"" if together else unasked)
            await peer.until_the_client_leaves()
        await peer.send(b"k")

    async with serving(talks_on) as server, transporting() as transport:
        stream = await begin(transport, server.url)
        assert await anext(stream) == b"o"
        begun.set()
        assert await anext(stream) == b"k"
        await stream.aclose()
        more.set()
        await until(
            lambda: not any(protocol.is_connected() and not protocol.should_close for protocol in idle(transport))
        )

        assert await ask(transport, server.url) == b"ok"
        assert server.connections == 2


# -- what is sent ----------------------------------------------------------------------------------------------------


async def test_the_request_goes_out_as_it_is() -> None:
    async with serving(answering(OK)) as server, transporting() as transport:
        await ask(transport, f"{server.url}/v1/x%20y?q=%0a", b"body", Authorization="Bearer k")

        host = server.url.removeprefix("http://").encode()
        head = b"POST /v1/x%20y?q=%0a HTTP/1.1\r\nHost: " + host
        rest = b"\r\nAuthorization: Bearer k\r\nContent-Length: 4\r\n\r\nbody"
        assert server.requests == [head + rest]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"])
async def test_headers_that_would_become_others_are_not_sent(value: str) -> None:
    async with serving(answering(OK)) as server, transporting() as transport:
        for headers in ({"X-Name": value}, {f"X-{value}": "value"}):
            with pytest.raises(UpstreamError) as caught:
                await transport.handle_async_request(httpx.Request("GET", server.url, headers=headers))
            assert caught.value.failure == UNSENDABLE

        assert server.connections == 0


async def test_nothing_is_sent_on_a_connection_that_is_closing() -> None:
    async with serving(answering(OK)) as server, transporting() as transport:
        await ask(transport, server.url)
        kept = idle(transport)[0]
        assert kept.transport is not None
        kept.transport.abort()

        with pytest.raises(aiohttp.ServerDisconnectedError):
            kept.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await ask(transport, server.url) == b"ok"
        assert len(server.requests) == server.connections == 2


async def test_a_request_that_is_cancelled_before_it_was_taken_waits_for_nobody_to_take_the_rest() -> None:
    begun = asyncio.Event()

    async def takes_one_byte(peer: Peer) -> None:
        await peer.reader.read(1)
        begun.set()
        await asyncio.Event().wait()

    async with serving(takes_one_byte) as server, transporting() as transport:
        asking = asyncio.create_task(ask(transport, server.url, bytes(64 * 1024 * 1024)))
        await begun.wait()
        closed = acquired(transport)[0].closed
        assert closed is not None
        asking.cancel()

        async with asyncio.timeout(10):
            await closed
