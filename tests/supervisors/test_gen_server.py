"""Section 1.10: one actor."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from attrs import frozen

from supervisors import (
    NO_REPLY,
    ActorExited,
    Call,
    Caller,
    CallTimeout,
    ChildSpec,
    Continue,
    Crashed,
    ExitReason,
    GenServer,
    Info,
    Killed,
    NoProc,
    NoProcess,
    Normal,
    Registry,
    Reply,
    Shutdown,
    StartError,
    Stop,
    TimedOut,
    Timeout,
    start,
)
from supervisors.testing import crash, leak_check, settle
from tests.supervisors.actors import (
    Boom,
    Busy,
    End,
    Fail,
    Note,
    Ping,
    Raise,
    Run,
    Seen,
    Trace,
    Traced,
    Work,
    child,
    end,
    fail,
    info,
    running,
    server,
    stopwatch,
)

pytestmark = pytest.mark.anyio


@frozen
class Ask(Call[str]):
    """Answered as the test's server decides."""

    what: str = ""


# -- the queue


async def test_fifo_for_calls_casts_and_infos_alike() -> None:
    order: list[str] = []

    class Server(GenServer[str]):
        def handle_call(self, message: Call[Any], caller: Caller[Any]) -> str:
            order.append("call")
            return ""

        def handle_cast(self, message: str) -> None:
            order.append(message)

        def handle_info(self, info: Info) -> None:
            order.append("info")

    async with server(Server) as ref:
        ref.cast("first")
        ref.send(Note("second"))
        calling = asyncio.ensure_future(ref.call(Ask()))
        await settle()
        ref.cast("last")
        await calling
        await settle()

        assert order == ["first", "info", "call", "last"]


async def test_continue_runs_before_anything_queued_also_right_after_init() -> None:
    seen: list[object] = []

    class Server(GenServer[str]):
        def init(self) -> Continue:
            self.ref.cast("queued in init")
            return Continue("from init")

        def handle_continue(self, term: object) -> Continue | None:
            seen.append(term)
            return Continue("again") if term == "from init" else None

        def handle_cast(self, message: str) -> Continue | None:
            seen.append(message)
            return Continue("from cast") if message == "queued in init" else None

    async with server(Server) as ref:
        ref.cast("queued after start")
        await settle()

        assert seen == ["from init", "again", "queued in init", "from cast", "queued after start"]


async def test_continue_after_init_lets_the_starter_go_on() -> None:
    class Server(GenServer[str]):
        def init(self) -> Continue:
            return Continue("slow")

        async def handle_continue(self, term: object) -> None:
            await asyncio.sleep(60)

    with stopwatch() as seconds:
        async with server(Server):
            assert seconds() == 0.0


async def test_timeout_fires_once_when_nothing_comes(trace: Trace) -> None:
    class Server(Traced):
        def init(self) -> Timeout:  # type: ignore[override]
            return Timeout(3.0)

    async with server(lambda: Server(trace, "a")) as ref:
        await asyncio.sleep(30)

        assert await ref.call(Seen()) == [TimedOut()]


async def test_timeout_is_cancelled_by_any_message(trace: Trace) -> None:
    class Server(Traced):
        def init(self) -> Timeout:  # type: ignore[override]
            return Timeout(3.0)

    async with server(lambda: Server(trace, "a")) as ref:
        await asyncio.sleep(2)
        ref.cast("hello")
        await asyncio.sleep(30)

        assert await ref.call(Seen()) == ["hello"]


# -- call


async def test_call_to_a_dead_process_is_no_process_at_once(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        ref = await child(root, "a")
        await root.terminate_child("a")

        with stopwatch() as seconds, pytest.raises(NoProcess) as failed:
            await ref.call(Ping())

        assert seconds() == 0.0
        assert failed.value.reason == NoProc()


async def test_call_to_an_unknown_name_is_no_process_at_once() -> None:
    with pytest.raises(NoProcess):
        await Registry().via("nobody").call(Ping())


@pytest.mark.parametrize("reason", [Normal(), Shutdown("x"), Killed()])
async def test_call_whose_server_ends_meanwhile_gets_its_exit_reason(trace: Trace, reason: ExitReason) -> None:
    async with running(trace.child("a", restart="temporary")) as root:
        ref = await child(root, "a")

        async def die() -> object:
            if reason == Killed():
                ref.exit(Killed())
                await asyncio.sleep(60)
            return Stop(reason)

        with stopwatch() as seconds, pytest.raises(ActorExited) as failed:
            await ref.call(Run(die))

        assert seconds() == 0.0
        assert failed.value.reason is ref.process.reason
        assert failed.value.reason == reason


async def test_call_whose_server_crashes_gets_the_very_same_reason_object(trace: Trace) -> None:
    bug = Boom("handler")

    async with running(trace.child("a")) as root:
        ref = await child(root, "a")
        with pytest.raises(ActorExited) as failed:
            await ref.call(Fail(bug))

        assert failed.value.reason is ref.process.reason
        assert isinstance(failed.value.reason, Crashed)
        assert failed.value.reason.exception is bug


async def test_callers_queued_behind_a_crash_get_its_reason_too(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        ref = await child(root, "a")
        ref.cast(Busy(1))
        ref.cast(Raise(Boom()))
        waiting = [asyncio.ensure_future(ref.call(Ping())) for _ in range(3)]
        answers = await asyncio.gather(*waiting, return_exceptions=True)

        assert [answer.reason for answer in answers if isinstance(answer, ActorExited)] == [ref.process.reason] * 3


async def test_call_timeout_is_the_callers_alone_and_the_request_is_still_handled(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        ref.cast(Busy(10))
        ref.cast("kept")

        with stopwatch() as seconds, pytest.raises(CallTimeout):
            await ref.call(Ping(), timeout=3.0)

        assert seconds() == 3.0
        await asyncio.sleep(10)
        assert await ref.call(Seen()) == ["kept"]
        assert ref.alive


async def test_call_timeout_is_five_seconds_by_default(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        with stopwatch() as seconds, pytest.raises(CallTimeout):
            await ref.call(Work(60))

        assert seconds() == 5.0
        await asyncio.sleep(60)


async def test_call_without_a_timeout_waits_as_long_as_it_takes(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        assert await ref.call(Work(86_400), timeout=None) == "done"


async def test_late_reply_is_dropped_and_never_meets_the_next_call(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        with pytest.raises(CallTimeout):
            await ref.call(Work(6), timeout=1.0)

        assert await ref.call(Ping("next"), timeout=60) == "next"


# -- cast and info


async def test_cast_and_info_to_the_dead_or_unknown_are_silently_ok(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        ref = await child(root, "a")
        await root.terminate_child("a")

        ref.cast("nobody hears")
        ref.send(Note("nobody hears"))
        Registry().via("nobody").cast("nobody hears")
        Registry().via("nobody").send(Note("nobody hears"))


# -- replies


class Deferring(GenServer[str]):
    """Keeps its callers until it is told whom to answer."""

    def init(self) -> None:
        self.callers: dict[str, Caller[str]] = {}

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
        match message:
            case Ask(what):
                self.callers[what] = caller
                return NO_REPLY
            case Ping("twice"):
                caller.reply("first")
                caller.reply("second")
                return NO_REPLY
            case Ping("explicit and return"):
                caller.reply("explicit")
                return "returned"
            case Ping("then crash"):
                caller.reply("made it")
                raise Boom
            case _:
                raise TypeError(message)

    def handle_cast(self, message: str) -> None:
        if message.startswith("fail "):
            self.callers[message.removeprefix("fail ")].fail(LookupError("nothing there"))
        else:
            self.callers[message].reply(f"answer to {message}")


async def test_deferred_replies_in_any_order() -> None:
    async with server(Deferring) as ref:
        asking = {what: asyncio.ensure_future(ref.call(Ask(what))) for what in "abc"}
        await settle()
        for what in "cab":
            ref.cast(what)
        await settle()

        assert {what: future.result() for what, future in asking.items()} == {
            "a": "answer to a",
            "b": "answer to b",
            "c": "answer to c",
        }


async def test_fail_is_raised_at_the_caller_and_leaves_the_server_alive() -> None:
    async with server(Deferring) as ref:
        asking = asyncio.ensure_future(ref.call(Ask("a")))
        await settle()
        ref.cast("fail a")

        with pytest.raises(LookupError, match="nothing there"):
            await asking
        assert ref.alive


async def test_explicit_reply_before_a_crash_still_arrives() -> None:
    async with leak_check():
        ref = await start(Deferring)

        assert await ref.call(Ping("then crash")) == "made it"
        assert isinstance(await ref.wait(), Crashed)


@pytest.mark.parametrize(("text", "answer"), [("twice", "first"), ("explicit and return", "explicit")])
async def test_second_reply_is_dropped(text: str, answer: str) -> None:
    async with server(Deferring) as ref:
        assert await ref.call(Ping(text)) == answer
        await settle()
        assert ref.alive


async def test_reply_value_then_continue_answers_before_it_goes_on() -> None:
    order: list[str] = []

    class Server(GenServer[str]):
        def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Reply:
            return Reply("now", then=Continue("later"))

        async def handle_continue(self, term: object) -> None:
            await asyncio.sleep(5)
            order.append(str(term))

    async with server(Server) as ref:
        with stopwatch() as seconds:
            assert await ref.call(Ask()) == "now"
        assert seconds() == 0.0

        await asyncio.sleep(6)
        assert order == ["later"]


async def test_stop_with_a_reply_runs_terminate_before_the_reply_is_sent() -> None:
    order: list[str] = []

    class Server(GenServer[str]):
        def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Stop:
            return Stop(Normal(), reply="bye")

        async def terminate(self, reason: ExitReason) -> None:
            await asyncio.sleep(1)
            order.append("terminated")

    async with leak_check():
        ref = await start(Server)
        assert await ref.call(Ask()) == "bye"
        order.append("answered")

        assert order == ["terminated", "answered"]
        assert await ref.wait() == Normal()


async def test_stop_without_a_reply_gives_the_caller_the_reason() -> None:
    class Server(GenServer[str]):
        def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Stop:
            return Stop(Shutdown("enough"))

    async with leak_check():
        ref = await start(Server)
        with pytest.raises(ActorExited) as failed:
            await ref.call(Ask())

        assert failed.value.reason == Shutdown("enough")


# -- ends


async def test_exception_in_a_handler_runs_terminate_with_it_and_is_the_reason(trace: Trace) -> None:
    bug = Boom("handler")

    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        await end(ref, Crashed(bug))

        assert trace.take() == "+a -a"
        assert isinstance(trace.reasons[0], Crashed)
        assert trace.reasons[0].exception is bug
        assert isinstance(ref.process.reason, Crashed)
        assert ref.process.reason.exception is bug


@pytest.mark.parametrize("callback", ["handle_call", "handle_cast", "handle_info", "handle_continue"])
async def test_exception_of_every_callback_is_a_crash(callback: str) -> None:
    class Server(GenServer[Any]):
        def handle_call(self, message: Call[Any], caller: Caller[Any]) -> None:
            raise Boom("handle_call")

        def handle_cast(self, message: Any) -> Continue:
            if callback == "handle_continue":
                return Continue(None)
            raise Boom("handle_cast")

        def handle_info(self, info: Info) -> None:
            raise Boom("handle_info")

        def handle_continue(self, term: object) -> None:
            raise Boom("handle_continue")

    async with leak_check():
        ref = await start(Server)
        if callback == "handle_call":
            with pytest.raises(ActorExited):
                await ref.call(Ask())
        elif callback == "handle_info":
            ref.send(Note(""))
        else:
            ref.cast("")

        assert str(await ref.wait()) == f"Boom: {callback}"


async def test_kill_runs_no_terminate(trace: Trace) -> None:
    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        await end(ref, Killed())

        assert trace.take() == "+a"
        assert ref.process.reason == Killed()


async def test_queue_is_lost_and_state_fresh_after_a_restart(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        ref = await child(root, "a")
        ref.cast("handled")
        ref.cast(Raise(Boom()))
        ref.cast("queued behind")
        await settle()

        assert await (await child(root, "a")).call(Seen()) == []


async def test_bad_return_is_a_crash_that_says_so() -> None:
    class Server(GenServer[str]):
        def handle_cast(self, message: str) -> Any:
            return "nonsense"

    async with leak_check():
        ref = await start(Server)
        ref.cast("")

        assert "BadReturn" in str(await ref.wait())


async def test_failed_init_runs_no_terminate_and_leaves_no_name(trace: Trace) -> None:
    registry = Registry()

    with leak_check(), pytest.raises(StartError):
        await start(trace.child("a", inits=[Boom()], name="taken"), registry=registry)

    assert trace.take() == "!a"
    assert registry.lookup("taken") is None


async def test_crash_from_outside_is_that_bug(trace: Trace) -> None:
    bug = Boom("from outside")

    async with running(trace.child("a")) as root:
        ref = await child(root, "a")
        crash(ref, bug)
        await settle()

        assert isinstance(ref.process.reason, Crashed)
        assert ref.process.reason.exception is bug
        assert (await child(root, "a")).incarnation == 2


# -- stop


async def test_stop_handles_queued_messages_first_and_returns_when_it_has_ended(trace: Trace) -> None:
    async with leak_check():
        ref = await start(lambda: Traced(trace, "a", terminate=1.0))
        ref.cast(Busy(2))
        ref.cast(Busy(2))

        with stopwatch() as seconds:
            await ref.stop()

        assert seconds() == 5.0
        assert trace.take() == "+a =a =a -a .a"
        assert ref.process.reason == Normal()


async def test_stop_with_a_reason_is_ok_if_it_really_exits_with_it(trace: Trace) -> None:
    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        await ref.stop(Shutdown("upgrade"))

        assert ref.process.reason == Shutdown("upgrade")


async def test_stop_that_meets_another_reason_raises_the_real_one(trace: Trace) -> None:
    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        ref.cast(Raise(Boom("before the stop")))
        with pytest.raises(ActorExited) as failed:
            await ref.stop()

        assert failed.value.reason is ref.process.reason
        assert str(failed.value.reason) == "Boom: before the stop"


async def test_stop_of_the_dead_is_no_process(trace: Trace) -> None:
    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        await ref.stop()

        with pytest.raises(NoProcess):
            await ref.stop()


async def test_stop_that_takes_too_long_is_a_call_timeout(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        ref.cast(Busy(10))

        with stopwatch() as seconds, pytest.raises(CallTimeout):
            await ref.stop(timeout=2.0)

        assert seconds() == 2.0
        await ref.wait()


# -- two actors


async def test_two_actors_that_call_each_other_are_saved_by_the_timeout_alone(trace: Trace) -> None:
    async with running(*trace.children("ab")) as root:
        a, b = await child(root, "a"), await child(root, "b")

        def ask_back() -> Any:
            return a.call(Ping(), timeout=2.0)

        with stopwatch() as seconds, pytest.raises(ActorExited) as failed:
            await a.call(Run(lambda: b.call(Run(ask_back), timeout=60)), timeout=None)

        assert seconds() == 2.0
        assert "CallTimeout" in str(b.process.reason)
        assert failed.value.reason is a.process.reason


# -- what the base class provides


async def test_send_after_sends_later_and_can_be_cancelled(trace: Trace) -> None:
    class Server(Traced):
        async def init(self) -> None:
            self.send_after(3.0, Note("kept"))
            self.send_after(2.0, Note("cancelled")).cancel()

    async with server(lambda: Server(trace, "a")) as ref:
        await asyncio.sleep(2.9)
        assert await ref.call(Seen()) == []

        await asyncio.sleep(0.2)
        assert await ref.call(Seen()) == [Note("kept")]


async def test_timers_die_with_their_actor(trace: Trace) -> None:
    class Server(Traced):
        async def init(self) -> None:
            self.send_after(1_000_000.0, Note("never"))

    async with leak_check():
        ref = await start(lambda: Server(trace, "a"))
        await ref.stop()


async def test_now_is_the_loops_clock(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        behaviour = ref.process.behaviour
        before = behaviour.now()
        await asyncio.sleep(2)

        assert behaviour.now() - before == pytest.approx(2.0)


class Spawning(GenServer[Any]):
    """Runs coroutines in its own scope."""

    async def handle_cast(self, message: Any) -> Any:
        if isinstance(message, End):
            return Stop(message.reason)
        self.child = self.spawn(message(), name="job")
        return None


async def test_spawned_task_runs_beside_the_actor(trace: Trace) -> None:
    async def job() -> None:
        await asyncio.sleep(1)
        trace("done")

    async with server(Spawning) as ref:
        ref.cast(job)
        await asyncio.sleep(2)

        assert trace.take() == "done"
        assert ref.alive


async def test_spawned_task_is_cancelled_and_awaited_when_the_actor_ends(trace: Trace) -> None:
    async def job() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            trace("cleaned")

    async with leak_check():
        ref = await start(Spawning)
        ref.cast(job)
        await settle()
        await ref.stop()

        assert trace.take() == "cleaned"


@pytest.mark.parametrize("reason", [Killed(), Crashed(Boom())])
async def test_spawned_task_ends_with_its_actor_however_that_ends(reason: ExitReason) -> None:
    async def job() -> None:
        await asyncio.sleep(60)

    async with leak_check():
        ref = await start(Spawning)
        ref.cast(job)
        await settle()
        task = ref.process.behaviour.child
        if isinstance(reason, Crashed):
            crash(ref, reason.exception)
        else:
            ref.exit(reason)
        await ref.wait()
        await settle()

        assert not task.alive


async def test_spawned_task_that_crashes_crashes_its_actor() -> None:
    bug = Boom("job")

    async def job() -> None:
        await asyncio.sleep(1)
        raise bug

    async with leak_check():
        ref = await start(Spawning)
        ref.cast(job)
        reason = await ref.wait()

        assert isinstance(reason, Crashed)
        assert reason.exception is bug


async def test_restart_gives_a_new_incarnation_with_the_same_path(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        old = await child(root, "a")
        await fail(root, "a")
        new = await child(root, "a")

        assert (old.incarnation, new.incarnation) == (1, 2)
        assert old.path == new.path
        assert old != new
        assert len({old, new, await child(root, "a")}) == 2
        assert (await info(root, "a")).restarts == 1


async def test_end_cast_before_and_after_leaves_no_trace_of_the_second(trace: Trace) -> None:
    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        ref.cast(End(Normal()))
        ref.cast(End(Shutdown("second")))

        assert await ref.wait() == Normal()


async def test_behaviour_with_plain_functions_only_is_enough() -> None:
    class Plain(GenServer[int]):
        def init(self) -> None:
            self.total = 0

        def handle_cast(self, message: int) -> None:
            self.total += message

        def handle_call(self, message: Call[Any], caller: Caller[Any]) -> int:
            return self.total

    async with server(Plain) as ref:
        for number in range(1000):
            ref.cast(number)

        assert await ref.call(Ask()) == 499_500  # type: ignore[comparison-overlap]


async def test_endless_continue_lets_others_have_their_turn_and_can_be_stopped(trace: Trace) -> None:
    class Chunked(GenServer[str]):
        def init(self) -> Continue:
            return Continue(0)

        def handle_continue(self, term: object) -> Continue:
            assert isinstance(term, int)
            assert term < 100_000, "nobody else had a turn"
            return Continue(term + 1)

    async with running(ChildSpec(id="c", start=Chunked), trace.child("a")) as root:
        assert await (await child(root, "a")).call(Ping()) == "pong"
        await root.terminate_child("c")
