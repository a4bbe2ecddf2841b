"""The share of the traffic that a provider gets while it is slow, while it recovers, and afterwards, under load."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from attrs import define, field

from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO
from tests.support.plain import PLAIN

GROUP = {**HELLO, "model": "default-chat-service", "stream": False}  # both providers in one tier
PINNED = {**GROUP, "model": "openai-default/gpt-4o-mini"}
AT_ONCE = 10


@define
class Load:
    """Who has answered how often, and with which status, since it was last cleared."""

    shares: Counter[str] = field(factory=Counter)
    statuses: Counter[int] = field(factory=Counter)

    def clear(self) -> None:
        """Count from here on."""
        self.shares.clear()
        self.statuses.clear()


@asynccontextmanager
async def load_of(node: Gateway, *, stream: bool = False) -> AsyncIterator[Load]:
    """Clients that ask again and again during the block."""
    load, url = Load(), f"{node.base_url}/chat/completions"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE)
    async with httpx.AsyncClient(timeout=30, **PLAIN, limits=limits) as client, asyncio.TaskGroup() as group:

        async def work() -> None:
            while True:
                answer = await client.post(url, json={**GROUP, "stream": stream})
                load.statuses[answer.status_code] += 1
                load.shares[answer.headers.get("x-runestone-provider", "")] += 1
                await asyncio.sleep(0.01)

        tasks = [group.create_task(work()) for _ in range(AT_ONCE)]
        yield load
        for task in tasks:
            task.cancel()


async def seen(check: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    await asyncio.to_thread(eventually, check, what, seconds)


def test_half_open_under_load_lets_its_limit_through_and_no_more_and_all_are_answered(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    limit = 2
    node = serve(
        FAILOVER_STRATEGY="round_robin",
        CIRCUIT_BREAKER_FAILURE_THRESHOLD="2",
        CIRCUIT_BREAKER_RECOVERY_TIMEOUT="1000",
        FAILOVER_HEALTH_THRESHOLD="0",  # the breaker alone decides
        RETRY_MAX_ATTEMPTS="1",
    )
    node.ctl("breaker", "set", "openai-default", "--half-open-limit", str(limit))
    primary.fault("500")
    for _ in range(2):
        assert node.post(PINNED).status_code == 500
    primary.fault("slow_first_token=1.5")  # what is let through while it is half-open is out all that time
    primary.reset()

    async def scene() -> tuple[int, Load]:
        async with load_of(node) as load:
            await seen(lambda: primary.state()["requests"] >= limit, "probes are let through")
            load.clear()
            await seen(lambda: load.shares["anthropic-default"] > 50, "the others are served elsewhere")
            while_half_open = int(primary.state()["requests"])
            primary.fault("none")
            await seen(lambda: node.provider("openai-default")["breaker"]["state"] == "closed", "it is closed")
            load.clear()
            await seen(lambda: load.statuses[200] > 100, "they go on")
        return while_half_open, load

    while_half_open, load = asyncio.run(scene())

    assert while_half_open == limit
    assert set(load.statuses) == {200}
    assert 0.3 < load.shares["openai-default"] / load.statuses[200] < 0.7  # its turn again


def test_a_probe_that_fails_under_load_lets_nobody_else_through_before_the_next_time(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(
        FAILOVER_STRATEGY="round_robin",
        CIRCUIT_BREAKER_FAILURE_THRESHOLD="2",
        CIRCUIT_BREAKER_RECOVERY_TIMEOUT="1000",
        RETRY_MAX_ATTEMPTS="1",
    )
    primary.fault("500")
    for _ in range(2):
        assert node.post(PINNED).status_code == 500
    primary.reset()

    async def scene() -> tuple[float, Load]:
        async with load_of(node) as load:
            began = time.monotonic()
            await seen(lambda: load.statuses[200] > 300 and primary.state()["requests"], "a time has come")
            return time.monotonic() - began, load

    seconds, load = asyncio.run(scene())

    assert set(load.statuses) == {200}
    openings = 1 + int(seconds / 0.9)  # at most: each makes the next one later
    assert 1 <= primary.state()["requests"] <= 3 * openings  # three probes each


@pytest.mark.parametrize("strategy", ["load_balanced", "fastest_first", "health_aware"])
def test_a_provider_that_has_become_ten_times_slower_loses_most_of_its_traffic(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream, strategy: str
) -> None:
    node = serve(FAILOVER_STRATEGY=strategy)
    secondary.fault("slow_first_token=0.1")
    primary.fault("slow_first_token=0.1")

    async def scene() -> Load:
        async with load_of(node, stream=True) as load:
            await seen(lambda: load.statuses[200] > 50, "both are known")
            primary.fault("slow_first_token=1")
            await seen(lambda: load.shares["openai-default"] > 0 and load.statuses[200] > 300, "it is known to be slow")
            load.clear()
            await seen(lambda: load.statuses[200] > 300, "they go on")
        return load

    load = asyncio.run(scene())

    assert set(load.statuses) == {200}
    assert load.shares["openai-default"] / load.statuses[200] < 0.15


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_provider_that_is_quick_again_has_its_share_within_a_minute(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream
) -> None:
    node = serve(FAILOVER_STRATEGY="load_balanced")
    secondary.fault("slow_first_token=0.1")
    primary.fault("slow_first_token=1")

    async def scene() -> tuple[float, Load]:
        async with load_of(node) as load:
            await seen(lambda: load.statuses[200] > 500, "it is known to be slow")
            primary.fault("slow_first_token=0.1")
            began = time.monotonic()

            def back() -> bool:
                load.clear()
                time.sleep(1.0)
                return load.shares["openai-default"] > 0.3 * load.statuses[200]

            await seen(back, "a third is its again", 90)
            return time.monotonic() - began, load

    seconds, load = asyncio.run(scene())
    print(f"a third of the traffic after {seconds:.0f} s")

    assert seconds < 60
    assert set(load.statuses) == {200}
