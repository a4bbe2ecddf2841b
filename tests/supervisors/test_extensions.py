"""Section 1.12: what OTP does not have."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from supervisors import (
    ActorExited,
    ActorRef,
    Backoff,
    Call,
    Caller,
    CallTimeout,
    CircularCall,
    Crashed,
    Done,
    ExitReason,
    GenServer,
    Info,
    Killed,
    MailboxFull,
    Shutdown,
    StartError,
    StartFailed,
    Supervisor,
    start,
)
from supervisors.events import Restarting
from supervisors.testing import Recorder, leak_check, settle
from tests.supervisors.actors import (
    Boom,
    Busy,
    Note,
    Ping,
    Run,
    Seen,
    Trace,
    Traced,
    Work,
    child,
    end,
    fail,
    info,
    letters,
    nested,
    node,
    running,
    server,
    states,
    stopwatch,
    until,
)

pytestmark = pytest.mark.anyio


# -- async callbacks


class Plain(GenServer[str]):
    """Callbacks that are plain functions."""

    def __init__(self, lived: list[str]) -> None:
        self.lived = lived

    def init(self) -> Any:
        self.lived.append("init")

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
        self.lived.append("call")
        return "answer"

    def handle_cast(self, message: str) -> Any:
        self.lived.append("cast")

    def handle_info(self, info: Info) -> Any:
        self.lived.append("info")

    def terminate(self, reason: ExitReason) -> Any:
        self.lived.append("terminate")


class Awaiting(Plain):
    """The same, each after a second."""

    async def init(self) -> None:
        await asyncio.sleep(1)
        super().init()

    async def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
        await asyncio.sleep(1)
        return super().handle_call(message, caller)

    async def handle_cast(self, message: str) -> None:
        await asyncio.sleep(1)
        super().handle_cast(message)

    async def handle_info(self, info: Info) -> None:
        await asyncio.sleep(1)
        super().handle_info(info)

    async def terminate(self, reason: ExitReason) -> None:
        await asyncio.sleep(1)
        super().terminate(reason)


@pytest.mark.parametrize(("behaviour", "elapsed"), [(Plain, 0.0), (Awaiting, 5.0)])
async def test_every_callback_may_be_def_or_async_def(behaviour: type[Plain], elapsed: float) -> None:
    lived: list[str] = []

    with stopwatch() as seconds:
        async with server(lambda: behaviour(lived)) as ref:
            ref.cast("")
            ref.send(Note(""))
            assert await ref.call(Ping()) == "answer"

    assert lived == ["init", "cast", "info", "call", "terminate"]
    assert seconds() == elapsed


# -- the mailbox


def bounded(policy: str) -> type[Traced]:
    """A server that takes two messages beside the one in hand."""

    class Bounded(Traced):
        mailbox_limit = 2
        mailbox_policy = policy  # type: ignore[assignment]

    return Bounded


async def full(ref: ActorRef) -> None:
    """Keep it busy for a second and fill its mailbox."""
    ref.cast(Busy(1))
    await settle()
    ref.cast("one")
    ref.cast("two")


async def test_mailbox_reject_raises_at_the_sender_and_loses_nothing(trace: Trace) -> None:
    async with server(lambda: bounded("reject")(trace, "a")) as ref:
        await full(ref)

        with pytest.raises(MailboxFull):
            ref.cast("three")
        with pytest.raises(MailboxFull):
            await ref.call(Ping())

        await asyncio.sleep(2)
        assert await ref.call(Seen()) == ["one", "two"]


async def test_mailbox_drop_new_drops_what_comes(trace: Trace) -> None:
    async with server(lambda: bounded("drop_new")(trace, "a")) as ref:
        await full(ref)
        ref.cast("three")

        await asyncio.sleep(2)
        assert await ref.call(Seen()) == ["one", "two"]
        assert node(ref).mailbox["drops"] == 1
        assert letters(ref)["mailbox_full"] == 1


async def test_mailbox_drop_old_drops_the_oldest(trace: Trace) -> None:
    async with server(lambda: bounded("drop_old")(trace, "a")) as ref:
        await full(ref)
        ref.cast("three")

        await asyncio.sleep(2)
        assert await ref.call(Seen()) == ["two", "three"]
        assert node(ref).mailbox["drops"] == 1
        assert letters(ref)["mailbox_full"] == 1


@pytest.mark.parametrize("policy", ["drop_new", "drop_old"])
async def test_mailbox_that_drops_a_call_tells_its_caller_at_once(trace: Trace, policy: str) -> None:
    async with server(lambda: bounded(policy)(trace, "a")) as ref:
        ref.cast(Busy(10))
        await settle()
        calls = [asyncio.ensure_future(ref.call(Ping(), timeout=None)) for _ in range(3)]

        with stopwatch() as seconds:
            done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        dropped = done.pop()

        assert seconds() == 0.0
        assert isinstance(dropped.exception(), MailboxFull)
        assert dropped is (calls[2] if policy == "drop_new" else calls[0])
        await asyncio.wait(calls)


async def test_mailbox_block_makes_the_sender_wait_for_room(trace: Trace) -> None:
    async with server(lambda: bounded("block")(trace, "a")) as ref:
        await full(ref)
        with stopwatch() as seconds:
            await ref.cast_wait("three")

        assert seconds() == 1.0
        await settle()
        assert await ref.call(Seen()) == ["one", "two", "three"]


async def test_mailbox_block_keeps_the_order_of_blocked_senders(trace: Trace) -> None:
    async with server(lambda: bounded("block")(trace, "a")) as ref:
        await full(ref)
        senders = [asyncio.ensure_future(ref.cast_wait(str(number))) for number in range(5)]
        calling = asyncio.ensure_future(ref.call(Seen()))
        await asyncio.gather(*senders)

        assert await calling == ["one", "two", "0", "1", "2", "3", "4"]


async def test_mailbox_block_lets_a_cancelled_sender_go_without_its_message(trace: Trace) -> None:
    async with server(lambda: bounded("block")(trace, "a")) as ref:
        await full(ref)
        cancelled = asyncio.ensure_future(ref.cast_wait("cancelled"))
        kept = asyncio.ensure_future(ref.cast_wait("kept"))
        await settle()
        cancelled.cancel()
        await kept

        await settle()
        assert await ref.call(Seen()) == ["one", "two", "kept"]


async def test_mailbox_block_counts_the_wait_of_a_call_in_its_timeout(trace: Trace) -> None:
    async with server(lambda: bounded("block")(trace, "a")) as ref:
        ref.cast(Busy(10))
        await settle()
        ref.cast("one")
        ref.cast("two")
        with stopwatch() as seconds, pytest.raises(CallTimeout):
            await ref.call(Ping(), timeout=3.0)

        assert seconds() == 3.0
        assert node(ref).mailbox["depth"] == 2
        await asyncio.sleep(10)


async def test_mailbox_block_rejects_a_plain_cast(trace: Trace) -> None:
    async with server(lambda: bounded("block")(trace, "a")) as ref:
        await full(ref)

        with pytest.raises(MailboxFull):
            ref.cast("three")


async def test_mailbox_block_frees_senders_when_the_actor_dies(trace: Trace) -> None:
    async with leak_check():
        ref = await start(lambda: bounded("block")(trace, "a"))
        await full(ref)
        casting = asyncio.ensure_future(ref.cast_wait("three"))
        calling = asyncio.ensure_future(ref.call(Ping(), timeout=None))
        await settle()
        await end(ref, Killed())
        cast, call = await asyncio.gather(casting, calling, return_exceptions=True)

        assert cast is None
        assert getattr(call, "reason", None) == Killed()
        assert letters(ref)["noproc"] == 3 + 1


async def test_mailbox_bound_is_bypassed_by_stop_exit_down_and_timers(trace: Trace) -> None:
    class Bounded(bounded("reject")):  # type: ignore[misc]
        trap_exit = True

        async def init(self) -> None:
            self.send_after(0.5, Note("timer"))

    async with leak_check():
        other = await start(lambda: Traced(trace, "b"))
        ref = await start(lambda: Bounded(trace, "a"))
        ref.process.behaviour.monitor(other)
        await full(ref)
        await other.stop()
        ref.exit(Shutdown("trapped"))
        await asyncio.sleep(0.6)
        stopping = asyncio.ensure_future(ref.stop())
        await stopping

        seen = [type(each).__name__ for each in ref.process.behaviour.seen]
        assert seen == ["str", "str", "Down", "Exit", "Note"]


async def test_mailbox_depth_and_high_water_are_visible(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        for number in range(7):
            ref.cast(number)
        assert node(ref).mailbox["depth"] == 7

        await settle()
        assert node(ref).mailbox["depth"] == 0
        assert node(ref).mailbox["high_water"] == 7


# -- dead letters


async def test_dead_letter_noproc_of_a_dead_target(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        ref = await child(root, "a")
        await root.terminate_child("a")
        ref.cast("one")
        ref.send(Note("two"))

        assert letters(root)["noproc"] == 2


async def test_dead_letter_noproc_of_a_queue_left_at_exit(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        ref = await child(root, "a")
        ref.cast(Busy(1))
        await settle()
        for number in range(3):
            ref.cast(number)
        await end(ref, Killed())

        assert letters(root)["noproc"] == 3


async def test_dead_letter_late_reply(trace: Trace) -> None:
    async with server(lambda: Traced(trace, "a")) as ref:
        with pytest.raises(CallTimeout):
            await ref.call(Work(2), timeout=1)
        await asyncio.sleep(2)

        assert letters(ref)["late_reply"] == 1


async def test_dead_letter_is_no_refusal_of_a_full_mailbox(trace: Trace) -> None:
    async with server(lambda: bounded("reject")(trace, "a")) as ref:
        await full(ref)
        with pytest.raises(MailboxFull):
            ref.cast("three")

        assert letters(ref).get("mailbox_full", 0) == 0


async def test_dead_letters_of_two_trees_are_counted_apart(trace: Trace) -> None:
    async with running(trace.child("a")) as one, running(trace.child("a")) as other:
        ref = await child(one, "a")
        await one.terminate_child("a")
        ref.cast("nobody hears")

        assert letters(one)["noproc"] == 1
        assert letters(other).get("noproc", 0) == 0


# -- backoff


async def test_backoff_grows_from_min_by_factor_to_max(trace: Trace) -> None:
    backoff = Backoff(min_seconds=1.0, max_seconds=5.0, factor=2.0)
    bad = trace.child("a", inits=[None, Boom(), Boom(), Boom(), Boom(), None], backoff=backoff)
    recorder = Recorder()

    async with leak_check():
        root = await start(lambda: Supervisor([bad], max_restarts=10), observers=[recorder])
        trace.take()
        with stopwatch() as seconds:
            await fail(root, "a")
            await until(lambda: states(root)["a"] == "running", seconds=0.1)

        assert trace.take() == "-a !a !a !a !a +a"
        assert [event.delay_seconds for event in recorder.of(Restarting)] == [1, 2, 4, 5, 5]
        assert seconds() == pytest.approx(1 + 2 + 4 + 5 + 5, abs=0.2)
        await root.stop()


async def test_backoff_jitter_only_adds_up_to_its_share(trace: Trace) -> None:
    backoff = Backoff(min_seconds=10.0, max_seconds=100.0, jitter=0.5)

    async with running(trace.child("a", backoff=backoff)) as root:
        await fail(root, "a")
        await asyncio.sleep(9.9)
        assert states(root)["a"] == "restarting"

        await asyncio.sleep(5.2)
        assert states(root)["a"] == "running"


async def test_backoff_starts_over_after_a_run_that_was_long_enough(trace: Trace) -> None:
    backoff = Backoff(min_seconds=1.0, max_seconds=60.0, factor=10.0, reset_after_seconds=30.0)

    async with running(trace.child("a", backoff=backoff), max_restarts=10) as root:
        await fail(root, "a")
        await asyncio.sleep(1.1)
        await fail(root, "a")
        await asyncio.sleep(9)
        assert states(root)["a"] == "restarting"
        await asyncio.sleep(1.1)
        assert states(root)["a"] == "running"

        await asyncio.sleep(31)
        await fail(root, "a")
        await asyncio.sleep(1.1)
        assert states(root)["a"] == "running"


async def test_backoff_shows_restarting_serves_others_and_counts_each_attempt(trace: Trace) -> None:
    backoff = Backoff(min_seconds=1.0, max_seconds=1.0)
    bad = trace.child("a", inits=[None, Boom(), Boom()], backoff=backoff)

    async with running(bad, trace.child("b"), max_restarts=2, max_seconds=60.0) as root:
        await fail(root, "a")
        assert states(root) == {"a": "restarting", "b": "running"}
        with stopwatch() as seconds:
            assert (await root.count_children()).active == 1
        assert seconds() == 0.0

        await asyncio.sleep(5)
        assert root.process.reason == Shutdown()


async def test_backoff_is_cancelled_at_once_by_terminate_child(trace: Trace) -> None:
    async with running(trace.child("a", backoff=Backoff(min_seconds=3600, max_seconds=3600))) as root:
        await fail(root, "a")
        with stopwatch() as seconds:
            assert await root.terminate_child("a") == Done()

        assert seconds() == 0.0
        assert states(root) == {"a": "stopped"}


async def test_backoff_is_cancelled_at_once_by_stop(trace: Trace) -> None:
    async with running(trace.child("a", backoff=Backoff(min_seconds=3600, max_seconds=3600))) as root:
        await fail(root, "a")
        with stopwatch() as seconds:
            await root.stop()

        assert seconds() == 0.0


@pytest.mark.parametrize(("strategy", "stopped"), [("one_for_all", "-b -c -a"), ("rest_for_one", "-b -c")])
async def test_backoff_with_a_group_stops_it_at_once_and_starts_it_whole_after_the_delay(
    trace: Trace, strategy: str, stopped: str
) -> None:
    children = [trace.child("a"), trace.child("b", backoff=Backoff(min_seconds=5, max_seconds=5)), trace.child("c")]

    async with running(*children, strategy=strategy) as root:
        trace.take()
        await fail(root, "b")
        assert trace.take() == stopped
        await asyncio.sleep(4.9)
        assert trace.take() == ""

        await asyncio.sleep(0.2)
        assert trace.take() == ("+a +b +c" if strategy == "one_for_all" else "+b +c")


# -- start_timeout


async def test_start_timeout_fails_the_start_and_rolls_the_siblings_back(trace: Trace) -> None:
    children = [trace.child("a"), trace.child("b", inits=[60.0], start_timeout=2.0)]

    with leak_check(), stopwatch() as seconds, pytest.raises(StartError):
        await start(lambda: Supervisor(children))

    assert seconds() == 2.0
    assert trace.take() == "+a -a"


async def test_start_timeout_of_start_child_keeps_no_spec(trace: Trace) -> None:
    async with running() as root:
        with stopwatch() as seconds:
            answer = await root.start_child(trace.child("a", inits=[60.0], start_timeout=2.0))

        assert isinstance(answer, StartFailed)
        assert seconds() == 2.0
        assert await root.which_children() == []


async def test_start_timeout_in_a_restart_is_a_failed_attempt(trace: Trace) -> None:
    async with running(trace.child("a", inits=[None, 60.0, None], start_timeout=2.0)) as root:
        await fail(root, "a")
        await asyncio.sleep(2.5)

        assert states(root) == {"a": "running"}
        assert trace.take() == "+a -a +a"


# -- the snapshot


async def test_snapshot_counts_only_completed_restarts(trace: Trace) -> None:
    bad = trace.child("a", inits=[None, Boom(), Boom(), None])

    async with running(bad, max_restarts=5) as root:
        await fail(root, "a")

        assert (await info(root, "a")).restarts == 1


async def test_snapshot_shows_a_child_once(trace: Trace) -> None:
    async with running(trace.child("a", inits=[None, 10.0, 10.0]), trace.child("b")) as root:
        for _ in range(2):
            await end(await child(root, "a"), Killed())
            await asyncio.sleep(5)
            assert [each.id for each in node(root).children] == ["a", "b"]
            await asyncio.sleep(6)


# -- a subtree that is out


async def test_transient_sub_supervisor_that_gives_up_stays_down_and_the_rest_goes_on(trace: Trace) -> None:
    inner = nested("inner", *trace.children("xy"), max_restarts=0, restart="transient")

    async with running(inner, trace.child("a"), max_restarts=0) as root:
        await fail(await child(root, "inner"), "x")
        assert states(root) == {"inner": "stopped", "a": "running"}

        await root.restart_child("inner")
        assert states(root) == {"inner": "running", "a": "running"}


# -- circular calls


async def test_circular_call_fails_at_once_with_the_chain_where_that_is_turned_on(trace: Trace) -> None:
    async with running(*trace.children("ab"), fail_circular_calls=True) as root:
        a, b = await child(root, "a"), await child(root, "b")
        caught: list[CircularCall] = []

        async def back_to_a() -> str:
            try:
                return await a.call(Ping(), timeout=60)
            except CircularCall as error:
                caught.append(error)
                return "circular"

        with stopwatch() as seconds:
            assert await a.call(Run(lambda: b.call(Run(back_to_a), timeout=60)), timeout=None) == "circular"

        assert seconds() == 0.0
        assert [part.rsplit("/", 1)[-1].rstrip("#0123456789") for part in caught[0].chain] in (
            ["a", "b", "a"],
            ["b", "a", "b"],
        )


async def test_circular_call_of_an_actor_to_itself(trace: Trace) -> None:
    async with running(trace.child("a"), fail_circular_calls=True) as root:
        a = await child(root, "a")
        with pytest.raises(ActorExited) as failed:
            await a.call(Run(lambda: a.call(Ping(), timeout=60)))

        assert isinstance(a.process.reason, Crashed)
        assert isinstance(a.process.reason.exception, CircularCall)
        assert failed.value.reason is a.process.reason


async def test_circular_call_is_not_seen_in_calls_that_are_none(trace: Trace) -> None:
    async with running(*trace.children("abc"), fail_circular_calls=True) as root:
        a, b, c = [await child(root, id_) for id_ in "abc"]

        assert await a.call(Run(lambda: b.call(Run(lambda: c.call(Ping()))))) == "pong"
        assert await c.call(Run(lambda: b.call(Run(lambda: a.call(Ping()))))) == "pong"


async def test_circular_terminate_of_itself_fails_at_once_where_that_is_turned_on(trace: Trace) -> None:
    async with running(trace.child("a"), fail_circular_calls=True) as root:
        ref = await child(root, "a")
        with stopwatch() as seconds:
            calling = asyncio.ensure_future(ref.call(Run(lambda: root.terminate_child("a")), timeout=None))
            await asyncio.wait([calling])

        assert calling.exception() is not None
        assert seconds() in {0.0, 5.0}


# -- stale calls


async def test_skip_stale_spares_a_server_the_calls_whose_callers_have_given_up(trace: Trace) -> None:
    class Sparing(Traced):
        skip_stale = True

        async def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
            if isinstance(message, Ping):
                trace(message.text)
            return await super().handle_call(message, caller)

    async with server(lambda: Sparing(trace, "a")) as ref:
        trace.take()
        ref.cast(Busy(3))
        stale = asyncio.ensure_future(ref.call(Ping("stale"), timeout=1))
        fresh = asyncio.ensure_future(ref.call(Ping("fresh"), timeout=10))

        assert await fresh == "fresh"
        assert isinstance(stale.exception(), Exception)
        assert trace.take() == "=a fresh"
