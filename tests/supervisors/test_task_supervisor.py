"""Functions run as processes under a supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from supervisors import ActorExited, ActorRef, Crashed, TaskSupervisor, start
from supervisors.testing import leak_check, settle
from tests.supervisors.actors import Boom, Run, Trace, Traced, halt, stopwatch

pytestmark = pytest.mark.anyio


async def double(number: int) -> int:
    await asyncio.sleep(number)
    return number * 2


async def bug(number: int) -> int:
    raise Boom(str(number))


@asynccontextmanager
async def tasks() -> AsyncIterator[ActorRef]:
    async with leak_check():
        supervisor = await start(TaskSupervisor)
        try:
            yield supervisor
        finally:
            await halt(supervisor)


async def test_async_gives_the_result() -> None:
    async with tasks() as supervisor:
        assert await TaskSupervisor.async_(supervisor, double, 21) == 42


async def test_async_crash_takes_the_caller_along(trace: Trace) -> None:
    async with tasks() as supervisor:
        async with leak_check():
            ref = await start(lambda: Traced(trace, "a"))
            with pytest.raises(ActorExited):
                await ref.call(Run(lambda: TaskSupervisor.async_(supervisor, bug, 1)))

        assert isinstance(ref.process.reason, Crashed)


async def test_async_nolink_crash_is_raised_where_the_result_is_awaited() -> None:
    async with tasks() as supervisor:
        with pytest.raises(ActorExited, match="Boom: 7"):
            await TaskSupervisor.async_nolink(supervisor, bug, 7)


async def test_stream_ordered_keeps_the_order_and_bounds_the_concurrency() -> None:
    async with tasks() as supervisor:
        with stopwatch() as seconds:
            results = [
                each
                async for each in TaskSupervisor.stream(supervisor, [3, 1, 2], double, max_concurrency=3, ordered=True)
            ]

        assert results == [6, 2, 4]
        assert seconds() == 3.0


async def test_stream_unordered_gives_what_is_done_first() -> None:
    async with tasks() as supervisor:
        results = [
            each
            async for each in TaskSupervisor.stream(supervisor, [3, 1, 2], double, max_concurrency=3, ordered=False)
        ]

        assert results == [2, 4, 6]


async def test_stream_runs_no_more_at_once_than_it_may() -> None:
    running = peak = 0

    async def count(number: int) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(1)
        running -= 1
        return number

    async with tasks() as supervisor:
        results = [
            each async for each in TaskSupervisor.stream(supervisor, range(7), count, max_concurrency=2, ordered=True)
        ]

    assert results == list(range(7))
    assert peak == 2


async def test_stream_left_early_leaves_no_task() -> None:
    async with tasks() as supervisor:
        stream = TaskSupervisor.stream(supervisor, range(1, 100), double, max_concurrency=4, ordered=True)
        async for _ in stream:
            break
        await stream.aclose()
        await settle()

        assert await supervisor.which_children() == []
