"""The ledger actor on virtual time: it writes once an interval, keeps what a store refuses, and tells of it once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from loguru import logger

from runestone.config.live import Live
from runestone.config.settings import LedgerSettings, Price, ServerSettings, Settings
from runestone.ledger.bookkeeper import Bookkeeper, Prune, Report, Unavailable
from runestone.ledger.books import Books
from runestone.ledger.report import Costs, Line, Query, costs
from runestone.ledger.row import Ended, Row, all_priced
from runestone.ledger.store import BATCH, Store, StoreError
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import CallBooked, Event
from runestone.telemetry.metrics import Metrics, Sources
from supervisors import ActorRef, ChildSpec, Supervisor, start
from supervisors.introspection import get_status
from supervisors.testing import VirtualTimeLoop, crash, leak_check, settle
from tests.ledger.rows import event

pytestmark = pytest.mark.anyio
OWN = {"mine": Price(input_per_million_usd=Decimal(1), output_per_million_usd=Decimal(0))}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


@pytest.fixture(scope="module", autouse=True)
def _prices() -> None:
    """The list of prices is loaded: a second of real time in a thread would be one of virtual time."""
    all_priced([Ended(0, event())], {}, {})


@define
class Shelf:
    """A store in memory, whose disk may be full and whose writes may take their time."""

    rows: list[Row] = field(factory=list)
    batches: list[int] = field(factory=list)
    tries: list[float] = field(factory=list)
    wrong: str | None = None
    seconds: float = 0.0
    closed: int = 0

    async def write(self, rows: Sequence[Row]) -> None:
        self.tries.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        self._check()
        known = {row.id for row in self.rows}
        self.rows += [row for row in rows if row.id not in known]
        self.batches.append(len(rows))

    async def report(self, query: Query) -> Costs:
        self._check()
        total = Line(
            name="total", calls=len(self.rows), requests=0, input_tokens=0, output_tokens=0, cached_tokens=0,
            cache_write_tokens=0, reasoning_tokens=0, cost_picodollars=0, unknown_cost_calls=0,
        )  # fmt: skip
        return costs(query, [total], total)

    async def prune(self, before_ms: int, most: int) -> int:
        self._check()
        old = [row for row in self.rows if row.ended_ms < before_ms][:most]
        self.rows = [row for row in self.rows if row not in old]
        return len(old)

    async def close(self) -> None:
        self.closed += 1

    def _check(self) -> None:
        if self.wrong is not None:
            raise StoreError(self.wrong)


@define
class Desk:
    """A bookkeeper at work."""

    ref: Callable[[], ActorRef]
    books: Books
    bus: Bus
    shelf: Shelf
    live: Live
    metrics: Metrics
    told: list[Event]
    root: ActorRef

    def end(self, count: int = 1, **given: Any) -> None:
        """So many calls end."""
        for _ in range(count):
            self.bus.emit(event(**{"model": "mine", **given}))
        self.bus.flush()

    def counts(self) -> tuple[float, ...]:
        m = self.metrics
        m.render()
        return tuple(f.at().value for f in (m.ledger_written, m.ledger_waiting, m.ledger_dropped, m.ledger_failures))


@asynccontextmanager
async def desk(*, kept: bool = True, most: int = 100_000, **ledger: Any) -> AsyncIterator[Desk]:
    settings = Settings(
        server=ServerSettings(admin_socket=Path("/nowhere")), ledger=LedgerSettings(**ledger), prices=OWN
    )
    bus, live, shelf, told = Bus(), Live(settings), Shelf(), list[Event]()
    books = Books(most=most)
    metrics = Metrics(Sources(ledger=books.counts))
    bus.subscribe_later(books.handle)
    bus.subscribe(told.append)

    def store() -> Store | None:
        return shelf if kept else None

    spec = ChildSpec(id="ledger", start=partial(Bookkeeper, books, store, live, bus), name="ledger")
    async with leak_check():
        root = await start(partial(Supervisor, [spec]))

        def ref() -> ActorRef:
            found = root.process.system.registry.lookup("ledger")
            assert found is not None
            return found

        try:
            yield Desk(ref, books, bus, shelf, live, metrics, told, root)
        finally:
            if root.alive:
                await root.stop()


@pytest.fixture
def log() -> Iterator[list[str]]:
    lines: list[str] = []
    number = logger.add(lambda message: lines.append(message.record["message"]), format="{message}", level="INFO")
    yield lines
    logger.remove(number)


async def test_calls_are_written_once_an_interval_and_told_with_their_cost() -> None:
    async with desk() as one:
        await asyncio.sleep(0.5)
        one.end(3)
        one.end(model="nobody-knows-this-one")
        await asyncio.sleep(0.4)
        assert one.shelf.rows == []
        await asyncio.sleep(0.2)

        assert [row.cost_picodollars for row in one.shelf.rows] == [10**9, 10**9, 10**9, None]
        booked = [e for e in one.told if isinstance(e, CallBooked)]
        assert [(e.request_id, e.cost_usd) for e in booked] == [("req_1", 0.001)] * 3 + [("req_1", None)]
        await asyncio.sleep(1.0)
        assert one.counts() == (4, 0, 0, 0)


async def test_an_attempt_that_called_nobody_is_no_call() -> None:
    async with desk() as one:
        one.end(outcome="unsupported", usage=None)
        assert one.books.waiting == 0


async def test_many_calls_go_in_transactions_of_some() -> None:
    async with desk() as one:
        one.end(2 * BATCH + 1)
        await asyncio.sleep(1.5)

        assert one.shelf.batches == [BATCH, BATCH, 1]


async def test_another_interval_is_in_force_from_the_next_time_on() -> None:
    async with desk() as one:
        one.live.settings = evolve(one.live.settings, ledger=LedgerSettings(interval_seconds=5.0))
        await asyncio.sleep(1.5)
        one.end()
        await asyncio.sleep(4.0)
        assert one.shelf.rows == []
        await asyncio.sleep(1.0)
        assert len(one.shelf.rows) == 1


async def test_what_a_store_refuses_waits_and_is_tried_less_and_less_often_and_told_once(log: list[str]) -> None:
    async with desk() as one:
        one.shelf.wrong = "disk full"
        one.end(2)
        await asyncio.sleep(40.5)

        assert one.shelf.tries == [1.0, 2.0, 4.0, 8.0, 16.0, 26.0, 36.0]
        assert one.books.status() == {"state": "failing: disk full", "waiting": 2, "written": 0, "dropped": 0}
        one.shelf.wrong = "read-only"
        await asyncio.sleep(10.0)
        one.shelf.wrong = None
        one.end()
        await asyncio.sleep(12.0)

        assert len(one.shelf.rows) == 3
        assert one.counts() == (3, 0, 0, 8)
        assert [line for line in log if "ledger" in line and "runestone" not in line] == [
            "the ledger cannot be written, calls wait for it: disk full",
            "the ledger cannot be written, calls wait for it: read-only",
            "the ledger is written again",
        ]


async def test_prices_are_told_while_nothing_can_be_written() -> None:
    async with desk() as one:
        one.shelf.wrong = "disk full"
        for _ in range(5):
            one.end()
            await asyncio.sleep(1.0)

        await asyncio.sleep(0.5)
        assert sum(isinstance(e, CallBooked) for e in one.told) == 5
        one.shelf.wrong = None


async def test_beyond_the_bound_calls_are_dropped_and_counted() -> None:
    async with desk(most=10) as one:
        one.shelf.wrong = "locked"
        one.end(7)
        await asyncio.sleep(1.5)  # priced, and in the way all the same
        one.end(7)
        assert (one.books.waiting, one.books.dropped) == (10, 4)
        one.shelf.wrong = None
        await asyncio.sleep(10.0)

        assert len(one.shelf.rows) == 10
        assert one.counts()[2] == 4


async def test_the_end_of_the_node_writes_all_that_waits() -> None:
    async with desk(interval_seconds=3600.0) as one:
        await settle()
        one.end(BATCH + 5)
        await one.root.stop()

        assert len(one.shelf.rows) == BATCH + 5
        assert one.shelf.closed == 1


async def test_the_end_of_the_node_writes_what_the_bus_has_not_handed_out_yet() -> None:
    async with desk(interval_seconds=3600.0) as one:
        await settle()
        one.bus.emit(event())
        assert one.books.waiting == 0
        assert (await get_status(one.ref()))["status"]["waiting"] == 1
        one.bus.emit(event())
        await one.root.stop()

        assert len(one.shelf.rows) == 2


async def test_the_end_of_the_node_waits_for_a_write_under_way_and_books_nothing_twice() -> None:
    async with desk() as one:
        one.shelf.seconds = 1.0
        one.end(3)
        await asyncio.sleep(1.5)
        one.end(3)
        await one.root.stop()

        assert len(one.shelf.rows) == one.books.written == 6


async def test_the_end_of_the_node_tries_again_and_says_what_is_lost(log: list[str]) -> None:
    async with desk() as one:
        one.shelf.wrong = "locked"
        one.end(3)
        await one.root.stop()

        assert len(one.shelf.tries) > 5
        assert "the node ends, and 3 calls are not in the ledger: locked" in log


async def test_a_crash_loses_no_call_and_the_next_incarnation_goes_on() -> None:
    async with desk() as one:
        one.shelf.wrong = "locked"
        one.end(2)
        crash(one.ref(), RuntimeError("a bug"))
        one.end(2)
        await asyncio.sleep(0.5)
        assert one.shelf.tries == [0.0]  # the next incarnation's
        one.shelf.wrong = None
        one.end(2)
        await asyncio.sleep(1.0)

        assert len(one.shelf.rows) == 6
        assert one.shelf.closed == 1  # by the first, which wrote nothing any more


async def test_without_a_ledger_prices_are_told_and_nothing_is_kept() -> None:
    async with desk(kept=False) as one:
        one.end(2)
        await asyncio.sleep(1.5)

        assert sum(isinstance(e, CallBooked) for e in one.told) == 2
        assert one.books.waiting == 0
        answer = await one.ref().call(Report(Query(since_ms=0, until_ms=1, by="model")))
        assert answer == Unavailable("there is none: ledger.url is none")


async def test_a_report_holds_what_has_just_ended() -> None:
    async with desk(interval_seconds=3600.0) as one:
        one.end(3)
        answer = await one.ref().call(Report(Query(since_ms=0, until_ms=1, by="model")))

        assert isinstance(answer, Costs)
        assert answer.total.calls == 3


async def test_who_asks_is_told_why_there_is_no_answer() -> None:
    async with desk() as one:
        one.shelf.wrong = "locked"

        assert await one.ref().call(Report(Query(since_ms=0, until_ms=1, by="model"))) == Unavailable("locked")
        assert await one.ref().call(Prune(1)) == Unavailable("locked")
        one.shelf.wrong = None


async def test_all_that_is_older_is_forgotten_however_much_it_is() -> None:
    async with desk() as one:
        one.end(2 * BATCH + 1)

        assert await one.ref().call(Prune(2**60)) == 2 * BATCH + 1
        assert one.shelf.rows == []


async def test_what_is_older_than_the_retention_is_forgotten_at_the_start_and_every_hour() -> None:
    async with desk(retention_days=1, interval_seconds=60.0) as one:
        one.end(2)
        await asyncio.sleep(61.0)
        one.shelf.rows = [row._replace(ended_ms=row.ended_ms - 2 * 86_400_000) for row in one.shelf.rows]
        await asyncio.sleep(3500.0)
        assert len(one.shelf.rows) == 2
        await asyncio.sleep(200.0)
        assert one.shelf.rows == []
