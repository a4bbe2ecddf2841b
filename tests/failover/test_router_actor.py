"""The router with real provider actors on virtual time: whom it asks, what it counts, and that no caller is ever left without an answer."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from loguru import logger

from runestone.config.settings import Price, TimeoutSettings
from runestone.domain.chat import ChatRequest
from runestone.domain.errors import InvalidRequest, NoProviderAvailable, RunestoneError, UpstreamFailed
from runestone.domain.failure import FailureKind
from runestone.domain.routing import DEFAULT_GROUP
from runestone.failover.attempts import Attempts
from runestone.failover.router import FailoverRouter, GetStats
from runestone.providers.messages import Admission, Admit, Exhausted, Lease, Refused, Tried, Unroutable, Wait
from runestone.providers.provider import SetAdminState
from runestone.resilience.health import Health
from runestone.telemetry.events import FailoverExhausted, Refusal
from supervisors import ActorExited
from supervisors.introspection import resume, suspend
from supervisors.testing import VirtualTimeLoop, crash, leak_check, settle
from tests.support.fleet import MODEL, Fleet, failure, fleet, group, provider, release, tried

pytestmark = pytest.mark.anyio
ABC = (provider("a"), provider("b"), provider("c"))
PRIORITY = (group("a", "b", "c", strategy="priority"),)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


def now() -> float:
    return asyncio.get_running_loop().time()


async def admit(node: Fleet, *tries: Tried, model: str = MODEL, **options: Any) -> Admission:
    calls = sum(t.calls for t in tries)
    fields: dict[str, Any] = {"deadline": now() + 600.0, "tried": tries, "calls": calls} | options
    return await node.failover.call(Admit(model=model, **fields), timeout=None)


async def lease(node: Fleet, *tries: Tried, **options: Any) -> Lease:
    answer = await admit(node, *tries, **options)
    assert isinstance(answer, Lease), answer
    return answer


async def exhausted(node: Fleet, *tries: Tried, **options: Any) -> Exhausted:
    answer = await admit(node, *tries, **options)
    assert isinstance(answer, Exhausted), answer
    return answer


async def stats(node: Fleet) -> dict[str, Any]:
    found: Any = await node.failover.call(GetStats(DEFAULT_GROUP))
    return dict(found)


async def counted(node: Fleet) -> dict[str, int]:
    names = ("requests", "attempts", "failovers", "retries", "exhausted", "panics")
    told = await stats(node)
    return {name: told[name] for name in names if told[name]}


async def asked(node: Fleet, times: int, **options: Any) -> str:
    """Who serves the next requests."""
    names = []
    for _ in range(times):
        one = await lease(node, **options)
        names.append(one.choice.provider)
        release(one)
        await settle()
    return " ".join(names)


async def drain(node: Fleet, *names: str) -> None:
    for name in names:
        await node.registry.via(f"provider:{name}").call(SetAdminState("draining"))


def stand(node: Fleet, name: str, share: float) -> None:
    """Make ``share`` of its calls good, so many that a few more change nothing."""
    node.memories[name].health = Health(at=now(), good=share * 1000, all=1000.0)


def score(node: Fleet, name: str) -> float:
    return node.memories[name].score(now())


# -- the chain -------------------------------------------------------------------------------------------------------------


async def test_an_admission_is_forwarded_and_the_lease_comes_straight_back() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        one = await lease(node)

        assert (one.choice.provider, one.choice.model, one.plan.group) == ("a", MODEL, DEFAULT_GROUP)
        assert await counted(node) == {"requests": 1, "attempts": 1}
        assert (await stats(node))["share"] == {"a": 1}
        failover = node.registry.lookup("failover")
        assert failover is not None
        assert not failover.process.callers
        assert failover.process.behaviour is not None
        assert failover.process.behaviour.status() == {"groups": 1, "requests": 1}


async def test_one_that_refuses_hands_the_caller_on_and_that_is_counted_and_costs_no_attempt() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        await suspend(node.ref("a"))
        waiting = asyncio.create_task(lease(node))
        await settle()
        assert (await stats(node))["attempts"] == 1
        node.memories["a"].admin_state = "draining"

        await resume(node.ref("a"))

        one = await waiting
        assert one.choice.provider == "b"
        assert one.refusals == (Refused(provider="a", tier=1, reason="draining"),)
        told = await stats(node)
        assert (told["attempts"], told["share"], told["refusals"]) == (1, {"a": 0, "b": 1}, {"a:draining": 1})


async def test_one_whose_connections_are_being_replaced_will_be_there_in_a_moment() -> None:
    async with fleet(provider("a"), groups=(group("a"),), router=True) as node:
        node.memories["a"].transport, transport = None, node.memories["a"].transport

        assert (await exhausted(node)).restarting
        node.memories["a"].transport = transport
        assert (await lease(node)).choice.provider == "a"


async def test_when_everybody_refuses_the_caller_gets_all_refusals_and_the_soonest_time() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        await drain(node, "a")
        await node.fails("rate_limited", name="b", retry_after_seconds=9.0)
        await node.fails("rate_limited", name="c", retry_after_seconds=4.0)

        answer = await exhausted(node, request_id="mine")

        assert answer == Exhausted(
            group=DEFAULT_GROUP,
            reason="refused",
            refusals=(
                Refused(provider="a", tier=1, reason="draining"),
                Refused(provider="b", tier=1, reason="throttled", retry_after_seconds=9.0),
                Refused(provider="c", tier=1, reason="throttled", retry_after_seconds=4.0),
            ),
        )
        assert answer.retry_after_seconds == 4.0
        assert await counted(node) == {"requests": 1, "exhausted": 1}
        assert (await stats(node))["refusals"] == {"a:draining": 1, "b:throttled": 1, "c:throttled": 1}
        told = (
            Refusal(provider="a", reason="draining"),
            Refusal(provider="b", reason="throttled", retry_after_seconds=9.0),
            Refusal(provider="c", reason="throttled", retry_after_seconds=4.0),
        )
        assert node.told(FailoverExhausted) == [
            FailoverExhausted(group=DEFAULT_GROUP, reason="refused", request_id="mine", refusals=told)
        ]


async def test_one_that_is_not_there_refuses_as_down_and_is_counted_like_the_others() -> None:
    async with fleet(*ABC, groups=(group("a", "b", strategy="priority"),), router=True) as node:
        await node.root.terminate_child("a")
        await node.root.terminate_child("b")

        answer = await exhausted(node)

        assert answer.refusals == tuple(
            Refused(provider=name, tier=1, reason="down", retry_after_seconds=1.0) for name in "ab"
        )
        assert (await stats(node))["refusals"] == {"a:down": 1, "b:down": 1}
        assert await counted(node) == {"requests": 1, "exhausted": 1}


async def test_tier_2_serves_with_its_own_model_when_tier_1_refuses() -> None:
    claude = provider("claude", kind="anthropic", default_model="claude-haiku-4-5")
    async with fleet(provider("a"), claude, router=True) as node:
        await drain(node, "a")

        one = await lease(node)

        assert (one.choice.provider, one.choice.model, one.tier) == ("claude", "claude-haiku-4-5", 2)


async def test_a_model_that_tier_1_does_not_know_never_goes_to_tier_2() -> None:
    claude = provider("claude", kind="anthropic", default_model="claude-haiku-4-5")
    async with fleet(provider("a"), claude, router=True) as node:
        await node.fails("not_found")

        answer = await exhausted(node)

        assert [(r.provider, r.reason) for r in answer.refusals] == [("a", "not_found")]


async def test_a_model_that_leads_nowhere_is_unroutable_and_counts_nowhere() -> None:
    async with fleet(*ABC, router=True) as node:
        for options, error in (
            ({"group": "nobody"}, InvalidRequest),
            ({"model": "made-up"}, InvalidRequest),
            ({"model": "anthropic/claude-x"}, NoProviderAvailable),
        ):
            answer = await admit(node, **options)
            assert isinstance(answer, Unroutable)
            assert isinstance(answer.error, error)
        assert await counted(node) == {}


async def test_plans_are_kept_up_to_a_bound() -> None:
    async with fleet(*ABC, router=True) as node:
        failover = node.registry.lookup("failover")
        assert failover is not None
        router = failover.process.behaviour
        assert isinstance(router, FailoverRouter)

        for number in range(1100):
            router._route(f"gpt-{number}", None)

        assert len(router._plans) == 1024
        assert (await lease(node, model="gpt-0")).choice.model == "gpt-0"


async def test_a_message_that_is_none_of_its_own_crashes_it_and_the_next_incarnation_serves() -> None:
    async with fleet(*ABC, router=True) as node:
        with pytest.raises(ActorExited, match="SetAdminState"):
            await node.failover.call(SetAdminState("draining"))
        await settle()

        release(await lease(node))


# -- who is next -----------------------------------------------------------------------------------------------------------


async def test_round_robin_is_fair_over_a_thousand_requests_at_once() -> None:
    async with fleet(*ABC, router=True) as node:
        answers = await asyncio.gather(*(admit(node) for _ in range(1000)))

        shares = Counter(a.choice.provider for a in answers if isinstance(a, Lease))
        assert sorted(shares.values()) == [333, 333, 334]
        assert (await stats(node))["share"] == shares
        for answer in answers:
            assert isinstance(answer, Lease)
            release(answer)
        await settle()
        assert not any(memory.leases for memory in node.memories.values())


async def test_round_robin_is_over_the_usable_and_stays_fair() -> None:
    async with fleet(*ABC, router=True) as node:
        await drain(node, "b")

        assert Counter((await asked(node, 10)).split()) == {"a": 5, "c": 5}


async def test_requests_with_other_candidates_do_not_move_the_rotation() -> None:
    async with fleet(*ABC, router=True) as node:
        served = []
        for _ in range(3):
            served.append(await asked(node, 1))
            assert await asked(node, 2, model="c/gpt-x") == "c c"

        assert served == ["a", "b", "c"]


async def test_load_is_shared_by_weight() -> None:
    weighted = group("a", "b", strategy="load_balanced", weights={"a": 3.0, "b": 1.0})
    async with fleet(provider("a"), provider("b"), groups=(weighted,), router=True) as node:
        for _ in range(200):
            await lease(node)

        shares = (await stats(node))["share"]
        assert shares == {"a": 150, "b": 50}


async def test_a_pinned_provider_is_asked_whatever_its_score_and_nobody_else() -> None:
    async with fleet(*ABC, router=True) as node:
        stand(node, "b", 0.1)

        one = await lease(node, model="b/gpt-x")

        assert (one.choice.provider, one.choice.model, one.panic) == ("b", "gpt-x", False)
        await drain(node, "b")
        assert [r.provider for r in (await exhausted(node, model="b/gpt-x")).refusals] == ["b"]


async def test_one_below_the_threshold_is_out_and_back_at_a_tenth_above_it() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        served = []
        for target in (1.0, 0.71, 0.69, 0.75, 0.79, 0.81, 0.75, 0.71, 0.69):
            stand(node, "a", target**0.5)
            assert score(node, "a") == pytest.approx(target)
            served.append(await asked(node, 1))

        assert served == ["a", "a", "b", "b", "b", "a", "a", "a", "b"]


async def test_the_threshold_is_each_groups_own() -> None:
    strict = group("a", "b", strategy="priority", health_threshold=0.9)
    lax = evolve(strict, name="lax", health_threshold=0.2)
    async with fleet(provider("a"), provider("b"), groups=(strict, lax), router=True) as node:
        stand(node, "a", 0.8)

        assert [await asked(node, 2), await asked(node, 2, group="lax")] == ["b b", "a a"]
        stand(node, "a", 0.95**0.5)
        assert await asked(node, 1) == "b"  # out here still, though well above the other group's threshold


async def test_where_none_is_good_enough_the_best_serves_and_it_is_counted() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        for name, share in (("a", 0.2), ("b", 0.6), ("c", 0.4)):
            stand(node, name, share)

        one = await lease(node)

        assert (one.choice.provider, one.panic) == ("b", True)
        assert await counted(node) == {"requests": 1, "attempts": 1, "panics": 1}


async def test_that_the_best_serves_for_want_of_a_good_one_is_said_once_and_so_is_its_end() -> None:
    lines: list[str] = []
    sink = logger.add(lambda m: lines.append(f"{m.record['level'].name}: {m.record['message']}"), level="INFO")
    try:
        async with fleet(*ABC, groups=PRIORITY, router=True) as node:
            for name, share in (("a", 0.2), ("b", 0.6), ("c", 0.4)):
                stand(node, name, share)
            assert await asked(node, 5) == "b b b b b"
            stand(node, "c", 1.0)
            assert await asked(node, 2) == "c c"
    finally:
        logger.remove(sink)

    assert lines == [
        "WARNING: group default-chat-service: nobody is good enough by its score; b, the best, serves",
        "INFO: group default-chat-service: c is good enough by its score again",
    ]


async def test_where_every_breaker_is_open_nobody_serves_for_want_of_a_good_one() -> None:
    lines: list[str] = []
    sink = logger.add(lambda m: lines.append(m.record["message"]), level="WARNING")
    try:
        async with fleet(provider("a"), router=True) as node:
            await node.fails("server_error", "server_error", "server_error")
            await exhausted(node)
    finally:
        logger.remove(sink)

    assert lines == []


async def test_without_a_circuit_breaker_a_bad_score_puts_nobody_out() -> None:
    members = provider("a", circuit_breaker=False), provider("b")
    async with fleet(*members, groups=(group("a", "b", strategy="priority"),), router=True) as node:
        stand(node, "a", 0.1)

        assert await asked(node, 2) == "a a"


async def test_without_a_circuit_breaker_a_bad_score_costs_no_place_either() -> None:
    members = provider("a", circuit_breaker=False), provider("b")
    async with fleet(*members, groups=(group("a", "b", strategy="health_aware"),), router=True) as node:
        stand(node, "a", 0.1)
        stand(node, "b", 0.95)

        assert await asked(node, 2) == "a a"


async def test_one_that_recovers_gets_its_probes_beside_the_healthy_and_is_back() -> None:
    async with fleet(*ABC, router=True) as node:
        await node.fails("server_error", "server_error", "server_error", name="a")
        while_open = await asked(node, 6)
        await asyncio.sleep(10)
        assert score(node, "a") < 0.7

        after = await asked(node, 6)

        assert "a" not in while_open
        assert after.split().count("a") == 2
        assert node.memories["a"].breaker.name(now()) == "closed"


async def test_no_more_probes_than_allowed_are_out_and_nobody_is_refused_for_it() -> None:
    async with fleet(*ABC, router=True) as node:
        await node.fails("server_error", "server_error", "server_error", name="a")
        await asyncio.sleep(10)

        answers = await asyncio.gather(*(lease(node) for _ in range(30)))

        shares = Counter(a.choice.provider for a in answers)
        assert shares["a"] == 3
        assert shares.total() == 30
        assert (await stats(node))["attempts"] == 30


async def test_legacy_asks_the_first_listed_alone_whatever_its_score() -> None:
    async with fleet(*ABC, router=True, server={"mode": "legacy"}) as node:
        stand(node, "a", 0.1)
        served = await asked(node, 3)
        one = await lease(node)
        after_a_failure = await admit(node, tried(one), plan=one.plan)
        waited = await lease(node, tried(one), plan=one.plan, waited=True)
        await drain(node, "a")
        refused = await exhausted(node)

        assert served == "a a a"
        assert after_a_failure == Wait(seconds=1.0, provider="a")
        assert waited.choice.provider == "a"
        assert [r.provider for r in refused.refusals] == ["a"]
        assert await counted(node) == {"requests": 5, "attempts": 5, "retries": 1, "exhausted": 1}


# -- retries, failovers and their budget -----------------------------------------------------------------------------------


async def test_failovers_and_retries_are_counted_apart() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        a = await lease(node)
        b = await lease(node, tried(a), plan=a.plan)
        c = await lease(node, tried(a), tried(b), plan=a.plan)
        everybody = [tried(one) for one in (a, b, c)]
        wait = await admit(node, *everybody, plan=a.plan)
        again = await lease(node, *everybody, plan=a.plan, waited=True)
        over = await exhausted(node, *everybody[:2], tried(c, calls=2), plan=a.plan)

        assert [one.choice.provider for one in (a, b, c, again)] == ["a", "b", "c", "c"]
        assert wait == Wait(seconds=1.0, provider="c")
        assert over.reason == "attempts"
        assert await counted(node) == {"requests": 1, "attempts": 4, "failovers": 2, "retries": 1, "exhausted": 1}
        assert (await stats(node))["share"] == {"a": 1, "b": 1, "c": 2}
        assert node.told(FailoverExhausted) == [FailoverExhausted(group=DEFAULT_GROUP, reason="attempts")]


async def test_the_providers_own_retry_policy_decides_on_the_wait() -> None:
    async with fleet(provider("a"), router=True) as node:
        one = await lease(node)

        waits = [await admit(node, tried(one, calls=calls), plan=one.plan) for calls in (1, 2)]
        told = await admit(node, tried(one, failure(retry_after_seconds=3.0)), plan=one.plan)
        never = await admit(node, tried(one, failure("timeout")), plan=one.plan)
        too_late = await admit(node, tried(one), plan=one.plan, deadline=now() + 0.5)

        assert waits == [Wait(seconds=1.0, provider="a"), Wait(seconds=2.0, provider="a")]
        assert told == Wait(seconds=3.01, provider="a")
        assert isinstance(never, Exhausted)
        assert isinstance(too_late, Exhausted)


async def test_a_storm_of_retries_exhausts_the_budget_which_fills_by_time_and_requests() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        a = await lease(node)
        b = await lease(node, tried(a), plan=a.plan)

        async def storm() -> Counter[str]:
            answers = [await admit(node, tried(a), tried(b), plan=a.plan) for _ in range(60)]
            return Counter(answer.reason if isinstance(answer, Exhausted) else "served" for answer in answers)

        assert await storm() == {"served": 30, "budget": 30}
        assert node.told(FailoverExhausted)[0] == FailoverExhausted(group=DEFAULT_GROUP, reason="budget")
        assert await storm() == {"budget": 60}
        await asyncio.sleep(1)
        assert await storm() == {"served": 3, "budget": 57}
        for _ in range(50):
            release(await lease(node))
        assert await storm() == {"served": 10, "budget": 50}


async def test_the_first_failover_of_a_request_is_free_of_the_budget() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        a = await lease(node)

        for _ in range(100):
            assert (await lease(node, tried(a), plan=a.plan)).choice.provider == "b"


async def test_one_that_cannot_serve_a_field_is_no_failover_and_costs_nothing_of_the_budget() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        a = await lease(node)
        skipped = tried(a, failure("unsupported"))
        b = tried(await lease(node, skipped, plan=a.plan, calls=0))

        for _ in range(100):
            assert (await lease(node, skipped, b, plan=a.plan, calls=1)).choice.provider == "c"


@pytest.mark.parametrize(
    ("failed", "again"),
    [
        (["server_error"] * 3, 10.0),  # its breaker has opened
        (["credentials"], 300.0),
        (["rate_limited"], 1.0),
        (["server_error"], 4.0),  # it would be let in at once: the back-off after its third call
    ],
)
async def test_when_all_have_failed_it_is_told_when_the_first_of_them_may_be_asked_again(
    failed: list[FailureKind], again: float
) -> None:
    async with fleet(provider("a"), router=True) as node:
        one = await lease(node)
        await node.fails(*failed)

        answer = await exhausted(node, tried(one, failure(failed[0]), calls=3), plan=one.plan)

        assert answer.reason == "attempts"
        assert answer.retry_after_seconds == pytest.approx(again)


async def test_a_wait_costs_nothing_of_the_budget_and_the_retry_after_it_does() -> None:
    async with fleet(provider("a"), provider("b"), router=True) as node:
        one = await lease(node)
        both = tried(one), tried(await lease(node, tried(one), plan=one.plan))

        for _ in range(100):
            assert isinstance(await admit(node, *both, plan=one.plan), Wait)
        answers = [await admit(node, *both, plan=one.plan, waited=True) for _ in range(60)]

        assert Counter(type(a).__name__ for a in answers) == {"Lease": 30, "Exhausted": 30}


async def test_a_recovering_provider_may_refuse_a_retry_and_the_loop_ends() -> None:
    async with fleet(provider("a"), router=True) as node:
        one = await lease(node)
        await node.fails("server_error", "server_error", "server_error")

        answer = await exhausted(node, tried(one), plan=one.plan, waited=True)

        assert (answer.reason, answer.retry_after_seconds) == ("attempts", 10.0)


# -- those that die --------------------------------------------------------------------------------------------------------


async def test_a_provider_that_dies_with_the_call_in_hand_is_told_at_once() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        await suspend(node.ref("a"))
        waiting = asyncio.create_task(admit(node))
        await settle()

        crash(node.ref("a"), RuntimeError("a bug"))

        with pytest.raises(ActorExited, match="a bug"):
            await waiting
        assert now() == 0.0


async def test_a_caller_that_leaves_while_its_round_goes_on_leaves_no_lease() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        await suspend(node.ref("a"))
        request = node.request(lambda: admit(node))
        await settle()
        node.memories["a"].admin_state = "draining"
        request.cancel()
        await settle()

        await resume(node.ref("a"))
        await settle()

        assert not any(memory.leases for memory in node.memories.values())


def attempts(node: Fleet, seconds: float = 600.0, prices: Mapping[str, Price] | None = None) -> Attempts:
    chat = ChatRequest(request_id="r", wire="openai", model=MODEL, stream=False, body={"messages": []}, raw=b"{}")
    return Attempts(chat, node.failover, TimeoutSettings(), node.bus, deadline=now() + seconds, prices=prices or {})


async def outcome(node: Fleet, started: Attempts | None = None) -> str:
    """The end of a request whose providers all refuse connections."""
    async with started or attempts(node) as loop:
        try:
            await loop.open()
        except UpstreamFailed as error:
            return error.failure.kind
        except RunestoneError as error:
            return error.code
    return "served"


async def test_the_loop_of_attempts_tries_all_and_the_counts_agree_with_it() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        assert await node.request(lambda: outcome(node)) == "refused"

        assert await counted(node) == {"requests": 1, "attempts": 4, "failovers": 2, "retries": 1, "exhausted": 1}
        assert {name: memory.calls for name, memory in node.memories.items()} == {"a": 1, "b": 1, "c": 2}
        assert {name: memory.failures for name, memory in node.memories.items()} == {"a": 1, "b": 1, "c": 2}


async def test_prices_that_are_known_are_quoted_without_a_thread() -> None:
    thrifty = [group("a", "b", strategy="cost_optimized")]
    async with fleet(provider("a"), provider("b"), groups=thrifty, router=True) as node:
        node.root.process.system.threads.limit = 0  # who wants one waits for ever
        price = Price(input_per_million_usd=Decimal(1), output_per_million_usd=Decimal(2))
        loop = attempts(node, prices={MODEL: price})

        async with asyncio.timeout(60):
            assert await node.request(lambda: outcome(node, loop)) == "refused"

        assert node.memories["a"].calls > 0


@pytest.mark.parametrize("victim", ["failover", "provider:a"])
async def test_an_actor_that_crashes_with_a_call_in_its_mailbox_loses_no_caller(victim: str) -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        ref = node.registry.lookup(victim)
        assert ref is not None
        await suspend(ref)
        request = node.request(lambda: outcome(node))
        await settle()

        crash(ref, RuntimeError("a bug"))

        assert await request == "refused"


async def test_a_router_that_crashes_while_a_provider_refuses_loses_no_caller() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        await suspend(node.ref("a"))
        request = node.request(lambda: outcome(node))
        await settle()
        node.memories["a"].admin_state = "draining"
        failover = node.registry.lookup("failover")
        assert failover is not None
        await suspend(failover)
        await resume(node.ref("a"))
        await settle()
        assert not request.done()

        crash(failover, RuntimeError("a bug"))

        assert await request == "refused"
        assert node.memories["a"].calls == 0


async def test_a_router_that_is_away_while_a_provider_refuses_loses_no_caller() -> None:
    async with fleet(*ABC, groups=PRIORITY, router=True) as node:
        await suspend(node.ref("a"))
        request = node.request(lambda: outcome(node))
        await settle()
        node.memories["a"].admin_state = "draining"
        await node.root.terminate_child("failover")
        await resume(node.ref("a"))
        await asyncio.sleep(0.5)
        assert not request.done()

        await node.root.restart_child("failover")

        assert await request == "refused"


@pytest.mark.parametrize("block", range(5))
def test_no_schedule_of_crashes_drains_and_cancels_leaves_a_caller_or_a_lease_behind(block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):

        def loop(seed: int = seed) -> VirtualTimeLoop:
            return VirtualTimeLoop(seed=seed)

        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(_storm(random.Random(seed)))


async def _storm(chance: random.Random) -> None:
    async with leak_check(), fleet(*ABC, router=True, chance=chance.random) as node:

        async def work() -> str:
            await asyncio.sleep(chance.random() * 3)
            return await outcome(node)

        requests = [node.request(work) for _ in range(30)]
        for _ in range(10):
            await asyncio.sleep(chance.random() * 0.6)
            name = chance.choice("abc")
            match chance.randrange(4):
                case 0:
                    chance.choice(requests).cancel()
                case 1:
                    node.memories[name].admin_state = "ready" if node.memories[name].draining else "draining"
                case _:
                    victim = chance.choice(["failover", f"provider:{name}"])
                    if (ref := node.registry.lookup(victim)) is not None:
                        crash(ref, RuntimeError("a bug"))
        results = await asyncio.gather(*requests, return_exceptions=True)

        assert {r for r in results if not isinstance(r, BaseException)} <= {"refused", "no_provider_available"}
        assert [r for r in results if isinstance(r, Exception)] == []
        assert now() < 120
        await settle()
        assert not any(memory.leases for memory in node.memories.values())
