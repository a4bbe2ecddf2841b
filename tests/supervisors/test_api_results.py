"""Section 1.7: what the calls of a supervisor answer."""

from __future__ import annotations

import asyncio

import pytest

from supervisors import (
    ActorRef,
    AlreadyPresent,
    AlreadyStarted,
    Backoff,
    Crashed,
    Done,
    Ignore,
    Ignored,
    Killed,
    NotFound,
    Restarting,
    Running,
    Shutdown,
    StartFailed,
)
from supervisors.testing import settle
from tests.supervisors.actors import (
    Boom,
    Raise,
    Run,
    Trace,
    child,
    fail,
    ids,
    info,
    nested,
    running,
    states,
    stopwatch,
)

pytestmark = pytest.mark.anyio

SLOW = Backoff(min_seconds=30, max_seconds=30)


async def restarting(root: ActorRef) -> None:
    """Bring ``a`` into the state of a child that waits for its restart."""
    await fail(root, "a")
    assert states(root)["a"] == "restarting"


# -- start_child


async def test_start_child_of_a_running_id_is_already_started(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        assert await root.start_child(trace.child("a")) == AlreadyStarted(await child(root, "a"))
        assert trace.take() == "+a"


async def test_start_child_of_a_stopped_id_is_already_present(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        await root.terminate_child("a")

        assert await root.start_child(trace.child("a")) == AlreadyPresent()


async def test_start_child_of_a_restarting_id_is_already_present(trace: Trace) -> None:
    async with running(trace.child("a", backoff=SLOW)) as root:
        await restarting(root)

        assert await root.start_child(trace.child("a")) == AlreadyPresent()


async def test_start_child_of_an_unknown_id_starts_and_appends_it(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        ref = await root.start_child(trace.child("b"))

        assert ref == await child(root, "b")
        assert await ids(root) == "a b"


async def test_start_child_that_ignores_keeps_the_spec(trace: Trace) -> None:
    async with running() as root:
        assert await root.start_child(trace.child("a", inits=[Ignore()])) == Ignored()
        assert states(root) == {"a": "stopped"}


async def test_start_child_with_a_failing_init_keeps_no_spec_and_costs_nothing(trace: Trace) -> None:
    bug = Boom("init")

    async with running(max_restarts=0) as root:
        failed = await root.start_child(trace.child("a", inits=[bug]))

        assert isinstance(failed, StartFailed)
        assert isinstance(failed.reason, Crashed)
        assert failed.reason.exception is bug
        assert await root.which_children() == []


async def test_start_child_validates_before_anything_starts(trace: Trace) -> None:
    async with running() as root:
        with pytest.raises(ValueError, match="significant"):
            await root.start_child(trace.child("a", restart="transient", significant=True))

        assert trace.take() == ""
        assert root.alive


async def test_start_child_refuses_a_wrong_spec_also_where_the_id_is_taken(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        with pytest.raises(ValueError, match="significant"):
            await root.start_child(trace.child("a", restart="transient", significant=True))


# -- terminate_child


async def test_terminate_child_of_a_running_one_stops_it_and_keeps_the_spec(trace: Trace) -> None:
    async with running(trace.child("a", terminate=2.0)) as root:
        with stopwatch() as seconds:
            assert await root.terminate_child("a") == Done()

        assert seconds() == 2.0
        assert states(root) == {"a": "stopped"}


async def test_terminate_child_takes_a_reference_too(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        assert await root.terminate_child(await child(root, "a")) == Done()
        assert states(root) == {"a": "stopped"}


async def test_terminate_child_of_a_temporary_one_removes_the_spec(trace: Trace) -> None:
    async with running(trace.child("a", restart="temporary")) as root:
        assert await root.terminate_child("a") == Done()
        assert await root.which_children() == []


async def test_terminate_child_of_a_stopped_one_is_done(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        await root.terminate_child("a")

        assert await root.terminate_child("a") == Done()


async def test_terminate_child_of_a_restarting_one_cancels_the_restart(trace: Trace) -> None:
    async with running(trace.child("a", backoff=SLOW)) as root:
        await restarting(root)

        assert await root.terminate_child("a") == Done()
        await asyncio.sleep(60)
        assert states(root) == {"a": "stopped"}


async def test_terminate_child_of_an_unknown_one_is_not_found(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        assert await root.terminate_child("b") == NotFound()


# -- restart_child


async def test_restart_child_of_a_running_one_is_running(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        assert await root.restart_child("a") == Running()
        assert trace.take() == "+a"


async def test_restart_child_of_a_stopped_one_starts_it(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        await root.terminate_child("a")

        assert await root.restart_child("a") == await child(root, "a")


async def test_restart_child_that_fails_leaves_it_stopped_without_a_retry(trace: Trace) -> None:
    async with running(trace.child("a", inits=[None, Boom("again")])) as root:
        await root.terminate_child("a")
        failed = await root.restart_child("a")

        assert isinstance(failed, StartFailed)
        assert str(failed.reason) == "Boom: again"
        assert states(root) == {"a": "stopped"}
        assert trace.take() == "+a -a !a"


async def test_restart_child_that_ignores_leaves_it_stopped(trace: Trace) -> None:
    async with running(trace.child("a", inits=[None, Ignore()])) as root:
        await root.terminate_child("a")

        assert await root.restart_child("a") == Ignored()
        assert states(root) == {"a": "stopped"}


async def test_restart_child_of_a_restarting_one_is_restarting(trace: Trace) -> None:
    async with running(trace.child("a", backoff=SLOW)) as root:
        await restarting(root)

        assert await root.restart_child("a") == Restarting()


async def test_restart_child_of_an_unknown_one_is_not_found(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        assert await root.restart_child("b") == NotFound()


# -- delete_child


async def test_delete_child_of_a_running_one_is_running(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        assert await root.delete_child("a") == Running()


async def test_delete_child_of_a_stopped_one_forgets_the_spec(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        await root.terminate_child("a")

        assert await root.delete_child("a") == Done()
        assert await root.which_children() == []


async def test_delete_child_of_a_restarting_one_is_restarting(trace: Trace) -> None:
    async with running(trace.child("a", backoff=SLOW)) as root:
        await restarting(root)

        assert await root.delete_child("a") == Restarting()


async def test_delete_child_of_an_unknown_one_is_not_found(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        assert await root.delete_child("b") == NotFound()


# -- the rest


async def test_get_childspec_gives_the_spec_or_not_found(trace: Trace) -> None:
    spec = trace.child("a")

    async with running(spec) as root:
        assert await root.get_childspec("a") is spec
        assert await root.get_childspec("b") == NotFound()


async def test_which_children_tells_id_ref_state_type_restarts_and_last_exit_in_start_order(trace: Trace) -> None:
    async with running(trace.child("a"), nested("b"), trace.child("c", restart="transient")) as root:
        await fail(root, "a")
        await (await child(root, "c")).stop()
        await settle()
        a, b, c = await root.which_children()

        assert (a.id, a.state, a.type, a.restarts, str(a.last_exit)) == ("a", "running", "worker", 1, "Boom: ")
        assert (b.id, b.state, b.type, b.restarts, b.last_exit) == ("b", "running", "supervisor", 0, None)
        assert (c.id, c.state, c.ref, c.restarts) == ("c", "stopped", None, 0)


async def test_count_children_counts_specs_living_supervisors_and_workers(trace: Trace) -> None:
    async with running(*trace.children("abc"), nested("d"), nested("e")) as root:
        await root.terminate_child("a")
        await root.terminate_child("e")
        counts = await root.count_children()

        assert (counts.specs, counts.active, counts.supervisors, counts.workers) == (5, 3, 2, 3)


async def test_crash_during_a_slow_start_child_is_handled_after_it(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        ref = await child(root, "a")
        trace.take()
        starting = asyncio.ensure_future(root.start_child(trace.child("b", inits=[5.0])))
        await settle()
        ref.cast(Raise(Boom()))
        await settle()
        assert trace.take() == "-a"

        await starting
        await settle()
        assert trace.take() == "+b +a"


async def test_crash_queued_before_terminate_child_is_handled_first(trace: Trace) -> None:
    async with running(trace.child("a"), trace.child("slow", inits=[None, 1.0])) as root:
        ref = await child(root, "a")
        await root.terminate_child("slow")
        trace.take()
        busy = asyncio.ensure_future(root.restart_child("slow"))
        await settle()
        ref.exit(Killed())
        await settle()
        terminating = asyncio.ensure_future(root.terminate_child("a"))
        await asyncio.gather(busy, terminating)

        assert trace.take() == "+slow +a -a"
        assert states(root)["a"] == "stopped"


async def test_requests_are_served_one_at_a_time_in_order(trace: Trace) -> None:
    async with running() as root:
        await asyncio.gather(*(root.start_child(trace.child(id_, inits=[1.0])) for id_ in "abc"))

        assert trace.take() == "+a +b +c"


async def test_late_exit_of_an_old_incarnation_is_ignored(trace: Trace) -> None:
    async with running(trace.child("a"), max_restarts=1) as root:
        old = await child(root, "a")
        await fail(root, "a")
        old.exit(Killed())
        await settle()

        assert (await info(root, "a")).restarts == 1
        assert root.alive


async def test_child_may_call_its_own_supervisor_from_a_handler(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        ref = await child(root, "a")

        async def start_sibling() -> object:
            await root.start_child(trace.child("b"))
            return (await root.count_children()).active

        assert await ref.call(Run(start_sibling)) == 2


async def test_terminate_child_on_itself_waits_out_its_shutdown_time_and_is_killed(trace: Trace) -> None:
    async with running(trace.child("a", shutdown=4.0)) as root:
        ref = await child(root, "a")

        with stopwatch() as seconds:
            calling = asyncio.ensure_future(ref.call(Run(lambda: root.terminate_child("a")), timeout=None))
            await asyncio.wait([calling])

        assert seconds() == 4.0
        assert ref.process.reason == Killed()
        assert calling.exception() is not None
        assert states(root) == {"a": "stopped"}


async def test_manual_stop_of_a_child_is_shown_as_its_last_exit(trace: Trace) -> None:
    async with running(trace.child("a")) as root:
        await root.terminate_child("a")

        assert (await info(root, "a")).last_exit == Shutdown()
