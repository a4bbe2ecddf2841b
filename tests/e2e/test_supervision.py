"""A restart or a crash of any one actor drops no stream, and its siblings notice nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO, streams
from tests.support.plain import PLAIN

PACE = "pace=0.03 tokens=60"
OPENAI = "runestone/node/fleet/providers/openai-default/provider"
PROBER = "runestone/node/fleet/providers/openai-default/prober"


def incarnations(node: Gateway) -> dict[str, int]:
    found: dict[str, int] = {}

    def walk(place: dict[str, Any]) -> None:
        found[place["path"]] = place["incarnation"]
        for child in place["children"]:
            walk(child)

    walk(node.ctl("tree")["tree"])
    return {
        path: number
        for path, number in found.items()
        if not path.startswith(("runestone/node/servers/", "runestone/node/requests/", "runestone/node/ledger/"))
    }


def fifty_streams_during(node: Gateway, act: Callable[[], object]) -> None:
    """Open 50, ``act`` in the middle, and see that all end whole and alike, byte for byte."""

    async def scene() -> None:
        async with streams(node) as crowd:
            await crowd.start(50)
            await asyncio.to_thread(act)
            assert all(len(s.body) < 12_000 for s in crowd.all), "the act came after the streams had ended"
            await crowd.finish()
        assert [s.error or s.status for s in crowd.all if not s.whole] == []
        assert len({s.body for s in crowd.all}) == 1
        assert crowd.all[0].text.count(" ") >= 59

    anyio.run(scene)


def test_a_provider_restart_during_fifty_streams_lets_all_of_them_end_whole(node: Gateway, primary: Upstream) -> None:
    primary.fault(PACE)
    before = incarnations(node)

    fifty_streams_during(node, lambda: node.ctl("provider", "restart", "openai-default"))

    after = incarnations(node)
    assert {path for path in after if after[path] != before.get(path)} == {OPENAI, PROBER}
    assert after[OPENAI] == before[OPENAI] + 1
    eventually(lambda: node.provider("openai-default")["in_flight"] == 0, "the leases are back")


def test_a_hard_restart_replaces_the_connections_and_still_drops_nothing(node: Gateway, primary: Upstream) -> None:
    primary.fault(PACE)

    fifty_streams_during(node, lambda: node.ctl("provider", "restart", "openai-default", "--hard"))

    eventually(lambda: primary.state()["open_streams"] == 0, "the old connections are closed")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("provider:openai-default", OPENAI),
        ("transport:openai-default", "runestone/node/fleet/providers/openai-default/transport"),
        ("roster", "runestone/node/fleet/roster"),
        ("telemetry", "runestone/node/telemetry"),
        ("ledger", "runestone/node/ledger"),
        ("failover", "runestone/node/failover"),
        ("public", "runestone/node/public"),
        ("health", "runestone/node/operations/health"),
        ("admin", "runestone/node/operations/admin"),
    ],
)
def test_a_crash_of_one_actor_during_fifty_streams_drops_nothing(
    serve: Callable[..., Gateway], primary: Upstream, name: str, path: str
) -> None:
    node = serve("--allow-faults")
    primary.fault(PACE)
    before = incarnations(node)

    fifty_streams_during(node, lambda: node.ctl("crash", name))

    assert node.post({**HELLO, "stream": False}).status_code == 200
    after = eventually(lambda: (found := incarnations(node))[path] > before[path] and found, "it is back")
    assert {p for p in after if after[p] != before.get(p)} == {path}
    assert after[path] == before[path] + 1


@pytest.mark.parametrize("name", ["requests", "servers", "state"])
def test_a_crash_of_what_carries_the_requests_is_told_in_each_stream_and_no_real_end_follows(
    serve: Callable[..., Gateway], primary: Upstream, name: str
) -> None:
    node = serve("--allow-faults")
    primary.fault("pace=0.1 tokens=300")
    anthropic = {**HELLO, "max_tokens": 9}

    async def scene() -> list[bytes]:
        async with (
            streams(node) as crowd,
            httpx.AsyncClient(timeout=60, **PLAIN) as client,
            client.stream("POST", f"{node.base_url}/messages", json=anthropic) as other,
        ):
            await crowd.start(10)
            await asyncio.to_thread(node.ctl, "crash", name, check=False)
            await crowd.finish()
            assert [(s.status, s.error) for s in crowd.all] == [(200, None)] * 10
            return [*(s.body for s in crowd.all), await other.aread()]

    *bodies, of_anthropic = anyio.run(scene)

    for body in bodies:
        last = json.loads(body.split(b"\n\n")[-2].removeprefix(b"data: "))
        assert (last["error"]["code"], body.count(b'"error"'), body.count(b"[DONE]")) == ("restarting", 1, 0)
    assert of_anthropic.split(b"\n\n")[-2].startswith(
        b'event: error\ndata: {"type":"error","error":{"type":"api_error"'
    )
    assert b"message_stop" not in of_anthropic
    eventually(lambda: primary.state()["open_streams"] == 0, "the upstream is closed")


@pytest.mark.parametrize("name", ["requests", "state"])
def test_a_request_that_waits_for_its_answer_when_what_carries_it_crashes_is_told_to_come_back(
    serve: Callable[..., Gateway], primary: Upstream, name: str
) -> None:
    node = serve("--allow-faults")
    primary.fault("stall")

    async def scene() -> httpx.Response:
        async with httpx.AsyncClient(timeout=60, **PLAIN) as client:
            asked = asyncio.create_task(
                client.post(f"{node.base_url}/chat/completions", json={**HELLO, "stream": False})
            )
            await asyncio.to_thread(eventually, lambda: primary.state()["open_streams"] == 1, "it is upstream")
            await asyncio.to_thread(node.ctl, "crash", name, check=False)
            return await asked

    answer = anyio.run(scene)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "restarting")
    assert answer.headers["retry-after"] == "1"


def test_requests_that_come_while_an_actor_crashes_are_answered(serve: Callable[..., Gateway]) -> None:
    node = serve("--allow-faults")

    async def scene() -> None:
        async with streams(node) as crowd:
            for name in ("failover", "provider:openai-default", "public", "telemetry") * 3:
                await asyncio.to_thread(node.ctl, "crash", name)
                await crowd.start(5)
                await asyncio.sleep(0.6)  # four crashes of one child in five seconds are too many, by design
            await crowd.finish()
        assert [(s.status, s.error, s.body) for s in crowd.all if not s.whole] == []

    anyio.run(scene)


@pytest.mark.parametrize("name", ["servers", "state", "runestone/registry", "runestone/node"])
def test_a_node_listens_again_after_a_crash_of_what_carries_it(serve: Callable[..., Gateway], name: str) -> None:
    node = serve("--allow-faults")

    node.ctl("crash", name, check=False)

    def answers() -> bool:
        try:
            return (
                node.post({**HELLO, "stream": False}).status_code == 200
                and node.health("/ready").status_code == 200
                and node.ctl_raw("status").returncode == 0
            )
        except httpx.TransportError:
            return False

    eventually(answers, "all three listen")
    assert node.process.poll() is None
    assert node.stop() == 0


def test_an_open_breaker_survives_a_crash_of_its_actor_and_not_the_operators_restart(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve("--allow-faults", RETRY_MAX_ATTEMPTS="1", CIRCUIT_BREAKER_FAILURE_THRESHOLD="2")
    primary.fault("status=500")
    for _ in range(2):
        node.post({**HELLO, "stream": False})
    primary.fault("none")

    node.ctl("crash", "provider:openai-default")

    eventually(lambda: node.provider("openai-default")["incarnation"] == 2, "a new incarnation")
    assert node.ctl("breaker", "show", "openai-default")["breaker"]["state"] == "open"
    node.ctl("provider", "restart", "openai-default")
    shown = node.provider("openai-default")
    assert (shown["breaker"]["state"], shown["health_score"]) == ("closed", 1.0)


def test_a_provider_that_crashes_too_often_is_down_alone_and_comes_back(serve: Callable[..., Gateway]) -> None:
    node = serve("--allow-faults")

    for _ in range(4):
        eventually(lambda: "crashed" in str(node.ctl("crash", "provider:openai-default", check=False)) or True, "crash")

    eventually(lambda: node.provider("openai-default")["status"] == "down", "it is down")
    answer = node.post({**HELLO, "stream": False})
    assert answer.headers["x-runestone-provider"] == "anthropic-default"
    assert node.health().json()["status"] == "degraded"
    eventually(lambda: node.provider("openai-default")["status"] == "up", "it is back", 20.0)
    node.ctl("provider", "restart", "openai-default")
    assert node.post({**HELLO, "stream": False}).headers["x-runestone-provider"] == "openai-default"
