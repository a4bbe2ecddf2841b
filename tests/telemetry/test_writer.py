"""Who gives something to a writer never waits; what cannot be written is counted, and what comes after it is written."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from runestone.telemetry.writer import Writer
from tests.e2e.node import eventually


class Page:
    """Takes what is written, unless it is told to hold or to fail."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.held = threading.Event()
        self.free = threading.Event()
        self.free.set()
        self.failing: type[Exception] | None = None

    def write(self, batch: Sequence[int]) -> None:
        self.held.set()
        self.free.wait()
        if self.failing is not None:
            raise self.failing
        self.batches.append(list(batch))

    def written(self) -> list[int]:
        return [item for batch in self.batches for item in batch]


def test_everything_is_written_in_order_and_the_end_loses_nothing() -> None:
    page = Page()
    writer = Writer("test", page.write, bound=100_000)

    for number in range(20_000):
        writer.put(number)
    writer.stop(20)

    assert page.written() == list(range(20_000))
    assert writer.dropped == 0


def test_what_comes_at_once_is_written_in_few_batches() -> None:
    page = Page()
    page.free.clear()
    writer = Writer("test", page.write, bound=10_000)
    writer.put(0)
    assert page.held.wait(20)
    for number in range(1, 1001):
        writer.put(number)

    page.free.set()
    writer.stop(20)

    assert [len(batch) for batch in page.batches] == [1, 500, 500]


def test_beyond_its_bound_items_are_dropped_and_counted_and_nobody_waits() -> None:
    page = Page()
    page.free.clear()
    writer = Writer("test", page.write, bound=10)
    writer.put(0)
    assert page.held.wait(20)

    for number in range(1, 16):
        writer.put(number)

    assert writer.dropped == 5
    page.free.set()
    writer.stop(20)
    assert page.written() == list(range(11))


def test_a_batch_that_fails_is_counted_and_the_next_one_is_written() -> None:
    page = Page()
    writer = Writer("test", page.write, bound=10)
    for count, error in enumerate((OSError, ValueError, TypeError), start=1):
        page.failing = error
        writer.put(0)
        eventually(lambda count=count: writer.dropped == count, "it failed")  # type: ignore[misc]
    page.failing = None

    writer.put(1)
    writer.stop(20)

    assert page.written() == [1]
    assert writer.dropped == 3


def test_the_end_is_not_held_up_by_what_takes_nothing() -> None:
    page = Page()
    page.free.clear()
    writer = Writer("test", page.write, bound=10)
    writer.put(0)
    assert page.held.wait(20)

    writer.stop(0.01)

    assert page.batches == []
    page.free.set()
