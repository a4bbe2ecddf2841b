"""The free question to a provider, over real sockets: what is sent, and what each way of answering, or not, is taken for."""

from __future__ import annotations

import asyncio

import pytest
from attrs import evolve

from runestone.config.settings import ProviderSettings
from runestone.domain.secret import Secret
from runestone.providers.probe import probe
from runestone.providers.transport import Transport
from tests.support.fleet import provider
from tests.support.scripted import Peer, answering, serving
from tests.support.transporting import transporting

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def settings(url: str) -> ProviderSettings:
    return evolve(provider("a"), base_url=f"{url}/v1", api_key=Secret("sk-mine"), headers={"X-Team": "search"})


def head(status: int) -> bytes:
    return b"HTTP/1.1 %d told\r\ncontent-length: 2\r\n\r\n{}" % status


async def nobody() -> str:
    """The address of a port that was let go."""
    async with serving(answering()) as it:
        return it.url


async def test_it_asks_for_the_models_with_key_and_headers_and_for_nothing_else() -> None:
    async with serving(answering(head(200))) as it, transporting() as transport:
        found = await probe(settings(it.url), transport)

        assert (found.ok, found.outcome, found.status, found.message) == (True, "ok", 200, "answers")
        (sent,) = it.requests
        assert sent.startswith(b"GET /v1/models HTTP/1.1\r\n")
        assert sent.endswith(b"\r\n\r\n")
        assert {b"authorization: Bearer sk-mine", b"x-team: search"} <= set(sent.split(b"\r\n"))


@pytest.mark.parametrize(
    ("status", "outcome", "message", "lists_models"),
    [
        (401, "credentials", "refuses the API key", True),
        (403, "credentials", "refuses the API key", True),
        (404, "ok", "answers with status 404", False),
        (405, "ok", "answers with status 405", False),
        (429, "rate_limited", "answers with status 429", True),
        (500, "error", "answers with status 500", True),
        (302, "error", "answers with status 302", True),
    ],
)
async def test_each_status_means_something(status: int, outcome: str, message: str, lists_models: bool) -> None:
    async with serving(answering(head(status))) as it, transporting() as transport:
        found = await probe(settings(it.url), transport)

        assert (found.outcome, found.status, found.message) == (outcome, status, message)
        assert found.lists_models == lists_models
        assert it.connections == 1


async def test_who_takes_no_connection_is_unreachable() -> None:
    async with transporting() as transport:
        found = await probe(settings(await nobody()), transport)

        assert (found.outcome, found.status) == ("unreachable", None)
        assert found.message == "the connection failed: connection refused"


async def test_a_name_that_nobody_has_is_unreachable() -> None:
    async with transporting() as transport:
        found = await probe(settings("http://nowhere.invalid"), transport)

        assert (found.outcome, found.message) == ("unreachable", "the host name could not be resolved")


async def test_a_handshake_that_fails_is_unreachable() -> None:
    async def no_tls(peer: Peer) -> None:
        await peer.send(b"220 mail.example ESMTP\r\n")

    async with serving(no_tls) as it, transporting() as transport:
        found = await probe(settings(it.url.replace("http", "https")), transport)

        assert found.outcome == "unreachable"
        assert "TLS" in found.message


async def test_who_connects_and_hangs_up_is_not_unreachable() -> None:
    async def hang_up(peer: Peer) -> None:
        await peer.request()

    async with serving(hang_up) as it, transporting() as transport:
        found = await probe(settings(it.url), transport)

        assert (found.outcome, found.message) == ("error", "the connection was lost before an answer")


async def test_who_connects_and_says_nothing_is_not_unreachable() -> None:
    async def silent(peer: Peer) -> None:
        await peer.until_the_client_leaves()

    async with serving(silent) as it, transporting() as transport:
        found = await probe(settings(it.url), transport, timeout=0.2)

        assert (found.outcome, found.message) == ("error", "no answer within 0.2 s")


async def test_nonsense_is_an_error() -> None:
    async with serving(answering(b"220 mail.example ESMTP\r\n")) as it, transporting() as transport:
        found = await probe(settings(it.url), transport)

        assert (found.outcome, found.message) == ("error", "the answer is not HTTP")


async def test_without_a_list_of_models_it_connects_and_sends_not_a_byte() -> None:
    received = asyncio.get_running_loop().create_future()

    async def listen(peer: Peer) -> None:
        try:
            received.set_result(await peer.reader.read())
        except ConnectionError:
            received.set_result(b"")

    async with serving(listen) as it, transporting() as transport:
        found = await probe(settings(it.url), transport, lists_models=False)

        assert (found.outcome, found.status, found.message) == ("ok", None, "takes connections")
        assert await received == b""
        assert (await probe(settings(await nobody()), transport, lists_models=False)).outcome == "unreachable"


async def test_a_transport_that_is_closed_connects_no_more() -> None:
    async with serving(answering(head(200))) as it:
        transport = Transport(connect_timeout_seconds=1.0)
        await transport.aclose()

        found = await probe(settings(it.url), transport, lists_models=False)

        assert (found.outcome, it.connections) == ("unreachable", 0)


async def test_a_transport_is_closed_after_the_connection_that_was_being_made() -> None:
    async with serving(answering(head(200))) as it:
        transport = Transport(connect_timeout_seconds=1.0)
        looking = asyncio.create_task(probe(settings(it.url), transport, lists_models=False))
        await asyncio.sleep(0)

        await transport.aclose()

        assert (await looking).outcome == "ok"
        assert transport._connector.closed
