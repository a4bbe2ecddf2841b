"""Section 3: the twenty-five traps of re-creating OTP on asyncio."""

from __future__ import annotations

import ast
import asyncio
import gc
import logging
import sys
import threading
import weakref
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

import supervisors
from supervisors import (
    ActorExited,
    ActorRef,
    Call,
    Caller,
    CallTimeout,
    Crashed,
    GenServer,
    Killed,
    MailboxFull,
    Process,
    Registry,
    Shutdown,
    StartError,
    Supervisor,
    start,
)
from supervisors.events import CrashReport
from supervisors.introspection import tree
from supervisors.testing import Recorder, leak_check, settle
from tests.supervisors.actors import (
    Boom,
    Busy,
    Ping,
    Raise,
    Run,
    Stubborn,
    Trace,
    Traced,
    Work,
    child,
    end,
    fail,
    node,
    running,
    server,
    states,
    stopwatch,
)

pytestmark = pytest.mark.anyio

REQUEST: ContextVar[str] = ContextVar("request", default="none")


def cancel(ref: ActorRef) -> None:
    """Cancel the task of it, as a stranger would."""
    assert ref.process.task is not None
    ref.process.task.cancel()


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_trap_01_cancel_during_restart_leaves_no_orphan(trace: Trace, times: int) -> None:
    children = [trace.child("a", terminate=1.0), trace.child("b", inits=[None, 30.0]), trace.child("c")]

    async with leak_check():
        root = await start(lambda: Supervisor(children, strategy="rest_for_one"))
        refs = [await child(root, id_) for id_ in "abc"]
        await fail(root, "b")
        assert states(root)["b"] == "restarting"
        for _ in range(times):
            cancel(root)
            await settle()
        await root.wait()

        assert root.process.reason == Killed()
        assert not any(ref.alive for ref in refs)
        assert "+b" not in trace.take().removeprefix("+a +b +c")


async def test_trap_01_cancel_during_a_slow_stop_does_not_cut_it_short(trace: Trace) -> None:
    async with leak_check():
        root = await start(lambda: Supervisor([trace.child("a", terminate=3.0, shutdown=60.0)]))
        stopping = asyncio.ensure_future(root.stop())
        await settle()
        cancel(root)
        await asyncio.sleep(1)
        cancel(root)
        await asyncio.gather(stopping, return_exceptions=True)
        await root.wait()


async def test_trap_02_reentrancy_start_child_while_stopping_starts_nothing(trace: Trace) -> None:
    async with running(trace.child("a", terminate=5.0, shutdown=60.0)) as root:
        stopping = asyncio.ensure_future(root.stop())
        await settle()
        starting = asyncio.ensure_future(root.start_child(trace.child("b")))
        await asyncio.wait([starting, stopping])

        assert isinstance(starting.exception(), ActorExited)
        assert trace.take() == "+a -a .a"


async def test_trap_02_reentrancy_crash_in_terminate_while_the_group_restarts(trace: Trace) -> None:
    children = [trace.child("a"), trace.child("b", terminate=Boom("terminate"))]

    async with running(*children, strategy="one_for_all") as root:
        await fail(root, "a")

        assert states(root) == {"a": "running", "b": "running"}
        assert trace.take() == "+a +b -a -b +a +b"


async def test_trap_02_reentrancy_stop_of_a_child_by_itself_and_its_supervisor_at_once(trace: Trace) -> None:
    async with running(trace.child("a", terminate=2.0)) as root:
        ref = await child(root, "a")
        await asyncio.gather(ref.stop(Shutdown()), root.terminate_child("a"), return_exceptions=True)

        assert trace.take().count("-a") == 1
        assert not ref.alive


async def test_trap_03_stale_exit_of_an_older_incarnation_changes_nothing(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        old = await child(root, "a")
        await fail(root, "a")
        new = await child(root, "a")
        old.exit(Killed())
        cast_late = asyncio.get_running_loop().call_soon
        cast_late(old.cast, Raise(Boom()))
        await settle()

        assert await child(root, "a") == new
        assert new.alive


async def test_trap_04_lost_wakeup_no_message_is_lost_however_sends_and_waits_interleave() -> None:
    total = 0

    class Counting(GenServer[int]):
        async def handle_cast(self, message: int) -> None:
            nonlocal total
            if message % 3 == 0:
                await asyncio.sleep(0)
            total += message

    async with server(Counting) as ref:
        expected = 0
        for number in range(500):
            ref.cast(number)
            expected += number
            if number % 7 == 0:
                await asyncio.sleep(0)
            if number % 50 == 0:
                await settle()
        await settle()

        assert total == expected


async def test_trap_05_timeout_races_cancellation_wins_over_a_reply_that_is_ready(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        calling = asyncio.ensure_future(ref.call(Work(1.0)))
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time() + 1.0, calling.cancel)
        await asyncio.wait([calling])

        assert calling.cancelled() or calling.result() == "done"


@pytest.mark.parametrize(("outer", "inner"), [(1.0, 1.0), (1.0, 2.0), (2.0, 1.0)])
async def test_trap_05_timeout_races_outer_and_inner_deadline(trace: Trace, outer: float, inner: float) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        with pytest.raises((TimeoutError, CallTimeout)):
            async with asyncio.timeout(outer):
                await ref.call(Work(60), timeout=inner)

        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await end(ref, Killed())


async def test_trap_05_timeout_races_cancelled_call_is_never_a_result() -> None:
    replies: list[Caller[Any]] = []

    class Keeping(GenServer[Any]):
        def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
            replies.append(caller)
            return supervisors.NO_REPLY

    async with server(Keeping) as ref:
        calling = asyncio.ensure_future(ref.call(Ping()))
        await settle()
        calling.cancel()
        replies[0].reply("too late")
        await asyncio.wait([calling])

        assert calling.cancelled()


async def test_trap_06_late_reply_to_a_dead_caller_does_not_crash_the_server(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        cancelled = asyncio.ensure_future(ref.call(Work(1)))
        await settle()
        cancelled.cancel()
        await asyncio.sleep(2)

        assert await ref.call(Ping()) == "pong"


async def test_trap_07_waiters_without_an_end_are_all_failed_with_the_exit_reason(trace: Trace) -> None:
    class Blocking(Traced):
        mailbox_limit = 2
        mailbox_policy = "block"

    async with leak_check():
        ref = await start(lambda: Blocking(trace, "a"))
        ref.cast(Busy(60))
        await settle()
        waiters = [
            asyncio.ensure_future(ref.call(Ping(), timeout=None)),
            asyncio.ensure_future(ref.call(Ping(), timeout=None)),
            asyncio.ensure_future(ref.call(Ping(), timeout=None)),
            asyncio.ensure_future(ref.stop()),
        ]
        blocked = asyncio.ensure_future(ref.cast_wait("x", timeout=None))
        waiting = asyncio.ensure_future(ref.wait())
        await settle()
        await end(ref, Killed())
        answers = await asyncio.gather(*waiters, return_exceptions=True)

        assert [getattr(answer, "reason", None) for answer in answers] == [Killed()] * 4
        assert blocked.done()
        assert await waiting == Killed()


async def test_trap_08_task_gc_a_process_that_nobody_refers_to_lives_on(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        gc.collect()
        await asyncio.sleep(1)
        gc.collect()

        assert await (await child(root, "a")).call(Ping()) == "pong"


async def test_trap_08_task_gc_a_dead_incarnation_is_let_go() -> None:
    class Crashing(GenServer[str]):
        def handle_cast(self, message: str) -> None:
            raise Boom(message)

    spec = supervisors.ChildSpec(id="a", start=Crashing)
    async with leak_check():
        root = await start(lambda: Supervisor([spec], max_restarts=100), observers=[_deaf])
        behaviours = []
        for _ in range(20):
            behaviours.append(weakref.ref((await child(root, "a")).process.behaviour))
            (await child(root, "a")).cast("bug")
            await settle()
        gc.collect()

        assert sum(behaviour() is not None for behaviour in behaviours) <= 2
        await root.stop()


def _deaf(event: object) -> None:
    """Keeps nothing, whereas a log that is captured would keep the exceptions."""


async def test_trap_09_exception_never_retrieved_is_never_said(trace: Trace) -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))

    async with running(trace.child("a", inits=[None, Boom(), None]), trace.child("b"), max_restarts=10) as root:
        await fail(root, "a")
        await end(await child(root, "b"), Killed())
        calling = asyncio.ensure_future((await child(root, "b")).call(Run(_boom)))
        await asyncio.wait([calling])
        assert calling.exception() is not None
        await root.start_child(trace.child("c", inits=[Boom()]))
    gc.collect()
    await settle()

    assert said == []


async def _boom() -> None:
    raise Boom


async def test_trap_10_child_that_ignores_cancel_is_given_up_counted_and_shown(trace: Trace) -> None:
    release = asyncio.Event()
    stubborn = supervisors.ChildSpec(id="s", start=lambda: Stubborn(release), shutdown="brutal_kill")

    async with running(stubborn, trace.child("a")) as root:
        ref = await child(root, "s")
        ref.cast("go")
        await settle()
        with stopwatch() as seconds:
            await root.terminate_child("s")

        assert seconds() <= 30.0
        assert ref.process.zombie
        assert ref.process.reason == Killed()
        assert len(root.process.system.zombies) == 1
        shown = str(tree(root))
        await root.restart_child("s")
        assert states(root)["s"] == "running"

        release.set()
        await settle()
        assert len(root.process.system.zombies) == 0
        assert "unkillable" in shown


async def test_trap_11_cancelled_error_terminate_can_await_after_a_stop(trace: Trace) -> None:
    async with running(trace.child("a", terminate=1.0)) as root:
        ref = await child(root, "a")
        ref.cast(Busy(2))
        await settle()
        await root.terminate_child("a")

        assert trace.take() == "+a =a -a .a"


async def test_trap_11_cancelled_error_raised_in_a_handler_is_abnormal_and_restarted(trace: Trace) -> None:
    async with running(trace.child("a", restart="transient")) as root:
        ref = await child(root, "a")
        ref.cast(Raise(asyncio.CancelledError()))
        await settle()

        assert ref.process.reason == Killed()
        assert (await child(root, "a")).incarnation == 2


async def test_trap_11_cancelled_error_of_a_stranger_is_abnormal_and_restarted(trace: Trace) -> None:
    async with running(trace.child("a", restart="transient")) as root:
        ref = await child(root, "a")
        cancel(ref)
        await settle()

        assert ref.process.reason == Killed()
        assert (await child(root, "a")).incarnation == 2


async def test_trap_12_restart_storm_does_not_starve_the_loop(trace: Trace) -> None:
    always = trace.child("a", inits=[None, *[Boom()] * 5000])
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with leak_check():
        root = await start(lambda: Supervisor([always], max_restarts=2000))
        beside = asyncio.ensure_future(other())
        (await child(root, "a")).exit(Killed())
        await root.wait()
        beside.cancel()
        await asyncio.wait([beside])

        assert turns >= 1000


async def test_trap_12_restart_storm_of_a_busy_mailbox_does_not_starve_the_loop() -> None:
    class Echo(GenServer[int]):
        def handle_cast(self, message: int) -> None:
            if message:
                self.ref.cast(message - 1)

    turns = 0
    async with server(Echo) as ref:
        ref.cast(6400)
        while node(ref).mailbox["depth"] or turns == 0:
            await asyncio.sleep(0)
            turns += 1

    assert turns >= 50


async def test_trap_14_mailbox_growth_is_bounded_by_default(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        for number in range(10_000):
            ref.cast(number)
        with pytest.raises(MailboxFull):
            ref.cast("one too many")

        assert node(ref).mailbox["depth"] == 10_000


def test_trap_15_clock_is_the_loops_alone() -> None:
    asked = {
        f"{path.name}: {call.func.value.id}.{call.func.attr}"
        for path in sources()
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in {"time", "datetime"}
    }

    assert asked == {"loop_monitor.py: time.monotonic"}  # it measures the loop itself


def sources() -> list[Path]:
    """The files of the library."""
    return sorted(Path(supervisors.__file__).parent.glob("*.py"))


async def test_trap_16_contextvars_of_a_request_are_not_inherited_by_a_restart(trace: Trace) -> None:
    seen: list[str] = []

    class Looking(Traced):
        async def init(self) -> None:
            seen.append(REQUEST.get())

    REQUEST.set("tree")
    spec = supervisors.ChildSpec(id="a", start=lambda: Looking(trace, "a"))
    async with running(spec) as root:
        REQUEST.set("tenant")
        await root.terminate_child("a")
        await root.restart_child("a")
        await fail(root, "a")
        await root.start_child(supervisors.ChildSpec(id="b", start=lambda: Looking(trace, "b")))

    assert seen == ["tree"] * 4


async def test_trap_17_synchronous_start_returns_after_init_and_no_sooner(trace: Trace) -> None:
    async with running() as root:
        with stopwatch() as seconds:
            await root.start_child(trace.child("a", inits=[3.0]))

        assert seconds() == 3.0
        assert trace.take() == "+a"


async def test_trap_17_synchronous_start_that_hangs_is_ended_by_its_timeout(trace: Trace) -> None:
    with leak_check(), pytest.raises(StartError):
        await start(trace.child("a", inits=[1_000_000.0], start_timeout=1.0))


async def test_trap_17_synchronous_start_whose_caller_was_cancelled_leaves_a_consistent_supervisor(
    trace: Trace,
) -> None:
    async with running() as root:
        starting = asyncio.ensure_future(root.start_child(trace.child("a", inits=[5.0])))
        await settle()
        starting.cancel()
        await asyncio.sleep(6)

        assert states(root) in ({"a": "running"}, {})
        assert (await root.count_children()).active == len(states(root))


async def test_trap_18_loop_affinity_a_call_from_another_loop_fails_loudly_or_works_but_never_hangs(
    trace: Trace,
) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        outcome: list[object] = []

        def foreign() -> None:
            try:
                outcome.append(asyncio.run(asyncio.wait_for(ref.call(Ping(), timeout=1), 5)))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is loud
                outcome.append(error)

        thread = threading.Thread(target=foreign)
        thread.start()
        thread.join(10)

        assert len(outcome) == 1
        assert not isinstance(outcome[0], TimeoutError)


async def test_trap_19_registry_frees_names_before_the_exit_is_visible(trace: Trace) -> None:
    registry = Registry()
    held: list[object] = []

    class Watching(GenServer[Process]):
        def handle_cast(self, message: Process) -> None:
            self.monitor(message)

        def handle_info(self, info: Any) -> None:
            held.append(registry.lookup("name"))

    async with (
        running(trace.child("a", name="name", restart="temporary"), registry=registry) as root,
        server(Watching) as watcher,
    ):
        ref = await child(root, "a")
        watcher.cast(ref.process)
        await settle()
        await end(ref, Killed())

        assert held == [None]


async def test_trap_20_monitors_do_not_leak_from_calls_or_dead_watchers(trace: Trace) -> None:
    class Watching(GenServer[ActorRef]):
        def handle_cast(self, message: ActorRef) -> None:
            self.monitor(message)

    async with server(lambda: Traced(trace, "a")) as ref:
        for _ in range(100):
            await ref.call(Ping())
        for _ in range(10):
            watcher = await start(Watching)
            watcher.cast(ref)
            await settle()
            await watcher.stop()

        assert len(ref.process.monitors) == 0


async def test_trap_21_taskgroup_inside_a_handler_is_one_crash_and_touches_no_sibling(trace: Trace) -> None:
    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_boom())
            tasks.create_task(asyncio.sleep(60))

    async with running(*trace.children("ab")) as root:
        ref = await child(root, "a")
        with pytest.raises(ActorExited):
            await ref.call(Run(group))
        await settle()

        assert isinstance(ref.process.reason, Crashed)
        assert (await child(root, "a")).incarnation == 2
        assert (await child(root, "b")).incarnation == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
async def test_trap_22_eager_tasks_may_even_finish_inside_create_task(trace: Trace) -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    try:
        async with running(*trace.children("ab"), strategy="one_for_all", registry=Registry()) as root:
            await fail(root, "a")
            await root.start_child(trace.child("c", inits=[Boom()]))

            assert states(root) == {"a": "running", "b": "running"}
            assert await (await child(root, "a")).call(Ping()) == "pong"
    finally:
        loop.set_task_factory(before)

    assert trace.take() == "+a +b -a -b +a +b !c -b -a"


async def test_trap_24_finally_await_in_a_killed_child_delays_its_exit_record(trace: Trace) -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            trace("cleaned")

    async with running(trace.child("a", shutdown="brutal_kill")) as root:
        ref = await child(root, "a")
        calling = asyncio.ensure_future(ref.call(Run(work)))
        await settle()
        await root.terminate_child("a")

        assert trace.take() == "+a cleaned"
        with pytest.raises(ActorExited):
            await calling


async def test_trap_25_log_storm_is_limited(trace: Trace) -> None:
    recorder = Recorder()
    always = trace.child("a", inits=[None, *[Boom()] * 1000])

    async with leak_check():
        root = await start(lambda: Supervisor([always], max_restarts=500), observers=(recorder,))
        await fail(root, "a")

    assert len(recorder.of(CrashReport)) <= 50


async def test_trap_25_log_storm_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    class Keyed(GenServer[str]):
        def init(self) -> None:
            self.key = "sk-very-secret"

        def status(self) -> dict[str, object]:
            return {"key": "set"}

        def handle_cast(self, message: str) -> None:
            raise Boom("bug")

    with caplog.at_level(logging.DEBUG, logger="supervisors"), leak_check():
        ref = await start(Keyed)
        ref.cast("x" * 100_000)
        await settle()

    assert "Boom" in caplog.text
    assert "sk-very-secret" not in caplog.text
    assert len(caplog.text) < 20_000


async def test_trap_25_log_storm_state_may_be_redacted_further() -> None:
    recorder = Recorder()

    class Keyed(GenServer[str]):
        def status(self) -> dict[str, object]:
            return {"key": "sk-very-secret"}

        def redacted_status(self) -> dict[str, object]:
            return {"key": "***"}

        def handle_cast(self, message: str) -> None:
            raise Boom("bug")

    async with leak_check():
        ref = await start(Keyed, observers=(recorder,))
        ref.cast("x")
        await settle()

    (report,) = recorder.of(CrashReport)
    assert report.state == {"key": "***"}
    assert report.last_message == "'x'"
    assert "bug" in report.stack
