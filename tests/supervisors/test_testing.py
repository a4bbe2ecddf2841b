"""The tools for tests, which are public; and what they take of asyncio that is private."""

from __future__ import annotations

import ast
import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import supervisors.testing
from supervisors import Crashed, Killed, Registry, Supervisor, start
from supervisors.events import Exited, Started
from supervisors.testing import Recorder, VirtualTimeLoop, crash, leak_check, settle
from tests.supervisors.actors import Boom, Trace, Traced, end, halt, stopwatch

pytestmark = pytest.mark.anyio


# -- virtual time


async def test_time_jumps_to_the_next_timer() -> None:
    with stopwatch() as seconds:
        await asyncio.sleep(1_000_000)

    assert seconds() == 1_000_000


async def test_timers_fire_in_order() -> None:
    order: list[float] = []
    loop = asyncio.get_running_loop()
    for seconds in (3.0, 1.0, 2.0):
        loop.call_later(seconds, order.append, seconds)

    await asyncio.sleep(4)

    assert order == [1.0, 2.0, 3.0]


async def test_timeouts_obey_the_same_clock() -> None:
    with stopwatch() as seconds, pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await asyncio.sleep(3600)

    assert seconds() == 60


def test_deadlock_is_an_error_at_once() -> None:
    async def stuck() -> None:
        await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, pytest.raises(RuntimeError, match="deadlock"):
        runner.run(stuck())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_seed_replays_one_order(seed: int) -> None:
    assert order_of(seed) == order_of(seed)


def test_seed_shuffles_what_is_ready() -> None:
    orders = {tuple(order_of(seed)) for seed in range(20)}

    assert len(orders) > 5
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(5))}


def test_no_seed_keeps_asyncios_order() -> None:
    assert order_of(None) == [0, 1, 2, 3, 4]


def order_of(seed: int | None) -> list[int]:
    order: list[int] = []

    async def note(number: int) -> None:
        await asyncio.sleep(0)
        order.append(number)

    async def main() -> None:
        await asyncio.gather(*(note(number) for number in range(5)))

    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(seed=seed)) as runner:
        runner.run(main())
    return order


# -- settle, crash, recorder


async def test_settle_runs_everything_that_is_ready_and_no_timer() -> None:
    seen: list[int] = []

    async def hops() -> None:
        for number in range(100):
            await asyncio.sleep(0)
            seen.append(number)
        await asyncio.sleep(1)
        seen.append(-1)

    task = asyncio.ensure_future(hops())
    with stopwatch() as seconds:
        await settle()

    assert seconds() == 0.0
    assert seen == list(range(100))
    await task


async def test_crash_is_as_if_a_handler_had_raised() -> None:
    trace, bug = Trace(), Boom("outside")

    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        crash(ref, bug)
        await settle()

        assert isinstance(ref.process.reason, Crashed)
        assert ref.process.reason.exception is bug
        assert trace.take() == "+a -a"


async def test_recorder_keeps_events_by_type() -> None:
    trace, recorder = Trace(), Recorder()

    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"), observers=(recorder,))
        await end(ref, Killed())

    assert [event.process for event in recorder.of(Started)] == [ref.process]
    assert [event.reason for event in recorder.of(Exited)] == [Killed()]
    assert [type(event) for event in recorder.events] == [Started, Exited]


# -- leaks


async def test_leak_check_is_content_with_a_tree_that_was_stopped() -> None:
    trace = Trace()

    async with leak_check():
        root = await start(lambda: Supervisor(trace.children("abc")))
        await root.stop()


async def test_leak_check_finds_a_process_that_still_runs() -> None:
    trace = Trace()
    kept: list[Any] = []

    with pytest.raises(AssertionError):
        async with leak_check():
            kept.append(await start(lambda: Traced(trace, "a")))

    await halt(kept[0])


async def test_leak_check_finds_a_task() -> None:
    kept: list[asyncio.Task[None]] = []

    with pytest.raises(AssertionError):
        async with leak_check():
            kept.append(asyncio.ensure_future(asyncio.sleep(60)))

    kept[0].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await kept[0]


async def test_leak_check_finds_an_adopted_process_left_open() -> None:
    from supervisors import DynamicSupervisor

    root = await start(DynamicSupervisor)
    scope = root.adopt()

    with pytest.raises(AssertionError):
        async with leak_check():
            await scope.__aenter__()

    await scope.__aexit__(None, None, None)
    await halt(root)


async def test_leak_check_lets_an_error_of_the_block_through() -> None:
    with pytest.raises(Boom):
        async with leak_check():
            raise Boom


async def test_leak_check_is_not_fooled_by_what_was_there_before() -> None:
    trace = Trace()
    before = await start(lambda: Traced(trace, "before"), registry=Registry())

    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        await ref.stop()

    await halt(before)


# -- private parts of asyncio


def private_names() -> set[str]:
    """What testing.py takes that begins with an underscore and is not its own: by ``super()``, by ``getattr``, of other objects."""
    names = set()
    for each in ast.walk(ast.parse(Path(supervisors.testing.__file__).read_text())):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            names.add(each.value)
        elif isinstance(each, ast.Attribute) and not (isinstance(each.value, ast.Name) and each.value.id == "self"):
            names.add(each.attr)
    return {name for name in names if name.startswith("_") and name.isidentifier() and not name.startswith("__")}


def test_every_private_part_of_asyncio_that_is_used_has_a_test_here() -> None:
    assert private_names() == {"_run_once", "_ready", "_scheduled", "_callback"}


@pytest.fixture
def plain_loop() -> Iterator[Any]:
    with contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        yield loop


def test_private_run_once_is_what_the_loop_does_for_ever(plain_loop: Any) -> None:
    done: list[str] = []
    plain_loop.call_soon(done.append, "ran")
    plain_loop._run_once()

    assert done == ["ran"]


def test_private_ready_holds_what_is_to_run_next(plain_loop: Any) -> None:
    handle = plain_loop.call_soon(print)

    assert isinstance(plain_loop._ready, deque)
    assert list(plain_loop._ready) == [handle]


def test_private_scheduled_holds_timers_as_a_heap_and_each_knows_that_it_is_in_it(plain_loop: Any) -> None:
    late = plain_loop.call_later(20, print)
    early = plain_loop.call_later(10, print)

    assert isinstance(plain_loop._scheduled, list)
    assert plain_loop._scheduled[0] is early
    assert set(plain_loop._scheduled) == {early, late}
    assert late._scheduled is True
    late.cancel()
    assert plain_loop._timer_cancelled_count == 1


def test_private_callback_of_a_handle_leads_to_its_task(plain_loop: Any) -> None:
    async def nothing() -> None: ...

    task = plain_loop.create_task(nothing())

    assert plain_loop._ready[-1]._callback.__self__ is task
    plain_loop.run_until_complete(task)


async def test_timers_of_one_moment_fire_in_the_order_in_which_they_were_set() -> None:
    order: list[int] = []
    loop = asyncio.get_running_loop()
    when = loop.time() + 5
    for number in range(50):
        loop.call_at(when, order.append, number)

    await asyncio.sleep(6)

    assert order == list(range(50))


async def test_timer_that_was_cancelled_never_fires() -> None:
    order: list[int] = []
    loop = asyncio.get_running_loop()
    timers = [loop.call_later(5, order.append, number) for number in range(300)]
    for timer in timers[::2]:
        timer.cancel()

    await asyncio.sleep(6)

    assert order == list(range(1, 300, 2))


async def test_wait_for_a_thread_is_no_deadlock() -> None:
    assert await asyncio.get_running_loop().run_in_executor(None, sum, [1, 2]) == 3
