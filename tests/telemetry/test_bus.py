"""Who emits is never slowed down or broken by who listens."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator

import pytest
from loguru import logger

from runestone.telemetry.bus import Bus
from runestone.telemetry.events import Event, ProviderThrottled, Retry
from tests.e2e.node import eventually

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
