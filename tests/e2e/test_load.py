"""What a node and its providers may carry: who waits, who is refused, and that nobody takes everything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from runestone.api import Node
from runestone.console.client import AdminClient
from tests.e2e.load import Client
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO, Streams, streams
from tests.support.plain import PLAIN

pytestmark = pytest.mark.anyio
WHOLE = {**HELLO, "stream": False}
PACED = "pace=0.1 tokens=200"


def in_flight(node: Gateway, name: str = "openai-default") -> int:
    return int(AdminClient(node.socket).request("GET", f"/v1/providers/{name}")["provider"]["in_flight"])


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def held(crowd: Streams, node: Gateway, count: int) -> None:
    await crowd.start(count, {**HELLO, "model": "openai-default/gpt-4o-mini"})
    await asyncio.to_thread(eventually, lambda: in_flight(node) == count, "they are upstream")


async def post(node: Gateway, body: dict[str, object], headers: dict[str, str] | None = None) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30, **PLAIN) as client:
        return await client.post(f"{node.base_url}/chat/completions", json=body, headers=headers)


async def test_a_provider_at_its_limit_is_passed_over_and_one_alone_is_waited_for(
    node: Gateway, primary: Upstream
) -> None:
    node.ctl("provider", "set", "openai-default", "--max-concurrency", "1")
    primary.fault(PACED)
    async with streams(node) as crowd:
        await held(crowd, node, 1)
        other = await post(node, {**WHOLE, "model": "default-chat-service"})
        assert other.headers["x-runestone-provider"] == "anthropic-default"
        primary.fault("none")
        waiting = asyncio.create_task(post(node, {**WHOLE, "model": "openai-default/gpt-4o-mini"}))
        await asyncio.to_thread(
            eventually, lambda: node.provider("openai-default")["waiting"] == 1, "one waits for the stream to end"
        )
        assert node.provider("openai-default")["status"] == "saturated"
        assert node.health("").json()["status"] == "healthy"
        await crowd.leave()

        assert (await waiting).status_code == 200


async def test_who_cannot_wait_is_told_which_provider_is_full_and_when_to_come_back(
    node: Gateway, primary: Upstream
) -> None:
    node.ctl("provider", "set", "openai-default", "--max-concurrency", "1", "--queue-timeout", "100")
    primary.fault(PACED)
    async with streams(node) as crowd:
        await held(crowd, node, 1)
        refused = await post(node, {**WHOLE, "model": "openai-default/gpt-4o-mini"})

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_provider_available")
    assert "openai-default (saturated)" in refused.json()["error"]["message"]
    assert refused.headers["retry-after"] == "1"


async def test_a_limit_that_is_raised_lets_in_who_waits(node: Gateway, primary: Upstream) -> None:
    node.ctl("provider", "set", "openai-default", "--max-concurrency", "1", "--queue-timeout", "20s")
    primary.fault(PACED)
    async with streams(node) as crowd:
        await held(crowd, node, 1)
        primary.fault("none")
        waiting = asyncio.create_task(post(node, {**WHOLE, "model": "openai-default/gpt-4o-mini"}))
        await asyncio.to_thread(eventually, lambda: node.provider("openai-default")["waiting"] == 1, "one waits")
        await asyncio.to_thread(node.ctl, "provider", "set", "openai-default", "--max-concurrency", "2")

        assert (await waiting).status_code == 200


@pytest.mark.parametrize("path", ["/chat/completions", "/messages"])
async def test_more_requests_than_the_node_may_carry_are_refused_before_their_body_is_read(
    serve: Callable[..., Gateway], primary: Upstream, path: str
) -> None:
    node = serve(RUNESTONE_MAX_REQUESTS="1")
    primary.fault(PACED)
    async with streams(node) as crowd:
        await held(crowd, node, 1)
        head = f"POST /v1{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(head.encode() + b"content-length: 30000000\r\n\r\n{")
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"content-length: (\d+)", answer)[1])  # type: ignore[index]
            body = json.loads(await reader.readexactly(length))
        writer.close()
        await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in answer
    assert b"\r\nconnection: close\r\n" in answer
    assert "takes no more of yours now" in body["error"]["message"]
    eventually(lambda: in_flight(node) == 0, "the stream has ended")
    assert node.post(WHOLE).status_code == 200
    assert "runestone_requests_shed_total 1" in node.health("/metrics").text


async def test_one_key_cannot_take_every_place(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve(RUNESTONE_MAX_REQUESTS="10", RUNESTONE_API_KEYS="key-hog,key-modest")
    primary.fault(PACED)
    url = f"{node.base_url}/chat/completions"
    async with httpx.AsyncClient(timeout=30, **PLAIN) as client:
        body, served = {**HELLO, "model": "openai-default/gpt-4o-mini"}, asyncio.Event()

        async def stream(key: str) -> int:
            async with client.stream("POST", url, json=body, headers={"authorization": f"Bearer {key}"}) as answer:
                async for _ in answer.aiter_bytes():
                    break
                if answer.status_code == 200 and key == "key-hog":
                    await served.wait()
                return answer.status_code

        hogs = [asyncio.create_task(stream("key-hog")) for _ in range(20)]
        await asyncio.to_thread(eventually, lambda: in_flight(node) == 9, "the hog has nine places")
        assert await stream("key-modest") == 200
        served.set()
        statuses = [await hog for hog in hogs]

    assert sorted(statuses) == [200] * 9 + [503] * 11


def test_connections_above_the_cap_are_told_so_and_closed(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_MAX_CONNECTIONS="3")
    silent = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(3)]
    eventually(lambda: node.post(WHOLE).status_code == 503, "the three are counted")
    assert node.health("").status_code == 200
    for connection in silent:
        connection.close()

    eventually(lambda: node.post(WHOLE).status_code == 200, "there is room again")


@pytest.mark.parametrize(("model", "status"), [("gpt-4o-mini", 504), ("o3-mini", 200), ("gpt-5.1", 200)])
def test_a_model_that_thinks_first_is_waited_for(
    serve: Callable[..., Gateway], primary: Upstream, model: str, status: int
) -> None:
    node = serve(RUNESTONE_FIRST_TOKEN_TIMEOUT_MS="1000", RUNESTONE_IDLE_TIMEOUT_MS="1000")
    primary.fault("slow_first_token=2.5")

    answer = node.post({**HELLO, "model": f"openai-default/{model}"})

    assert answer.status_code == status
    assert answer.text.endswith("data: [DONE]\n\n") == (status == 200)


def test_first_tokens_that_are_slow_open_the_breaker_and_others_serve(node: Gateway, primary: Upstream) -> None:
    node.ctl("breaker", "set", "openai-default", "--slow-first-token", "50")
    primary.fault("slow_first_token=0.1")
    for _ in range(10):
        assert node.post({**HELLO, "model": "openai-default/gpt-4o-mini"}).status_code == 200

    eventually(lambda: node.provider("openai-default")["breaker"]["state"] == "open", "it is open")
    assert node.post(HELLO).headers["x-runestone-provider"] == "anthropic-default"


class Newcomers:
    """So many clients each time that the loop comes around, behind those that it accepts and before it looks who waits."""

    def __init__(self, port: int) -> None:
        self.told = asyncio.get_running_loop().create_future()
        self._port = port
        self._crowd = deque[socket.socket]()
        self._come()

    def _come(self) -> None:
        for _ in range(50):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", self._port))
            self._crowd.append(connection)
        while len(self._crowd) > 200:
            with self._crowd.popleft() as oldest, contextlib.suppress(BlockingIOError, ConnectionError):
                if (answer := oldest.recv(4096)) and not self.told.done():
                    self.told.set_result(answer)
        self._next = asyncio.get_running_loop().call_at(0.0, self._come)  # before all other timers

    def leave(self) -> None:
        self._next.cancel()
        for connection in self._crowd:
            connection.close()


async def test_newcomers_who_would_wait_too_long_at_the_door_are_told_to_come_back(tmp_path: Path) -> None:
    environ = {
        "RUNESTONE_PORT": "0",
        "RUNESTONE_HEALTH_PORT": "0",
        "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "admin.sock"),
        "RUNESTONE_LEDGER_URL": "none",
        "RUNESTONE_MAX_LOOP_LAG_MS": "1",
    }
    async with Node(environ=environ, demo=True) as node, httpx.AsyncClient(timeout=60, **PLAIN) as client:
        newcomers = Newcomers(httpx.URL(node.url).port or 0)
        try:
            async with asyncio.timeout(60):
                told = await newcomers.told
        finally:
            newcomers.leave()

        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"takes a part of the requests only" in told
        async with asyncio.timeout(60):  # it serves those who come later
            while (await client.post(f"{node.url}/chat/completions", json=WHOLE)).status_code != 200:
                await asyncio.sleep(0.01)
        listeners = (await asyncio.to_thread(AdminClient(node.socket).request, "GET", "/v1/status"))["listeners"]
        metrics = await client.get(f"{listeners['health']}/health/metrics")
        assert "runestone_requests_shed_total 0" not in metrics.text


@pytest.mark.skipif(
    not hasattr(socket, "TCP_INFO") or resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 4096,
    reason="it takes many connections, and Linux",
)
async def test_none_of_a_crowd_that_the_system_could_not_keep_much_longer_is_dropped(
    serve: Callable[..., Gateway],
) -> None:
    node = serve(RUNESTONE_MAX_LOOP_LAG_MS="0", RUNESTONE_MAX_REQUESTS="10000")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    client = Client(node.port, {**WHOLE, "model": "openai-default/gpt-4o-mini"})
    await client.ask()
    os.kill(node.process.pid, signal.SIGSTOP)
    try:
        crowd = [asyncio.create_task(client.ask()) for _ in range(2500)]
        async with asyncio.timeout(30):
            while descriptors() < len(crowd):
                await asyncio.sleep(0.05)
        os.kill(node.process.pid, signal.SIGCONT)
        await asyncio.wait(crowd)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert client.told.unanswered == {}
    assert client.told.ends["503 overloaded"] > 0
    assert client.told.ok > 1000
