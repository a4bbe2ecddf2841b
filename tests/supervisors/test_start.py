"""Section 1.1: how a supervisor and its children start."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from supervisors import Continue, Crashed, DynamicSupervisor, Ignore, NotFound, StartError, Supervisor, start
from supervisors.testing import leak_check, settle
from tests.supervisors.actors import Boom, Trace, child, fail, ids, nested, running, states, stopwatch

pytestmark = pytest.mark.anyio


async def test_order_children_start_left_to_right_each_after_the_init_of_the_one_before(trace: Trace) -> None:
    children = [trace.child("a", inits=[3.0]), trace.child("b", inits=[2.0]), trace.child("c")]

    with stopwatch() as seconds:
        async with running(*children):
            assert seconds() == 5.0
            assert trace.take() == "+a +b +c"


async def test_order_nested_supervisor_counts_as_started_when_its_whole_subtree_is_up(trace: Trace) -> None:
    inner = nested("inner", trace.child("x", inits=[1.0]), trace.child("y", inits=[1.0]))

    async with running(trace.child("a"), inner, trace.child("b")):
        assert trace.take() == "+a +x +y +b"


@pytest.mark.parametrize("init", [None, Continue("more"), 0.5])
async def test_init_result_ok_with_or_without_more(trace: Trace, init: Any) -> None:
    async with running(trace.child("a", inits=[init])) as root:
        assert (await root.count_children()).active == 1


async def test_init_result_exception_is_an_error_and_the_exception_its_reason(trace: Trace) -> None:
    bug = Boom("init")

    with leak_check(), pytest.raises(StartError) as failed:
        await start(trace.child("a", inits=[bug]))

    assert isinstance(failed.value.reason, Crashed)
    assert failed.value.reason.exception is bug


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_failing_init_at_supervisor_start_is_not_retried_and_rolls_back_in_reverse(
    trace: Trace, restart: str
) -> None:
    bad = trace.child("c", inits=[Boom("once")], restart=restart)
    children = [*trace.children("ab"), bad, trace.child("d")]

    with leak_check(), pytest.raises(StartError) as failed:
        await start(lambda: Supervisor(children, max_restarts=100))

    assert trace.take() == "+a +b !c -b -a"
    assert "c" in str(failed.value)
    assert "Boom: once" in str(failed.value)


async def test_failing_init_of_a_supervisor_stops_siblings_by_their_own_shutdown_policy(trace: Trace) -> None:
    children = [
        trace.child("slow", terminate=3.0),
        trace.child("brutal", shutdown="brutal_kill"),
        trace.child("late", terminate=30.0, shutdown=2.0),
        trace.child("bad", inits=[Boom()]),
    ]

    with leak_check(), stopwatch() as seconds, pytest.raises(StartError):
        await start(lambda: Supervisor(children))

    assert trace.take() == "+slow +brutal +late !bad -late -slow .slow"
    assert seconds() == pytest.approx(5.0)


async def test_failing_init_deep_in_the_tree_fails_the_whole_start(trace: Trace) -> None:
    inner = nested("inner", trace.child("x"), trace.child("y", inits=[Boom("deep")]))

    with leak_check(), pytest.raises(StartError, match="deep"):
        await start(lambda: Supervisor([trace.child("a"), inner, trace.child("b")]))

    assert trace.take() == "+a +x !y -x -a"


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_ignore_keeps_the_spec_without_a_process_and_restart_child_may_start_it_later(
    trace: Trace, restart: str
) -> None:
    async with running(trace.child("a", inits=[Ignore()], restart=restart), trace.child("b")) as root:
        counts = await root.count_children()

        assert (counts.specs, counts.active, counts.workers) == (2, 1, 2)
        assert states(root) == {"a": "stopped", "b": "running"}

        ref = await root.restart_child("a")

        assert ref == await child(root, "a")
        assert trace.take() == "+a +b +a"


async def test_ignore_drops_the_spec_of_a_temporary_child(trace: Trace) -> None:
    async with running(trace.child("a", inits=[Ignore()], restart="temporary"), trace.child("b")) as root:
        assert await ids(root) == "b"
        assert await root.restart_child("a") == NotFound()


async def test_ignore_of_a_root_is_no_start(trace: Trace) -> None:
    with leak_check(), pytest.raises(StartError):
        await start(trace.child("a", inits=[Ignore()]))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("restart", "sometimes"),
        ("shutdown", -1.0),
        ("shutdown", "gently"),
        ("type", "boss"),
        ("start_timeout", -1.0),
    ],
)
async def test_validation_of_a_child_spec_names_the_option(trace: Trace, option: str, value: Any) -> None:
    options: dict[str, Any] = {option: value}

    with pytest.raises(ValueError, match=option):
        trace.child("a", **options)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("strategy", "one_for_some"),
        ("auto_shutdown", "sometimes"),
        ("max_restarts", -1),
        ("max_seconds", 0),
        ("max_seconds", -1.0),
    ],
)
async def test_validation_of_a_supervisor_names_the_option(trace: Trace, option: str, value: Any) -> None:
    options: dict[str, Any] = {option: value}

    with pytest.raises(ValueError, match=option):
        Supervisor([trace.child("a")], **options)

    assert trace.take() == ""


@pytest.mark.parametrize(
    ("option", "value"), [("max_restarts", -1), ("max_seconds", 0), ("max_children", -1), ("adopted_shutdown", -1.0)]
)
async def test_validation_of_a_dynamic_supervisor_names_the_option(option: str, value: Any) -> None:
    options: dict[str, Any] = {option: value}

    with pytest.raises(ValueError, match=option):
        DynamicSupervisor(**options)


async def test_validation_refuses_two_children_of_one_id(trace: Trace) -> None:
    with pytest.raises(ValueError, match="id"):
        Supervisor(trace.children("aba"))


async def test_validation_refuses_significant_without_auto_shutdown(trace: Trace) -> None:
    with pytest.raises(ValueError, match="significant"):
        Supervisor([trace.child("a", restart="transient", significant=True)])


async def test_validation_refuses_significant_permanent(trace: Trace) -> None:
    with pytest.raises(ValueError, match="significant"):
        Supervisor([trace.child("a", significant=True)], auto_shutdown="any_significant")


async def test_validation_accepts_shutdown_zero_and_max_restarts_zero(trace: Trace) -> None:
    async with running(trace.child("a", shutdown=0), max_restarts=0) as root:
        await fail(root, "a")

        assert not root.alive


def test_defaults_of_a_child(trace: Trace) -> None:
    spec = trace.child("a")

    assert (spec.restart, spec.type, spec.shutdown, spec.significant) == ("permanent", "worker", 5.0, False)
    assert nested("b").shutdown == "infinity"


async def test_defaults_of_intensity_are_three_in_five_seconds(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        await fail(root, "a")
        await fail(root, "a")
        await fail(root, "a")
        await asyncio.sleep(5.1)
        await fail(root, "a")
        await fail(root, "a")
        await fail(root, "a")
        assert root.alive

        await fail(root, "a")
        assert not root.alive


async def test_start_of_a_new_object_for_every_incarnation(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        first = (await child(root, "a")).process.behaviour
        await fail(root, "a")
        second = (await child(root, "a")).process.behaviour

        assert first is not second
        assert second.incarnation == 2


async def test_start_cancelled_while_a_child_initialises_rolls_back(trace: Trace) -> None:
    children = [trace.child("a"), trace.child("b", inits=[60.0]), trace.child("c")]

    async with leak_check():
        starting = asyncio.ensure_future(start(lambda: Supervisor(children)))
        await settle()
        starting.cancel()

        with pytest.raises(asyncio.CancelledError):
            await starting

    assert trace.take() == "+a -a"
