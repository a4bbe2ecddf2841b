"""The provider actor in a real tree on virtual time: who may call, what is learnt, and what a crash leaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from runestone.domain.failure import Failure, FailureKind
from runestone.domain.outcome import Outcome
from runestone.providers import names
from runestone.providers.messages import RESTART_SECONDS, Exhausted, FirstContent, Lease, Refused
from runestone.providers.provider import ResetBreaker, SetAdminState, TripBreaker
from runestone.providers.roster import RestartProvider
from runestone.resilience.breaker import BreakerPolicy
from runestone.resilience.throttle import Throttle
from runestone.telemetry.events import BreakerChanged, ProviderThrottled
from supervisors import NoProcess
from supervisors.introspection import resume, suspend
from supervisors.testing import VirtualTimeLoop, crash, leak_check, settle
from tests.support.fleet import MODEL, Fleet, failure, fleet, provider, release

pytestmark = pytest.mark.anyio
SERVER_ERRORS: tuple[FailureKind, ...] = ("server_error",) * 3  # as many as open the breaker


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


def state(node: Fleet, name: str = "a") -> str:
    return node.memories[name].breaker.name(asyncio.get_running_loop().time())


def score(node: Fleet, name: str = "a") -> float:
    return node.memories[name].score(asyncio.get_running_loop().time())


async def half_open(node: Fleet) -> None:
    """Open the breaker and wait until it would let probes through."""
    await node.fails(*SERVER_ERRORS)
    await asyncio.sleep(10)


# -- a lease ---------------------------------------------------------------------------------------------------------------


async def test_a_lease_is_granted_with_all_that_a_call_needs_and_given_back() -> None:
    async with fleet(provider("a")) as node:
        memory = node.memories["a"]

        lease = await node.lease()

        assert (lease.choice.provider, lease.choice.model, lease.tier, lease.panic) == ("a", MODEL, 1, False)
        assert (lease.settings, lease.transport, lease.incarnation) == (memory.settings, memory.transport, 1)
        assert list(memory.leases) == [lease.id]
        assert node.ref().process.behaviour is not None
        assert node.ref().process.behaviour.status() == {
            "breaker": "closed",
            "score": 1.0,
            "leases": 1,
            "waiting": 0,
            "drains": 0,
        }
        lease.release("success")
        await settle()
        assert memory.leases == {}
        assert memory.last_success is not None
        assert memory.last_success.what == MODEL


async def test_leases_are_numbered_for_good() -> None:
    async with fleet(provider("a")) as node:
        ids = [(await node.lease()).id]
        await node.crash()
        ids += [(await node.lease()).id for _ in range(2)]

        assert ids == sorted(set(ids))
        assert node.memories["a"].calls == 3


async def test_only_the_first_end_of_a_lease_counts() -> None:
    async with fleet(provider("a")) as node:
        lease = await node.lease()

        lease.release("success")
        lease.release("failure", failure())
        lease.first_content(0.1)
        await settle()

        assert (node.memories["a"].failures, score(node)) == (0, 1.0)
        assert node.memories["a"].health.first_token_seconds is None


async def test_a_failure_is_remembered_and_moves_score_and_breaker() -> None:
    async with fleet(provider("a")) as node:
        await node.fails("server_error", "timeout")

        memory = node.memories["a"]
        assert (memory.failures, memory.breaker.consecutive_failures, state(node)) == (2, 2, "closed")
        assert score(node) < 0.1
        assert memory.last_failure is not None
        assert memory.last_failure.what == "timeout: timeout"


async def test_a_neutral_end_moves_nothing() -> None:
    async with fleet(provider("a")) as node:
        before = node.memories["a"].breaker

        await node.fails("caller_error", "unsupported")
        (await node.lease()).release("neutral")
        await settle()

        assert (node.memories["a"].breaker, score(node), node.memories["a"].leases) == (before, 1.0, {})


async def test_a_release_that_finds_the_mailbox_full_raises_nothing_and_the_end_of_its_owner_gives_the_lease_back() -> (
    None
):
    async with fleet(provider("a")) as node:
        over = asyncio.Event()

        async def work() -> None:
            lease = await node.lease()
            await suspend(node.ref())
            for _ in range(10_000):
                node.ref().cast(FirstContent(-1, 0.0))
            lease.first_content(1.0)
            lease.release("success")
            over.set()

        await node.request(work)
        assert over.is_set()
        await resume(node.ref())
        await settle()

        assert node.memories["a"].leases == {}


# -- refusals --------------------------------------------------------------------------------------------------------------


async def test_refusals_come_in_their_order_and_the_breaker_is_the_last() -> None:
    async with fleet(provider("a")) as node:
        memory = node.memories["a"]
        wire = memory.transport
        await node.fails("rate_limited", retry_after_seconds=20.0)
        memory.quarantine = memory.quarantine.add(0.0, None, "credentials", 300.0)
        memory.breaker = memory.breaker.trip(0.0)
        memory.admin_state, memory.transport = "draining", None

        seen: list[tuple[str, float | None]] = []

        async def ask() -> None:
            refused = await node.refused()
            seen.append((refused.reason, refused.retry_after_seconds))

        await ask()
        memory.transport = wire
        await ask()
        memory.admin_state = "ready"
        await ask()
        memory.throttle = Throttle()
        await ask()
        memory.quarantine = memory.quarantine.clear()
        await ask()

        assert seen == [
            ("down", RESTART_SECONDS),
            ("draining", None),
            ("throttled", 20.0),
            ("quarantined", 300.0),
            ("breaker_open", None),
        ]
        await node.registry.via("provider:a").call(ResetBreaker())
        release(await node.lease())


async def test_a_refusal_names_the_provider_and_the_tier_that_asked() -> None:
    async with fleet(provider("a")) as node:
        await node.fails("rate_limited")

        assert await node.refused() == Refused(provider="a", tier=1, reason="throttled", retry_after_seconds=1.0)


async def test_a_429_throttles_until_its_time_and_is_told() -> None:
    async with fleet(provider("a")) as node:
        await node.fails("rate_limited", retry_after_seconds=7.0)

        assert (await node.refused()).retry_after_seconds == 7.0
        assert node.told(ProviderThrottled) == [ProviderThrottled(provider="a", seconds=7.0)]
        assert (state(node), score(node)) == ("closed", 1.0)
        await asyncio.sleep(7)
        release(await node.lease())


async def test_a_429_without_a_time_doubles_and_a_success_starts_again() -> None:
    async with fleet(provider("a")) as node:
        waits = []
        for _ in range(3):
            await node.fails("rate_limited")
            waits.append((await node.refused()).retry_after_seconds)
            await asyncio.sleep(waits[-1] or 0)
        await node.succeeds()
        await node.fails("rate_limited")
        waits.append((await node.refused()).retry_after_seconds)

        assert waits == [1.0, 2.0, 4.0, 1.0]


@pytest.mark.parametrize("kind", ["credentials", "quota_exceeded"])
async def test_a_wrong_key_and_a_spent_quota_take_the_whole_provider_out_for_five_minutes(kind: FailureKind) -> None:
    async with fleet(provider("a")) as node:
        await node.fails(kind)

        assert await node.refused(model="gpt-other") == Refused(
            provider="a", tier=1, reason="quarantined", retry_after_seconds=300.0
        )
        assert (state(node), score(node)) == ("closed", 1.0)
        await asyncio.sleep(300)
        release(await node.lease())


@pytest.mark.parametrize(("kind", "reason"), [("forbidden", "quarantined"), ("not_found", "not_found")])
async def test_a_model_that_is_refused_is_out_for_a_minute_and_the_others_are_not(
    kind: FailureKind, reason: str
) -> None:
    async with fleet(provider("a")) as node:
        await node.fails(kind)

        refused = await node.refused()
        assert (refused.reason, refused.retry_after_seconds) == (reason, 60.0)
        release(await node.lease(model="gpt-other"))
        await asyncio.sleep(60)
        release(await node.lease())


async def test_a_name_that_was_only_passed_on_is_never_quarantined() -> None:
    async with fleet(provider("a")) as node:
        release(await node.lease(model="made-up"), failure("not_found"))
        await settle()

        release(await node.lease(model="made-up"))
        assert node.memories["a"].quarantine.entries == {}


async def test_draining_takes_nothing_new_and_lets_what_runs_end() -> None:
    async with fleet(provider("a")) as node:
        lease = await node.lease()
        await node.registry.via("provider:a").call(SetAdminState("draining"))

        assert (await node.refused()).reason == "draining"
        release(lease)
        await settle()
        assert node.memories["a"].leases == {}
        await node.registry.via("provider:a").call(SetAdminState("ready"))
        release(await node.lease())


async def test_a_refused_request_eats_no_probe() -> None:
    async with fleet(provider("a", breaker=BreakerPolicy(failure_threshold=1, half_open_limit=1))) as node:
        memory = node.memories["a"]
        await node.fails("server_error")
        await asyncio.sleep(memory.breaker.retry_after(asyncio.get_running_loop().time()) or 0)
        for reason in ("draining", "quarantined", "throttled"):
            memory.admin_state = "draining" if reason == "draining" else "ready"
            if reason == "quarantined":
                memory.quarantine = memory.quarantine.add(asyncio.get_running_loop().time(), None, "credentials", 5)
            if reason == "throttled":
                memory.quarantine = memory.quarantine.clear()
                memory.throttle = memory.throttle.hit(asyncio.get_running_loop().time(), 1.0)
            assert (await node.refused()).reason == reason
            assert memory.breaker.probes_out == 0
        await asyncio.sleep(1)

        probe = await node.lease()

        assert memory.breaker.probes_out == 1
        assert (await node.refused()).reason == "breaker_open"
        release(probe)


async def test_without_failover_a_refused_caller_learns_so_at_once() -> None:
    async with fleet(provider("a")) as node:
        await node.registry.via("provider:a").call(SetAdminState("draining"))
        await node.root.terminate_child("failover")

        with pytest.raises(NoProcess):
            await node.ask()

        assert asyncio.get_running_loop().time() == 0.0


async def test_a_caller_whose_refusal_lies_with_a_dying_failover_actor_learns_so_at_once() -> None:
    async with fleet(provider("a")) as node:
        await node.registry.via("provider:a").call(SetAdminState("draining"))
        failover = node.registry.lookup("failover")
        assert failover is not None
        await suspend(failover)
        waiting = asyncio.create_task(node.ask())
        await settle()

        crash(failover, RuntimeError("a bug"))
        await settle()

        assert waiting.done()
        assert "a bug" in str(waiting.exception())


# -- the breaker -----------------------------------------------------------------------------------------------------------


async def test_the_breaker_opens_recovers_by_probes_and_says_so() -> None:
    async with fleet(provider("a")) as node:
        await node.fails(*SERVER_ERRORS)
        refused = await node.refused()
        await asyncio.sleep(10)
        await node.succeeds(2)

        assert (refused.reason, refused.retry_after_seconds) == ("breaker_open", 10.0)
        assert state(node) == "closed"
        assert [(e.before, e.after) for e in node.told(BreakerChanged)] == [
            ("closed", "open"),
            ("open", "half_open"),
            ("half_open", "closed"),
        ]


async def test_at_most_the_limit_of_probes_is_out_and_a_neutral_end_gives_one_back() -> None:
    async with fleet(provider("a")) as node:
        await half_open(node)
        probes = [await node.lease() for _ in range(3)]
        assert (await node.refused()).reason == "breaker_open"

        probes[0].release("neutral")
        await settle()

        probes.append(await node.lease())
        assert (await node.refused()).reason == "breaker_open"


async def test_a_probe_is_judged_at_its_first_content() -> None:
    async with fleet(provider("a")) as node:
        await half_open(node)
        probes = [await node.lease() for _ in range(2)]

        for probe in probes:
            probe.first_content(0.5)
        await settle()

        assert state(node) == "closed"
        assert len(node.memories["a"].leases) == 2


async def test_a_judged_probe_gives_its_place_to_the_next_and_counts_once() -> None:
    async with fleet(provider("a")) as node:
        await half_open(node)
        probe = await node.lease()
        probe.first_content(0.5)
        probe.first_content(0.5)
        await settle()
        assert (state(node), node.memories["a"].breaker.probes_out) == ("half_open", 0)

        release(probe)
        await settle()

        assert state(node) == "half_open"
        assert score(node) < 0.5
        await node.succeeds()
        assert state(node) == "closed"


async def test_a_breaker_whose_time_is_over_says_so_by_itself() -> None:
    async with fleet(provider("a")) as node:
        await node.fails(*SERVER_ERRORS)
        assert state(node) == "open"
        await node.crash()  # the next incarnation sees to it as well
        await asyncio.sleep(10)
        await settle()

        assert [(e.before, e.after) for e in node.told(BreakerChanged)] == [("closed", "open"), ("open", "half_open")]


async def test_a_breaker_that_was_tripped_for_a_while_says_when_that_is_over() -> None:
    async with fleet(provider("a")) as node:
        await node.registry.via(names.provider("a")).call(TripBreaker(5.0))
        await asyncio.sleep(4)
        assert [e.after for e in node.told(BreakerChanged)] == ["open"]
        await asyncio.sleep(2)
        await settle()

        assert [e.after for e in node.told(BreakerChanged)] == ["open", "half_open"]


async def test_what_an_answer_says_is_left_of_the_rate_limit_moves_the_score_until_it_fades() -> None:
    async with fleet(provider("a")) as node:
        lease = await node.lease()
        lease.first_content(0.05, 0.1)
        lease.release("success")
        await settle()
        assert score(node) == pytest.approx(0.5)
        await asyncio.sleep(300)

        assert score(node) == pytest.approx(1.0)


async def test_a_probe_that_breaks_after_its_first_content_opens_the_breaker_again() -> None:
    async with fleet(provider("a")) as node:
        await half_open(node)
        probe = await node.lease()
        probe.first_content(0.5)
        release(probe, failure("truncated"))
        await settle()

        assert (await node.refused()).retry_after_seconds == 20.0


async def test_other_calls_are_judged_by_their_end() -> None:
    async with fleet(provider("a")) as node:
        for n in range(3):
            lease = await node.lease()
            lease.first_content(0.5)
            await settle()
            assert node.memories["a"].breaker.consecutive_failures == n
            release(lease, failure("truncated"))
        await settle()

        assert state(node) == "open"
        assert node.memories["a"].health.first_token_seconds == 0.5


async def test_what_was_let_through_before_has_no_say_after() -> None:
    async with fleet(provider("a")) as node:
        early = [await node.lease() for _ in range(2)]
        await half_open(node)

        release(early[0])
        release(early[1], failure())
        await settle()

        assert state(node) == "half_open"


@pytest.mark.parametrize(("seconds", "wait"), [(None, None), (5.0, 5.0)])
async def test_an_operator_trips_it_and_resets_it(seconds: float | None, wait: float | None) -> None:
    async with fleet(provider("a")) as node:
        via = node.registry.via("provider:a")
        await via.call(TripBreaker(seconds))

        assert await node.refused() == Refused(provider="a", tier=1, reason="breaker_open", retry_after_seconds=wait)
        await via.call(ResetBreaker())
        release(await node.lease())
        assert [(e.before, e.after) for e in node.told(BreakerChanged)] == [("closed", "open"), ("open", "closed")]


async def test_a_reset_lifts_throttle_and_quarantine_too() -> None:
    async with fleet(provider("a")) as node:
        await node.fails("rate_limited", retry_after_seconds=99.0)
        memory = node.memories["a"]
        memory.quarantine = memory.quarantine.add(0.0, None, "credentials", 300.0)

        await node.registry.via("provider:a").call(ResetBreaker())

        release(await node.lease())


async def test_without_a_circuit_breaker_it_measures_and_never_refuses() -> None:
    async with fleet(provider("a", circuit_breaker=False)) as node:
        await node.fails(*SERVER_ERRORS, *SERVER_ERRORS)
        await node.fails("rate_limited", "credentials", "not_found", retry_after_seconds=99.0)

        assert (state(node), node.memories["a"].failures) == ("open", 9)
        assert score(node) == 0.0
        assert [(e.before, e.after) for e in node.told(BreakerChanged)] == [("closed", "open")]
        await asyncio.sleep(10)
        await node.succeeds(2)
        assert state(node) == "closed"
        node.memories["a"].admin_state = "draining"
        assert (await node.refused()).reason == "draining"


# -- owners and callers ----------------------------------------------------------------------------------------------------


async def test_the_end_of_its_owner_gives_a_lease_back_as_neutral() -> None:
    async with fleet(provider("a")) as node:
        before = node.memories["a"].breaker

        lease = await node.request(node.lease)
        await settle()

        assert (node.memories["a"].leases, node.memories["a"].breaker, score(node)) == ({}, before, 1.0)
        lease.release("failure", failure())
        await settle()
        assert node.memories["a"].failures == 0


async def test_a_release_that_the_owner_had_cast_before_its_end_counts() -> None:
    async with fleet(provider("a")) as node:

        async def work() -> None:
            release(await node.lease(), failure())

        await node.request(work)
        await settle()

        assert (node.memories["a"].leases, node.memories["a"].failures) == ({}, 1)


async def test_a_lease_leaves_no_monitor_behind() -> None:
    async with fleet(provider("a")) as node:
        done = asyncio.Event()

        async def work() -> None:
            release(await node.lease())
            await done.wait()

        request = node.request(work)
        await settle()

        assert not node.ref().process.watching
        done.set()
        await request


async def test_a_caller_cancelled_before_its_turn_leaves_no_lease() -> None:
    async with fleet(provider("a")) as node:
        await suspend(node.ref())
        request = node.request(node.lease)
        await settle()
        request.cancel()
        await settle()

        await resume(node.ref())
        await settle()

        assert (node.memories["a"].leases, node.late_replies()) == ({}, 1)


async def cancelled_at_the_very_reply(node: Fleet, work: Callable[[], Awaitable[object]]) -> asyncio.Task[object]:
    await suspend(node.ref())
    request = node.request(work)
    await settle()
    handled = asyncio.Event()
    behaviour = node.ref().process.behaviour
    assert behaviour is not None
    real = behaviour.handle_call

    def and_cancel(message: object, caller: object) -> object:
        result = real(message, caller)
        request.cancel()  # the reply is set, the caller has not run yet
        handled.set()
        return result

    behaviour.handle_call = and_cancel  # a moment that no message can choose
    await resume(node.ref())
    await settle()
    assert handled.is_set()
    return request


async def test_a_caller_cancelled_at_the_very_reply_leaves_no_lease() -> None:
    async with fleet(provider("a")) as node:
        request = await cancelled_at_the_very_reply(node, node.lease)

        assert request.cancelled()
        assert (node.memories["a"].leases, node.late_replies()) == ({}, 0)


async def test_a_caller_that_gives_up_at_the_very_reply_and_lives_on_holds_no_lease() -> None:
    async with fleet(provider("a")) as node:

        async def work() -> None:
            with suppress(asyncio.CancelledError):
                await node.lease()
            await asyncio.sleep(100)

        request = await cancelled_at_the_very_reply(node, work)

        assert not request.done()
        assert node.memories["a"].leases == {}
        request.cancel()


async def test_a_caller_cancelled_after_the_reply_leaves_no_lease() -> None:
    async with fleet(provider("a")) as node:

        async def work() -> None:
            await node.lease()
            await asyncio.sleep(100)

        request = node.request(work)
        await settle()
        assert len(node.memories["a"].leases) == 1

        request.cancel()
        await settle()

        assert node.memories["a"].leases == {}


async def test_a_cancelled_probe_gives_its_place_back_however_late_it_was_granted() -> None:
    async with fleet(provider("a")) as node:
        await half_open(node)
        await suspend(node.ref())
        requests = [node.request(node.lease) for _ in range(5)]
        await settle()
        for request in requests:
            request.cancel()
        await settle()
        await resume(node.ref())
        await settle()

        assert (node.memories["a"].leases, node.memories["a"].breaker.probes_out) == ({}, 0)
        await node.succeeds(2)
        assert state(node) == "closed"


# -- crash and restart -----------------------------------------------------------------------------------------------------


async def test_a_crash_keeps_breaker_score_throttle_and_leases() -> None:
    async with fleet(provider("a")) as node:
        memory = node.memories["a"]
        lease = await node.lease()
        await node.fails(*SERVER_ERRORS)
        before = (memory.breaker, memory.health, memory.throttle, memory.quarantine)

        await node.crash()

        assert (memory.incarnation, node.ref().incarnation) == (2, 2)
        assert (memory.breaker, memory.health, memory.throttle, memory.quarantine) == before
        assert list(memory.leases) == [lease.id]
        assert (await node.refused()).reason == "breaker_open"


async def test_a_second_crash_within_the_window_starts_fresh_and_keeps_the_leases() -> None:
    async with fleet(provider("a")) as node:
        memory = node.memories["a"]
        lease = await node.lease()
        await node.fails(*SERVER_ERRORS)
        await node.crash()
        await asyncio.sleep(4.9)

        await node.crash()

        assert (state(node), score(node), list(memory.leases)) == ("closed", 1.0, [lease.id])
        assert [(e.before, e.after) for e in node.told(BreakerChanged)] == [("closed", "open"), ("open", "closed")]


async def test_a_second_crash_after_the_window_is_a_first_one() -> None:
    async with fleet(provider("a")) as node:
        await node.fails(*SERVER_ERRORS)
        await node.crash()
        await asyncio.sleep(5)

        await node.crash()

        assert state(node) == "open"


async def test_a_kill_counts_as_a_crash() -> None:
    async with fleet(provider("a")) as node:
        await node.fails(*SERVER_ERRORS)
        for expected in ("open", "closed"):
            node.ref().process.kill()
            await settle()
            assert state(node) == expected


async def test_an_orderly_restart_is_no_crash() -> None:
    async with fleet(provider("a")) as node:
        await node.fails(*SERVER_ERRORS)
        for _ in range(3):
            await node.root.terminate_child("a")
            await node.root.restart_child("a")

        assert (state(node), node.memories["a"].incarnation) == ("open", 4)


async def test_a_clean_slate_forgets_earlier_crashes() -> None:
    async with fleet(provider("a")) as node:
        await node.crash()
        await node.root.terminate_child("a")
        node.memories["a"].forget(asyncio.get_running_loop().time())
        await node.root.restart_child("a")
        await node.fails(*SERVER_ERRORS)

        await node.crash()

        assert state(node) == "open"


async def test_the_next_incarnation_tells_the_bus_what_has_changed_meanwhile() -> None:
    async with fleet(provider("a")) as node:
        await node.fails(*SERVER_ERRORS)
        await node.root.terminate_child("a")
        node.memories["a"].forget(asyncio.get_running_loop().time())

        await node.root.restart_child("a")

        assert node.told(BreakerChanged)[-1] == BreakerChanged(provider="a", before="open", after="closed")


async def test_an_old_incarnations_lease_is_given_back_once_and_only_once() -> None:
    async with fleet(provider("a")) as node:
        memory = node.memories["a"]
        lease = await node.lease()
        await node.crash()
        other = await node.lease()

        release(lease, failure())
        release(lease, failure())
        await settle()

        assert (memory.failures, list(memory.leases)) == (1, [other.id])
        assert (lease.incarnation, other.incarnation) == (1, 2)
        assert memory.breaker.consecutive_failures == 1  # no state change lies between, so it counts


async def test_the_next_incarnation_watches_the_owners_of_the_leases_that_are_out() -> None:
    async with fleet(provider("a")) as node:
        done = asyncio.Event()

        async def work() -> None:
            await node.lease()
            await done.wait()

        request = node.request(work)
        await settle()
        await node.crash()
        assert len(node.memories["a"].leases) == 1

        done.set()
        await request
        await settle()

        assert node.memories["a"].leases == {}


async def test_owners_that_end_while_nobody_watches_leave_no_lease() -> None:
    async with fleet(provider("a")) as node:
        done = asyncio.Event()

        async def work() -> None:
            await node.lease()
            await done.wait()

        request = node.request(work)
        await settle()
        await node.root.terminate_child("a")
        done.set()
        await request
        assert len(node.memories["a"].leases) == 1

        await node.root.restart_child("a")
        await settle()

        assert node.memories["a"].leases == {}


async def test_a_release_to_nobody_is_lost_and_the_owners_end_makes_up_for_it() -> None:
    async with fleet(provider("a")) as node:
        done = asyncio.Event()

        async def work() -> None:
            lease = await node.lease()
            await done.wait()
            release(lease)

        request = node.request(work)
        await settle()
        await node.root.terminate_child("a")
        done.set()
        await request

        await node.root.restart_child("a")
        await settle()

        assert node.memories["a"].leases == {}


async def test_a_message_that_it_does_not_know_is_a_crash_like_any_other() -> None:
    async with fleet(provider("a")) as node:
        lease = await node.lease()

        with pytest.raises(Exception, match="RestartProvider"):
            await node.registry.via("provider:a").call(RestartProvider("a"))
        await settle()

        assert (node.memories["a"].incarnation, list(node.memories["a"].leases)) == (2, [lease.id])


# -- whatever happens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(8))
def test_no_schedule_of_requests_cancels_and_crashes_leaves_a_lease_out(block: int) -> None:
    for seed in range(block * 25, block * 25 + 25):

        def loop(seed: int = seed) -> VirtualTimeLoop:
            return VirtualTimeLoop(seed=seed)

        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(_storm(random.Random(seed)))


OUTCOMES: tuple[tuple[Outcome, Callable[[], Failure | None]], ...] = (
    ("success", lambda: None),
    ("failure", failure),
    ("neutral", lambda: failure("rate_limited", retry_after_seconds=0.5)),
    ("neutral", lambda: None),
)


async def _storm(chance: random.Random) -> None:
    """Thirty requests, cancels and crashes at random times; at the end nothing is out and the provider serves."""
    async with (
        leak_check(),
        fleet(provider("a", breaker=BreakerPolicy(failure_threshold=2, recovery_timeout_seconds=1))) as node,
    ):
        memory = node.memories["a"]

        async def work() -> None:
            await asyncio.sleep(chance.random() * 4)
            try:
                answer = await node.ask()
            except Exception:  # noqa: BLE001 - it has met a crash
                return
            if isinstance(answer, Exhausted):
                return
            assert isinstance(answer, Lease)
            assert memory.breaker.probes_out <= memory.breaker.policy.half_open_limit
            await asyncio.sleep(chance.random())
            answer.first_content(0.1)
            await asyncio.sleep(chance.random())
            outcome, failed = chance.choice(OUTCOMES)
            if chance.random() < 0.8:
                answer.release(outcome, failed())

        requests = [node.request(work) for _ in range(30)]
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(chance.random())
            if chance.random() < 0.6:
                chance.choice(requests).cancel()
            elif (ref := node.registry.lookup("provider:a")) is not None:
                crash(ref, RuntimeError("a bug"))
        results = await asyncio.gather(*requests, return_exceptions=True)
        assert [r for r in results if isinstance(r, Exception)] == []
        await settle()

        assert memory.leases == {}
        assert memory.breaker.probes_out == 0
        assert not node.ref().process.watching
        await asyncio.sleep(600)
        await node.succeeds(2)
        assert state(node) == "closed"
