"""Who holds the loop up: the time of an actor's handlers, by a clock that only the tests move."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from supervisors import (
    ActorExited,
    ActorRef,
    Call,
    Continue,
    Crashed,
    GenServer,
    HandlerTime,
    Info,
    Killed,
    NoProcess,
    Reply,
    measure_handlers,
    on_handled,
    statistics,
)
from supervisors.testing import settle
from tests.supervisors.actors import Boom, Ping, Run, Trace, Traced, server

pytestmark = pytest.mark.anyio


class Clock:
    """Stands still unless somebody works."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def work(self, seconds: float) -> None:
        self.seconds += seconds


async def time_of(ref: ActorRef) -> HandlerTime:
    time = (await statistics(ref)).handlers
    assert time is not None
    return time


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_handlers_are_not_measured_unless_asked_for(trace: Trace, clock: Clock) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        await ref.call(Ping())
        assert (await statistics(ref)).handlers is None

        await measure_handlers(ref, clock=clock)
        await ref.call(Ping())
        assert (await time_of(ref)).count == 1

        await measure_handlers(ref, on=False)
        await ref.call(Ping())
        assert (await statistics(ref)).handlers is None


async def test_to_ask_again_goes_on_with_what_was_measured(trace: Trace, clock: Clock) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        for _ in range(2):
            await measure_handlers(ref, clock=clock)
            await ref.call(Ping())

        assert (await time_of(ref)).count == 2


class Tick(Info):
    """Work of three seconds."""


class Chain(Call[str]):
    """Answered at once, with a continue of four seconds to come."""


class Worker(GenServer[float]):
    """Works as long as it is told to."""

    def __init__(self, clock: Clock) -> None:
        self._work = clock.work

    def handle_call(self, message: Any, caller: object) -> object:
        self._work(1)
        return Reply("ok", then=Continue("more"))

    def handle_cast(self, message: float) -> None:
        self._work(message)

    def handle_info(self, message: Info) -> None:
        self._work(3)

    def handle_continue(self, term: str) -> None:
        self._work(4)


async def test_calls_casts_infos_and_continues_are_measured_and_the_longest_is_named(clock: Clock) -> None:
    async with server(lambda: Worker(clock)) as ref:
        await measure_handlers(ref, clock=clock)
        assert await time_of(ref) == HandlerTime(count=0, total_seconds=0, max_seconds=0, longest=None)

        await ref.call(Chain())
        assert await time_of(ref) == HandlerTime(count=2, total_seconds=5, max_seconds=4, longest="str")
        ref.send(Tick())
        ref.cast(7.5)
        await settle()

        assert await time_of(ref) == HandlerTime(count=4, total_seconds=15.5, max_seconds=7.5, longest="float")


async def test_what_a_handler_waits_for_is_not_its_time(trace: Trace, clock: Clock) -> None:
    async def handle() -> str:
        clock.work(1)
        asyncio.get_running_loop().call_later(5, clock.work, 100)  # somebody else's
        await asyncio.sleep(10)
        clock.work(2)
        return "done"

    async with server(lambda: Traced(trace, "a")) as ref:
        await measure_handlers(ref, clock=clock)

        assert await ref.call(Run(handle), timeout=None) == "done"
        assert await time_of(ref) == HandlerTime(count=1, total_seconds=3, max_seconds=2, longest="Run")


async def test_a_measured_handler_fails_and_catches_as_ever(trace: Trace, clock: Clock) -> None:
    async def catches() -> str:
        try:
            async with asyncio.timeout(1):
                await asyncio.Event().wait()
        except TimeoutError:
            clock.work(1)
        return "caught"

    async def fails() -> None:
        await asyncio.sleep(1)
        raise Boom("bug")

    async with server(lambda: Traced(trace, "a")) as ref:
        await measure_handlers(ref, clock=clock)

        assert await ref.call(Run(catches)) == "caught"
        assert (await time_of(ref)).total_seconds == 1
        with pytest.raises(ActorExited) as caught:
            await ref.call(Run(fails))
        assert isinstance(caught.value.reason, Crashed)
        assert isinstance(caught.value.reason.exception, Boom)


async def test_a_measured_actor_can_be_killed_while_it_waits(trace: Trace, clock: Clock) -> None:
    cleaned = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    async with server(lambda: Traced(trace, "a")) as ref:
        await measure_handlers(ref, clock=clock)
        call = asyncio.ensure_future(ref.call(Run(waits), timeout=None))
        await settle()
        ref.exit(Killed())

        with pytest.raises(ActorExited):
            await call
        assert cleaned == [True]


class Chained(Worker):
    """Goes on for a thousand continues."""

    def handle_cast(self, message: float) -> Any:
        return Continue(1_000)

    def handle_continue(self, term: Any) -> Any:
        return Continue(term - 1) if term else None


async def test_a_measure_that_begins_within_a_chain_of_continues_holds_for_what_comes_after_it(clock: Clock) -> None:
    async with server(lambda: Chained(clock)) as ref:
        ref.cast(0)
        await asyncio.sleep(0)
        await measure_handlers(ref, clock=clock)
        await settle()
        ref.send(Tick())
        await settle()

        time = await time_of(ref)
        assert 1 < time.count < 1_000  # the rest of the chain, and the tick
        assert (time.total_seconds, time.longest) == (3, "Tick")


# -- each message ----------------------------------------------------------------------------------------------------------


class Busy(GenServer[float]):
    """Takes as long for a message as it says; what is negative it cannot take."""

    async def handle_call(self, message: Any, caller: object) -> str:
        await asyncio.sleep(2.0)
        return "done"

    async def handle_cast(self, message: float) -> None:
        if message < 0.0:
            raise Boom
        await asyncio.sleep(message)

    async def handle_info(self, message: Info) -> None:
        await asyncio.sleep(3.0)


class Nudge(Info):
    pass


async def test_how_long_each_call_cast_and_info_took_is_told_as_long_as_somebody_listens() -> None:
    took = list[float]()
    async with server(Busy) as ref:
        ref.cast(1.0)
        await ref.call(Ping(), timeout=None)
        on_handled(ref, took.append, clock=asyncio.get_running_loop().time)
        ref.cast(0.5)
        await ref.call(Ping(), timeout=None)
        ref.send(Nudge())
        await ref.call(Ping(), timeout=None)
        assert took == [0.5, 2.0, 3.0, 2.0]

        on_handled(ref, None)
        await ref.call(Ping(), timeout=None)
        assert len(took) == 4


async def test_who_begins_to_listen_by_another_clock_amid_a_message_changes_nothing_of_that_one() -> None:
    first, second = list[float](), list[float]()
    async with server(Busy) as ref:
        on_handled(ref, first.append, clock=asyncio.get_running_loop().time)
        ref.cast(1.0)
        await settle()
        on_handled(ref, second.append, clock=lambda: 1e6)
        await ref.call(Ping(), timeout=None)

    assert (first, second) == ([1.0], [0.0])


async def test_a_message_whose_handler_raises_is_not_told_of_and_who_has_ended_cannot_be_listened_to() -> None:
    took = list[float]()
    async with server(Busy) as ref:
        on_handled(ref, took.append, clock=asyncio.get_running_loop().time)
        ref.cast(1.0)
        ref.cast(-1.0)
        await ref.process.wait()

        assert took == [1.0]
        with pytest.raises(NoProcess):
            on_handled(ref, took.append)


async def test_a_handler_that_holds_the_loop_is_told_of_in_real_time() -> None:
    class Holding(GenServer[float]):
        def handle_cast(self, message: float) -> None:
            time.sleep(message)

    took = list[float]()
    async with server(Holding) as ref:
        on_handled(ref, took.append)
        ref.cast(0.01)
        await settle()

    assert len(took) == 1
    assert took[0] >= 0.01
