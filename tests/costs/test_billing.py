"""What is billed of calls that do not end well: the table, and real calls whose events tell what they knew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from typing import get_args

import orjson
import pytest
from attrs import evolve

from runestone.config.settings import Price, TimeoutSettings
from runestone.costs.billing import FREE, Billed, billed, call_cost
from runestone.costs.rates import PICODOLLARS
from runestone.domain.chat import Api, ChatRequest, Usage, Wire
from runestone.domain.failure import FailureKind, UpstreamError
from runestone.failover.attempts import Attempts
from runestone.telemetry.events import AttemptFinished
from tests.costs.test_invoices import began, chat, chunks, claude, ended, last, tokens
from tests.support.fleet import Fleet, fleet, group, provider
from tests.support.scripted import Peer, Script, serving
from tests.support.transporting import transporting

TOLD = Usage(input_tokens=10, output_tokens=1)
EMPTY = Usage(input_tokens=0, output_tokens=0)
OWN = {"m": Price(input_per_million_usd=Decimal(3), output_per_million_usd=Decimal(15))}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio

PARTIAL = ["cancelled", *(kind for kind in get_args(FailureKind) if kind not in FREE)]


@pytest.mark.parametrize(
    ("outcomes", "usage", "content", "what"),
    [
        (["ok"], TOLD, True, "whole"),
        (["ok"], None, True, "unknown"),
        (["ok"], EMPTY, True, "unknown"),
        ([*PARTIAL, *FREE], TOLD, True, "at_least"),
        ([*PARTIAL, *FREE], TOLD, False, "at_least"),
        ([*PARTIAL, *FREE], None, True, "unknown"),
        (PARTIAL, None, False, "unknown"),
        (PARTIAL, EMPTY, False, "unknown"),
        (FREE, None, False, "nothing"),
        (FREE, EMPTY, False, "nothing"),
    ],
)
def test_the_table_of_what_is_billed(outcomes: list[str], usage: Usage | None, content: bool, what: Billed) -> None:
    assert {outcome: billed(outcome, usage, content=content) for outcome in outcomes} == dict.fromkeys(outcomes, what)


def test_what_may_have_been_worked_on_is_not_free() -> None:
    assert set(PARTIAL) == {
        "cancelled", "disconnected", "first_token_timeout", "timeout", "idle_timeout", "error_event", "truncated",
        "invalid_answer", "too_large",
    }  # fmt: skip


@pytest.mark.parametrize("outcome", ["ok", "cancelled", "timeout"])
def test_counting_tokens_is_free(outcome: str) -> None:
    assert billed(outcome, None, content=True, api="count_tokens") == "nothing"


def _dollars(cost: int | None) -> Decimal | None:
    return None if cost is None else Decimal(cost) / PICODOLLARS


@pytest.mark.parametrize(
    ("outcome", "usage", "dollars"),
    [("timeout", None, None), ("rate_limited", None, Decimal(0)), ("cancelled", TOLD, Decimal("0.000045"))],
)
def test_a_call_costs_what_is_billed_of_it(outcome: str, usage: Usage | None, dollars: Decimal | None) -> None:
    cost = partial(call_cost, outcome, usage, content=False, kind="openai", model="m", own=OWN)

    assert _dollars(cost(api="chat")) == dollars
    assert cost(api="count_tokens") == 0


# -- real calls ----------------------------------------------------------------------------------------------------------


def http(body: bytes, kind: str = "application/json", status: int = 200, *, more: int = 0) -> bytes:
    """An answer; ``more`` bytes of it never come."""
    length = len(body) + more
    return b"HTTP/1.1 %d X\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (status, kind.encode(), length) + body


sse = partial(http, kind="text/event-stream")


def then(*parts: bytes, stay: bool = False, reset: bool = False) -> Script:
    """Answers one request, and then stays, resets the connection or closes it."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for part in parts:
            await peer.send(part)
        if stay:
            await peer.until_the_client_leaves()
        if reset:
            peer.reset()

    return script


class Asked:
    """A request that goes to providers ``a`` and ``b`` in turn."""

    def __init__(self, node: Fleet, kind: str, *, stream: bool, **timeouts: float) -> None:
        wire: Wire = "anthropic" if kind == "anthropic" else "openai"
        api: Api = "messages" if kind == "anthropic" else "chat"
        body = {"model": "m", "stream": stream, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        self.node = node
        self.chat = ChatRequest(
            request_id="r", wire=wire, api=api, model="m", stream=stream, body=body, raw=orjson.dumps(body)
        )
        self.timeouts = TimeoutSettings(**timeouts)
        self.reading = asyncio.Event()
        self.loop: Attempts | None = None

    async def run(self) -> None:
        """Read the answer to its end."""
        deadline = asyncio.get_running_loop().time() + 30
        self.loop = Attempts(self.chat, self.node.failover, self.timeouts, self.node.bus, deadline=deadline, prices={})
        async with self.loop as loop:
            try:
                call = await loop.open()
                self.reading.set()
                while await call.read():
                    pass
            except UpstreamError:
                pass

    def counted(self) -> Usage | None:
        """What the call in progress has told."""
        call = None if self.loop is None else self.loop._call
        return None if call is None or call._decoder is None else call._decoder.usage

    def booked(self) -> list[tuple[str, str, Usage | None, Decimal | None]]:
        """What is booked for each of its calls."""
        return [
            (e.provider, e.outcome, e.usage, _dollars(call_cost(
                e.outcome, e.usage, content=e.first_content_seconds is not None, api=e.api, kind=e.kind, model=e.model, own=OWN
            )))
            for e in self.node.told(AttemptFinished)
        ]  # fmt: skip


@asynccontextmanager
async def asked(kind: str, *scripts: Script, stream: bool = True, **timeouts: float) -> AsyncIterator[Asked]:
    """A provider of ``kind`` for each script."""
    names = "ab"[: len(scripts)]
    settings = [provider(name, kind=kind, default_model="m") for name in names]
    servers = [serving(script) for script in scripts]
    urls = [(await server.__aenter__()).url for server in servers]
    settings = [evolve(s, base_url=url) for s, url in zip(settings, urls, strict=True)]
    try:
        async with (
            transporting() as transport,
            fleet(*settings, groups=[group(*names, strategy="priority")], router=True) as node,
        ):
            for memory in node.memories.values():
                memory.transport = transport
            yield Asked(node, kind, stream=stream, **timeouts)
    finally:
        for server in servers:
            await server.__aexit__(None, None, None)


HEAD = began(claude(2000, 1))  # 2000 x 3 + 1 x 15 = 6015 millionths
HALF = Usage(input_tokens=2000, output_tokens=1)
WHOLE = HEAD + ended({"output_tokens": 20})  # 2000 x 3 + 20 x 15 = 6300 millionths
FULL = Usage(input_tokens=2000, output_tokens=20)


async def served(request: Asked) -> None:
    await request.node.request(request.run)


async def test_a_stream_that_is_whole_is_booked_whole() -> None:
    async with asked("anthropic", then(sse(WHOLE))) as request:
        await served(request)

        assert request.booked() == [("a", "ok", FULL, Decimal("0.0063"))]


async def test_a_stream_that_is_cut_keeps_the_usage_that_it_had_told() -> None:
    async with asked("anthropic", then(sse(HEAD, more=999))) as request:
        await served(request)

        assert request.booked() == [("a", "truncated", HALF, Decimal("0.006015"))]


async def test_a_stream_that_stalls_keeps_the_usage_that_it_had_told() -> None:
    async with asked("anthropic", then(sse(HEAD, more=999), stay=True), idle_seconds=0.05) as request:
        await served(request)

        assert request.booked() == [("a", "idle_timeout", HALF, Decimal("0.006015"))]


async def test_a_client_that_leaves_in_the_middle_leaves_the_usage_that_was_told() -> None:
    async with asked("anthropic", then(sse(HEAD, more=999), stay=True)) as request:
        task = request.node.request(request.run)
        await request.reading.wait()
        task.cancel()
        await asyncio.wait({task})

        assert request.booked() == [("a", "cancelled", HALF, Decimal("0.006015"))]


async def test_a_client_that_leaves_before_the_first_content_leaves_the_usage_that_was_told() -> None:
    start = HEAD.partition(b"event: content_block_delta")[0]
    async with asked("anthropic", then(sse(start, more=999), stay=True)) as request:
        task = request.node.request(request.run)
        while request.counted() is None:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})

        assert request.booked() == [("a", "cancelled", HALF, Decimal("0.006015"))]


async def test_a_client_that_leaves_an_openai_stream_leaves_a_cost_that_nobody_knows() -> None:
    async with asked("openai", then(sse(chunks(finish=False), more=999), stay=True)) as request:
        task = request.node.request(request.run)
        await request.reading.wait()
        task.cancel()
        await asyncio.wait({task})

        assert request.booked() == [("a", "cancelled", None, None)]


async def test_a_call_that_failed_over_is_booked_beside_the_one_that_answered() -> None:
    """The first provider's model had begun to work: its start tells the input."""
    start = HEAD.partition(b"event: content_block_delta")[0]
    async with asked("anthropic", then(sse(start), reset=False), then(sse(WHOLE))) as request:
        await served(request)

        assert request.booked() == [
            ("a", "truncated", HALF, Decimal("0.006015")),
            ("b", "ok", FULL, Decimal("0.0063")),
        ]


@pytest.mark.parametrize(
    ("script", "outcome", "dollars"),
    [
        (then(http(b'{"error":{"message":"no"}}', status=401)), "credentials", Decimal(0)),
        (then(http(b'{"error":{"message":"slow down"}}', status=429)), "rate_limited", Decimal(0)),
        (then(http(b'{"error":{"message":"busy"}}', status=404)), "not_found", Decimal(0)),
        (then(http(b"not JSON")), "invalid_answer", None),
        (then(http(b"{", more=5)), "truncated", None),
        (then(stay=True), "timeout", None),
    ],
)
async def test_a_call_that_failed_before_any_content_is_free_or_nobody_knows(
    script: Script, outcome: str, dollars: Decimal | None
) -> None:
    async with asked("openai", script, then(http(chat(tokens(100, 10)))), stream=False) as request:
        memory = request.node.memories["a"]
        memory.settings = evolve(memory.settings, timeout_seconds=0.2)
        await served(request)

        assert request.booked() == [
            ("a", outcome, None, dollars),
            ("b", "ok", Usage(input_tokens=100, output_tokens=10), Decimal("0.00045")),
        ]


async def test_a_connection_that_is_lost_after_the_request_went_out_is_not_known_to_be_free() -> None:
    async with asked("openai", then(reset=True), then(http(chat(tokens(100, 10)))), stream=False) as request:
        await served(request)

        assert request.booked()[0] == ("a", "disconnected", None, None)


async def test_a_connection_that_nobody_takes_is_free() -> None:
    async with asked("openai", then(), then(http(chat(tokens(100, 10)))), stream=False) as request:
        memory = request.node.memories["a"]
        memory.settings = evolve(memory.settings, base_url="http://127.0.0.1:9")
        await served(request)

        assert request.booked()[0] == ("a", "refused", None, Decimal(0))


async def test_a_whole_answer_where_a_stream_was_due_fails_and_is_booked() -> None:
    async with asked("openai", then(http(chat(tokens(100, 10)))), then(sse(chunks(last(tokens(200, 20)))))) as request:
        await served(request)

        assert request.booked() == [
            ("a", "invalid_answer", Usage(input_tokens=100, output_tokens=10), Decimal("0.00045")),
            ("b", "ok", Usage(input_tokens=200, output_tokens=20), Decimal("0.0009")),
        ]
