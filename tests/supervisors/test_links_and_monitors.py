"""Section 1.11: links and monitors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from supervisors import (
    ActorRef,
    Crashed,
    Down,
    Exit,
    ExitReason,
    GenServer,
    Info,
    Killed,
    Monitor,
    NoProc,
    Normal,
    Shutdown,
    start,
)
from supervisors.testing import leak_check, settle
from tests.supervisors.actors import Boom, Busy, Raise, Trace, Traced, child, end, fail, running, stopwatch

pytestmark = pytest.mark.anyio


class Watcher(GenServer[Any]):
    """Runs what it is cast on itself, and keeps what it is told."""

    def init(self) -> None:
        self.told: list[Info] = []
        self.terminated: list[ExitReason] = []

    def handle_cast(self, message: Callable[[Watcher], object]) -> None:
        message(self)

    def handle_info(self, info: Info) -> None:
        self.told.append(info)

    def terminate(self, reason: ExitReason) -> None:
        self.terminated.append(reason)

    def reasons(self) -> list[ExitReason]:
        """The reasons of the exits it was told."""
        return [each.reason for each in self.told if isinstance(each, Down | Exit)]


class TrappingWatcher(Watcher):
    trap_exit = True


async def watch(behaviour: Callable[[], Watcher] = Watcher) -> tuple[ActorRef, Watcher]:
    """A watcher and its behaviour."""
    ref = await start(behaviour)
    watcher = ref.process.behaviour
    assert isinstance(watcher, Watcher)
    return ref, watcher


# -- monitors


@pytest.mark.parametrize("reason", [Normal(), Shutdown("x"), Killed(), Crashed(Boom())])
async def test_monitor_gives_one_down_whatever_the_reason(trace: Trace, reason: ExitReason) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        ref, watcher = await watch()
        monitor = watcher.monitor(target)
        await end(target, reason)

        assert [(type(each), each.monitor, each.process) for each in watcher.told if isinstance(each, Down)] == [
            (Down, monitor, target.process)
        ]
        assert watcher.reasons() == [target.process.reason]
        await ref.stop()


async def test_monitor_of_the_dead_gives_down_noproc_at_once(trace: Trace) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        await target.stop()
        ref, watcher = await watch()
        watcher.monitor(target)
        await settle()

        assert watcher.reasons() == [NoProc()]
        await ref.stop()


async def test_monitor_is_one_way(trace: Trace) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        ref, watcher = await watch()
        watcher.monitor(target)
        await end(ref, Killed())

        assert target.alive
        await target.stop()


async def test_n_monitors_give_n_downs(trace: Trace) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        ref, watcher = await watch()
        monitors = [watcher.monitor(target) for _ in range(3)]
        await end(target, Normal())

        assert {each.monitor for each in watcher.told if isinstance(each, Down)} == set(monitors)
        assert len(watcher.told) == 3
        await ref.stop()


async def test_demonitor_gives_none_afterwards(trace: Trace) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        ref, watcher = await watch()
        watcher.demonitor(watcher.monitor(target))
        await end(target, Normal())

        assert watcher.told == []
        await ref.stop()


async def test_demonitor_flushes_a_down_that_is_queued_already(trace: Trace) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        await target.stop()
        ref, watcher = await watch()

        def monitor_and_change_ones_mind(self: Watcher) -> None:
            self.demonitor(self.monitor(target))

        ref.cast(monitor_and_change_ones_mind)
        await settle()

        assert watcher.told == []
        await ref.stop()


async def test_demonitor_leaves_other_monitors_of_the_same_process(trace: Trace) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        ref, watcher = await watch()
        dropped, kept = watcher.monitor(target), watcher.monitor(target)
        watcher.demonitor(dropped)
        watcher.demonitor(dropped)
        await end(target, Normal())

        assert [each.monitor for each in watcher.told if isinstance(each, Down)] == [kept]
        await ref.stop()


async def test_monitor_is_bound_to_one_incarnation(trace: Trace) -> None:
    async with leak_check():
        ref, watcher = await watch()
        async with running(trace.child("a")) as root:
            watcher.monitor(await child(root, "a"))
            await fail(root, "a")
            await fail(root, "a")

            assert len(watcher.told) == 1
        await ref.stop()


async def test_monitor_of_a_process_itself_works_as_of_a_reference(trace: Trace) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        ref, watcher = await watch()
        monitor = watcher.monitor(target.process)
        await end(target, Normal())

        assert isinstance(monitor, Monitor)
        assert watcher.reasons() == [Normal()]
        await ref.stop()


async def test_down_keeps_its_place_behind_what_the_dead_process_had_sent_before(trace: Trace) -> None:
    order: list[str] = []

    class Owner(GenServer[str]):
        async def handle_cast(self, message: str) -> None:
            await asyncio.sleep(1)
            order.append(message)

        def handle_info(self, info: Info) -> None:
            order.append(type(info).__name__)

    async with leak_check():
        owner = await start(Owner)
        lessee = await start(lambda: Traced(trace, "lessee"))
        owner.process.behaviour.monitor(lessee)

        owner.cast("busy")
        await settle()
        owner.cast("release")
        await end(lessee, Normal())
        owner.cast("after")
        await asyncio.sleep(5)

        assert order == ["busy", "release", "Down", "after"]
        await owner.stop()


# -- links


@pytest.mark.parametrize("reason", [Shutdown(), Shutdown("x"), Killed(), Crashed(Boom())])
async def test_link_takes_the_other_along_without_terminate_for_any_reason_but_normal(
    trace: Trace, reason: ExitReason
) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        ref, watcher = await watch()
        watcher.link(target)
        await end(target, reason)

        assert ref.process.reason == target.process.reason
        assert watcher.terminated == []


async def test_link_works_both_ways(trace: Trace) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        ref, watcher = await watch()
        watcher.link(target)
        await end(ref, Killed())

        assert target.process.reason == Killed()
        assert trace.take() == "+a"


async def test_link_ignores_a_normal_end(trace: Trace) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        ref, watcher = await watch()
        watcher.link(target)
        await end(target, Normal())

        assert ref.alive
        await ref.stop()


@pytest.mark.parametrize("reason", [Normal(), Shutdown("x"), Killed(), Crashed(Boom())])
async def test_link_of_one_that_traps_gives_a_message_also_for_normal(trace: Trace, reason: ExitReason) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        ref, watcher = await watch(TrappingWatcher)
        watcher.link(target)
        await end(target, reason)

        assert [(type(each), each.process) for each in watcher.told if isinstance(each, Exit)] == [
            (Exit, target.process)
        ]
        assert watcher.reasons() == [target.process.reason]
        await ref.stop()


async def test_link_is_idempotent(trace: Trace) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        ref, watcher = await watch(TrappingWatcher)
        watcher.link(target)
        watcher.link(target)
        await end(target, Normal())

        assert len(watcher.told) == 1
        await ref.stop()


async def test_kill_is_untrappable_for_its_target_and_travels_on_as_killed_which_is_trappable() -> None:
    async with leak_check():
        ref, watcher = await watch(TrappingWatcher)
        other_ref, other = await watch(TrappingWatcher)
        watcher.link(other_ref)
        await end(ref, Killed())

        assert ref.process.reason == Killed()
        assert other.reasons() == [Killed()]
        await other_ref.stop()


async def test_unlink_cuts_it_both_ways(trace: Trace) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        ref, watcher = await watch()
        watcher.link(target)
        watcher.unlink(target)
        await end(target, Killed())

        assert ref.alive
        await ref.stop()


async def test_link_to_the_dead_is_a_noproc_signal(trace: Trace) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        await target.stop()
        ref, watcher = await watch()
        trapping_ref, trapping = await watch(TrappingWatcher)
        watcher.link(target)
        trapping.link(target)
        await settle()

        assert ref.process.reason == NoProc()
        assert trapping.reasons() == [NoProc()]
        await trapping_ref.stop()


async def test_links_spread_through_a_chain() -> None:
    async with leak_check():
        refs = [await start(Watcher) for _ in range(5)]
        for left, right in pairwise(refs):
            left.process.behaviour.link(right)
        await end(refs[2], Killed())

        assert [each.process.reason for each in refs] == [Killed()] * 5


# -- exit signals


async def test_exit_signal_normal_is_ignored_unless_trapping() -> None:
    async with leak_check():
        ref, _ = await watch()
        trapping_ref, trapping = await watch(TrappingWatcher)
        ref.exit(Normal())
        trapping_ref.exit(Normal())
        await settle()

        assert ref.alive
        assert trapping.reasons() == [Normal()]
        await ref.stop()
        await trapping_ref.stop()


@pytest.mark.parametrize("reason", [Shutdown("x"), Crashed(Boom())])
async def test_exit_signal_ends_one_without_trap_and_without_terminate(reason: ExitReason) -> None:
    async with leak_check():
        ref, watcher = await watch()
        ref.exit(reason)
        await settle()

        assert ref.process.reason is reason
        assert watcher.terminated == []


@pytest.mark.parametrize("reason", [Shutdown("x"), Crashed(Boom())])
async def test_exit_signal_is_a_message_to_one_that_traps(reason: ExitReason) -> None:
    async with leak_check():
        ref, watcher = await watch(TrappingWatcher)
        ref.exit(reason)
        await settle()

        assert watcher.reasons() == [reason]
        await ref.stop()


async def test_exit_signal_kill_ends_one_that_traps() -> None:
    async with leak_check():
        ref, watcher = await watch(TrappingWatcher)
        ref.exit(Killed())
        await settle()

        assert ref.process.reason == Killed()
        assert watcher.told == []


async def test_exit_signal_ends_a_busy_one_at_once(trace: Trace) -> None:
    async with leak_check():
        ref = await start(lambda: Traced(trace, "a"))
        ref.cast(Busy(60))
        await settle()
        with stopwatch() as seconds:
            ref.exit(Shutdown())
            assert await ref.wait() == Shutdown()

        assert seconds() == 0.0
        assert trace.take() == "+a"


async def test_raise_cast_is_seen_by_monitor_and_link_alike(trace: Trace) -> None:
    async with leak_check():
        target = await start(lambda: Traced(trace, "a"))
        ref, watcher = await watch(TrappingWatcher)
        watcher.monitor(target)
        watcher.link(target)
        target.cast(Raise(Boom("both")))
        await settle()

        assert [str(reason) for reason in watcher.reasons()] == ["Boom: both", "Boom: both"]
        assert {type(each) for each in watcher.told} == {Down, Exit}
        await ref.stop()
