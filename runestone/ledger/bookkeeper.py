"""The ledger actor: prices the calls that are over and writes them down, some at a time, away from the requests and the event loop.

What cannot be written waits in :class:`~runestone.ledger.books.Books` and is tried again; no request learns of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Any, Final

from attrs import frozen
from loguru import logger

from runestone.config.live import Live
from runestone.costs.rates import PICODOLLARS
from runestone.ledger.books import Books
from runestone.ledger.report import Costs, Query
from runestone.ledger.row import all_priced
from runestone.ledger.store import BATCH, Store, StoreError
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import CallBooked
from supervisors import NO_REPLY, Call, Caller, Cast, ExitReason, GenServer, Info, is_abnormal, run_blocking

_LONGEST_BACKOFF_SECONDS: Final = 10.0
_PRUNE_SECONDS: Final = 3600.0  # between two looks at what is too old
_DAY_MS: Final = 86_400_000
FLUSH_SECONDS: Final = 4.0  # for what waits, when the node stops
_AGAIN_SECONDS: Final = 0.1  # between two tries meanwhile


@frozen
class Unavailable:
    """The ledger does not answer, and why."""

    reason: str


@frozen
class Report(Call[Costs | Unavailable]):
    """What calls have cost, those included that have just ended."""

    query: Query


@frozen
class Prune(Call[int | Unavailable]):
    """Forget the calls that ended before; their number is the answer."""

    before_ms: int


@frozen
class Tick(Info):
    """Time to write."""


@frozen
class Tried(Cast):
    """A try is over. ``wrote``: the store was asked; ``error`` says what was wrong with it."""

    wrote: bool
    error: str | None = None


class Bookkeeper(GenServer[Tried]):
    """One for the node. ``books`` hears the bus by itself, and outlives this actor; ``store`` makes the store, or ``None``: prices are told
    by :class:`~runestone.telemetry.events.CallBooked`, and kept nowhere.
    """

    def __init__(self, books: Books, store: Callable[[], Store | None], live: Live, bus: Bus) -> None:
        self._books = books
        self._store = store()
        self._live = live
        self._bus = bus
        self._one = asyncio.Lock()  # who moves rows; the last flush may meet a try under way
        self._trying = False
        self._failures = 0  # in a row
        self._not_before = 0.0
        self._next_prune = 0.0

    def init(self) -> None:
        """Somebody may have left calls here."""
        self._tick()

    def status(self) -> Mapping[str, object]:
        """What the tree shows of this actor."""
        self._bus.flush()
        return self._books.status()

    def handle_info(self, message: Info) -> None:
        """Begin the next try, unless one is under way."""
        if isinstance(message, Tick):
            self._tick()

    def handle_cast(self, message: Tried) -> None:
        """Note how a try has ended, and say so where that is new."""
        self._trying = False
        books, error = self._books, message.error
        if error is None and message.wrote:
            if books.failing is not None:
                logger.info("the ledger is written again")
            books.failing, self._failures = None, 0
        elif error is not None:
            if books.failing != error:
                logger.error("the ledger cannot be written, calls wait for it: {}", error)
            books.failing = error
            books.failures += 1
            wait = self._live.settings.ledger.interval_seconds * 2 ** min(self._failures, 16)
            self._failures += 1
            self._not_before = self.now() + min(wait, _LONGEST_BACKOFF_SECONDS)

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> object:
        """Begin to answer: the database may take its time."""
        match message:
            case Report(query):
                self.spawn(self._answer(caller, lambda store: store.report(query)), name="report")
            case Prune(before_ms):
                self.spawn(self._answer(caller, lambda store: self._prune(store, before_ms)), name="prune")
            case _:
                raise TypeError(message)
        return NO_REPLY

    async def terminate(self, reason: ExitReason) -> None:
        """At the end of the node all that waits is written. After a crash the next incarnation does that."""
        if not is_abnormal(reason):
            await self._flush()
        if self._store is not None:
            try:
                await self._store.close()
            except StoreError as error:
                logger.warning("the ledger does not close: {}", error)

    # -- writing -------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        ledger = self._live.settings.ledger
        self.send_after(ledger.interval_seconds, Tick())
        self._bus.flush()
        if self._books.waiting and not self._trying:
            self._trying = True
            self.spawn(self._try(write=self.now() >= self._not_before), name="write")
        if self._store is not None and ledger.retention_days and self.now() >= self._next_prune:
            self._next_prune = self.now() + _PRUNE_SECONDS
            self.spawn(self._forget(self._store, ledger.retention_days), name="forget")

    async def _try(self, *, write: bool) -> None:
        try:
            await self._settle(write=write)
        except StoreError as error:
            self.ref.cast(Tried(wrote=True, error=str(error)))
        else:
            self.ref.cast(Tried(wrote=write))

    async def _settle(self, *, write: bool = True) -> None:
        """Price what has no price, and write what waits. Raises :class:`StoreError`."""
        self._bus.flush()
        async with self._one:
            await self._price()
            if write:
                await self._write()

    async def _price(self) -> None:
        books = self._books
        while books.ended:
            batch = list(islice(books.ended, BATCH))
            rows = await run_blocking(all_priced, batch, self._live.settings.prices, books.answers)
            for ended, row in zip(batch, rows, strict=True):
                books.ended.popleft()
                if self._store is not None:
                    books.rows.append(row)
                event, cost = ended.event, row.cost_picodollars
                self._bus.emit(
                    CallBooked(
                        request_id=event.request_id,
                        provider=event.provider,
                        model=event.model,
                        usage=event.usage,
                        cost_usd=None if cost is None else cost / PICODOLLARS,
                    )
                )

    async def _write(self) -> None:
        books = self._books
        while self._store is not None and books.rows:
            batch = list(islice(books.rows, BATCH))
            await self._store.write(batch)
            for _ in batch:
                books.rows.popleft()
            books.written += len(batch)

    async def _flush(self) -> None:
        """Write all that waits: as often as it takes, as long as the node's end may take."""
        why = "there was no time"
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                while True:
                    try:
                        await self._settle()
                    except StoreError as error:
                        why = str(error)
                        await asyncio.sleep(_AGAIN_SECONDS)
                    else:
                        break
        except TimeoutError:
            logger.error("the node ends, and {} calls are not in the ledger: {}", self._books.waiting, why)

    # -- asked ---------------------------------------------------------------------------------------------------------

    async def _answer(self, caller: Caller[Any], ask: Callable[[Store], Awaitable[Any]]) -> None:
        if self._store is None:
            caller.reply(Unavailable("there is none: ledger.url is none"))
            return
        try:
            await self._settle()
            caller.reply(await ask(self._store))
        except StoreError as error:
            caller.reply(Unavailable(str(error)))

    async def _forget(self, store: Store, days: int) -> None:
        try:
            count = await self._prune(store, time.time_ns() // 1_000_000 - days * _DAY_MS)
        except StoreError as error:
            logger.warning("what is too old stays in the ledger for now: {}", error)
        else:
            if count:
                logger.info("the ledger has forgotten {} calls that were older than {} days", count, days)

    async def _prune(self, store: Store, before_ms: int) -> int:
        """Forget in steps, between which calls are written."""
        total = 0
        while True:
            async with self._one:
                count = await store.prune(before_ms, BATCH)
            total += count
            if count < BATCH:
                return total
