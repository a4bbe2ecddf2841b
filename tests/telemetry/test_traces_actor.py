"""Who sends traces, on virtual time: beside every request, a batch at a time, bounded, and with an end even if the collector has none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
from attrs import define, field

from runestone.telemetry.bus import Bus
from runestone.telemetry.trace_context import Parent, Trace
from runestone.telemetry.traces import BATCH, FLUSH_SECONDS, QUEUE, Traces
from supervisors import ActorRef, ChildSpec, Supervisor, start
from supervisors.testing import Recorder, VirtualTimeLoop, leak_check
from tests.telemetry.happenings import finished, happen, request, started

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


@define(eq=False)
class Collector:
    """Stands where the SDK's exporter does."""

    batches: list[list[str]] = field(factory=list)
    threads: set[threading.Thread] = field(factory=set)
    open: threading.Event = field(factory=threading.Event)  # whether it takes anything
    lost: int = 0
    error: Exception | None = None
    closed: int = 0

    def __attrs_post_init__(self) -> None:
        self.open.set()

    def sampled(self, parent: Parent | None, trace_id: int) -> bool:
        return True

    def export(self, traces: Sequence[Trace]) -> int:
        self.threads.add(threading.current_thread())
        self.open.wait(20)
        if (error := self.error) is not None:
            self.error = None
            raise error
        self.batches.append([trace.request_id for trace in traces])
        return self.lost

    def close(self) -> None:
        self.closed += 1


@define(eq=False)
class Sending:
    bus: Bus
    collector: Collector
    root: ActorRef
    lost: dict[str, int]
    seen: Recorder

    @property
    def sent(self) -> list[str]:
        return [name for batch in self.collector.batches for name in batch]


@asynccontextmanager
async def sending() -> AsyncIterator[Sending]:
    bus, collector, lost, seen = Bus(), Collector(), dict[str, int](), Recorder()

    def dropped(reason: str, count: int) -> None:
        lost[reason] = lost.get(reason, 0) + count

    actor = partial(Traces, bus, lambda: collector, lambda _: None, dropped)
    async with leak_check():
        root = await start(partial(Supervisor, [ChildSpec(id="traces", start=actor)]), observers=[seen])
        try:
            yield Sending(bus, collector, root, lost, seen)
        finally:
            collector.open.set()
            if root.alive:
                await root.stop()


async def test_what_is_over_is_sent_within_a_second_in_a_thread() -> None:
    async with sending() as node:
        request(node.bus, "one")
        happen(node.bus, started("running"))
        assert node.sent == []

        await asyncio.sleep(1.1)

        assert node.sent == ["one"]
        assert threading.current_thread() not in node.collector.threads
        assert node.lost == {}


async def test_while_a_collector_takes_nothing_requests_go_on_and_what_is_too_much_is_counted() -> None:
    async with sending() as node:
        node.collector.open.clear()
        request(node.bus, "first")
        await asyncio.sleep(1.1)
        assert node.collector.threads

        for number in range(QUEUE + 7):
            request(node.bus, str(number))

        assert node.lost == {"queue": 7}
        assert node.sent == []
        node.collector.open.set()
        while len(node.sent) < 1 + QUEUE:
            await asyncio.sleep(1)
        assert node.sent == ["first", *map(str, range(QUEUE))]
        assert max(map(len, node.collector.batches)) == BATCH


async def test_one_batch_is_sent_at_a_time() -> None:
    async with sending() as node:
        node.collector.open.clear()
        for number in range(2):
            request(node.bus, str(number))
            await asyncio.sleep(1.1)
        assert len(node.collector.threads) == 1
        node.collector.open.set()
        await asyncio.sleep(1.1)

        assert node.collector.batches == [["0"], ["1"]]


async def test_what_a_collector_refuses_is_counted() -> None:
    async with sending() as node:
        node.collector.lost = 1
        request(node.bus, "one")
        await asyncio.sleep(1.1)

        assert node.lost == {"export": 1}


async def test_what_is_left_is_sent_at_the_end() -> None:
    async with sending() as node:
        for number in range(BATCH + 1):
            request(node.bus, str(number))
        await node.root.stop()

        assert len(node.sent) == BATCH + 1
        assert (node.lost, node.collector.closed) == ({}, 1)
        request(node.bus, "late")
        assert node.bus.failures == 0


async def test_a_collector_that_takes_nothing_holds_the_end_up_for_two_seconds_and_its_loss_is_counted() -> None:
    async with sending() as node:
        node.collector.open.clear()
        request(node.bus, "out")
        await asyncio.sleep(1.1)
        request(node.bus, "waiting")
        began = asyncio.get_running_loop().time()
        await node.root.stop()

        assert asyncio.get_running_loop().time() - began == pytest.approx(FLUSH_SECONDS)
        assert (node.lost, node.collector.closed, node.sent) == ({"export": 2}, 1, [])


async def test_a_bug_in_it_costs_the_traces_of_a_moment() -> None:
    async with sending() as node:
        node.collector.error = RuntimeError("a bug")
        request(node.bus, "one")
        await asyncio.sleep(1.1)
        assert any(type(event).__name__ == "CrashReport" for event in node.seen.events)

        request(node.bus, "two")
        await asyncio.sleep(1.1)

        assert node.sent == ["two"]
        assert node.bus.failures == 0


async def test_a_request_that_began_before_anybody_looked_is_told_from_its_end() -> None:
    async with sending() as node:
        happen(node.bus, finished("one"))
        await asyncio.sleep(1.1)

        assert node.sent == ["one"]
