"""Trap 13: one call that blocks would freeze every actor. Threads for it, and a watch over the loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from functools import partial
from typing import Any

import pytest

from supervisors import (
    ActorExited,
    CallTimeout,
    ChildSpec,
    Killed,
    LoopLag,
    LoopMonitor,
    NoProcess,
    Supervisor,
    abandoned_threads,
    get_status,
    run_blocking,
    start,
)
from supervisors.events import LoopBlocked
from supervisors.testing import Recorder, leak_check, settle
from tests.supervisors.actors import Boom, Ping, Run, Trace, Traced, child, running, server, until

pytestmark = pytest.mark.anyio

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


@pytest.fixture
def gate() -> threading.Event:
    """Threads wait for it; set at the end of the test in any case."""
    return threading.Event()


@pytest.fixture(autouse=True)
def _open_at_the_end(gate: threading.Event) -> Any:
    yield
    gate.set()


async def test_trap_13_a_blocking_call_on_a_thread_lets_every_other_actor_go_on(
    trace: Trace, gate: threading.Event
) -> None:
    async with running(trace.child("blocks"), trace.child("other")) as root:
        blocks, other = await child(root, "blocks"), await child(root, "other")
        call = asyncio.ensure_future(blocks.call(Run(lambda: run_blocking(gate.wait)), timeout=None))
        await settle()

        assert await other.call(Ping()) == "pong"
        assert not call.done()
        gate.set()
        assert await call is True


async def test_its_result_its_exception_and_its_context_are_those_of_a_call_in_place(trace: Trace) -> None:
    def fails() -> None:
        raise Boom("on a thread")

    def stops() -> None:
        raise StopIteration

    async def work() -> object:
        tenant.set("me")
        with pytest.raises(Boom, match="on a thread"):
            await run_blocking(fails)
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            await run_blocking(stops)
        return await run_blocking(
            lambda a, b: (a + b, tenant.get(), threading.current_thread() is threading.main_thread()), 1, 2
        )

    async with server(lambda: Traced(trace, "a")) as ref:
        assert await ref.call(Run(work)) == (3, "me", False)


async def test_outside_of_any_process_there_are_no_threads_to_run_on() -> None:
    with pytest.raises(NoProcess):
        await run_blocking(time.time)


async def test_a_thread_whose_caller_is_killed_runs_on_is_counted_and_holds_nothing_up(
    trace: Trace, gate: threading.Event
) -> None:
    async with running(trace.child("a", restart="temporary"), trace.child("b")) as root:
        ref = await child(root, "a")
        call = asyncio.ensure_future(ref.call(Run(lambda: run_blocking(gate.wait)), timeout=None))
        await settle()
        ref.exit(Killed())
        with pytest.raises(ActorExited):
            await call

        assert abandoned_threads(root) == 1
        assert await (await child(root, "b")).call(Ping()) == "pong"
        gate.set()
        await until(lambda: abandoned_threads(root) == 0)


async def test_the_end_of_a_tree_waits_for_no_thread(trace: Trace, gate: threading.Event) -> None:
    async with leak_check():
        root = await start(lambda: Traced(trace, "a"))
        call = asyncio.ensure_future(root.call(Run(lambda: run_blocking(gate.wait)), timeout=None))
        await settle()
        root.exit(Killed())
        with pytest.raises(ActorExited):
            await call
    assert abandoned_threads(root) == 1


async def test_at_most_so_many_run_at_once_and_the_others_wait_in_line(trace: Trace, gate: threading.Event) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        threads = ref.process.system.threads
        threads.limit = 2
        done: list[int] = []

        def work(number: int) -> None:
            gate.wait()
            done.append(number)

        async def many() -> None:
            first = [asyncio.ensure_future(run_blocking(work, n)) for n in range(4)]
            await settle()
            assert threads.running == 2
            first[2].cancel()  # it gives its place in the line up
            gate.set()
            await asyncio.gather(*first, return_exceptions=True)

        await ref.call(Run(many), timeout=None)
        assert sorted(done) == [0, 1, 3]
        await until(lambda: threads.running == 0)


async def test_a_place_that_comes_in_the_turn_of_a_cancellation_goes_to_the_next(
    trace: Trace, gate: threading.Event
) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        threads = ref.process.system.threads
        threads.limit = 1

        async def many() -> list[bool]:
            calls = [asyncio.ensure_future(run_blocking(gate.wait)) for _ in range(3)]
            await settle()
            threads._pass_on()
            calls[1].cancel()
            gate.set()
            await asyncio.wait(calls)
            return [call.cancelled() for call in calls]

        assert await ref.call(Run(many), timeout=None) == [False, True, False]


async def test_who_is_cancelled_in_line_is_passed_over_in_the_same_turn(trace: Trace, gate: threading.Event) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        threads = ref.process.system.threads
        threads.limit = 1

        async def many() -> list[bool]:
            calls = [asyncio.ensure_future(run_blocking(gate.wait)) for _ in range(3)]
            await settle()
            calls[1].cancel()
            threads._pass_on()  # as the end of the first one would, before the cancellation is seen
            gate.set()
            await asyncio.wait(calls)
            return [call.cancelled() for call in calls]

        assert await ref.call(Run(many), timeout=None) == [False, True, False]


async def test_a_thread_that_cannot_be_started_keeps_no_place(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with server(lambda: Traced(trace, "a")) as ref:
        threads = ref.process.system.threads
        threads.limit = 1

        async def many() -> object:
            with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="can't start new thread"):
                patch.setattr(threading.Thread, "start", exhausted)
                await run_blocking(time.time)
            return await run_blocking(lambda: "the next one")

        assert await ref.call(Run(many)) == "the next one"


async def test_no_deadline_of_virtual_time_passes_because_a_thread_is_slow(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        # real time passes on the thread, the clock of the test stands still meanwhile
        assert await ref.call(Run(lambda: run_blocking(time.sleep, 0.05)), timeout=0.01) is None

        with pytest.raises(CallTimeout):
            await ref.call(Run(lambda: asyncio.sleep(1)), timeout=0.01)


# -- the watch over the loop, in real time ---------------------------------------------------------------------------------


def watched(block: Any, **options: Any) -> tuple[LoopLag, Recorder, dict[str, object]]:
    """What a monitor finds while ``block`` runs in an actor of its tree."""
    trace_, lag, recorder = Trace(), LoopLag(), Recorder()

    async def main() -> dict[str, object]:
        children = [
            ChildSpec(id="monitor", start=partial(LoopMonitor, lag, interval=0.01, threshold=0.1, **options)),
            trace_.child("works"),
        ]
        root = await start(partial(Supervisor, children), observers=[recorder])
        await asyncio.sleep(0.05)
        await (await child(root, "works")).call(Run(block))
        await asyncio.sleep(0.1)
        status = dict(await get_status(await child(root, "monitor")))
        await root.stop()
        return status

    return lag, recorder, asyncio.run(main())


def test_a_blocked_loop_is_told_with_its_duration_its_task_and_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    async def block() -> None:
        time.sleep(0.4)  # noqa: ASYNC251 - the bug that is to be found

    lag, recorder, _ = watched(block)

    (event,) = recorder.of(LoopBlocked)
    assert event.task == "root/works"
    assert "time.sleep(0.4)" in event.stack
    assert event.seconds > 0.3
    assert lag.worst == pytest.approx(event.seconds)
    assert lag.blocked == 1
    assert "blocked for" in caplog.text  # by the thread, while it was stuck


def test_what_holds_the_loop_up_for_threshold_and_interval_is_told_whenever_it_begins() -> None:
    lag, recorder = LoopLag(), Recorder()

    async def main() -> None:
        root = await start(partial(LoopMonitor, lag, interval=0.3, threshold=0.1), observers=[recorder])
        await asyncio.sleep(0.35)  # just after a look: it ends before the thread would look again at that pace
        time.sleep(0.5)  # noqa: ASYNC251 - the bug that is to be found
        await asyncio.sleep(0.35)
        await root.stop()

    asyncio.run(main())

    (event,) = recorder.of(LoopBlocked)
    assert "time.sleep(0.5)" in event.stack


async def test_a_hold_up_at_which_no_thread_could_look_is_told_without_its_stack() -> None:
    lag, recorder = LoopLag(), Recorder()
    ref = await start(partial(LoopMonitor, lag, threshold=0.25), observers=[recorder])
    monitor = ref.process.behaviour
    monitor.late(0.24, None)
    monitor.late(0.26, None)
    await ref.stop()

    (event,) = recorder.of(LoopBlocked)
    assert (event.seconds, event.task, event.stack) == (0.26, "unknown", "")
    assert lag.blocked == 1


async def test_a_storm_of_hold_ups_is_counted_whole_and_told_within_a_limit() -> None:
    lag, recorder = LoopLag(), Recorder()
    ref = await start(partial(LoopMonitor, lag, threshold=0.25), observers=[recorder])
    for _ in range(30):
        ref.process.behaviour.late(0.3, ("root/a", "stack"))
    await ref.stop()

    assert lag.blocked == 30
    assert len(recorder.of(LoopBlocked)) == 20


def test_a_loop_that_is_not_held_up_is_no_news() -> None:
    async def sleeps() -> None:
        await asyncio.sleep(0.3)

    lag, recorder, status = watched(sleeps)

    assert recorder.of(LoopBlocked) == []
    assert lag.blocked == 0
    assert lag.worst >= lag.last >= 0.0
    assert "worst_seconds" in str(status)


def test_the_worst_lag_of_a_minute_is_forgotten_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lag = LoopLag()
    now = time.monotonic()
    for at, seconds in ((0, 0.5), (30, 0.2), (31, 0.1)):
        monkeypatch.setattr(time, "monotonic", lambda at=at: now + at)
        lag.observe(seconds)
    found = []
    for at in (59, 61, 92):
        monkeypatch.setattr(time, "monotonic", lambda at=at: now + at)
        found.append(lag.worst)

    assert found == [0.5, 0.2, 0.0]
    assert lag.last == 0.1


async def test_blocked_loops_are_logged_by_observers_too(caplog: pytest.LogCaptureFixture, trace: Trace) -> None:
    caplog.set_level(logging.WARNING, "supervisors")
    ref = await start(lambda: Traced(trace, "a"))
    ref.process.system.emit(LoopBlocked(ref.process, 1.5, "root/a", "stack"))
    await ref.stop()

    assert "the event loop was blocked for 1.50 s by root/a" in caplog.text
