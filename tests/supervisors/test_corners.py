"""What happens at the edges: misuse, races that end well, and what people read in a debugger."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from attrs import frozen

from supervisors import (
    NO_REPLY,
    ActorExited,
    ActorRef,
    Backoff,
    Call,
    Caller,
    CallTimeout,
    Cast,
    ChildSpec,
    CircularCall,
    Continue,
    Crashed,
    CrashReport,
    DynamicSupervisor,
    GenServer,
    Ignore,
    Killed,
    NoProc,
    NoProcess,
    Normal,
    NotFound,
    Registered,
    Registry,
    Reply,
    Shutdown,
    StartError,
    StartFailed,
    Stop,
    Supervisor,
    Task,
    TaskSupervisor,
    Timeout,
    get_state,
    replace_state,
    start,
    statistics,
    suspend,
    trace,
)
from supervisors.requests import DeleteChild, GetChildSpec, RestartChild
from supervisors.testing import Recorder, VirtualTimeLoop, crash, leak_check, settle
from tests.supervisors.actors import (
    Boom,
    Busy,
    Note,
    Ping,
    Raise,
    Run,
    Seen,
    Stubborn,
    Trace,
    Traced,
    child,
    dynamic,
    end,
    halt,
    letters,
    running,
    server,
)

pytestmark = pytest.mark.anyio


@frozen
class Later(Call[str]):
    """Answered when the server is told to."""


@frozen
class Now(Cast):
    """Answer all that wait."""

    fails: bool = False


class Deferring(GenServer[Now]):
    """Owes replies until it is told to give them."""

    def init(self) -> None:
        self.callers: list[Caller[str]] = []

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
        self.callers.append(caller)
        return NO_REPLY

    def handle_cast(self, message: Now) -> None:
        for caller in self.callers:
            if message.fails:
                caller.fail(Boom())
            else:
                caller.reply("now")


class Plain(GenServer[Any]):
    """No callback of its own."""


# -- misuse ------------------------------------------------------------------------------------------------------------


async def test_a_message_that_an_actor_has_no_callback_for_crashes_it_and_says_which() -> None:
    for send, text in ((Ping(), "Plain handles no calls: Ping"), (Now(), "Plain handles no casts: Now")):
        async with server(Plain) as ref:
            if isinstance(send, Ping):
                with pytest.raises(ActorExited):
                    await ref.call(send)
            else:
                ref.cast(send)
            reason = await ref.wait()

        assert isinstance(reason, Crashed)
        assert str(reason.exception) == text


async def test_a_continue_that_nobody_handles_crashes_the_actor() -> None:
    class Going(GenServer[Any]):
        def init(self) -> Continue:
            return Continue("on")

    async with leak_check():
        ref = await start(Going)
        reason = await ref.wait()

    assert isinstance(reason, Crashed)
    assert str(reason.exception) == "Going handles no continue: 'on'"


async def test_an_info_that_nobody_handles_is_ignored_and_logged_for_debugging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "supervisors")
    async with server(Plain) as ref:
        ref.send(Note("hm"))
        await settle()

        assert ref.alive
    assert "ignores Note" in caplog.text


@pytest.mark.parametrize("callback", ["init", "handle_call"])
async def test_a_return_value_that_means_nothing_is_a_bad_return(callback: str) -> None:
    class Odd(GenServer[Any]):
        def init(self) -> Any:
            return 3 if callback == "init" else None

        def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
            return Timeout(1.0)  # what a cast may return, a call may not

    async with leak_check():
        if callback == "init":
            with pytest.raises(StartError, match="init returned 3"):
                await start(Odd)
        else:
            ref = await start(Odd)
            with pytest.raises(ActorExited, match="handle_call returned"):
                await ref.call(Ping())


async def test_a_factory_that_makes_no_actor_is_a_failed_start(trace: Trace) -> None:
    async with running() as root:
        outcome = await root.start_child(ChildSpec(id="x", start=object))  # type: ignore[arg-type]

        assert isinstance(outcome, StartFailed)
        assert "must make a GenServer, not object" in str(outcome.reason)


async def test_a_root_whose_factory_raises_does_not_start() -> None:
    def factory() -> GenServer[Any]:
        raise Boom("no")

    async with leak_check():
        with pytest.raises(StartError, match="no"):
            await start(factory)


@pytest.mark.parametrize("kind", [partial(Supervisor, ()), DynamicSupervisor], ids=["static", "dynamic"])
async def test_a_supervisor_refuses_a_call_that_it_does_not_know_and_lives_on(
    kind: Callable[[], GenServer[Any]],
) -> None:
    async with server(kind) as root:
        with pytest.raises(TypeError, match="a supervisor does not answer Ping"):
            await root.call(Ping())
        assert root.alive


async def test_a_dynamic_supervisor_has_no_ids_to_restart_delete_or_describe() -> None:
    async with dynamic() as root:
        for request in (RestartChild("x"), DeleteChild("x"), GetChildSpec("x")):
            answer: Any = await root.call(request)
            assert answer == NotFound()


async def test_a_child_of_a_dynamic_supervisor_cannot_be_significant(trace: Trace) -> None:
    async with dynamic() as root:
        spec = trace.child("a", restart="temporary", significant=True)
        with pytest.raises(ValueError, match="significant"):
            await root.start_child(spec)


async def test_only_dynamic_and_task_supervisors_adopt_and_run_tasks(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        with pytest.raises(TypeError, match="is no dynamic supervisor"):
            async with root.adopt():
                pass
        with pytest.raises(TypeError, match="is no task supervisor"):
            _ = TaskSupervisor.async_(root, asyncio.sleep, 1)


async def test_a_task_supervisor_that_is_gone_or_full_takes_no_task() -> None:
    async with server(lambda: TaskSupervisor(max_children=1)) as tasks:
        handle = TaskSupervisor.async_(tasks, asyncio.sleep, 1)
        with pytest.raises(StartError):
            _ = TaskSupervisor.async_(tasks, asyncio.sleep, 1)
        await handle
    with pytest.raises(NoProcess):
        _ = TaskSupervisor.async_(tasks, asyncio.sleep, 1)


async def test_a_stream_of_tasks_needs_room_for_one() -> None:
    async with server(TaskSupervisor) as tasks:
        with pytest.raises(ValueError, match="max_concurrency"):
            async for _ in TaskSupervisor.stream(tasks, [1], asyncio.sleep, max_concurrency=0):
                pass


async def test_registries_have_two_kinds_of_keys() -> None:
    with pytest.raises(ValueError, match="unique or duplicate"):
        Registry("many")  # type: ignore[arg-type]


async def test_an_actor_that_has_ended_sets_no_timer_and_spawns_nothing(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        behaviour = ref.process.behaviour
    assert behaviour is not None

    async def nothing() -> None:
        raise AssertionError

    with pytest.raises(NoProcess):
        behaviour.send_after(1.0, Note("late"))
    with pytest.raises(NoProcess):
        behaviour.spawn(nothing())


async def test_an_actor_cannot_stop_itself_and_wait_for_it(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:

        async def stop() -> object:
            try:
                await ref.stop()
            except CircularCall as error:
                return error.chain
            return None

        assert await ref.call(Run(stop)) == ["a", "a"] or ref.path


# -- replies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
async def test_a_deferred_reply_that_comes_too_late_is_a_dead_letter_and_a_second_one_is_nothing(fails: bool) -> None:
    async with server(Deferring) as ref:
        with pytest.raises(CallTimeout):
            await ref.call(Later(), timeout=1)
        ref.cast(Now(fails))
        await settle()
        ref.cast(Now(fails))
        await settle()

        assert letters(ref)["late_reply"] == 1


async def test_a_reply_that_is_withheld_on_purpose_comes_later() -> None:
    class Withholding(Deferring):
        def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
            super().handle_call(message, caller)
            return Reply(NO_REPLY, then=None)

    async with server(Withholding) as ref:
        call = asyncio.ensure_future(ref.call(Later()))
        await settle()
        ref.cast(Now())

        assert await call == "now"


async def test_who_is_gone_before_its_call_is_handed_on_is_handed_on_for_nothing() -> None:
    class Front(Deferring):
        def handle_cast(self, message: Now) -> None:
            self.moved = [target.forward(caller, Later()) for caller in self.callers]

    async with running(ChildSpec(id="back", start=Deferring, name="back"), ChildSpec(id="front", start=Front)) as root:
        target = await child(root, "back")
        front = await child(root, "front")
        with pytest.raises(CallTimeout):
            await front.call(Later(), timeout=1)
        front.cast(Now())
        await settle()

        assert target.alive
        assert (await get_state(target))["callers"] != []
        target.cast(Now())
        await settle()
        assert letters(root)["late_reply"] == 1


async def test_a_call_that_is_handed_back_to_its_caller_fails_at_once_where_that_is_asked_for() -> None:
    class Back(Deferring):
        def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
            assert caller.process is not None
            ActorRef(caller.process).forward(caller, message)
            return NO_REPLY

    class Asking(GenServer[Any]):
        async def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
            try:
                return await back.call(Later())
            except CircularCall as error:
                return error.chain

    async with running(
        ChildSpec(id="back", start=Back), ChildSpec(id="asking", start=Asking), fail_circular_calls=True
    ) as root:
        back, asking = await child(root, "back"), await child(root, "asking")

        assert asking.path in await asking.call(Later())


# -- mailboxes -----------------------------------------------------------------------------------------------------------


class Bounded(Traced):
    """Room for two."""

    mailbox_limit = 2


async def test_a_sender_that_waits_for_room_is_let_in_or_gives_up() -> None:
    trace_ = Trace()

    class Blocking(Bounded):
        mailbox_policy = "block"

    async with server(lambda: Blocking(trace_, "a")) as ref:
        await ref.cast_wait("at once")
        ref.cast(Busy(5))
        await settle()
        ref.cast(1)
        ref.cast(2)
        with pytest.raises(CallTimeout):
            await ref.cast_wait("too late", timeout=1)
        waiting = asyncio.ensure_future(ref.cast_wait("in time", timeout=None))
        await waiting

        seen = await ref.call(Seen())
    assert seen == ["at once", 1, 2, "in time"]


async def test_the_oldest_that_goes_is_never_one_that_must_be_kept() -> None:
    trace_ = Trace()

    class Dropping(Bounded):
        mailbox_policy = "drop_old"

    async with server(lambda: Dropping(trace_, "a")) as ref:
        ref.cast(Busy(1))
        await settle()
        assert ref.process.behaviour is not None
        stopping = asyncio.ensure_future(ref.stop())  # kept, in its turn
        await settle()
        for number in range(4):
            ref.cast(number)
        await stopping

        assert letters(ref)["mailbox_full"] >= 2


# -- monitors, links, exits ------------------------------------------------------------------------------------------------


async def test_a_link_to_itself_is_none(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        behaviour = ref.process.behaviour
        assert behaviour is not None

        behaviour.link(ref)
        behaviour.unlink(ref)

        assert not ref.process.links


async def test_a_link_to_an_unknown_name_is_a_link_to_the_dead(trace: Trace) -> None:
    registry = Registry()
    async with server(lambda: Traced(trace, "a"), registry=registry) as ref:
        behaviour = ref.process.behaviour
        assert behaviour is not None
        behaviour.link(registry.via("nobody"))

        assert await ref.wait() == NoProc()


async def test_an_on_exit_callback_that_raises_is_logged_and_the_others_are_called(
    trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[object] = []

    def broken(*_: object) -> None:
        raise Boom("callback")

    async with server(lambda: Traced(trace, "a")) as ref:
        ref.process.on_exit(broken)
        ref.process.on_exit(lambda _, reason: called.append(reason))
    ref.process.on_exit(lambda _, reason: called.append(reason))  # one that has ended tells at once
    ref.process.forget_exit(broken)

    assert called == [Normal(), Normal()]
    assert "an on_exit callback of" in caplog.text


async def test_signals_to_who_has_ended_do_nothing(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        pass

    ref.exit(Shutdown())
    ref.exit(Killed())
    ref.process.crash(Boom())
    ref.process.shutdown("infinity")
    Registry().via("nobody").exit(Shutdown())

    assert ref.process.reason == Normal()


async def test_a_crash_on_request_before_the_start_is_over_is_a_failed_start(trace: Trace) -> None:
    async with dynamic() as root:
        starting = asyncio.ensure_future(root.start_child(trace.child("slow", inits=[5.0])))
        await settle()
        (process,) = root.process.children or {}
        process.crash(Boom("early"))

        outcome = await starting
        assert isinstance(outcome, StartFailed)
        assert "early" in str(outcome.reason)


async def test_a_crash_report_of_an_actor_that_cannot_describe_itself_says_so(trace: Trace) -> None:
    class Secretive(Traced):
        def redacted_status(self) -> Any:
            raise Boom("status")

    recorder = Recorder()
    ref = await start(lambda: Secretive(trace, "a"), observers=[recorder])
    await end(ref, Crashed(Boom()))

    (report,) = recorder.of(CrashReport)
    assert report.state == {"error": "Boom"}


async def test_a_message_whose_repr_raises_is_reported_all_the_same(trace: Trace) -> None:
    class Unspeakable:
        def __repr__(self) -> str:
            raise Boom("repr")

    class Raising(Traced):
        def handle_cast(self, message: Any) -> Any:
            raise Boom("bug")

    recorder = Recorder()
    ref = await start(lambda: Raising(trace, "a"), observers=[recorder])
    ref.cast(Unspeakable())
    await ref.wait()

    (report,) = recorder.of(CrashReport)
    assert report.last_message == "<Unspeakable, whose repr raised Boom>"


async def test_a_killed_process_kills_what_it_spawned_and_that_no_longer_cleans_up(trace: Trace) -> None:
    class Parent(Traced):
        async def init(self) -> None:
            self.spawn(asyncio.sleep(3600), name="sleeper")
            self.spawn(asyncio.sleep(3600), name="another")

    async with leak_check():
        ref = await start(lambda: Parent(trace, "a"))
        ref.exit(Killed())
        assert await ref.wait() == Killed()


async def test_a_spawned_coroutine_that_is_cancelled_before_its_first_step_is_closed(trace: Trace) -> None:
    class Parent(Traced):
        async def handle_cast(self, message: Any) -> Any:
            self.spawn(asyncio.sleep(3600))
            return Stop(Normal())

    async with leak_check():
        ref = await start(lambda: Parent(trace, "a"))
        ref.cast("go")
        assert await ref.wait() == Normal()


async def test_a_timer_that_fires_when_its_actor_has_ended_reaches_nobody(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        behaviour = ref.process.behaviour
        assert behaviour is not None
        timer = behaviour.send_after(1.0, Note("in time"))
        other = behaviour.send_after(1.0, Note("cancelled"))
        assert other.cancel()
        await asyncio.sleep(1.5)
        assert not timer.cancel()  # it was handled

        assert await ref.call(Seen()) == [Note("in time")]
    assert not timer.cancel()


# -- supervisors -----------------------------------------------------------------------------------------------------------


async def test_a_child_of_a_dynamic_supervisor_comes_back_after_its_back_off(trace: Trace) -> None:
    async with dynamic() as root:
        ref = await root.start_child(trace.child("a", backoff=Backoff(min_seconds=2.0, max_seconds=2.0, jitter=0.0)))
        assert isinstance(ref, ActorRef)
        ref.cast(Raise(Boom()))
        await asyncio.sleep(1.9)
        assert [each.ref for each in await root.which_children()] == [None]
        await asyncio.sleep(0.2)

        (back,) = await root.which_children()
        assert back.ref is not None
        assert await back.ref.call(Ping()) == "pong"


@pytest.mark.parametrize("kind", [partial(Supervisor, ()), DynamicSupervisor], ids=["static", "dynamic"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_interrupt_in_a_child_is_no_crash_to_restart_from(kind: Callable[[], GenServer[Any]]) -> None:
    trace_ = Trace()

    async def main() -> None:
        root = await start(kind)
        ref = await root.start_child(trace_.child("a"))
        assert isinstance(ref, ActorRef)
        ref.cast(Raise(KeyboardInterrupt()))
        await root.wait()

    with pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())

    assert trace_.take().split().count("+a") == 1


async def test_a_start_that_is_cancelled_again_and_again_still_cleans_up(trace: Trace) -> None:
    release = asyncio.Event()
    async with leak_check():
        starting = asyncio.ensure_future(
            start(lambda: Supervisor([trace.child("a", terminate=2.0), trace.child("b", inits=[60.0])]))
        )
        await settle()
        for _ in range(5):
            starting.cancel()
            await asyncio.sleep(0.1)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert trace.take().split()[0] == "+a"


# -- looking in ----------------------------------------------------------------------------------------------------------


async def test_who_has_ended_or_has_no_mailbox_cannot_be_looked_into(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        pass
    for call in (get_state(ref), suspend(ref), statistics(ref)):
        with pytest.raises(NoProcess):
            await call


async def test_a_look_into_a_busy_actor_ends_by_its_own_deadline_and_disturbs_nothing(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        ref.cast(Busy(10))
        await settle()
        with pytest.raises(CallTimeout):
            await get_state(ref, timeout=1)
        assert (await get_state(ref, timeout=60))["id"] == "a"


async def test_a_look_that_the_actor_s_end_overtakes_learns_its_reason(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        ref.cast(Busy(1))
        await settle()
        look = asyncio.ensure_future(get_state(ref, timeout=60))
        await settle()
        ref.exit(Killed())
        with pytest.raises(ActorExited):
            await look


async def test_a_replacement_of_the_state_may_take_attributes_away(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        state = await replace_state(ref, lambda state: {k: v for k, v in state.items() if k != "seen"})

        assert "seen" not in state


async def test_a_trace_of_nobody_is_over_at_once_and_one_of_who_ends_then() -> None:
    trace_ = Trace()
    assert await trace(Registry().via("nobody"), max_events=5, seconds=60) == []
    async with server(lambda: Traced(trace_, "a")) as ref:
        following = trace(ref, max_events=5, seconds=60)
        ref.cast("one")
        await settle()
        await end(ref, Normal())
        following.close()
        following.close()

        assert [event.message for event in await following][:1] == ["'one'"]


async def test_a_trace_closes_itself_at_its_last_event_and_others_go_on(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        short, long = _follow(ref, 1), _follow(ref, 3)
        await settle()
        for number in range(3):
            ref.cast(number)
        await settle()
        await ref.call(Ping())

        assert [event.message for event in await short] == ["0"]
        assert [event.message for event in await long] == ["0", "1", "2"]


def _follow(ref: ActorRef, count: int) -> Any:
    from supervisors import trace as follow

    return follow(ref, max_events=count, seconds=60)


# -- registries ------------------------------------------------------------------------------------------------------------


async def test_a_listener_is_told_and_one_that_has_no_room_holds_nobody_up(trace: Trace) -> None:
    class Deaf(Bounded):
        mailbox_limit = 1
        mailbox_policy = "reject"

    registry = Registry()
    async with running(
        trace.child("hears"), ChildSpec(id="deaf", start=lambda: Deaf(trace, "deaf")), registry=registry
    ) as root:
        hears, deaf = await child(root, "hears"), await child(root, "deaf")
        registry.listen(hears)
        registry.listen(deaf)
        deaf.cast(Busy(5))
        await settle()
        for number in range(3):
            registry.register(f"name{number}", hears)
        await settle()

        told = await hears.call(Seen())
        assert [type(info) for info in told] == [Registered] * 3
        assert registry.dead_letters["mailbox_full"] == 2


async def test_a_table_that_has_a_process_is_empty_when_that_ends(trace: Trace) -> None:
    registry = Registry()
    async with running(registry.child_spec(), trace.child("a"), registry=registry) as root:
        registry.register("x", await child(root, "a"))
        owner = await child(root, "registry")
        assert (await get_state(owner)) is not None
        crash(owner, Boom())
        await settle()

        assert dict(registry.names()) == {}


async def test_the_owner_of_a_table_tells_its_size(trace: Trace) -> None:
    registry = Registry()
    async with running(registry.child_spec(), registry=registry) as root:
        owner = await child(root, "registry")
        assert owner.process.behaviour is not None

        assert owner.process.behaviour.status() == {"keys": "unique", "names": 1}


async def test_dispatch_to_a_name_that_nobody_has_does_nothing() -> None:
    registry = Registry("duplicate")
    called: list[object] = []

    registry.dispatch("nobody", called.append)

    assert called == []


# -- tasks -------------------------------------------------------------------------------------------------------------------


async def test_a_linked_task_is_stopped_when_whoever_awaits_it_is_cancelled() -> None:
    async with server(TaskSupervisor) as tasks:
        handle = TaskSupervisor.async_(tasks, asyncio.sleep, 3600)
        waiting = asyncio.ensure_future(_await(handle))
        await settle()
        waiting.cancel()
        await settle()

        assert not handle.process.alive


async def _await(handle: Any) -> Any:
    return await handle


# -- what people read ------------------------------------------------------------------------------------------------------


async def test_values_and_references_say_what_they_are(trace: Trace) -> None:
    registry = Registry()
    async with server(lambda: Traced(trace, "a"), registry=registry) as ref:
        via = registry.via("a")

        assert [repr(v) for v in (NO_REPLY, Continue(1), Timeout(2.0), Ignore(), Reply(3), Stop(Normal()))] == [
            "NO_REPLY",
            "Continue(1)",
            "Timeout(2.0)",
            "Ignore()",
            "Reply(3, then=None)",
            "Stop(Normal())",
        ]
        assert repr(via) == "<Via a>"
        assert via == registry.via("a") != registry.via("b")
        assert len({via, registry.via("a")}) == 1
        assert repr(ref).startswith("<ActorRef ")
        assert repr(registry) == "<Registry unique, 1 names>"
        assert ref.name == "root"
        caller = Caller(asyncio.get_running_loop().create_future(), Ping(), ref.process, None, None)
        assert repr(caller) == "<Caller outside waits>"
        caller.reply("x")
        assert repr(caller) == "<Caller outside gone>"


def test_a_loop_that_never_comes_to_rest_is_told() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_soon(again)

        again()
        with pytest.raises(RuntimeError, match="still busy"):
            await settle()
        raise SystemExit

    with pytest.raises(SystemExit), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


async def test_a_leak_check_inside_another_finds_its_own_leaks(trace: Trace) -> None:
    async with leak_check():
        outer = await start(lambda: Traced(trace, "outer"))
        with pytest.raises(AssertionError, match="left behind"):
            async with leak_check():
                inner = await start(lambda: Traced(trace, "inner"))
        await halt(inner)
        await halt(outer)


# -- races that end well -------------------------------------------------------------------------------------------------


async def test_a_restart_that_is_due_when_its_child_was_taken_out_starts_nothing(trace: Trace) -> None:
    async with dynamic() as root:
        ref = await root.start_child(trace.child("a", backoff=Backoff(min_seconds=2.0, max_seconds=2.0, jitter=0.0)))
        assert isinstance(ref, ActorRef)
        ref.cast(Raise(Boom()))
        await settle()
        slow = asyncio.ensure_future(root.start_child(trace.child("slow", inits=[5.0])))
        await settle()
        removal = asyncio.ensure_future(
            root.terminate_child("a")
        )  # waits behind it, and the restart falls due meanwhile
        await slow
        await removal
        await settle()

        assert [each.id for each in await root.which_children()] == ["slow"]
        assert trace.take().split().count("+a") == 1


async def test_a_child_that_asks_for_its_own_end_is_refused_at_once_where_that_is_asked_for(trace: Trace) -> None:
    async with leak_check():
        root = await start(DynamicSupervisor, fail_circular_calls=True)
        ref = await root.start_child(trace.child("a"))
        other = await root.start_child(trace.child("b"))
        assert isinstance(ref, ActorRef)
        assert isinstance(other, ActorRef)

        async def end_myself() -> object:
            try:
                return await root.terminate_child(ref)
            except CircularCall:
                return "circular"

        async def end_the_other() -> object:
            return await root.terminate_child(other)

        assert await ref.call(Run(end_myself)) == "circular"
        assert str(await ref.call(Run(end_the_other))) == "Done()"
        await halt(root)


async def test_a_task_and_a_suspended_actor_stop_when_they_are_asked(trace: Trace) -> None:
    task = await start(lambda: Task(lambda: asyncio.sleep(3600)))
    await task.stop()
    assert task.process.reason == Normal()

    ref = await start(lambda: Traced(trace, "a"))
    await suspend(ref)
    await ref.stop(Shutdown())
    assert ref.process.reason == Shutdown()


async def test_a_trace_shows_calls_too_and_a_timeout_that_is_armed_ends_with_its_actor(trace: Trace) -> None:
    class Waiting(Traced):
        async def handle_cast(self, message: Any) -> Any:
            await super().handle_cast(message)
            return Timeout(3600.0) if message == "arm" else None

    async with server(lambda: Waiting(trace, "a")) as ref:
        following = _follow(ref, 2)
        await settle()
        await ref.call(Ping())
        ref.cast("arm")
        await settle()

        assert [(event.kind, event.message) for event in await following] == [
            ("call", "Ping(text='pong')"),
            ("cast", "'arm'"),
        ]
        await end(ref, Killed())


async def test_a_name_is_taken_from_everybody_when_nobody_asks_for_himself(trace: Trace) -> None:
    registry = Registry("duplicate")
    async with running(trace.child("a"), trace.child("b")) as root:
        for id_ in "ab":
            registry.register("both", await child(root, id_))
        registry.unregister("both")

        assert registry.entries("both") == []


async def test_a_storm_of_crashes_is_reported_a_few_times_and_counted(trace: Trace) -> None:
    recorder = Recorder()
    root = await start(partial(Supervisor, [trace.child("a")], max_restarts=1000), observers=[recorder])
    for _ in range(50):
        (await child(root, "a")).cast(Raise(Boom()))
        await settle()
    told = len(recorder.of(CrashReport))
    await asyncio.sleep(3600)
    (await child(root, "a")).cast(Raise(Boom()))
    await settle()

    assert told < 50
    assert recorder.of(CrashReport)[-1].suppressed == 50 - told
    await halt(root)


async def test_an_unlinked_task_goes_on_when_whoever_awaits_it_is_cancelled() -> None:
    async with server(TaskSupervisor) as tasks:
        handle = TaskSupervisor.async_nolink(tasks, asyncio.sleep, 5)
        waiting = asyncio.ensure_future(_await(handle))
        await settle()
        waiting.cancel()
        await settle()

        assert handle.process.alive


async def test_a_sender_that_gives_up_in_the_turn_in_which_there_is_room_loses_its_message() -> None:
    trace_ = Trace()

    class Blocking(Bounded):
        mailbox_policy = "block"

    async with server(lambda: Blocking(trace_, "a")) as ref:
        ref.cast(Busy(1))
        await settle()
        ref.cast(1)
        ref.cast(2)
        waiting = asyncio.ensure_future(
            ref.cast_wait("late", timeout=1.0)
        )  # the deadline falls into the turn of the room
        other = asyncio.ensure_future(ref.cast_wait("other", timeout=None))
        await asyncio.wait([waiting, other])
        seen = await ref.call(Seen())

    assert seen in ([1, 2, "other"], [1, 2, "late", "other"])
    assert (waiting.exception() is None) == ("late" in seen)


async def test_a_stranger_s_cancel_during_terminate_does_not_cut_it_short(trace: Trace) -> None:
    ref = await start(lambda: Traced(trace, "a", terminate=2.0))
    ref.cast(Raise(Boom()))
    await asyncio.sleep(0.5)
    assert ref.process.task is not None
    ref.process.task.cancel()
    await ref.wait()

    assert trace.take().split()[:2] == ["+a", "-a"]


async def test_a_supervisor_that_is_killed_while_it_stops_takes_its_children_along(trace: Trace) -> None:
    async with leak_check():
        root = await start(partial(Supervisor, [trace.child("a", terminate=60.0, shutdown=120.0)]))
        assert root.process.task is not None
        root.process.task.cancel()
        await asyncio.sleep(0.1)
        root.exit(Killed())

        assert await root.wait() == Killed()


def test_a_loop_that_is_thrown_away_ends_its_processes_all_the_same() -> None:
    trace_ = Trace()
    loop = VirtualTimeLoop()
    ref = loop.run_until_complete(start(lambda: Traced(trace_, "a")))
    task = ref.process.task
    assert task is not None
    task.get_coro().close()  # as the garbage collector does with what nobody runs any more

    assert not ref.process.alive
    loop.close()


@pytest.mark.parametrize("kind", [partial(Supervisor, ()), DynamicSupervisor], ids=["static", "dynamic"])
async def test_a_group_of_exceptions_that_holds_an_interrupt_ends_the_tree(
    kind: Callable[[], GenServer[Any]], trace: Trace
) -> None:
    async with leak_check():
        root = await start(kind)
        ref = await root.start_child(trace.child("a"))
        assert isinstance(ref, ActorRef)
        group = BaseExceptionGroup("both", [KeyboardInterrupt(), Boom()])
        ref.cast(Raise(group))

        reason = await root.wait()

    assert isinstance(reason, Crashed)
    assert trace.take().split().count("+a") == 1


async def test_a_process_that_is_killed_while_it_waits_for_what_it_spawned_kills_that(trace: Trace) -> None:
    async def linger() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(50)

    class Parent(Traced):
        async def init(self) -> None:
            self.spawn(linger(), name="lingers")

    async with leak_check():
        ref = await start(lambda: Parent(trace, "a"))
        stopping = asyncio.ensure_future(ref.stop())
        await asyncio.sleep(1)
        ref.exit(Killed())
        await stopping  # why it ends was decided before

        assert asyncio.get_running_loop().time() < 5
        await asyncio.sleep(60)


async def test_one_that_is_given_up_takes_what_it_spawned_along(trace: Trace) -> None:
    release = asyncio.Event()

    class Parent(Stubborn):
        def init(self) -> None:
            self.spawn(asyncio.sleep(3600), name="child")

    async with leak_check():
        ref = await start(lambda: Parent(release))
        (spawned,) = ref.process.children or {}
        ref.cast("be stubborn")
        await settle()
        ref.exit(Killed())
        await ref.wait()
        await spawned.wait()

        assert not spawned.alive
        release.set()
        await asyncio.sleep(1)


@pytest.mark.parametrize("then", ["cancel", "kill", "both"])
async def test_a_crash_on_request_that_meets_a_cancel_or_a_kill_ends_it_once(trace: Trace, then: str) -> None:
    async with leak_check():
        ref = await start(lambda: Traced(trace, "a", terminate=1.0))
        ref.cast(Busy(5))
        await settle()
        ref.process.crash(Boom())
        assert ref.process.task is not None
        if then != "kill":
            ref.process.task.cancel()
            await asyncio.sleep(0)
            ref.process.task.cancel()
        if then != "cancel":
            await asyncio.sleep(0)
            ref.exit(Killed())
        reason = await ref.wait()

    assert isinstance(reason, Crashed | Killed)
    assert trace.take().split().count("-a") <= 1


async def test_a_long_chain_of_continues_lets_looks_in() -> None:
    class Chain(GenServer[Any]):
        def init(self) -> Continue:
            self.left = 20_000
            return Continue("go")

        def handle_continue(self, term: object) -> Continue | None:
            self.left -= 1
            return Continue("go") if self.left else None

    async with server(Chain) as ref:
        state = await get_state(ref)

        assert 0 < state["left"] < 20_000


async def test_an_actor_gives_its_own_name_up_without_naming_itself(trace: Trace) -> None:
    registry = Registry()
    async with running(trace.child("a", name="mine"), registry=registry) as root:
        ref = await child(root, "a")

        async def give_up() -> None:
            registry.unregister("mine")

        await ref.call(Run(give_up))
        assert registry.lookup("mine") is None


async def test_a_handler_that_turns_its_cancellation_into_an_error_ends_for_the_signal_s_reason(trace: Trace) -> None:
    async def convert() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise Boom("converted") from None

    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        call = asyncio.ensure_future(ref.call(Run(convert), timeout=None))
        await settle()
        ref.exit(Shutdown("signal"))
        ref.exit(Killed())
        ref.exit(Shutdown("too late"))

        with pytest.raises(ActorExited):
            await call
        assert ref.process.reason in (Killed(), Shutdown("signal"))


async def test_a_signal_s_reason_stands_against_an_error_of_the_handler_that_it_interrupts(trace: Trace) -> None:
    async def convert() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise Boom("converted") from None

    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        call = asyncio.ensure_future(ref.call(Run(convert), timeout=None))
        await settle()
        ref.exit(Shutdown("signal"))

        with pytest.raises(ActorExited):
            await call
        assert ref.process.reason == Shutdown("signal")


async def test_one_exception_that_is_raised_twice_is_reported_once(trace: Trace) -> None:
    error, recorder = Boom("once"), Recorder()
    ref = await start(lambda: Traced(trace, "a", terminate=error), observers=[recorder])
    ref.cast(Raise(error))
    await ref.wait()

    assert len(recorder.of(CrashReport)) == 1


async def test_an_init_that_turns_its_timeout_into_an_error_has_timed_out_all_the_same() -> None:
    class Converting(GenServer[Any]):
        async def init(self) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise Boom("converted") from None

    async with leak_check():
        with pytest.raises(StartError, match="init took longer than 1 s"):
            await start(ChildSpec(id="slow", start=Converting, start_timeout=1.0))


async def test_calls_in_a_circle_wait_for_their_deadline_unless_it_is_turned_on_but_a_call_to_oneself_fails(
    trace: Trace,
) -> None:
    async with running(*trace.children("ab")) as root:
        a, b = await child(root, "a"), await child(root, "b")

        async def back_to_a() -> object:
            with pytest.raises(CallTimeout):
                await a.call(Ping(), timeout=2)
            return "late"

        async def to_myself() -> object:
            with pytest.raises(CircularCall):
                await a.call(Ping())
            return "at once"

        assert await a.call(Run(lambda: b.call(Run(back_to_a), timeout=60)), timeout=None) == "late"
        assert await a.call(Run(to_myself)) == "at once"


async def test_a_task_beside_an_actor_may_call_it(trace: Trace) -> None:
    async with running(trace.child("a"), fail_circular_calls=True) as root:
        a = await child(root, "a")
        beside: list[asyncio.Task[str]] = []

        async def begin() -> None:
            beside.append(asyncio.create_task(a.call(Ping())))
            await asyncio.sleep(1)

        await a.call(Run(begin))
        assert await beside[0] == "pong"
