"""What an operator does to a running tree: suspend for a while, restart by hand, follow messages, see who is busy and where tasks are."""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from supervisors import (
    NO_REPLY,
    ActorExited,
    ActorRef,
    Call,
    Caller,
    CircularCall,
    Continue,
    GenServer,
    Ignore,
    Ignored,
    Info,
    Killed,
    Normal,
    NotFound,
    Reply,
    StartFailed,
    Stop,
    Timeout,
    TraceEvent,
    activity,
    get_status,
    processes,
    resume,
    stacks,
    suspend,
    tree,
)
from supervisors import trace as follow
from supervisors.receive import SystemRequest
from supervisors.testing import settle
from tests.supervisors.actors import (
    Boom,
    Busy,
    Ping,
    Run,
    Seen,
    Trace,
    Traced,
    child,
    end,
    fail,
    nested,
    node,
    running,
    server,
    states,
)

pytestmark = pytest.mark.anyio


# -- suspended for a while


async def test_a_suspension_ends_by_itself_and_what_has_queued_is_handled(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        await suspend(ref, seconds=30)
        ref.cast("queued")
        await asyncio.sleep(29)
        status = await get_status(ref)
        assert (status["state"], status["resumes_in_seconds"], status["mailbox"]["depth"]) == ("suspended", 1.0, 1)

        await asyncio.sleep(2)
        assert await ref.call(Seen()) == ["queued"]
        status = await get_status(ref)
        assert (status["state"], status["resumes_in_seconds"]) == ("running", None)


async def test_a_later_suspension_replaces_the_time_of_an_earlier_one(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        await suspend(ref, seconds=10)
        await suspend(ref, seconds=100)
        await asyncio.sleep(50)
        assert tree(ref).state == "suspended"

        await suspend(ref)
        await asyncio.sleep(1_000)
        assert tree(ref).state == "suspended"

        await resume(ref)
        assert tree(ref).state == "running"


async def test_a_suspension_that_was_lifted_early_does_not_end_the_next_one(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        await suspend(ref, seconds=10)
        await resume(ref)
        await suspend(ref)
        await asyncio.sleep(20)

        assert tree(ref).state == "suspended"


async def test_an_actor_that_ends_while_it_is_suspended_leaves_no_timer_and_its_successor_runs(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        ref = await child(root, "a")
        await suspend(ref, seconds=3600)
        await end(ref, Killed())
        timers = [t for t in asyncio.get_running_loop()._scheduled if not t.cancelled()]  # type: ignore[attr-defined]

        assert states(root) == {"a": "running"}
        assert timers == []


# -- restarted by hand


async def test_a_restart_by_hand_costs_nothing_of_the_budget(trace: Trace) -> None:
    async with running(trace.child("a"), max_restarts=0) as root:
        old = await child(root, "a")
        for _ in range(5):
            assert isinstance(await root.restart_child("a", stop=True), ActorRef)
        new = await child(root, "a")

        assert (old.alive, new.alive, new.incarnation) == (False, True, 6)
        assert node(root, "a").restarts == 5
        assert trace.take() == "+a " + "-a +a " * 4 + "-a +a"


@pytest.mark.parametrize(
    ("strategy", "story"),
    [
        ("one_for_one", "-b +b"),
        ("rest_for_one", "-c -b +b +c"),
        ("one_for_all", "-c -b -a +a +b +c"),
    ],
)
async def test_a_restart_by_hand_takes_along_whom_the_strategy_says(trace: Trace, strategy: Any, story: str) -> None:
    async with running(*trace.children("abc"), strategy=strategy) as root:
        trace.take()
        assert isinstance(await root.restart_child("b", stop=True), ActorRef)

        assert trace.take() == story
        assert states(root) == dict.fromkeys("abc", "running")


async def test_a_restart_by_hand_brings_back_who_is_stopped_in_its_group_as_a_crash_does(trace: Trace) -> None:
    async with running(*trace.children("abc"), strategy="rest_for_one") as root:
        await root.terminate_child("c")
        await root.restart_child("b", stop=True)

        assert states(root) == dict.fromkeys("abc", "running")


async def test_a_restart_by_hand_goes_on_when_nobody_waits_for_it(trace: Trace) -> None:
    async with running(trace.child("a", inits=[None, 10.0], terminate=10.0, shutdown=60.0)) as root:
        asking = asyncio.ensure_future(root.restart_child("a", stop=True))
        await asyncio.sleep(5)
        assert states(root) == {"a": "stopping"}
        asking.cancel()

        await asyncio.sleep(20)
        assert (states(root), node(root, "a").incarnation) == ({"a": "running"}, 2)


async def test_a_restart_by_hand_that_does_not_start_is_tried_again_as_after_a_crash(trace: Trace) -> None:
    async with running(trace.child("a", inits=[None, Boom("no"), None])) as root:
        outcome = await root.restart_child("a", stop=True)
        await settle()

        assert isinstance(outcome, StartFailed)
        assert (states(root), node(root, "a").incarnation) == ({"a": "running"}, 3)


async def test_a_restart_by_hand_whose_child_wants_none_is_no_failure(trace: Trace) -> None:
    async with running(trace.child("a", inits=[None, Ignore()])) as root:
        assert await root.restart_child("a", stop=True) == Ignored()
        assert states(root) == {"a": "stopped"}


async def test_a_restart_by_hand_starts_what_is_stopped_and_knows_whom_it_has(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        await root.terminate_child("a")
        assert isinstance(await root.restart_child("a", stop=True), ActorRef)
        assert await root.restart_child("b", stop=True) == NotFound()


@pytest.mark.parametrize(("second", "left"), [(None, {"a": "running"}), (Boom("no"), {})])
async def test_a_temporary_child_is_restarted_by_hand_once_or_is_gone(trace: Trace, second: Any, left: object) -> None:
    async with running(trace.child("a", restart="temporary", inits=[None, second])) as root:
        await root.restart_child("a", stop=True)
        await settle()

        assert states(root) == left


async def test_an_actor_that_restarts_itself_by_hand_is_refused_where_circles_are(trace: Trace) -> None:
    async with running(trace.child("a"), fail_circular_calls=True) as root:
        ref = await child(root, "a")

        async def refused() -> str:
            try:
                await root.restart_child("a", stop=True)
            except CircularCall as error:
                return str(error)
            return "done"

        assert await ref.call(Run(refused)) == "root/a -> root -> root/a"
        assert ref.alive


# -- followed


class Told(Call[str]):
    """Answered in the way that it names."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __repr__(self) -> str:
        return "secret"


class Tick(Info):
    """An info."""


class Teller(GenServer[Any]):
    """Does with a message what it says."""

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
        assert isinstance(message, Told)
        match message.how:
            case "continue":
                return Reply("more", then=Continue("term"))
            case "later":
                caller.reply("later")
                return NO_REPLY
            case "then":
                return Reply("then", then=Timeout(3))
            case "reply later":
                caller.reply("later")
                return Reply(NO_REPLY)
            case "stop":
                return Stop(Normal(), reply="stopped")
            case "crash":
                raise Boom("secret")
            case how:
                return self._slow(how)

    async def _slow(self, how: str) -> Any:
        await asyncio.sleep(2)
        if how == "slow crash":
            raise Boom("secret")
        return how

    def handle_continue(self, term: Any) -> None:
        pass

    def handle_cast(self, message: Any) -> Any:
        return Stop() if message == "stop" else None

    def handle_info(self, message: Info) -> None:
        pass


def _follow(ref: ActorRef, count: int = 100, **options: Any) -> Any:
    return follow(ref, max_events=count, seconds=60, clock=asyncio.get_running_loop().time, **options)


def _words(events: list[TraceEvent]) -> list[tuple[object, ...]]:
    return [(e.kind, e.type, e.waited_seconds, e.handled_seconds, e.outcome) for e in events]


async def test_a_trace_tells_what_came_of_each_message(trace: Trace) -> None:
    async with server(Teller) as ref:
        following = _follow(ref)
        await settle()
        for how in ("later", "then", "reply later", "slow", "continue"):
            await ref.call(Told(how))
        ref.send(Tick())
        ref.cast("note")
        ref.cast("stop")

        assert _words(await following) == [
            ("call", "Told", 0, 0, "deferred"),
            ("call", "Told", 0, 0, "replied"),
            ("call", "Told", 0, 0, "deferred"),
            ("call", "Told", 0, 2, "replied"),
            ("call", "Told", 0, 0, "replied"),
            ("info", "Tick", 0, 0, "handled"),
            ("cast", "str", 0, 0, "handled"),
            ("cast", "str", 0, 0, "stopped"),
        ]
        assert following.ended == "exited"


@pytest.mark.parametrize(
    ("how", "outcome", "seconds"), [("crash", "crashed: Boom", 0), ("slow crash", "crashed: Boom", 2)]
)
async def test_a_trace_tells_of_a_crash_by_its_type(how: str, outcome: str, seconds: float) -> None:
    async with server(Teller) as ref:
        following = _follow(ref)
        await settle()
        with pytest.raises(ActorExited):
            await ref.call(Told(how))

        assert _words(await following) == [("call", "Told", 0, seconds, outcome)]


async def test_a_trace_tells_of_a_handler_that_was_cancelled() -> None:
    async with server(Teller) as ref:
        following = _follow(ref)
        await settle()
        calling = asyncio.ensure_future(ref.call(Told("slow")))
        await asyncio.sleep(1)
        ref.exit(Killed())
        with pytest.raises(ActorExited):
            await calling

        assert _words(await following) == [("call", "Told", 0, 1, "cancelled")]


async def test_a_trace_tells_how_long_messages_waited_but_of_those_before_it_nobody_knows(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        ref.cast(Busy(5))
        ref.cast("early")
        await settle()
        ref.cast("before")
        following = _follow(ref)
        await asyncio.sleep(6)
        ref.cast(Busy(3))
        await asyncio.sleep(1)
        ref.cast("late")
        await asyncio.sleep(5)
        following.close()

        assert [(e.type, e.waited_seconds, e.handled_seconds) for e in await following] == [
            ("str", None, 0),
            ("str", None, 0),
            ("Busy", 0, 3),
            ("str", 2, 0),
        ]
        assert following.ended == "closed"


async def test_a_handler_s_own_timeout_has_waited_for_nobody() -> None:
    async with server(Teller) as ref:
        following = _follow(ref)
        await settle()
        await ref.call(Told("then"))
        await asyncio.sleep(4)
        following.close()

        assert [(e.type, e.waited_seconds) for e in await following] == [("Told", 0), ("TimedOut", None)]


async def test_waiting_is_told_rightly_when_old_messages_make_room_for_new_ones() -> None:
    class Small(Teller):
        mailbox_limit = 2
        mailbox_policy = "drop_old"

    async with server(Small) as ref:
        following = _follow(ref)
        await settle()
        await suspend(ref)
        for text in "abcd":
            ref.cast(text)
            await asyncio.sleep(1)
        await resume(ref)
        await settle()
        following.close()

        assert [(e.message, e.waited_seconds) for e in await following] == [("'c'", 2), ("'d'", 1)]


async def test_a_trace_names_who_calls_and_whose_end_is_told(trace: Trace) -> None:
    async with running(trace.child("a"), trace.child("b")) as root:
        a, b = await child(root, "a"), await child(root, "b")
        following, above = _follow(b), _follow(root)
        await settle()
        await a.call(Run(partial(b.call, Ping())))
        await b.call(Ping())
        b.cast("anonymous")
        await fail(root, "a")
        following.close()
        above.close()

        assert [event.sender for event in await following] == ["root/a", None, None]
        assert ("ChildExit", "root/a") in [(event.type, event.sender) for event in await above]


async def test_a_trace_without_payloads_tells_types_alone() -> None:
    async with server(Teller) as ref:
        following, frank = _follow(ref, 1, payloads=False), _follow(ref, 1)
        await settle()
        await ref.call(Told("later"))

        [event] = await following
        assert (event.type, event.message) == ("Told", None)
        assert "secret" not in repr(event)
        assert [event.message for event in await frank] == ["secret"]


async def test_a_slow_reader_of_a_trace_loses_events_and_holds_nobody_up(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        following = _follow(ref, 10, buffer=3)
        await settle()
        for number in range(20):
            ref.cast(number)
        await settle()
        assert await ref.call(Seen()) == list(range(20))

        assert [event.message for event in await following] == ["0", "1", "2"]
        assert (following.dropped, following.ended) == (7, "max_events")


async def test_a_trace_that_is_over_leaves_the_actor_as_it_was(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        short, long = _follow(ref, 1), _follow(ref, 3)
        await settle()
        for number in range(5):
            ref.cast(number)
        assert [len(await one) for one in (short, long)] == [1, 3]
        await settle()
        mailbox = ref.process.mailbox

        assert mailbox is not None
        assert mailbox.arrivals is None
        assert await ref.call(Seen()) == [0, 1, 2, 3, 4]


async def test_a_trace_closed_before_the_actor_hears_of_it_is_none(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        following = _follow(ref)
        following.close()
        ref.cast("one")
        await settle()

        assert await following == []


async def test_a_trace_tells_nothing_of_what_ends_after_it(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        following = _follow(ref)
        await settle()
        ref.cast(Busy(5))
        await asyncio.sleep(1)
        following.close()
        await asyncio.sleep(10)

        assert await following == []


async def test_a_trace_ends_after_its_seconds_and_says_so(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        following = follow(ref, max_events=5, seconds=3)

        assert await following == []
        assert following.ended == "seconds"


# -- who is busy


class Clock:
    """Stands still unless somebody works."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def test_activity_tells_of_each_actor_how_much_it_did(trace: Trace) -> None:
    clock = Clock()

    async def work() -> None:
        clock.seconds += 0.25

    async with running(trace.child("a"), nested("inner", trace.child("b"))) as root:
        a = await child(root, "a")
        await a.call(Run(work))
        watching = asyncio.ensure_future(activity(root, seconds=10, clock=clock))
        await settle()
        for _ in range(2):
            await a.call(Run(work))
        told = {one.ref.path: (one.seconds, one.messages, one.busy_seconds) for one in await watching}

        assert told == {
            "root": (10, 0, 0),
            "root/a": (10, 2, 0.5),
            "root/inner": (10, 0, 0),
            "root/inner/b": (10, 0, 0),
        }


async def test_activity_measures_nothing_once_it_has_told_or_was_left(trace: Trace) -> None:
    clock = Clock()
    async with running(trace.child("a")) as root:
        a = await child(root, "a")
        await activity(root, seconds=1, clock=clock)
        left = asyncio.ensure_future(activity(root, seconds=100, clock=clock))
        await settle()
        left.cancel()
        await settle()
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        assert a.process.mailbox is not None
        a.process.mailbox.put_system(SystemRequest(lambda server: server.layers, done))

        assert await done == ()


async def test_activity_says_nothing_of_those_that_come_or_go_and_does_not_guess_of_the_busy(trace: Trace) -> None:
    async with running(*trace.children("abc")) as root:
        (await child(root, "a")).cast(Busy(100))
        await settle()
        watching = asyncio.ensure_future(activity(root, seconds=10))
        await settle()
        await end(await child(root, "b"), Killed())
        told = {one.ref.path: one.busy_seconds is None for one in await watching}

        assert told == {"root": False, "root/a": True, "root/c": False}


async def test_processes_are_those_that_live_from_the_root_down(trace: Trace) -> None:
    async with running(trace.child("a"), nested("inner", trace.child("b")), trace.child("c")) as root:
        await root.terminate_child("c")

        assert [process.path for process in processes(root)] == ["root", "root/a", "root/inner", "root/inner/b"]
        await root.stop()
        assert list(processes(root)) == []


# -- where the tasks are


async def test_stacks_show_where_each_task_waits_and_no_value() -> None:
    async def inner(secret: str) -> None:
        await asyncio.Event().wait()

    async def outer(secret: str) -> None:
        await inner(secret)

    task = asyncio.create_task(outer("canary"), name="outer")
    await settle()
    found = {one.task: one for one in await _from_a_thread()}
    task.cancel()

    assert found["outer"].state == "waiting"
    assert [frame.rpartition(".")[2] for frame in found["outer"].frames] == ["outer", "inner", "wait"]
    assert found["outer"].frames[0].split(":")[0].endswith("tests/supervisors/test_operating.py")
    assert "canary" not in repr(found)


async def test_stacks_follow_generators_and_end_where_python_does() -> None:
    @types.coroutine
    def old() -> Iterator[Any]:
        yield from asyncio.get_running_loop().create_future()

    async def steps() -> Any:
        await old()
        yield

    async def outer() -> None:
        async for _ in steps():
            pass

    task = asyncio.create_task(outer(), name="outer")
    plain = asyncio.create_task(_await(old()), name="plain")
    await settle()
    found = {one.task: [frame.rpartition(".")[2].split()[-1] for frame in one.frames] for one in await _from_a_thread()}
    task.cancel()
    plain.cancel()

    assert found["outer"][0] == "outer"
    assert [frame.split()[-1] for frame in found["plain"]] == ["_await", "old"]


async def test_a_stack_has_an_end_however_deep_the_task_is() -> None:
    async def deeper(levels: int) -> None:
        await (deeper(levels - 1) if levels else asyncio.Event().wait())

    task = asyncio.create_task(deeper(100), name="deep")
    await settle()
    found = {one.task: one for one in await _from_a_thread()}
    task.cancel()

    assert len(found["deep"].frames) == 40


async def test_stacks_of_a_loop_that_is_stuck_are_told_from_a_thread_beside_it() -> None:
    loop, here = asyncio.get_running_loop(), threading.get_ident()
    stuck, found = threading.Event(), []

    def look() -> None:
        found.extend(stacks(loop, here))
        stuck.set()

    def hold_up() -> None:
        threading.Thread(target=look).start()
        assert stuck.wait(10)

    hold_up()

    [running_] = [one for one in found if one.state == "running" and one.task != "event loop"]
    assert found[0].task == "event loop"
    assert found[0].frames == running_.frames
    assert any(frame.endswith("hold_up") for frame in running_.frames)


async def _await(awaited: Any) -> None:
    await awaited


async def _from_a_thread() -> list[Any]:
    loop, here = asyncio.get_running_loop(), threading.get_ident()
    return await asyncio.to_thread(stacks, loop, here)
