"""Section 1.8: a supervisor that ends with its significant children."""

from __future__ import annotations

import pytest

from supervisors import Crashed, ExitReason, Killed, Normal, Shutdown
from tests.supervisors.actors import Boom, Trace, child, end, nested, running, states

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("reason", [Normal(), Shutdown(), Shutdown("done")])
async def test_any_significant_transient_that_is_done_stops_the_siblings_in_reverse(
    trace: Trace, reason: ExitReason
) -> None:
    significant = trace.child("s", restart="transient", significant=True)

    async with running(trace.child("a"), significant, trace.child("b"), auto_shutdown="any_significant") as root:
        trace.take()
        await end(await child(root, "s"), reason)

        assert trace.take() == "-s -b -a"
        assert root.process.reason == Shutdown()


@pytest.mark.parametrize("reason", [Normal(), Shutdown(), Crashed(Boom()), Killed()])
async def test_any_significant_temporary_triggers_however_it_ends(trace: Trace, reason: ExitReason) -> None:
    significant = trace.child("s", restart="temporary", significant=True)

    async with running(trace.child("a"), significant, auto_shutdown="any_significant") as root:
        await end(await child(root, "s"), reason)

        assert root.process.reason == Shutdown()


@pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
async def test_significant_transient_that_crashes_is_restarted_as_usual(trace: Trace, mode: str) -> None:
    async with running(trace.child("s", restart="transient", significant=True), auto_shutdown=mode) as root:
        await end(await child(root, "s"), Crashed(Boom()))

        assert states(root) == {"s": "running"}


@pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
async def test_child_that_is_not_significant_never_triggers(trace: Trace, mode: str) -> None:
    children = [trace.child("a", restart="transient"), trace.child("s", restart="transient", significant=True)]

    async with running(*children, auto_shutdown=mode) as root:
        await end(await child(root, "a"), Normal())

        assert root.alive


async def test_all_significant_waits_for_the_last_one(trace: Trace) -> None:
    children = [trace.child(id_, restart="transient", significant=True) for id_ in "stu"]

    async with running(trace.child("a"), *children, auto_shutdown="all_significant") as root:
        for id_ in "st":
            await end(await child(root, id_), Normal())
        assert root.alive

        await end(await child(root, "u"), Normal())
        assert root.process.reason == Shutdown()


async def test_all_significant_counts_one_stopped_by_terminate_child_as_gone(trace: Trace) -> None:
    children = [trace.child(id_, restart="transient", significant=True) for id_ in "st"]

    async with running(*children, auto_shutdown="all_significant") as root:
        await root.terminate_child("s")
        await end(await child(root, "t"), Normal())

        assert root.process.reason == Shutdown()


async def test_all_significant_counts_one_started_again_by_restart_child_as_there(trace: Trace) -> None:
    children = [trace.child(id_, restart="transient", significant=True) for id_ in "st"]

    async with running(*children, auto_shutdown="all_significant") as root:
        await root.terminate_child("s")
        await root.restart_child("s")
        await end(await child(root, "t"), Normal())

        assert root.alive


@pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
@pytest.mark.parametrize("restart", ["transient", "temporary"])
async def test_terminate_child_never_triggers(trace: Trace, mode: str, restart: str) -> None:
    async with running(trace.child("s", restart=restart, significant=True), auto_shutdown=mode) as root:
        await root.terminate_child("s")

        assert root.alive


async def test_chain_significant_transient_sub_supervisor_triggers_its_parent(trace: Trace) -> None:
    inner = nested(
        "inner",
        trace.child("x", restart="transient", significant=True),
        restart="transient",
        significant=True,
        auto_shutdown="any_significant",
    )

    async with running(trace.child("a"), inner, auto_shutdown="any_significant") as root:
        await end(await child(await child(root, "inner"), "x"), Normal())

        assert root.process.reason == Shutdown()


async def test_chain_permanent_sub_supervisor_is_restarted(trace: Trace) -> None:
    inner = nested("inner", trace.child("x", restart="transient", significant=True), auto_shutdown="any_significant")

    async with running(trace.child("a"), inner) as root:
        await end(await child(await child(root, "inner"), "x"), Normal())

        assert (await child(root, "inner")).incarnation == 2


async def test_never_is_the_default(trace: Trace) -> None:
    async with running(trace.child("a", restart="transient")) as root:
        await end(await child(root, "a"), Normal())

        assert root.alive
