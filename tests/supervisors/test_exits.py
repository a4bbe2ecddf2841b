"""Section 1.2: which exit means what."""

from __future__ import annotations

import pytest

from supervisors import Crashed, ExitReason, Killed, Normal, Shutdown
from supervisors.testing import settle
from tests.supervisors.actors import Boom, End, Trace, child, end, fail, ids, info, running, states

pytestmark = pytest.mark.anyio

ENDS: dict[str, ExitReason] = {
    "normal": Normal(),
    "shutdown": Shutdown(),
    "shutdown_with_detail": Shutdown("upgrade"),
    "exception": Crashed(Boom("bug")),
    "stop_with_other_reason": Crashed(Boom("stop")),
    "killed": Killed(),
}
ABNORMAL = ("exception", "stop_with_other_reason", "killed")


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("how", ENDS)
async def test_each_exit_of_each_restart_type(trace: Trace, how: str, restart: str) -> None:
    async with running(trace.child("a", restart=restart), trace.child("z"), max_restarts=1) as root:
        old = await child(root, "a")

        if how == "stop_with_other_reason":
            old.cast(End(ENDS[how]))
            await settle()
        else:
            await end(old, ENDS[how])

        assert type(old.process.reason) is type(ENDS[how])
        if restart == "permanent" or (restart == "transient" and how in ABNORMAL):
            assert (await child(root, "a")).incarnation == 2
        elif restart == "transient":
            stopped = await info(root, "a")
            assert (stopped.ref, stopped.state) == (None, "stopped")
            assert stopped.last_exit is not None
        else:
            assert await ids(root) == "z"


@pytest.mark.parametrize("how", ENDS)
async def test_every_restart_of_a_permanent_child_counts_even_after_a_normal_end(trace: Trace, how: str) -> None:
    async with running(trace.child("a"), max_restarts=1) as root:
        await end(await child(root, "a"), ENDS[how])
        assert root.alive

        await end(await child(root, "a"), ENDS[how])
        assert root.process.reason == Shutdown()


@pytest.mark.parametrize("how", ["normal", "shutdown", "shutdown_with_detail"])
async def test_transient_that_is_done_costs_no_budget(trace: Trace, how: str) -> None:
    async with running(trace.child("a", restart="transient"), max_restarts=0) as root:
        await end(await child(root, "a"), ENDS[how])
        assert root.alive

        await root.restart_child("a")
        await end(await child(root, "a"), ENDS[how])
        assert root.alive


@pytest.mark.parametrize("how", ENDS)
async def test_temporary_costs_no_budget_however_it_ends(trace: Trace, how: str) -> None:
    async with running(trace.child("a", restart="temporary"), max_restarts=0) as root:
        await end(await child(root, "a"), ENDS[how])

        assert root.alive


@pytest.mark.parametrize(("restart", "incarnation"), [("permanent", 2), ("transient", None)])
async def test_abnormal_is_decided_by_the_reason_not_by_who_stopped_it(
    trace: Trace, restart: str, incarnation: int | None
) -> None:
    async with running(trace.child("a", restart=restart)) as root:
        await (await child(root, "a")).stop(Shutdown())
        await settle()

        ref = (await info(root, "a")).ref
        assert (None if ref is None else ref.incarnation) == incarnation


async def test_group_restart_revives_transient_siblings_stopped_for_it_finished_before_or_terminated(
    trace: Trace,
) -> None:
    children = [trace.child(id_, restart="transient") for id_ in "abc"]

    async with running(*children, trace.child("d"), strategy="one_for_all") as root:
        await end(await child(root, "a"), Normal())
        await root.terminate_child("b")
        assert states(root) == {"a": "stopped", "b": "stopped", "c": "running", "d": "running"}

        await fail(root, "d")

        assert set(states(root).values()) == {"running"}
