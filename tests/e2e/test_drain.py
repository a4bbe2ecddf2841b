"""SIGTERM: nothing new is taken, what is in flight runs to the drain timeout, the rest is told, and the process ends with 0."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable

import anyio
import httpx

from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO, streams
from tests.support.plain import PLAIN


def test_sigterm_under_load_loses_no_stream_that_is_shorter_than_the_drain(node: Gateway, primary: Upstream) -> None:
    primary.fault("pace=0.03 tokens=60")

    async def scene() -> None:
        async with streams(node) as crowd:
            await crowd.start(50)
            node.process.send_signal(signal.SIGTERM)
            await crowd.finish()
        assert [s.error or s.body[-200:] for s in crowd.all if not s.whole] == []

    anyio.run(scene)

    assert node.process.wait(15) == 0
    assert not node.socket.exists()


def test_while_draining_new_requests_are_refused_with_a_time_and_readiness_says_so(
    node: Gateway, primary: Upstream
) -> None:
    primary.fault("pace=0.05 tokens=60")

    async def scene() -> httpx.Response:
        async with streams(node) as crowd:
            await crowd.start(1)
            node.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(eventually, lambda: node.health("/ready").status_code == 503, "not ready")
            refused = await asyncio.to_thread(node.post, {**HELLO, "stream": False})
            assert (await asyncio.to_thread(node.health)).status_code == 503
            assert (await asyncio.to_thread(node.health, "/live")).status_code == 200
            await crowd.finish()
            assert crowd.all[0].whole
        return refused

    refused = anyio.run(scene)

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    assert int(refused.headers["retry-after"]) >= 1
    assert node.process.wait(15) == 0


def test_a_stream_that_outlasts_the_drain_is_told_in_band_and_gets_no_done(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(RUNESTONE_DRAIN_TIMEOUT_MS="500")
    primary.fault("pace=0.1 tokens=300")

    async def scene() -> bytes:
        async with streams(node) as crowd:
            await crowd.start(1)
            node.process.send_signal(signal.SIGTERM)
            await crowd.finish()
        assert crowd.all[0].error is None
        return crowd.all[0].body

    body = anyio.run(scene)

    assert b"[DONE]" not in body
    error = json.loads(body.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]
    assert error["code"] == "draining"
    assert "this answer took too long" in error["message"]  # its deadline has told it, not the end of the tree
    assert node.process.wait(15) == 0


def test_idle_connections_do_not_hold_up_the_end(node: Gateway) -> None:
    with httpx.Client(**PLAIN) as client:
        assert client.post(f"{node.base_url}/chat/completions", json={**HELLO, "stream": False}).status_code == 200
        assert client.get(f"{node.health_url}/health").status_code == 200

        node.process.send_signal(signal.SIGTERM)

        assert node.process.wait(5) == 0


def test_a_second_signal_ends_the_drain_at_once(node: Gateway, primary: Upstream) -> None:
    primary.fault("pace=0.1 tokens=300")

    async def scene() -> bytes:
        async with streams(node) as crowd:
            await crowd.start(1)
            node.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(eventually, lambda: node.health("/ready").status_code == 503, "it drains")
            node.process.send_signal(signal.SIGTERM)
            await crowd.finish()
        return crowd.all[0].body

    body = anyio.run(scene)

    assert b'"draining"' in body
    assert node.process.wait(15) == 0
