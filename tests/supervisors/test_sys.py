"""Section 1.11: looking into a running actor, and the tree as data."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from supervisors import CallTimeout, Crashed, GenServer, Killed, Normal, Shutdown, start
from supervisors.events import CrashReport, Exited, GaveUp, Restarting, Started
from supervisors.introspection import (
    get_state,
    get_status,
    replace_state,
    resume,
    statistics,
    suspend,
    tree,
)
from supervisors.introspection import (
    trace as trace_messages,
)
from supervisors.testing import Recorder, leak_check, settle
from tests.supervisors.actors import (
    Boom,
    Busy,
    Ping,
    Seen,
    Trace,
    Traced,
    Work,
    child,
    end,
    fail,
    nested,
    node,
    running,
    server,
    states,
    stopwatch,
)

pytestmark = pytest.mark.anyio


class Keeper(GenServer[int]):
    """Holds a number."""

    def init(self) -> None:
        self.total = 1
        self.handled = 0

    def handle_cast(self, message: int) -> None:
        self.total += message
        self.handled += 1

    def status(self) -> dict[str, object]:
        return {"total": self.total}


async def test_get_state_shows_what_the_actor_holds() -> None:
    async with server(Keeper) as ref:
        ref.cast(41)
        await settle()
        state: Any = await get_state(ref)

        assert state["total"] == 42


async def test_replace_state_applies_a_function() -> None:
    async with server(Keeper) as ref:
        await replace_state(ref, lambda state: {**state, "total": 7})

        assert (await get_state(ref))["total"] == 7


async def test_replace_state_with_a_function_that_raises_changes_nothing() -> None:
    def bad(state: dict[str, object]) -> dict[str, object]:
        state["total"] = 999
        raise Boom

    async with server(Keeper) as ref:
        with pytest.raises(Boom):
            await replace_state(ref, bad)

        assert (await get_state(ref))["total"] == 1
        assert ref.alive


async def test_suspend_lets_ordinary_messages_queue_and_resume_handles_them() -> None:
    async with server(Keeper) as ref:
        await suspend(ref)
        ref.cast(1)
        await settle()
        assert (await get_state(ref))["handled"] == 0

        await resume(ref)
        await settle()
        assert (await get_state(ref))["handled"] == 1


async def test_suspend_and_resume_are_idempotent() -> None:
    async with server(Keeper) as ref:
        await suspend(ref)
        await suspend(ref)
        await resume(ref)
        await resume(ref)
        ref.cast(1)
        await settle()

        assert (await get_state(ref))["handled"] == 1


async def test_suspend_makes_calls_time_out_but_they_are_handled_after_resume(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        await suspend(ref)
        ref.cast("queued")
        with pytest.raises(CallTimeout):
            await ref.call(Ping(), timeout=1.0)

        await resume(ref)
        assert await ref.call(Seen()) == ["queued"]


@pytest.mark.parametrize("shutdown", ["brutal_kill", 5.0])
async def test_suspended_actor_still_obeys_its_supervisors_shutdown_and_kill(trace: Trace, shutdown: Any) -> None:
    async with running(trace.child("a", shutdown=shutdown)) as root:
        await suspend(await child(root, "a"))
        with stopwatch() as seconds:
            await root.terminate_child("a")

        assert seconds() == 0.0
        assert trace.take() == ("+a" if shutdown == "brutal_kill" else "+a -a")


async def test_suspended_supervisor_handles_no_exits_and_catches_up_after_resume(trace: Trace) -> None:
    async with running(*trace.children("ab")) as root:
        refs = [await child(root, id_) for id_ in "ab"]
        trace.take()
        await suspend(root)
        for ref in refs:
            await end(ref, Killed())
        await asyncio.sleep(10)
        assert trace.take() == ""

        await resume(root)
        await settle()
        assert trace.take() == "+a +b"


async def test_status_tells_the_behaviour_and_whether_it_is_suspended() -> None:
    async with server(Keeper) as ref:
        running_status = str(await get_status(ref))
        await suspend(ref)
        suspended_status = str(await get_status(ref))

        assert "running" in running_status
        assert "suspended" in suspended_status
        await resume(ref)


async def test_statistics_count_messages() -> None:
    async with server(Keeper) as ref:
        before = await statistics(ref)
        for _ in range(10):
            ref.cast(1)
        await settle()
        after = await statistics(ref)

        assert after.messages - before.messages >= 10


async def test_trace_yields_what_the_actor_handles_and_ends_by_itself(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        following = asyncio.ensure_future(_collect(trace_messages(ref, max_events=2, seconds=60)))
        await settle()
        ref.cast("one")
        ref.cast("two")
        ref.cast("three")

        assert len(await following) == 2


async def test_trace_ends_after_its_seconds(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        with stopwatch() as seconds:
            assert await _collect(trace_messages(ref, max_events=100, seconds=3)) == []

        assert seconds() == 3.0


async def _collect(events: Any) -> list[object]:
    return [event async for event in events]


# -- the tree


async def test_tree_shows_kinds_states_strategies_and_incarnations(trace: Trace) -> None:
    inner = nested("inner", trace.child("x"), strategy="rest_for_one")

    async with running(trace.child("a"), inner) as root:
        await fail(root, "a")
        await root.terminate_child("inner")
        await root.restart_child("inner")
        shown = tree(root)

        assert (shown.kind, shown.strategy, shown.state) == ("supervisor", "one_for_one", "running")
        assert [(each.id, each.kind, each.state, each.incarnation, each.restarts) for each in shown.children] == [
            ("a", "worker", "running", 2, 1),
            ("inner", "supervisor", "running", 2, 0),
        ]
        assert node(root, "inner").strategy == "rest_for_one"
        assert [each.id for each in node(root, "inner").children] == ["x"]
        assert node(root, "a").last_exit == "Boom: "
        assert node(root, "inner", "x").path.endswith("inner/x")


async def test_tree_shows_the_mailbox_and_the_status_of_an_actor() -> None:
    async with server(Keeper) as ref:
        ref.cast(1)
        ref.cast(1)
        before = tree(ref).mailbox
        await settle()
        after = tree(ref)

        assert before["depth"] == 2
        assert after.mailbox["depth"] == 0
        assert after.mailbox["high_water"] == 2
        assert after.mailbox["drops"] == 0
        assert after.status == {"total": 3}


async def test_tree_shows_the_age_of_the_oldest_message(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        ref.cast(Busy(10))
        await settle()
        ref.cast("waiting")
        await asyncio.sleep(4)

        assert tree(ref).mailbox["age_seconds"] == pytest.approx(4.0, abs=0.5)


async def test_tree_never_blocks_during_a_slow_stop_and_shows_who_is_stopping(trace: Trace) -> None:
    async with running(trace.child("a"), trace.child("b", terminate=10.0, shutdown=60.0)) as root:
        stopping = asyncio.ensure_future(root.terminate_child("b"))
        await asyncio.sleep(5)
        assert states(root) == {"a": "running", "b": "stopping"}

        await stopping
        assert states(root) == {"a": "running", "b": "stopped"}


async def test_tree_never_blocks_during_a_slow_restart(trace: Trace) -> None:
    async with running(trace.child("a", inits=[None, 10.0])) as root:
        await fail(root, "a")
        await asyncio.sleep(5)
        assert states(root) == {"a": "restarting"}

        await asyncio.sleep(6)
        assert states(root) == {"a": "running"}


async def test_tree_shows_the_failed_child_restarting_while_its_siblings_stop(trace: Trace) -> None:
    children = [trace.child("a"), trace.child("b", terminate=10.0, shutdown=60.0), trace.child("c")]

    async with running(*children, strategy="one_for_all") as root:
        await fail(root, "a")
        await asyncio.sleep(5)
        assert states(root)["a"] == "restarting"
        assert states(root)["b"] == "stopping"

        await asyncio.sleep(6)
        assert states(root) == {"a": "running", "b": "running", "c": "running"}


async def test_tree_counts_group_restarts_of_each_child(trace: Trace) -> None:
    async with running(*trace.children("ab"), strategy="one_for_all") as root:
        await fail(root, "a")
        await fail(root, "b")

        assert [each.restarts for each in tree(root).children] == [2, 2]


async def test_tree_shows_spawned_tasks_under_their_actor() -> None:
    class Spawning(GenServer[str]):
        def init(self) -> None:
            self.spawn(asyncio.sleep(60), name="job")

    async with server(Spawning) as ref:
        assert [(each.id, each.kind) for each in tree(ref).children] == [("job", "task")]


async def test_tree_of_the_dead_can_still_be_shown(trace: Trace) -> None:
    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        await ref.stop()

        assert tree(ref).state == "stopped"


async def test_tree_survives_a_status_that_raises() -> None:
    class Bad(GenServer[str]):
        def status(self) -> dict[str, object]:
            raise Boom("status")

    async with server(Bad) as ref:
        assert "Boom" in str(tree(ref).status)


# -- events


async def test_observer_is_told_of_starts_exits_restarts_and_crashes(trace: Trace) -> None:
    recorder = Recorder()

    async with leak_check():
        root = await start(_supervisor(trace), observers=(recorder,))
        await fail(root, "a")
        await root.stop()

    kinds = [type(event) for event in recorder.events]
    assert kinds.count(Started) == 3
    assert kinds.count(Exited) == 3
    assert kinds.count(Restarting) == 1
    assert kinds.count(CrashReport) == 1
    assert GaveUp not in kinds


async def test_observer_is_told_when_a_supervisor_gives_up(trace: Trace) -> None:
    recorder = Recorder()

    async with leak_check():
        root = await start(_supervisor(trace, max_restarts=0), observers=(recorder,))
        await fail(root, "a")

    assert [type(event) for event in recorder.events].count(GaveUp) == 1


async def test_observer_that_raises_harms_nobody(trace: Trace) -> None:
    def bad(event: object) -> None:
        raise Boom("observer")

    async with leak_check():
        root = await start(_supervisor(trace), observers=(bad,))
        await fail(root, "a")

        assert states(root) == {"a": "running"}
        await root.stop()


async def test_default_observer_logs_crashes(trace: Trace, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="supervisors"):
        async with running(trace.child("a")) as root:
            await fail(root, "a")

    assert "Boom" in caplog.text


async def test_orderly_life_is_no_error_in_the_log(trace: Trace, caplog: pytest.LogCaptureFixture) -> None:
    async with running(trace.child("a", restart="transient")) as root:
        await end(await child(root, "a"), Normal())
        await root.stop(Shutdown())

    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def _supervisor(trace: Trace, **options: Any) -> Any:
    from supervisors import Supervisor

    return lambda: Supervisor([trace.child("a")], **options)


async def test_work_in_hand_is_answered_after_suspend(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        working = asyncio.ensure_future(ref.call(Work(2)))
        await settle()
        await suspend(ref)

        assert await working == "done"
        await resume(ref)


async def test_crash_of_a_suspended_actor_is_a_crash(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        ref = await child(root, "a")
        await suspend(ref)
        ref.exit(Crashed(Boom("signal")))
        await settle()

        assert (await child(root, "a")).incarnation == 2
