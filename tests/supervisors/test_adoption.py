"""Tasks made elsewhere that are processes for a while; calls that are handed on; replies that nobody sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from attrs import frozen

from supervisors import (
    NO_REPLY,
    ActorExited,
    ActorRef,
    Address,
    Call,
    Caller,
    CallTimeout,
    ChildSpec,
    Crashed,
    Down,
    DynamicSupervisor,
    ExitReason,
    GenServer,
    Info,
    Killed,
    MailboxFull,
    NoProcess,
    Normal,
    Process,
    Registry,
    Shutdown,
    current_process,
    start,
)
from supervisors.introspection import tree
from supervisors.testing import leak_check, settle
from tests.supervisors.actors import (
    Boom,
    Busy,
    Ping,
    Run,
    Trace,
    Traced,
    child,
    dynamic,
    end,
    letters,
    node,
    running,
    server,
    stopwatch,
)

pytestmark = pytest.mark.anyio


# -- adoption


async def test_adopt_makes_no_task_and_the_current_one_a_process() -> None:
    async with dynamic() as root:
        before = len(asyncio.all_tasks())
        task = asyncio.current_task()

        async with root.adopt(name="request") as process:
            assert process.alive
            assert process.task is task
            assert current_process() is process
            assert len(asyncio.all_tasks()) == before
            assert node(root).status["adopted"] == 1

        assert current_process() is not process
        assert node(root).status["adopted"] == 0


async def test_adopted_task_exits_normal_when_the_block_is_left() -> None:
    async with dynamic() as root:
        async with root.adopt() as process:
            pass

        assert process.reason == Normal()


async def test_adopted_task_that_raises_exits_crashed_and_the_exception_goes_on() -> None:
    bug = Boom("request")

    async with dynamic() as root:
        with pytest.raises(Boom):
            async with root.adopt() as process:
                raise bug

        assert isinstance(process.reason, Crashed)
        assert process.reason.exception is bug


async def test_adopted_task_that_is_cancelled_exits_killed() -> None:
    async with dynamic() as root:
        request, process = await adopted(root)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

        assert process.reason == Killed()


async def adopted(root: Address, work: Callable[[], Any] | None = None) -> tuple[asyncio.Task[Any], Process]:
    """A task under ``root`` that does ``work``, or waits."""
    entered: asyncio.Future[Process] = asyncio.get_running_loop().create_future()

    async def request() -> Any:
        async with root.adopt() as process:
            entered.set_result(process)
            return await (work() if work is not None else asyncio.sleep(1_000_000))

    task = asyncio.ensure_future(request())
    return task, await entered


async def test_adopted_task_nested_in_a_process_gives_the_outer_one_back() -> None:
    async with dynamic() as outer, dynamic() as inner, outer.adopt() as first:
        async with inner.adopt() as second:
            assert current_process() is second
            assert second is not first
        assert current_process() is first
        assert first.alive
        assert second.reason == Normal()


async def test_adopted_task_inside_an_actor_is_a_process_of_its_own(trace: Trace) -> None:
    async with dynamic() as pool, server(lambda: Traced(trace, "a")) as ref:

        async def work() -> bool:
            actor = current_process()
            async with pool.adopt() as process:
                assert current_process() is process
            return current_process() is actor and actor is ref.process

        assert await ref.call(Run(work)) is True


async def test_adoption_is_inherited_by_what_the_task_calls_not_by_its_siblings() -> None:
    async with dynamic() as root:
        processes: list[Process | None] = []

        async def look() -> None:
            processes.append(current_process())

        one, first = await adopted(root, look)
        other, second = await adopted(root, look)
        await asyncio.gather(one, other)

        assert processes == [first, second]


async def test_adopted_task_is_monitored_like_any_process() -> None:
    told: list[Info] = []

    class Watcher(GenServer[Process]):
        def handle_cast(self, message: Process) -> None:
            self.monitor(message)

        def handle_info(self, info: Info) -> None:
            told.append(info)

    async with dynamic() as root, server(Watcher) as watcher:
        request, process = await adopted(root)
        watcher.cast(process)
        await settle()
        request.cancel()
        await asyncio.wait([request])
        await settle()

        assert [(type(each), each.process, each.reason) for each in told if isinstance(each, Down)] == [
            (Down, process, Killed())
        ]


async def test_adopted_tasks_are_cancelled_and_awaited_when_the_supervisor_stops(trace: Trace) -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(1_000_000)
        finally:
            await asyncio.sleep(2)
            trace("cleaned")

    async with leak_check():
        root = await start(DynamicSupervisor)
        requests = [await adopted(root, work) for _ in range(3)]
        with stopwatch() as seconds:
            await root.stop()

        assert seconds() == 2.0
        assert trace.take() == "cleaned cleaned cleaned"
        assert [process.reason for _, process in requests] == [Killed()] * 3
        await asyncio.wait([request for request, _ in requests])


async def test_adopted_task_that_does_not_end_in_time_is_given_up() -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with leak_check():
        root = await start(lambda: DynamicSupervisor(adopted_shutdown=3.0))
        request, process = await adopted(root, stubborn)
        with stopwatch() as seconds:
            await root.stop()

        assert 3.0 <= seconds() <= 10.0
        assert process.reason == Killed()
        assert process.zombie
        release.set()
        await asyncio.wait([request])


async def test_kill_of_an_adopting_supervisor_cancels_the_task_and_leaves_nothing() -> None:
    async with leak_check():
        root = await start(DynamicSupervisor)
        request, process = await adopted(root)
        await end(root, Killed())

        assert root.process.reason == Killed()
        assert process.reason == Killed()
        assert request.cancelled()


async def test_kill_of_an_adopted_process_cancels_the_task_alone() -> None:
    async with dynamic() as root:
        request, process = await adopted(root)
        other, untouched = await adopted(root)
        process.exit(Killed())
        await settle()

        assert request.cancelled()
        assert untouched.alive
        other.cancel()
        await asyncio.wait([other])


async def test_terminate_child_ends_an_adopted_task() -> None:
    async with dynamic() as root:
        request, process = await adopted(root)
        await root.terminate_child(ActorRef(process))
        await settle()

        assert request.cancelled()
        assert process.reason == Killed()


async def test_adopted_tasks_are_no_children_and_no_restart_is_tried() -> None:
    async with dynamic(max_restarts=0) as root:
        with pytest.raises(Boom):
            async with root.adopt():
                raise Boom
        async with root.adopt():
            assert await root.which_children() == []

        await settle()
        assert root.alive


async def test_adopt_under_a_dead_supervisor_is_no_process() -> None:
    async with leak_check():
        root = await start(DynamicSupervisor)
        await root.stop()

        with pytest.raises(NoProcess):
            async with root.adopt():
                pass


async def test_adopt_by_name() -> None:
    registry = Registry()
    pool = ChildSpec(id="requests", start=DynamicSupervisor, name="requests", type="supervisor")

    async with running(pool, registry=registry) as root, registry.via("requests").adopt(name="r1") as process:
        shown = tree(await child(root, "requests"))

        assert process.path == "root/requests/r1"
        assert [each.state for each in shown.children] == ["running"]


async def test_adopt_under_a_stopping_supervisor_is_refused_or_cancelled_but_never_left() -> None:
    async with leak_check():
        root = await start(DynamicSupervisor)
        slow, _ = await adopted(root, lambda: _linger(2.0))
        stopping = asyncio.ensure_future(root.stop())
        await settle()

        async def late() -> None:
            async with root.adopt():
                await asyncio.sleep(1_000_000)

        request = asyncio.ensure_future(late())
        await stopping
        await asyncio.gather(slow, request, return_exceptions=True)

        assert request.done()


async def _linger(seconds: float) -> None:
    try:
        await asyncio.sleep(1_000_000)
    finally:
        await asyncio.sleep(seconds)


async def test_tree_lists_at_most_a_hundred_adopted_tasks_and_counts_them_all() -> None:
    async with dynamic() as root:
        requests = [await adopted(root) for _ in range(250)]
        shown = tree(root)

        assert shown.status["adopted"] == 250
        assert len(shown.children) == 100
        for request, _ in requests:
            request.cancel()
        await asyncio.wait([request for request, _ in requests])


async def test_ten_thousand_adoptions_leave_nothing() -> None:
    async with dynamic() as root:
        for _ in range(10_000):
            async with root.adopt():
                pass

        assert node(root).status["adopted"] == 0


async def test_cancellation_that_belongs_to_a_timeout_outside_stays_one() -> None:
    async with dynamic() as root:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), root.adopt() as process:
                await asyncio.sleep(60)

        assert process.reason == Killed()


async def test_calls_of_an_adopted_task_carry_its_process() -> None:
    callers: list[Process | None] = []

    class Server(GenServer[Any]):
        def handle_call(self, message: Call[Any], caller: Caller[Any]) -> str:
            callers.append(caller.process)
            return "ok"

    async with dynamic() as root, server(Server) as ref:
        async with root.adopt() as process:
            await ref.call(Ping())
        await ref.call(Ping())

        assert callers == [process, None]


# -- forward


@frozen
class Lease:
    """What a reply holds."""

    number: int


class Acquire(Call[Lease]):
    """Counts what it is given back."""

    def __init__(self) -> None:
        self.abandoned: list[Lease] = []

    def abandon(self, reply: Lease) -> None:
        self.abandoned.append(reply)


class Forwarded(Acquire):
    """What the target of a forward sees."""


class Router(GenServer[Any]):
    """Forwards every call to whom it is told, and keeps what the forward answered."""

    def __init__(self, target: Address, message: Acquire | None = None) -> None:
        self.target = target
        self.message = message
        self.answers: list[bool] = []

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
        moved = self.target.forward(caller, self.message or message)
        self.answers.append(moved)
        return NO_REPLY if moved else Lease(-1)


class Pool(GenServer[Any]):
    """Gives leases at once, later, or never."""

    def __init__(self, mode: str = "now") -> None:
        self.mode = mode
        self.waiting: list[Caller[Lease]] = []
        self.messages: list[object] = []

    async def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
        self.messages.append(message)
        match self.mode:
            case "now":
                return Lease(1)
            case "slow":
                await asyncio.sleep(1)
                return Lease(1)
            case _:
                self.waiting.append(caller)
                return NO_REPLY

    def handle_cast(self, message: Any) -> Any:
        if isinstance(message, Exception):
            raise message
        for caller in self.waiting:
            caller.reply(message)


async def test_forward_target_owes_the_reply_and_sees_its_own_message() -> None:
    message = Forwarded()

    async with server(Pool) as pool, server(lambda: Router(pool, message)) as router:
        assert await router.call(Acquire()) == Lease(1)
        assert pool.process.behaviour.messages == [message]
        assert router.process.behaviour.answers == [True]


async def test_forward_leaves_the_router_free() -> None:
    async with server(lambda: Pool("slow")) as pool, server(lambda: Router(pool)) as router:
        calls = [asyncio.ensure_future(router.call(Acquire())) for _ in range(3)]
        await settle()

        assert node(router).mailbox["depth"] == 0
        assert await asyncio.gather(*calls) == [Lease(1)] * 3


async def test_forward_through_two_actors() -> None:
    async with server(Pool) as pool, server(lambda: Router(pool)) as inner, server(lambda: Router(inner)) as outer:
        assert await outer.call(Acquire()) == Lease(1)


async def test_forward_by_name() -> None:
    registry = Registry()

    async with server(Pool) as pool:
        registry.register("pool", pool)
        async with server(lambda: Router(registry.via("pool"))) as router:
            assert await router.call(Acquire()) == Lease(1)


@pytest.mark.parametrize("reason", [Killed(), Shutdown("x"), Crashed(Boom("pool"))])
async def test_forward_target_that_dies_fails_the_call_at_once_with_its_reason(reason: ExitReason) -> None:
    async with leak_check():
        pool = await start(lambda: Pool("never"))
        router = await start(lambda: Router(pool))
        calling = asyncio.ensure_future(router.call(Acquire(), timeout=None))
        await settle()
        with stopwatch() as seconds:
            if isinstance(reason, Crashed):
                pool.cast(reason.exception)
            else:
                pool.exit(reason)
            with pytest.raises(ActorExited) as failed:
                await calling

        assert seconds() == 0.0
        assert failed.value.reason is pool.process.reason
        await router.stop()


async def test_forward_target_that_dies_with_the_call_still_queued_fails_it_too(trace: Trace) -> None:
    async with leak_check():
        pool = await start(lambda: Traced(trace, "pool"))
        router = await start(lambda: Router(pool))
        pool.cast(Busy(60))
        calling = asyncio.ensure_future(router.call(Acquire(), timeout=None))
        await settle()
        await end(pool, Killed())

        with pytest.raises(ActorExited) as failed:
            await calling
        assert failed.value.reason == Killed()
        await router.stop()


async def test_forward_outlives_the_router() -> None:
    async with leak_check():
        pool = await start(lambda: Pool("slow"))
        router = await start(lambda: Router(pool))
        calling = asyncio.ensure_future(router.call(Acquire()))
        await settle()
        await end(router, Killed())

        assert await calling == Lease(1)
        await pool.stop()


async def test_forward_to_the_dead_is_false_and_moves_nothing() -> None:
    async with leak_check():
        pool = await start(Pool)
        await pool.stop()
        router = await start(lambda: Router(pool))

        assert await router.call(Acquire()) == Lease(-1)
        assert router.process.behaviour.answers == [False]
        await router.stop()


async def test_forward_to_an_unknown_name_is_false() -> None:
    async with server(lambda: Router(Registry().via("nobody"))) as router:
        assert await router.call(Acquire()) == Lease(-1)


async def test_forward_to_a_full_mailbox_is_false_and_moves_nothing() -> None:
    class Full(Pool):
        mailbox_limit = 1

    async with server(lambda: Full("slow")) as pool, server(lambda: Router(pool)) as router:
        busy = asyncio.ensure_future(pool.call(Acquire()))
        await settle()
        queued = asyncio.ensure_future(pool.call(Acquire()))
        await settle()

        assert await router.call(Acquire()) == Lease(-1)
        assert await busy == Lease(1)
        assert await queued == Lease(1)
        with pytest.raises(MailboxFull):
            await asyncio.gather(*(pool.call(Acquire()) for _ in range(3)))
        await asyncio.sleep(3)


async def test_forward_that_failed_leaves_the_call_with_the_router() -> None:
    class Dying(Router):
        def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
            assert not self.target.forward(caller, message)
            raise Boom("router")

    async with leak_check():
        pool = await start(Pool)
        await pool.stop()
        router = await start(lambda: Dying(pool))

        with pytest.raises(ActorExited) as failed:
            await router.call(Acquire(), timeout=None)
        assert failed.value.reason is router.process.reason


async def test_forward_keeps_the_deadline_and_the_process_of_the_caller() -> None:
    seen: list[tuple[Process | None, float | None]] = []

    class Looking(Pool):
        async def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
            seen.append((caller.process, caller.deadline))
            return Lease(1)

    async with dynamic() as requests, server(Looking) as pool, server(lambda: Router(pool)) as router:
        now = asyncio.get_running_loop().time()
        async with requests.adopt() as process:
            await router.call(Acquire(), timeout=7.0)

        (caller, deadline) = seen[0]
        assert caller is process
        assert deadline == pytest.approx(now + 7.0)


async def test_forwarded_call_times_out_at_the_callers_deadline() -> None:
    async with server(lambda: Pool("never")) as pool, server(lambda: Router(pool)) as router:
        with stopwatch() as seconds, pytest.raises(CallTimeout):
            await router.call(Acquire(), timeout=2.0)

        assert seconds() == 2.0
        assert not pool.process.behaviour.waiting[0].alive


# -- abandon


async def calling_then_cancelled(ref: ActorRef, message: Acquire) -> asyncio.Task[Lease]:
    """A caller that is cancelled in the very tick in which its reply is set."""
    task = asyncio.ensure_future(ref.call(message))
    await settle()
    ref.process.behaviour.waiting[-1].reply(Lease(7))
    task.cancel()
    await asyncio.wait([task])
    return task


async def test_abandon_is_told_once_of_a_reply_that_was_set_before_the_caller_was_cancelled() -> None:
    message = Acquire()

    async with server(lambda: Pool("never")) as pool:
        task = await calling_then_cancelled(pool, message)

        assert task.cancelled()
        assert message.abandoned == [Lease(7)]
        await settle()
        pool.cast(Lease(8))
        await settle()
        assert message.abandoned == [Lease(7)]


async def test_abandon_is_told_of_a_reply_that_comes_after_the_caller_was_cancelled() -> None:
    message = Acquire()

    async with server(lambda: Pool("slow")) as pool:
        calling = asyncio.ensure_future(pool.call(message))
        await settle()
        calling.cancel()
        await asyncio.wait([calling])
        assert message.abandoned == []

        await asyncio.sleep(2)
        assert message.abandoned == [Lease(1)]
        assert letters(pool)["late_reply"] == 1


async def test_abandon_is_told_of_a_reply_that_comes_after_the_timeout() -> None:
    message = Acquire()

    async with server(lambda: Pool("slow")) as pool:
        with pytest.raises(CallTimeout):
            await pool.call(message, timeout=0.5)

        await asyncio.sleep(2)
        assert message.abandoned == [Lease(1)]


async def test_abandon_is_never_told_of_a_reply_that_was_seen() -> None:
    message = Acquire()

    async with server(Pool) as pool:
        assert await pool.call(message) == Lease(1)
        await settle()

        assert message.abandoned == []


async def test_abandon_of_a_forwarded_call_goes_to_the_message_that_was_answered() -> None:
    first, second = Acquire(), Forwarded()

    async with server(lambda: Pool("slow")) as pool, server(lambda: Router(pool, second)) as router:
        calling = asyncio.ensure_future(router.call(first))
        await settle()
        calling.cancel()
        await asyncio.wait([calling])
        await asyncio.sleep(2)

        assert (first.abandoned, second.abandoned) == ([], [Lease(1)])


async def test_abandon_of_a_forwarded_call_cancelled_when_its_reply_is_set() -> None:
    first, second = Acquire(), Forwarded()

    async with server(lambda: Pool("never")) as pool, server(lambda: Router(pool, second)) as router:
        calling = asyncio.ensure_future(router.call(first))
        await settle()
        pool.process.behaviour.waiting[0].reply(Lease(9))
        calling.cancel()
        await asyncio.wait([calling])

        assert calling.cancelled()
        assert (first.abandoned, second.abandoned) == ([], [Lease(9)])


async def test_abandon_of_a_killed_adopted_caller() -> None:
    message = Acquire()

    async with dynamic() as requests, server(lambda: Pool("slow")) as pool:
        request, process = await adopted(requests, lambda: pool.call(message))
        await settle()
        process.exit(Killed())
        await asyncio.wait([request])
        await asyncio.sleep(2)

        assert message.abandoned == [Lease(1)]


async def test_abandon_that_raises_does_not_harm_the_server() -> None:
    class Bad(Acquire):
        def abandon(self, reply: Lease) -> None:
            raise Boom("abandon")

    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))

    async with server(lambda: Pool("slow")) as pool:
        with pytest.raises(CallTimeout):
            await pool.call(Bad(), timeout=0.5)
        await asyncio.sleep(2)

        assert pool.alive
        assert [type(context["exception"]) for context in said] == [Boom]


async def test_reply_in_the_very_tick_of_the_deadline_is_seen_or_abandoned_never_both_never_neither() -> None:
    class Exact(Pool):
        async def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
            await asyncio.sleep(1.0)
            return Lease(1)

    for timeout in (0.999999, 1.0, 1.000001):
        message = Acquire()
        async with server(Exact) as pool:
            try:
                seen = [await pool.call(message, timeout=timeout)]
            except CallTimeout:
                seen = []
            await asyncio.sleep(2)

            assert len(seen) + len(message.abandoned) == 1


async def test_cancelled_call_leaves_no_waiter_at_the_server() -> None:
    async with server(lambda: Pool("never")) as pool:
        for _ in range(50):
            calling = asyncio.ensure_future(pool.call(Acquire(), timeout=None))
            await settle()
            calling.cancel()
            await asyncio.wait([calling])

        assert not any(caller.alive for caller in pool.process.behaviour.waiting)


async def test_waiters_of_a_dead_process_are_all_told() -> None:
    async with leak_check():
        pool = await start(lambda: Pool("never"))
        waiting = [asyncio.ensure_future(pool.wait()) for _ in range(3)]
        timed = asyncio.ensure_future(pool.process.wait_for(60))
        await settle()
        waiting[0].cancel()
        await end(pool, Killed())

        assert await asyncio.gather(*waiting[1:]) == [Killed(), Killed()]
        assert await timed is True
        assert await pool.process.wait_for(0) is True


async def test_monitors_of_short_lived_callers_do_not_pile_up() -> None:
    class Watching(GenServer[Any]):
        def handle_call(self, message: Call[Any], caller: Caller[Any]) -> str:
            assert caller.process is not None
            self.monitor(caller.process)
            return "ok"

        def handle_info(self, info: Info) -> None:
            pass

    async with dynamic() as requests, server(Watching) as ref:
        for _ in range(100):
            async with requests.adopt():
                await ref.call(Ping())
        await settle()
