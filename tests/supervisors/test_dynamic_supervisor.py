"""Section 1.9: children on demand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from supervisors import (
    ActorRef,
    Backoff,
    ChildSpec,
    Done,
    DynamicSupervisor,
    ExitReason,
    Ignore,
    Ignored,
    Killed,
    MaxChildren,
    Normal,
    NotFound,
    Shutdown,
    StartFailed,
)
from supervisors.testing import settle
from tests.supervisors.actors import Boom, Trace, Traced, child, dynamic, end, fail, ids, info, running, stopwatch

pytestmark = pytest.mark.anyio


async def add(root: ActorRef, spec: ChildSpec) -> ActorRef:
    """Start a child that does start."""
    ref = await root.start_child(spec)
    assert isinstance(ref, ActorRef)
    return ref


async def test_ids_need_not_be_unique_the_key_is_the_process(trace: Trace) -> None:
    async with dynamic() as root:
        first = await add(root, trace.child("a"))
        second = await add(root, trace.child("a"))
        await root.terminate_child(first)

        assert [each.ref for each in await root.which_children()] == [second]


@pytest.mark.parametrize(
    ("restart", "reason"),
    [
        ("temporary", Normal()),
        ("temporary", Killed()),
        ("transient", Normal()),
        ("transient", Shutdown()),
        ("transient", Shutdown("x")),
    ],
)
async def test_finished_child_is_removed(trace: Trace, restart: str, reason: ExitReason) -> None:
    async with dynamic(max_restarts=0) as root:
        await end(await add(root, trace.child("a", restart=restart)), reason)

        assert await root.which_children() == []
        assert root.alive


@pytest.mark.parametrize(
    ("restart", "reason"), [("permanent", Normal()), ("permanent", Killed()), ("transient", Killed())]
)
async def test_failed_child_is_restarted(trace: Trace, restart: str, reason: ExitReason) -> None:
    async with dynamic() as root:
        await end(await add(root, trace.child("a", restart=restart)), reason)

        assert (await child(root, "a")).incarnation == 2


async def test_terminate_child_removes_it_for_good_even_permanent(trace: Trace) -> None:
    async with dynamic() as root:
        ref = await add(root, trace.child("a", terminate=1.0))

        with stopwatch() as seconds:
            assert await root.terminate_child(ref) == Done()

        assert seconds() == 1.0
        assert await root.which_children() == []
        assert trace.take() == "+a -a .a"


async def test_terminate_child_of_an_unknown_one_is_not_found(trace: Trace) -> None:
    async with dynamic() as root:
        ref = await add(root, trace.child("a"))
        await root.terminate_child(ref)

        assert await root.terminate_child(ref) == NotFound()


async def test_max_children_refuses_one_more_until_one_is_gone(trace: Trace) -> None:
    async with dynamic(max_children=2) as root:
        first = await add(root, trace.child("a"))
        await add(root, trace.child("b"))
        assert await root.start_child(trace.child("c")) == MaxChildren()

        await root.terminate_child(first)
        assert isinstance(await root.start_child(trace.child("c")), ActorRef)


async def test_max_children_counts_restarting_ones_too(trace: Trace) -> None:
    async with dynamic(max_children=1) as root:
        await add(root, trace.child("a", backoff=Backoff(min_seconds=10, max_seconds=10)))
        await fail(root, "a")
        assert (await info(root, "a")).state == "restarting"

        assert await root.start_child(trace.child("b")) == MaxChildren()


async def test_max_children_zero_refuses_all(trace: Trace) -> None:
    async with dynamic(max_children=0) as root:
        assert await root.start_child(trace.child("a")) == MaxChildren()
        assert trace.take() == ""


async def test_ignore_keeps_nothing(trace: Trace) -> None:
    async with dynamic(max_children=1) as root:
        assert await root.start_child(trace.child("a", inits=[Ignore()])) == Ignored()
        assert await root.which_children() == []
        assert isinstance(await root.start_child(trace.child("b")), ActorRef)


async def test_failing_init_keeps_nothing(trace: Trace) -> None:
    async with dynamic(max_children=1, max_restarts=0) as root:
        assert isinstance(await root.start_child(trace.child("a", inits=[Boom()])), StartFailed)
        assert await root.which_children() == []
        assert isinstance(await root.start_child(trace.child("b")), ActorRef)


async def test_extra_arguments_are_prepended_on_every_start_and_restart(trace: Trace) -> None:
    given: list[tuple[Any, ...]] = []

    def build(*arguments: Any) -> Traced:
        given.append(arguments)
        return Traced(trace, "a")

    async with dynamic(extra_arguments=("pool", 7)) as root:
        await add(root, ChildSpec(id="a", start=build))
        await fail(root, "a")

        assert given == [("pool", 7), ("pool", 7)]


async def test_children_are_gone_when_it_is_restarted(trace: Trace) -> None:
    pool = ChildSpec(id="pool", start=DynamicSupervisor, type="supervisor")

    async with running(pool) as root:
        old = await child(root, "pool")
        ref = await add(old, trace.child("a"))
        await end(old, Killed())
        new = await child(root, "pool")

        assert new != old
        assert not ref.alive
        assert await new.which_children() == []


async def test_retries_and_window_are_those_of_a_supervisor(trace: Trace) -> None:
    async with dynamic(max_restarts=3) as root:
        await add(root, trace.child("a", inits=[None, Boom(), Boom(), None]))
        await fail(root, "a")
        assert trace.take() == "+a -a !a !a +a"

        await fail(root, "a")
        assert root.process.reason == Shutdown()


async def test_giving_up_stops_all_the_others(trace: Trace) -> None:
    async with dynamic(max_restarts=0) as root:
        others = [await add(root, trace.child(id_)) for id_ in "bc"]
        await add(root, trace.child("a"))
        await fail(root, "a")

        assert root.process.reason == Shutdown()
        assert not any(each.alive for each in others)


@pytest.mark.parametrize("by_id", [True, False])
async def test_restarting_child_is_terminated_by_its_last_reference_or_by_its_id(trace: Trace, by_id: bool) -> None:
    async with dynamic() as root:
        ref = await add(root, trace.child("a", backoff=Backoff(min_seconds=10, max_seconds=10)))
        await fail(root, "a")

        assert await root.terminate_child("a" if by_id else ref) == Done()
        assert await root.terminate_child(ref) == NotFound()
        await asyncio.sleep(20)
        assert await root.which_children() == []
        assert trace.take() == "+a -a"


async def test_reference_of_a_life_before_the_last_is_gone(trace: Trace) -> None:
    async with dynamic() as root:
        ref = await add(root, trace.child("a", inits=[None, Boom(), None]))
        await fail(root, "a")

        assert await root.terminate_child(ref) == NotFound()
        assert (await root.count_children()).active == 1


async def test_count_children(trace: Trace) -> None:
    async with dynamic() as root:
        await add(root, trace.child("a"))
        await add(root, trace.child("b", backoff=Backoff(min_seconds=10, max_seconds=10)))
        await fail(root, "b")
        counts = await root.count_children()

        assert (counts.specs, counts.active, counts.supervisors, counts.workers) == (2, 1, 0, 2)


async def test_children_are_listed_in_start_order(trace: Trace) -> None:
    async with dynamic() as root:
        for id_ in "cab":
            await add(root, trace.child(id_))

        assert await ids(root) == "c a b"


async def test_a_thousand_children_start_crash_and_stop(trace: Trace) -> None:
    async with dynamic(max_restarts=2000) as root:
        refs = [await add(root, trace.child(f"c{number}")) for number in range(1000)]
        for ref in refs[::2]:
            ref.exit(Killed())
        await settle()

        assert (await root.count_children()).active == 1000
