"""A mailbox alone, with nobody who reads it but the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from threading import get_ident
from typing import Any

import pytest

from supervisors import ActorRef, GenServer, MailboxFull
from supervisors.mailbox import Mailbox, Policy
from tests.supervisors.actors import letters, server

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def box_of(limit: int = 10, policy: Policy = "reject") -> AsyncIterator[tuple[Mailbox, ActorRef]]:
    """A mailbox, and the actor to whose tree its dead letters go."""
    async with server(GenServer) as ref:
        yield Mailbox(limit, policy, asyncio.get_running_loop(), ref.process), ref


def take(box: Mailbox) -> Any:
    box.taken += 1
    return box.messages.popleft()


def fill(box: Mailbox, messages: int, kept: int = 0) -> None:
    for number in range(messages):
        box.put(number)
    for number in range(kept):
        box.put_unbounded(number)


async def test_mailbox_begins_empty() -> None:
    async with box_of() as (box, _):
        assert (box.depth, box.taken, box.kept, box.drops, box.high_water, box.age()) == (0, 0, 0, 0, 0, 0.0)


async def test_mailbox_tells_since_when_the_oldest_waits_as_far_as_it_knows() -> None:
    async with box_of() as (box, _):
        await asyncio.sleep(10)
        box.put("a")
        await asyncio.sleep(5)
        assert box.age() == 5.0
        box.put("b")
        await asyncio.sleep(2)
        assert box.age() == 7.0  # a later one changes nothing

        take(box)
        assert box.age() == 0.0  # b waits, since nobody knows when
        box.put("c")
        await asyncio.sleep(3)
        assert box.age() == 3.0
        take(box)
        await asyncio.sleep(1)
        assert box.age() == 4.0

        take(box)
        assert box.age() == 0.0
        box.put("d")
        await asyncio.sleep(6)
        assert box.age() == 6.0


async def test_mailbox_knows_the_age_of_the_next_one_that_comes_after_those_it_knows_not() -> None:
    async with box_of() as (box, _):
        fill(box, 3)
        await asyncio.sleep(4)
        take(box)
        take(box)
        assert box.age() == 0.0

        box.put("d")
        await asyncio.sleep(2)
        assert box.age() == 2.0


@pytest.mark.parametrize(
    ("limit", "messages", "kept", "full"),
    [
        (3, 2, 0, False),
        (3, 3, 0, True),
        (3, 2, 1, False),
        (3, 2, 2, False),
        (3, 3, 1, True),
        (300, 299, 1, False),
        (300, 300, 1, True),
    ],
)
async def test_mailbox_is_full_by_what_may_be_refused_alone(limit: int, messages: int, kept: int, full: bool) -> None:
    async with box_of(limit) as (box, _):
        fill(box, messages, kept)

        assert (box.depth, box.kept, box.high_water) == (messages + kept, kept, messages + kept)
        assert box.full is full
        if full:
            with pytest.raises(MailboxFull):
                box.put("more")
        else:
            box.put("more")


async def test_mailbox_counts_the_oldest_that_it_drops_as_taken() -> None:
    async with box_of(2, "drop_old") as (box, ref):
        box.put_unbounded("kept")
        fill(box, 3)

        assert (list(box.messages)[1:], box.taken, box.drops) == ([1, 2], 1, 1)
        assert letters(ref)["mailbox_full"] == 1


async def test_mailbox_lets_blocked_messages_in_as_far_as_there_is_room() -> None:
    async with box_of(2, "block") as (box, _):
        box.admit()  # nobody waits
        fill(box, 2)
        gone, waits = (asyncio.get_running_loop().create_future() for _ in range(2))
        box.block("gone", "g", gone)
        box.block("waits", "w", waits)
        box.block("last", "l", None)
        gone.cancel()

        box.admit()
        assert list(box.messages) == [0, 1]
        take(box)
        box.admit()
        assert list(box.messages) == [1, "w"]
        assert waits.done()
        take(box)
        box.admit()
        assert list(box.messages) == ["w", "l"]
        take(box)
        box.admit()
        assert list(box.messages) == ["l"]


async def test_mailbox_that_is_closed_is_empty_and_tells_what_is_lost() -> None:
    async with box_of() as (box, ref):
        fill(box, 2, kept=1)
        await asyncio.sleep(1)

        box.close("end")

        assert (box.depth, box.kept, box.system, box.age()) == (0, 0, ["end"], 0.0)
        assert letters(ref)["noproc"] == 2


@pytest.mark.parametrize("other", [-1, 1])
@pytest.mark.parametrize("put", [Mailbox.put, Mailbox.put_unbounded, Mailbox.put_system])
async def test_mailbox_whose_reader_waits_takes_nothing_from_another_thread(
    put: Callable[[Mailbox, object], None], other: int
) -> None:
    async with box_of() as (box, _):
        box.waiter = asyncio.get_running_loop().create_future()
        box.thread = get_ident() + other

        with pytest.raises(RuntimeError, match="its own loop"):
            put(box, "x")

        assert (box.depth, box.system, box.waiter.done()) == (0, [], False)
        box.thread = get_ident()
        waiter = box.waiter
        put(box, "x")
        assert waiter.done()


async def test_mailbox_whose_reader_is_busy_takes_a_message_from_wherever() -> None:
    async with box_of() as (box, _):
        box.thread = get_ident() + 1

        box.put("x")

        assert list(box.messages) == ["x"]
