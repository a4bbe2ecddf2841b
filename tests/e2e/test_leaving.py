"""Clients that leave, and clients that are refused, leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable

import anyio
import httpx
import pytest

from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO, streams
from tests.support.plain import PLAIN


class Footprint:
    """Tasks, leases and descriptors of a node, asked over one connection that is always there."""

    def __init__(self, node: Gateway) -> None:
        self._node = node
        self._client = httpx.Client(base_url=node.health_url, timeout=30, **PLAIN)
        self.before = eventually(self._settled, "what a start sets going is over")

    def _settled(self) -> tuple[int, int, int] | None:
        first = self.now()
        time.sleep(0.2)
        return first if self.now() == first else None

    def now(self) -> tuple[int, int, int]:
        detailed = self._client.get("/health/detailed").json()
        return detailed["tasks"], sum(p["in_flight"] for p in detailed["provider_health"]), self._node.descriptors()

    def returns(self) -> None:
        eventually(self._no_more, lambda: f"back to {self.before} from {self.now()}", 15.0)
        self._client.close()

    def _no_more(self) -> bool:
        return all(now <= before for now, before in zip(self.now(), self.before, strict=True))


@pytest.fixture
def node(serve: Callable[..., Gateway]) -> Gateway:
    """Without a ledger, whose file is opened with its first row."""
    return serve(RUNESTONE_LEDGER_URL="none")


def unblamed(node: Gateway) -> bool:
    """How long first tokens took is no blame: on a busy machine that moves the score, too."""
    shown = node.provider("openai-default")
    breaker, score = shown["breaker"], shown["score"]
    return (breaker["state"], breaker["consecutive_failures"], shown["failures"], score["success"]) == (
        "closed",
        0,
        0,
        1.0,
    )


@pytest.mark.parametrize(
    ("fault", "stream"),
    [("stall", True), ("stall", False), ("slow_first_token=30", False), ("pace=0.5 tokens=200", True)],
)
def test_a_client_that_leaves_closes_the_upstream_within_a_second_and_blames_nobody(
    node: Gateway, primary: Upstream, fault: str, *, stream: bool
) -> None:
    primary.fault(fault)

    async def scene() -> float:
        async with httpx.AsyncClient(timeout=60, **PLAIN) as client:
            url, body = f"{node.base_url}/chat/completions", {**HELLO, "stream": stream}
            request = asyncio.create_task(client.post(url, json=body))
            await asyncio.to_thread(eventually, lambda: primary.state()["open_streams"] == 1, "it is upstream")
            request.cancel()
            await asyncio.wait({request})
            left = time.monotonic()
        await asyncio.to_thread(eventually, lambda: primary.state()["open_streams"] == 0, "upstream saw it")
        return time.monotonic() - left

    # the bound is the contract's, not a measurement
    assert anyio.run(scene) < 1.0
    eventually(lambda: node.provider("openai-default")["in_flight"] == 0, "the lease is back")
    assert unblamed(node)
    assert primary.state()["disconnects"] == 1


def test_two_hundred_clients_that_leave_in_the_middle_leave_nothing_behind(node: Gateway, primary: Upstream) -> None:
    primary.fault("pace=0.05 tokens=4000")
    footprint = Footprint(node)

    async def scene() -> None:
        async with streams(node) as crowd:
            await crowd.start(200)
            assert (await asyncio.to_thread(footprint.now))[1] == 200
            await crowd.leave()

    anyio.run(scene)

    eventually(lambda: primary.state()["open_streams"] == 0, "upstream saw all of them leave")
    footprint.returns()
    assert primary.state()["disconnects"] == 200
    assert unblamed(node)


def test_a_thousand_refused_bodies_of_four_megabytes_leave_nothing_behind(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_API_KEYS="sk-inbound-key-0123456789abcdef")
    body = json.dumps({**HELLO, "padding": "x" * 4 * 1024 * 1024}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-wrong\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    footprint = Footprint(node)

    async def refused(gate: asyncio.Semaphore) -> bytes:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
            with contextlib.suppress(ConnectionError):
                writer.write(head + body)
                await writer.drain()
            answer = await reader.read()
            writer.close()
            return answer

    async def scene() -> list[bytes]:
        gate = asyncio.Semaphore(20)
        return await asyncio.gather(*(refused(gate) for _ in range(1000)))

    answers = anyio.run(scene)

    assert [a[:80] for a in answers if not a.startswith(b"HTTP/1.1 401 ") or b'"invalid_api_key"' not in a] == []
    footprint.returns()


def test_connections_that_are_closed_while_idle_leave_nothing_behind(node: Gateway) -> None:
    node.post({**HELLO, "stream": False})  # the upstream connection that it leaves open is there before and after
    footprint = Footprint(node)

    for _ in range(50):
        assert node.post({**HELLO, "stream": False}).status_code == 200

    footprint.returns()


def test_a_reused_connection_whose_first_answer_was_left_whole_serves_the_next_request(node: Gateway) -> None:
    with httpx.Client(**PLAIN) as client:
        answers = [
            client.post(f"{node.base_url}/chat/completions", json={**HELLO, "stream": n % 2 == 0}) for n in range(6)
        ]

    assert [a.status_code for a in answers] == [200] * 6
