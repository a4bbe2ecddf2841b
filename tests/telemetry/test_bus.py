"""Who emits is never slowed down or broken by who listens."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from loguru import logger

from runestone.telemetry.bus import Bus
from runestone.telemetry.events import Event, ProviderThrottled, Retry
from supervisors.testing import VirtualTimeLoop
from tests.e2e.node import eventually

T = TypeVar("T")
EVENT = Retry(provider="a", reason="timeout")


def broken(event: Event) -> None:
    raise ValueError("a listener's bug")


def test_every_handler_gets_every_event_at_once_and_in_the_order_of_subscription() -> None:
    bus, seen = Bus(), list[tuple[str, Event]]()
    bus.subscribe(lambda event: seen.append(("first", event)))
    bus.subscribe(lambda event: seen.append(("second", event)))

    bus.emit(EVENT)

    assert seen == [("first", EVENT), ("second", EVENT)]


def test_a_handler_gets_the_kinds_of_event_that_it_is_for_as_long_as_it_listens() -> None:
    bus, some, all_ = Bus(), list[Event](), list[Event]()
    other = ProviderThrottled(provider="a", seconds=1.0)
    bus.emit(EVENT)
    end = bus.subscribe(some.append, {Retry})
    bus.subscribe(all_.append)

    bus.emit(EVENT)
    bus.emit(other)
    end()
    bus.emit(EVENT)

    assert some == [EVENT]
    assert all_ == [EVENT, other, EVENT]


def test_without_handlers_nothing_happens() -> None:
    Bus().emit(EVENT)


def test_a_handler_that_fails_harms_nobody_and_is_counted() -> None:
    bus, seen = Bus(), list[Event]()
    bus.subscribe(broken)
    bus.subscribe(seen.append)

    for _ in range(3):
        bus.emit(EVENT)

    assert (seen, bus.failures) == ([EVENT] * 3, 3)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found = list[str]()
    sink = logger.add(lambda message: found.append(message.record["message"]), level="ERROR")
    yield found
    logger.remove(sink)


def test_one_that_fails_with_every_event_is_told_ever_more_rarely_and_counted_for_good(lines: list[str]) -> None:
    bus = Bus()
    bus.subscribe(broken)

    for _ in range(2000):
        bus.emit(EVENT)

    assert bus.failures == 2000
    assert lines == [
        f"the event handler broken failed, {count} times by now: ValueError" for count in (1, 10, 100, 1000)
    ]


def test_one_that_fails_with_every_event_does_not_hide_the_first_failure_of_another(lines: list[str]) -> None:
    bus = Bus()
    bus.subscribe(broken)
    for _ in range(50):
        bus.emit(EVENT)

    def late(event: Event) -> None:
        raise KeyError("too")

    bus.subscribe(late)
    bus.emit(EVENT)

    assert lines[-1].endswith("late failed, 1 times by now: KeyError")


def test_a_cancellation_in_a_handler_is_not_swallowed() -> None:
    bus = Bus()

    def cancelled(event: Event) -> None:
        raise asyncio.CancelledError

    bus.subscribe(cancelled)
    with pytest.raises(asyncio.CancelledError):
        bus.emit(EVENT)


def test_one_that_has_unsubscribed_hears_nothing_and_may_do_so_twice() -> None:
    bus, seen, others = Bus(), list[Event](), list[Event]()
    unsubscribe = bus.subscribe(seen.append)
    bus.subscribe(others.append)

    unsubscribe()
    unsubscribe()
    bus.emit(EVENT)

    assert (seen, others) == ([], [EVENT])


def test_a_handler_may_unsubscribe_and_subscribe_while_it_is_told() -> None:
    bus, seen = Bus(), list[str]()

    def once(event: Event) -> None:
        unsubscribe()
        bus.subscribe(lambda _: seen.append("late"))
        seen.append("once")

    unsubscribe = bus.subscribe(once)
    bus.subscribe(lambda _: seen.append("other"))

    bus.emit(EVENT)
    bus.emit(EVENT)

    assert seen == ["once", "other", "other", "late"]


# -- handlers that are in no hurry -------------------------------------------------------------------------------------------


def virtually(story: Coroutine[Any, Any, T]) -> T:
    """What comes of ``story`` where nobody has to wait."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(story)


def retries(count: int) -> list[Retry]:
    return [Retry(provider=str(number), reason="timeout") for number in range(count)]


def test_who_is_in_no_hurry_gets_each_event_with_its_time_within_a_moment() -> None:
    async def story() -> tuple[list[Event], list[Event]]:
        bus, seen = Bus(), list[tuple[Event, float]]()
        bus.subscribe_later(lambda event, at: seen.append((event, at)))
        before = time.time()
        bus.emit(EVENT)
        after, at_once = time.time(), [event for event, _ in seen]
        await asyncio.sleep(0.051)
        ((_, at),) = seen
        assert before <= at <= after
        return at_once, [event for event, _ in seen]

    assert virtually(story()) == ([], [EVENT])


def test_many_events_wait_for_nothing_and_come_in_order() -> None:
    async def story() -> list[Event]:
        bus, seen = Bus(), list[Event]()
        bus.subscribe_later(lambda event, _: seen.append(event))
        for event in retries(300):
            bus.emit(event)
        return seen

    assert virtually(story()) == retries(256)


def test_who_reads_what_they_have_made_of_it_flushes_first() -> None:
    async def story() -> list[Event]:
        bus, seen = Bus(), list[Event]()
        bus.subscribe_later(lambda event, _: seen.append(event), {Retry})
        bus.emit(EVENT)
        bus.emit(ProviderThrottled(provider="a", seconds=1.0))
        bus.flush()
        bus.flush()
        return seen

    assert virtually(story()) == [EVENT]


def test_without_a_loop_nothing_waits() -> None:
    bus, seen = Bus(), list[Event]()
    bus.subscribe_later(lambda event, _: seen.append(event))

    bus.emit(EVENT)

    assert seen == [EVENT]


def test_one_of_them_that_fails_gets_the_next_event_and_the_others_all() -> None:
    bus, some, all_ = Bus(), list[str](), list[Event]()

    def picky(event: Event, at: float) -> None:
        assert isinstance(event, Retry)
        if event.provider == "1":
            raise ValueError("a listener's bug")
        some.append(event.provider)

    async def story() -> None:
        bus.subscribe_later(picky)
        bus.subscribe_later(lambda event, _: all_.append(event))
        for event in retries(4):
            bus.emit(event)
        bus.flush()

    virtually(story())
    assert (some, all_, bus.failures) == (["0", "2", "3"], retries(4), 1)


def test_one_of_them_gets_what_came_while_it_listened_and_nothing_else() -> None:
    first, last = retries(2)

    async def story() -> list[Event]:
        bus, seen = Bus(), list[Event]()
        bus.emit(first)
        end = bus.subscribe_later(lambda event, _: seen.append(event))
        bus.emit(EVENT)
        end()
        end()
        bus.emit(last)
        bus.flush()
        return seen

    assert virtually(story()) == [EVENT]


@pytest.mark.parametrize("reads", [False, True])
def test_what_one_of_them_emits_comes_after_what_it_was_told_whether_or_not_it_reads(reads: bool) -> None:
    first, second = retries(2)

    async def story() -> list[Event]:
        bus, seen = Bus(), list[Event]()

        def echoes(event: Event, at: float) -> None:
            if event == first:
                bus.emit(EVENT)
                if reads:
                    bus.flush()

        bus.subscribe_later(echoes)
        bus.subscribe_later(lambda event, _: seen.append(event))
        bus.emit(first)
        bus.emit(second)
        bus.flush()
        bus.close()
        return seen

    assert virtually(story()) == [first, second, EVENT]


def test_a_log_that_cannot_take_a_failure_does_not_end_the_telling() -> None:
    bus, seen = Bus(), list[Event]()

    def refuses(_: object) -> None:
        raise OSError("no log")

    bus.subscribe_later(lambda event, _: broken(event))
    bus.subscribe_later(lambda event, _: seen.append(event))
    sink = logger.add(refuses, level="ERROR", catch=False)
    try:
        with pytest.raises(OSError, match="no log"):
            bus.emit(EVENT)
    finally:
        logger.remove(sink)
    bus.emit(EVENT)

    assert seen == [EVENT]


def test_who_is_interrupted_takes_no_event_from_anybody() -> None:
    seen, interrupted = list[Event](), list[Event]()

    async def story() -> None:
        bus = Bus()

        def stopped(event: Event, at: float) -> None:
            interrupted.append(event)
            if len(interrupted) == 1:
                raise KeyboardInterrupt

        bus.subscribe_later(stopped)
        bus.subscribe_later(lambda event, _: seen.append(event))
        for event in retries(5):
            bus.emit(event)
        with pytest.raises(KeyboardInterrupt):
            bus.flush()
        bus.emit(EVENT)
        bus.close()

    virtually(story())
    assert seen == interrupted == [*retries(5), EVENT]


# -- handlers apart --------------------------------------------------------------------------------------------------------


def test_a_handler_apart_gets_every_event_in_order_and_what_waits_when_it_ends() -> None:
    bus, seen, loop = Bus(), list[tuple[int, Event]](), threading.get_ident()
    end = bus.subscribe_apart(lambda event: seen.append((threading.get_ident(), event)))
    events = [Retry(provider=str(number), reason="timeout") for number in range(100)]

    for event in events:
        bus.emit(event)
    end()
    end()
    bus.emit(EVENT)

    eventually(lambda: len(seen) == 100, lambda: f"{len(seen)} of 100")
    assert [event for _, event in seen] == events
    assert loop not in {thread for thread, _ in seen}
    assert bus.dropped == 0


def test_a_handler_apart_that_hangs_holds_nobody_up_and_what_it_has_no_room_for_is_counted() -> None:
    bus, free, entered, seen = Bus(), threading.Event(), threading.Event(), list[Event]()

    def hangs(event: Event) -> None:
        entered.set()
        free.wait()

    end = bus.subscribe_apart(hangs, most=3)
    bus.subscribe(seen.append)
    bus.emit(EVENT)
    assert entered.wait(20)

    for _ in range(10):
        bus.emit(EVENT)

    assert (len(seen), bus.dropped) == (11, 7)
    end()
    assert bus.dropped == 7
    free.set()


def test_a_handler_apart_that_fails_is_counted_and_gets_the_next() -> None:
    bus = Bus()
    bus.subscribe_apart(broken)

    for _ in range(3):
        bus.emit(EVENT)

    eventually(lambda: bus.failures == 3, lambda: f"{bus.failures} failures")
    bus.close()
    assert bus.failures == 3


def test_a_handler_apart_that_listens_no_more_is_let_go_of() -> None:
    class Listener:
        def hear(self, event: Event) -> None:
            del event

    bus, listener = Bus(), Listener()
    gone = weakref.ref(listener)
    bus.subscribe_apart(listener.hear)()
    del listener

    def collected() -> bool:
        gc.collect()
        return gone() is None

    eventually(collected, "nobody holds it")
    bus.close()
