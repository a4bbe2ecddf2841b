"""Section 1.5: a restart that fails itself."""

from __future__ import annotations

import asyncio

import pytest

from supervisors import Backoff, Done, Ignore, Killed, Restarting, resume, suspend
from supervisors.testing import crash, settle
from tests.supervisors.actors import Boom, Trace, child, dynamic, fail, ids, info, running, states, stopwatch

pytestmark = pytest.mark.anyio


async def test_failing_init_is_tried_again_without_delay(trace: Trace) -> None:
    flapping = trace.child("a", inits=[None, Boom(), Boom(), None])

    async with running(flapping, max_restarts=3) as root:
        with stopwatch() as seconds:
            await fail(root, "a")

        assert trace.take() == "+a -a !a !a +a"
        assert seconds() == 0.0


async def test_calls_get_through_between_the_attempts(trace: Trace) -> None:
    flapping = trace.child("a", inits=[None, *[Boom()] * 100, None])

    async with running(flapping, trace.child("b"), max_restarts=200) as root:
        trace.take()
        (await child(root, "a")).exit(Killed())
        seen = [(await info(root, "a")).state for _ in range(50)]
        await settle()

        assert seen.count("restarting") > 10
        assert trace.take().count("!a") == 100
        assert states(root) == {"a": "running", "b": "running"}


async def test_ignore_during_a_restart_leaves_it_stopped_with_its_spec(trace: Trace) -> None:
    async with running(trace.child("a", inits=[None, Ignore(), None])) as root:
        await fail(root, "a")
        assert states(root) == {"a": "stopped"}

        await root.restart_child("a")
        assert states(root) == {"a": "running"}


async def test_ignore_during_a_restart_of_a_dynamic_child_drops_it(trace: Trace) -> None:
    async with dynamic() as root:
        await root.start_child(trace.child("a", inits=[None, Ignore()]))
        await fail(root, "a")

        assert await root.which_children() == []


async def test_one_for_all_stops_again_what_was_started_in_this_round_and_retries_the_whole_group(
    trace: Trace,
) -> None:
    children = [trace.child("a"), trace.child("b"), trace.child("c", inits=[None, Boom()]), trace.child("d")]

    async with running(*children, strategy="one_for_all", max_restarts=2) as root:
        trace.take()
        await fail(root, "a")

        assert trace.take() == "-a -d -c -b +a +b !c -b -a +a +b +c +d"


async def test_one_for_all_lets_what_it_has_started_run_until_the_next_attempt(trace: Trace) -> None:
    children = [trace.child("a"), trace.child("b", inits=[None, Boom()])]

    async with running(*children, strategy="one_for_all") as root:
        failing = await child(root, "a")
        await suspend(root)
        crash(failing, Boom())
        await settle()
        between = asyncio.create_task(root.which_children())
        await settle()
        await resume(root)

        assert [(each.id, each.state) for each in await between] == [("a", "running"), ("b", "restarting")]
        await settle()
        assert states(root) == {"a": "running", "b": "running"}
        assert trace.take() == "+a +b -a -b +a !b -a +a +b"


async def test_rest_for_one_retries_from_the_child_that_failed(trace: Trace) -> None:
    children = [trace.child("a"), trace.child("b"), trace.child("c", inits=[None, Boom()]), trace.child("d")]

    async with running(*children, strategy="rest_for_one", max_restarts=2) as root:
        trace.take()
        await fail(root, "a")

        assert trace.take() == "-a -d -c -b +a +b !c +c +d"


async def test_terminate_child_cancels_the_loop_of_a_restarting_child_and_keeps_its_spec(trace: Trace) -> None:
    always = trace.child("a", inits=[None, *[Boom()] * 10_000])

    async with running(always, trace.child("b"), max_restarts=20_000) as root:
        (await child(root, "a")).exit(Killed())
        while (await root.which_children())[0].state != "restarting":
            pass
        result = await root.terminate_child("a")
        trace.take()
        await settle()

        assert result == Done()
        assert trace.take() == ""
        assert states(root) == {"a": "stopped", "b": "running"}
        assert await ids(root) == "a b"


async def test_stop_works_during_a_storm(trace: Trace) -> None:
    always = trace.child("a", inits=[None, *[Boom()] * 100_000])

    async with running(always, trace.child("b"), max_restarts=200_000) as root:
        (await child(root, "a")).exit(Killed())
        while (await root.which_children())[0].state != "restarting":
            pass
        await root.stop()

        assert trace.take().endswith("-b")


async def test_giving_up_in_the_middle_of_attempts_stops_the_others(trace: Trace) -> None:
    always = trace.child("b", inits=[None, *[Boom()] * 10])

    async with running(trace.child("a"), always, trace.child("c"), max_restarts=2) as root:
        trace.take()
        await fail(root, "b")

        assert trace.take() == "-b !b !b -c -a"


async def test_restarting_child_answers_the_api_as_such(trace: Trace) -> None:
    backoff = Backoff(min_seconds=10, max_seconds=10)

    async with running(trace.child("a", backoff=backoff)) as root:
        await fail(root, "a")

        assert await root.restart_child("a") == Restarting()
        assert await root.delete_child("a") == Restarting()
        await asyncio.sleep(10.1)
        assert states(root) == {"a": "running"}
