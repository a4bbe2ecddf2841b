"""Section 1.6: how a child is stopped, and how a tree."""

from __future__ import annotations

import asyncio

import pytest

from supervisors import ActorExited, Crashed, Killed, NoProcess, Normal, Shutdown, start
from supervisors.exit import ExitReason
from supervisors.supervisor import Supervisor
from supervisors.testing import leak_check, settle
from tests.supervisors.actors import (
    Boom,
    Busy,
    Ping,
    Trace,
    Work,
    child,
    dynamic,
    end,
    nested,
    running,
    states,
    stopwatch,
)

pytestmark = pytest.mark.anyio


async def test_brutal_kill_kills_at_once_without_terminate_and_without_waiting_for_a_handler(trace: Trace) -> None:
    async with running(trace.child("a", shutdown="brutal_kill")) as root:
        ref = await child(root, "a")
        ref.cast(Busy(60))
        await settle()

        with stopwatch() as seconds:
            await root.terminate_child("a")

        assert seconds() == 0.0
        assert trace.take() == "+a"
        assert ref.process.reason == Killed()


async def test_seconds_let_terminate_run_with_shutdown(trace: Trace) -> None:
    async with running(trace.child("a", shutdown=5.0, terminate=3.0)) as root:
        ref = await child(root, "a")

        with stopwatch() as seconds:
            await root.terminate_child("a")

        assert seconds() == 3.0
        assert trace.take() == "+a -a .a"
        assert trace.reasons == [Shutdown()]
        assert ref.process.reason == Shutdown()


async def test_seconds_over_kill_and_cut_terminate_off(trace: Trace) -> None:
    async with running(trace.child("a", shutdown=5.0, terminate=30.0)) as root:
        ref = await child(root, "a")

        with stopwatch() as seconds:
            await root.terminate_child("a")

        assert seconds() == 5.0
        assert trace.take() == "+a -a"
        assert ref.process.reason == Killed()


async def test_infinity_waits_as_long_as_it_takes(trace: Trace) -> None:
    async with running(trace.child("a", shutdown="infinity", terminate=86_400.0)) as root:
        with stopwatch() as seconds:
            await root.terminate_child("a")

        assert seconds() == 86_400.0
        assert trace.take() == "+a -a .a"


async def test_stop_is_strictly_sequential_in_reverse_start_order(trace: Trace) -> None:
    async with running(*trace.children("abc", terminate=1.0)) as root:
        trace.take()
        with stopwatch() as seconds:
            await root.stop()

        assert trace.take() == "-c .c -b .b -a .a"
        assert seconds() == 3.0


async def test_stop_of_a_nested_tree_is_depth_first_in_reverse(trace: Trace) -> None:
    inner = nested("inner", *trace.children("xy"))

    async with running(trace.child("a"), inner, trace.child("b")) as root:
        trace.take()
        await root.stop()

        assert trace.take() == "-b -y -x -a"


async def test_dynamic_supervisor_stops_all_at_once_and_takes_as_long_as_the_slowest(trace: Trace) -> None:
    async with dynamic() as root:
        for id_, seconds in (("a", 1.0), ("b", 3.0), ("c", 2.0)):
            await root.start_child(trace.child(id_, terminate=seconds))
        await root.start_child(trace.child("late", terminate=60.0, shutdown=2.5))
        trace.take()

        with stopwatch() as elapsed:
            await root.stop()

        assert elapsed() == 3.0
        assert trace.take() == "-a -b -c -late .a .c .b"


async def test_busy_handler_finishes_first_then_terminate_runs(trace: Trace) -> None:
    async with running(trace.child("a", shutdown=5.0)) as root:
        (await child(root, "a")).cast(Busy(4))
        await settle()

        with stopwatch() as seconds:
            await root.terminate_child("a")

        assert seconds() == 4.0
        assert trace.take() == "+a =a -a"


async def test_busy_handler_and_terminate_share_the_shutdown_time(trace: Trace) -> None:
    async with running(trace.child("a", shutdown=5.0, terminate=2.0)) as root:
        (await child(root, "a")).cast(Busy(4))
        await settle()

        with stopwatch() as seconds:
            await root.terminate_child("a")

        assert seconds() == 5.0
        assert trace.take() == "+a =a -a"


async def test_handler_busy_for_longer_than_the_shutdown_time_is_killed_without_terminate(trace: Trace) -> None:
    async with running(trace.child("a", shutdown=5.0)) as root:
        ref = await child(root, "a")
        ref.cast(Busy(60))
        await settle()

        with stopwatch() as seconds:
            await root.terminate_child("a")

        assert seconds() == 5.0
        assert trace.take() == "+a"
        assert ref.process.reason == Killed()


async def test_queued_messages_are_not_handled_before_a_supervisors_shutdown(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        ref = await child(root, "a")
        ref.cast(Busy(1))
        ref.cast(Busy(1))
        ref.cast(Busy(1))
        await settle()
        await root.terminate_child("a")

        assert trace.take() == "+a =a -a"


async def test_terminate_that_raises_changes_only_the_reason_never_the_sequence(trace: Trace) -> None:
    bug = Boom("terminate")

    async with running(trace.child("a"), trace.child("b", terminate=bug), trace.child("c")) as root:
        ref = await child(root, "b")
        trace.take()
        await root.stop()

        assert trace.take() == "-c -b -a"
        assert isinstance(ref.process.reason, Crashed)
        assert ref.process.reason.exception is bug


async def test_children_dying_by_themselves_while_the_supervisor_stops_are_not_restarted(trace: Trace) -> None:
    async with running(trace.child("a"), trace.child("b"), trace.child("c", terminate=4.0)) as root:
        first, second = await child(root, "a"), await child(root, "b")
        trace.take()
        stopping = asyncio.ensure_future(root.stop())
        await settle()
        await end(first, Crashed(Boom()))
        await end(second, Killed())
        await stopping

        assert trace.take() == "-c -a .c"


async def test_stopped_children_are_skipped(trace: Trace) -> None:
    async with running(*trace.children("abc")) as root:
        await root.terminate_child("b")
        trace.take()
        await root.stop()

        assert trace.take() == "-c -a"


@pytest.mark.parametrize("reason", [Normal(), Shutdown(), Shutdown("deploy")])
async def test_stop_tells_children_shutdown_and_the_supervisor_exits_with_its_own_reason(
    trace: Trace, reason: ExitReason
) -> None:
    async with running(*trace.children("ab")) as root:
        await root.stop(reason)

        assert root.process.reason == reason
        assert trace.reasons == [Shutdown(), Shutdown()]


async def test_second_concurrent_stop_stops_the_children_once(trace: Trace) -> None:
    async with running(*trace.children("ab", terminate=1.0)) as root:
        trace.take()
        await asyncio.gather(root.stop(), root.stop(), return_exceptions=True)

        assert trace.take() == "-b .b -a .a"


async def test_calls_waiting_at_a_stopping_supervisor_get_its_exit_reason(trace: Trace) -> None:
    async with running(trace.child("a", terminate=5.0)) as root:
        stopping = asyncio.ensure_future(root.stop(Shutdown("deploy")))
        await settle()
        waiting = [asyncio.ensure_future(root.which_children()), asyncio.ensure_future(root.count_children())]
        await stopping
        answers = await asyncio.gather(*waiting, return_exceptions=True)

        assert [type(answer) for answer in answers] == [ActorExited, ActorExited]
        assert {str(answer.reason) for answer in answers if isinstance(answer, ActorExited)} == {
            str(Shutdown("deploy"))
        }


async def test_calls_to_a_stopped_supervisor_fail_at_once(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        await root.stop()

        with pytest.raises(NoProcess):
            await root.which_children()


async def test_killing_a_supervisor_takes_its_whole_subtree_and_the_parent_restarts_it(trace: Trace) -> None:
    inner = nested("inner", *trace.children("xy"))

    async with running(inner, trace.child("a")) as root:
        old = await child(root, "inner")
        grandchildren = [await child(old, "x"), await child(old, "y")]
        trace.take()
        await end(old, Killed())

        assert old.process.reason == Killed()
        assert not any(each.alive for each in grandchildren)
        assert trace.take().endswith("+x +y")
        assert states(root) == {"inner": "running", "a": "running"}


async def test_killed_supervisor_tells_its_children_killed_over_the_link(trace: Trace) -> None:
    async with running(nested("inner", trace.child("x"))) as root:
        x = await child(await child(root, "inner"), "x")
        await end(await child(root, "inner"), Killed())

        assert x.process.reason == Killed()


async def test_supervisor_killed_in_the_middle_of_its_termination_leaks_no_grandchild(trace: Trace) -> None:
    inner = nested("inner", *trace.children("xy", terminate=60.0, shutdown="infinity"), shutdown=1.0)

    async with running(inner) as root:
        sub = await child(root, "inner")
        grandchildren = [await child(sub, "x"), await child(sub, "y")]
        await root.terminate_child("inner")
        await settle()

        assert sub.process.reason == Killed()
        assert not any(each.alive for each in grandchildren)


async def test_parent_goes_on_only_when_the_subtree_of_a_killed_supervisor_is_gone(trace: Trace) -> None:
    children = [trace.child("x", terminate=2.0), trace.child("y", shutdown="infinity", terminate=600.0)]

    async with leak_check():
        root = await start(lambda: Supervisor([nested("inner", *children, shutdown=1.0), trace.child("z")]))
        grandchildren = [await child(await child(root, "inner"), id_) for id_ in "xy"]
        await root.stop()

        assert not any(each.alive for each in grandchildren)


async def test_exit_signal_of_a_stranger_is_nothing_to_a_supervisor_which_traps(trace: Trace) -> None:
    async with running(*trace.children("ab")) as root:
        trace.take()
        root.exit(Shutdown())
        root.exit(Crashed(Boom()))
        await settle()

        assert root.alive
        assert trace.take() == ""


async def test_call_in_the_hands_of_a_terminated_child_fails_with_its_reason(trace: Trace) -> None:
    async with running(trace.child("a", shutdown=1.0)) as root:
        ref = await child(root, "a")
        busy = asyncio.ensure_future(ref.call(Work(60), timeout=None))
        queued = asyncio.ensure_future(ref.call(Ping(), timeout=None))
        await settle()
        await root.terminate_child("a")
        answers = await asyncio.gather(busy, queued, return_exceptions=True)

        assert [answer.reason for answer in answers if isinstance(answer, ActorExited)] == [Killed(), Killed()]


async def test_crash_during_the_stop_of_another_child_is_handled_after_it(trace: Trace) -> None:
    async with running(trace.child("a"), trace.child("b", terminate=3.0)) as root:
        first = await child(root, "a")
        trace.take()
        stopping = asyncio.ensure_future(root.terminate_child("b"))
        await settle()
        await end(first, Crashed(Boom()))
        assert trace.take() == "-b -a"

        await stopping
        await settle()
        assert trace.take() == ".b +a"
