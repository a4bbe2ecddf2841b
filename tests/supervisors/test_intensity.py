"""Section 1.4: how many restarts are too many."""

from __future__ import annotations

import asyncio

import pytest

from supervisors import Crashed, Normal, Shutdown, StartFailed
from supervisors.testing import settle
from tests.supervisors.actors import Boom, Trace, child, end, fail, info, nested, running, states

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("max_restarts", [0, 1, 3])
async def test_max_restarts_are_fine_and_one_more_is_not(trace: Trace, max_restarts: int) -> None:
    async with running(trace.child("a"), max_restarts=max_restarts) as root:
        for _ in range(max_restarts):
            await fail(root, "a")
        assert root.alive

        await fail(root, "a")
        assert root.process.reason == Shutdown()


async def test_boundary_of_the_window_is_inclusive(trace: Trace) -> None:
    async with running(trace.child("a"), max_restarts=1, max_seconds=8.0) as root:
        await fail(root, "a")
        await asyncio.sleep(8.0)
        await fail(root, "a")

        assert not root.alive


async def test_entry_older_than_the_window_is_forgotten(trace: Trace) -> None:
    async with running(trace.child("a"), max_restarts=1, max_seconds=8.0) as root:
        for _ in range(5):
            await fail(root, "a")
            await asyncio.sleep(8.001)

        assert root.alive


async def test_entry_is_added_at_the_failure_not_when_the_restart_is_done(trace: Trace) -> None:
    slow = trace.child("a", inits=[None, 6.0, None])

    async with running(slow, max_restarts=1, max_seconds=5.0) as root:
        await fail(root, "a")
        await asyncio.sleep(6.5)
        await fail(root, "a")

        assert root.alive


async def test_each_failed_attempt_adds_an_entry(trace: Trace) -> None:
    flapping = trace.child("a", inits=[None, Boom(), Boom(), None])

    async with running(flapping, max_restarts=3) as root:
        await fail(root, "a")
        assert root.alive

        await fail(root, "a")
        assert not root.alive


async def test_window_is_shared_by_all_children(trace: Trace) -> None:
    async with running(*trace.children("abc"), max_restarts=2) as root:
        await fail(root, "a")
        await fail(root, "b")
        await fail(root, "c")

        assert not root.alive


async def test_window_slides_and_is_not_reset_by_success(trace: Trace) -> None:
    async with running(trace.child("a"), max_restarts=2, max_seconds=10.0) as root:
        await fail(root, "a")
        await asyncio.sleep(6)
        await fail(root, "a")
        await asyncio.sleep(6)
        await fail(root, "a")
        assert root.alive

        await fail(root, "a")
        assert not root.alive


async def test_window_is_empty_after_the_supervisor_itself_was_restarted(trace: Trace) -> None:
    inner = nested("inner", trace.child("x"), max_restarts=1, max_seconds=60.0)

    async with running(inner, max_restarts=10) as root:
        first = await child(root, "inner")
        await fail(first, "x")
        await fail(first, "x")
        second = await child(root, "inner")
        await fail(second, "x")

        assert first != second
        assert second.alive


async def test_manual_calls_and_their_failures_are_free(trace: Trace) -> None:
    flapping = trace.child("a", inits=[None, None, Boom(), None])

    async with running(flapping, max_restarts=0) as root:
        await root.terminate_child("a")
        await root.restart_child("a")
        await root.terminate_child("a")
        assert isinstance(await root.restart_child("a"), StartFailed)
        assert isinstance(await root.start_child(trace.child("b", inits=[Boom()])), StartFailed)
        await root.restart_child("a")

        assert root.alive
        assert states(root) == {"a": "running"}


async def test_giving_up_stops_all_others_in_reverse_and_not_the_failed_one_again(trace: Trace) -> None:
    async with running(*trace.children("abcd"), max_restarts=0) as root:
        trace.take()
        await fail(root, "b")

        assert trace.take() == "-b -d -c -a"
        assert root.process.reason == Shutdown()


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
async def test_giving_up_exits_shutdown_under_every_strategy(trace: Trace, strategy: str) -> None:
    async with running(*trace.children("abc"), strategy=strategy, max_restarts=0) as root:
        trace.take()
        await fail(root, "c")

        assert trace.take() == "-c -b -a"
        assert root.process.reason == Shutdown()


async def test_giving_up_of_a_transient_sub_supervisor_leaves_it_down(trace: Trace) -> None:
    inner = nested("inner", trace.child("x"), max_restarts=0, restart="transient")

    async with running(inner, trace.child("a")) as root:
        await fail(await child(root, "inner"), "x")

        assert states(root) == {"inner": "stopped", "a": "running"}
        assert (await info(root, "inner")).last_exit == Shutdown()


async def test_giving_up_of_a_permanent_sub_supervisor_makes_its_parent_restart_it(trace: Trace) -> None:
    inner = nested("inner", trace.child("x"), max_restarts=0)

    async with running(inner) as root:
        await fail(await child(root, "inner"), "x")

        assert (await child(root, "inner")).incarnation == 2


async def test_storms_multiply(trace: Trace) -> None:
    """Two in the inner window and three in the outer: (2 + 1) * (3 + 1) starts."""
    inner = nested("inner", trace.child("x"), max_restarts=2)

    async with running(inner, max_restarts=3) as root:
        while root.alive:
            await fail(await child(root, "inner"), "x")

        assert trace.take().count("+x") == (2 + 1) * (3 + 1)


async def test_normal_end_of_a_permanent_child_counts(trace: Trace) -> None:
    async with running(trace.child("a"), max_restarts=1) as root:
        await end(await child(root, "a"), Normal())
        await end(await child(root, "a"), Normal())

        assert root.process.reason == Shutdown()


async def test_storm_of_a_child_that_always_fails_ends_by_itself(trace: Trace) -> None:
    always = trace.child("a", inits=[None, *[Boom()] * 1000])

    async with running(always, trace.child("b"), max_restarts=50) as root:
        trace.take()
        await end(await child(root, "a"), Crashed(Boom()))
        await asyncio.sleep(1)
        await settle()

        assert trace.take() == " ".join(["-a", *["!a"] * 50, "-b"])
