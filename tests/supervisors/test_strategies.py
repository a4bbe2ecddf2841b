"""Section 1.3: which siblings a restart takes along."""

from __future__ import annotations

import asyncio

import pytest

from supervisors import Normal
from supervisors.testing import settle
from tests.supervisors.actors import Boom, Raise, Trace, child, end, fail, ids, info, nested, running, states

pytestmark = pytest.mark.anyio


async def test_one_for_one_restarts_only_that_child_and_keeps_its_place(trace: Trace) -> None:
    async with running(*trace.children("abc")) as root:
        trace.take()
        await fail(root, "b")

        assert trace.take() == "-b +b"
        assert await ids(root) == "a b c"


async def test_one_for_all_stops_the_others_in_reverse_and_starts_all_in_order(trace: Trace) -> None:
    async with running(*trace.children("abcd"), strategy="one_for_all") as root:
        trace.take()
        await fail(root, "b")

        assert trace.take() == "-b -d -c -a +a +b +c +d"


async def test_one_for_all_stops_each_by_its_own_shutdown_policy(trace: Trace) -> None:
    children = [
        trace.child("a", terminate=2.0),
        trace.child("b", shutdown="brutal_kill"),
        trace.child("c", terminate=9.0, shutdown=1.0),
        trace.child("d"),
    ]

    async with running(*children, strategy="one_for_all") as root:
        trace.take()
        await fail(root, "d")
        await asyncio.sleep(4)

        assert trace.take() == "-d -c -a .a +a +b +c +d"


async def test_rest_for_one_stops_those_after_it_in_reverse_and_leaves_those_before(trace: Trace) -> None:
    async with running(*trace.children("abcd"), strategy="rest_for_one") as root:
        trace.take()
        await fail(root, "b")

        assert trace.take() == "-b -d -c +b +c +d"
        assert (await child(root, "a")).incarnation == 1


async def test_rest_for_one_leaves_a_stopped_earlier_child_stopped(trace: Trace) -> None:
    async with running(*trace.children("abc"), strategy="rest_for_one") as root:
        await root.terminate_child("a")
        await root.terminate_child("c")
        await fail(root, "b")

        assert states(root) == {"a": "stopped", "b": "running", "c": "running"}


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_temporary_bystanders_are_stopped_with_the_group_and_dropped(trace: Trace, strategy: str) -> None:
    children = [trace.child("a"), trace.child("t", restart="temporary"), trace.child("c")]

    async with running(*children, strategy=strategy) as root:
        trace.take()
        await fail(root, "a")

        assert trace.take() == "-a -c -t +a +c"
        assert await ids(root) == "a c"


async def test_temporary_significant_bystander_never_triggers_auto_shutdown(trace: Trace) -> None:
    bystander = trace.child("t", restart="temporary", significant=True)

    async with running(trace.child("a"), bystander, strategy="one_for_all", auto_shutdown="any_significant") as root:
        await fail(root, "a")

        assert states(root) == {"a": "running"}


async def test_child_added_by_start_child_is_last_and_part_of_every_rest(trace: Trace) -> None:
    async with running(*trace.children("ab"), strategy="rest_for_one") as root:
        await root.start_child(trace.child("new"))
        trace.take()
        await fail(root, "b")

        assert trace.take() == "-b -new +b +new"


async def test_delete_and_start_again_moves_a_child_to_the_end(trace: Trace) -> None:
    async with running(*trace.children("abc")) as root:
        await root.terminate_child("a")
        await root.delete_child("a")
        await root.start_child(trace.child("a"))

        assert await ids(root) == "b c a"


async def test_terminate_and_restart_keeps_a_child_in_its_place(trace: Trace) -> None:
    async with running(*trace.children("abc")) as root:
        await root.terminate_child("a")
        await root.restart_child("a")

        assert await ids(root) == "a b c"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_one_group_restart_is_one_entry_in_the_window(trace: Trace, strategy: str) -> None:
    async with running(*trace.children("abcdef"), strategy=strategy, max_restarts=1) as root:
        await fail(root, "a")
        assert set(states(root).values()) == {"running"}

        await fail(root, "a")
        assert not root.alive


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_non_restartable_end_never_triggers_the_strategy(trace: Trace, strategy: str) -> None:
    children = [
        trace.child("a", restart="transient"),
        trace.child("b", restart="temporary"),
        trace.child("c"),
    ]

    async with running(*children, strategy=strategy) as root:
        trace.take()
        await end(await child(root, "a"), Normal())
        await fail(root, "b")

        assert trace.take() == "-a -b"
        assert states(root) == {"a": "stopped", "c": "running"}


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_terminate_child_and_restart_child_never_trigger_the_strategy(trace: Trace, strategy: str) -> None:
    async with running(*trace.children("abc"), strategy=strategy) as root:
        trace.take()
        await root.terminate_child("a")
        await root.restart_child("a")

        assert trace.take() == "-a +a"


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_sibling_that_died_at_the_same_moment_after_the_leader_is_absorbed(trace: Trace, strategy: str) -> None:
    async with running(*trace.children("abc"), strategy=strategy, max_restarts=1) as root:
        await fail(root, "a", "b")

        assert root.alive
        assert (await child(root, "b")).incarnation == 2
        assert (await info(root, "b")).restarts == 1


async def test_sibling_that_died_before_the_leader_is_restarted_twice(trace: Trace) -> None:
    async with running(*trace.children("abc"), strategy="rest_for_one", max_restarts=2) as root:
        await fail(root, "b", "a")

        assert root.alive
        assert (await child(root, "a")).incarnation == 2
        assert (await child(root, "b")).incarnation == 3


async def test_one_for_one_restarts_each_of_two_that_died_at_the_same_moment(trace: Trace) -> None:
    async with running(*trace.children("abc")) as root:
        trace.take()
        await fail(root, "b", "a")

        assert trace.take() == "-b -a +b +a"


async def test_group_restart_restarts_a_whole_nested_subtree(trace: Trace) -> None:
    inner = nested("inner", *trace.children("xy"))

    async with running(trace.child("a"), inner, strategy="one_for_all") as root:
        trace.take()
        (await child(root, "a")).cast(Raise(Boom()))
        await settle()

        assert trace.take() == "-a -y -x +a +x +y"
