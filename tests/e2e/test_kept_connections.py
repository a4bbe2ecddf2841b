"""Providers that close connections which are kept: no call is made twice behind an attempt's back, and no client suffers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.e2e.node import Gateway, gateway
from tests.e2e.rows import QUICK
from tests.support.plain import PLAIN
from tests.support.scripted import Peer, Script, serving

WHOLE = {"model": "gpt-4o-mini", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi"}}]}
ANSWER = json.dumps(WHOLE).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
QUESTION = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}


async def closes_after_some(peer: Peer) -> None:
    """Says nothing of it, and closes at once: the next request may be on its way."""
    for _ in range(1 + peer.number % 3):
        await peer.request()
        await peer.send(HEAD + ANSWER)


async def reads_and_closes(peer: Peer) -> None:
    """It answers one, and closes upon the second without a word: that one may have been worked on."""
    await peer.request()
    await peer.send(HEAD + ANSWER)
    await peer.request()


async def reads_and_resets(peer: Peer) -> None:
    """Likewise, with a reset."""
    await reads_and_closes(peer)
    peer.reset()


def metric(node: Gateway, name: str) -> float:
    lines = [line for line in node.health("/metrics").text.splitlines() if line.startswith(f"{name}{{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def storm(folder: Path, script: Script) -> tuple[Counter[int], int, float]:
    """Statuses of 200 requests, four at a time; what the provider has been sent; what the node says that it has sent."""
    statuses: Counter[int] = Counter()
    async with serving(script) as server:
        breaker = {"OPENAI_CIRCUIT_BREAKER": "false", "RETRY_MAX_ATTEMPTS": "4"}
        environment = {**QUICK, **breaker, "OPENAI_API_KEY": "sk-o", "OPENAI_BASE_URL": f"{server.url}/v1"}
        running = gateway(folder, environment)
        node = await asyncio.to_thread(running.__enter__)
        try:
            async with httpx.AsyncClient(timeout=30, **PLAIN) as client:

                async def work() -> None:
                    for _ in range(50):
                        answer = await client.post(f"{node.base_url}/chat/completions", json=QUESTION)
                        statuses[answer.status_code] += 1

                await asyncio.gather(*(work() for _ in range(4)))
            told = await asyncio.to_thread(metric, node, "runestone_provider_attempts_total")
            stale = await asyncio.to_thread(metric, node, "runestone_provider_stale_connections_total")
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)
        assert stale >= 0
        return statuses, len(server.requests), told


@pytest.mark.parametrize("script", [closes_after_some, reads_and_closes, reads_and_resets])
def test_each_call_that_a_provider_has_seen_is_an_attempt_that_was_counted(tmp_path: Path, script: Script) -> None:
    statuses, seen, told = asyncio.run(storm(tmp_path, script))

    assert seen <= told  # a call that never arrived is an attempt too
    assert set(statuses) <= {200, 502}  # where every other call fails, the budget of retries is soon spent
    assert script is not closes_after_some or statuses == {200: 200}
