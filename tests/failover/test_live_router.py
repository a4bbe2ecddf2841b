"""The router takes other settings while it runs, and explains what it would do, which is what it does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from attrs import evolve
from hypothesis import given, settings

from runestone.config.settings import GroupSettings, ModelAlias, ServerSettings, Settings
from runestone.domain.routing import DEFAULT_GROUP
from runestone.failover.explain import Explanation
from runestone.failover.router import Explain, FailoverRouter, GetStats, Reconfigure
from runestone.providers import names
from runestone.providers.messages import Admission, Admit, Exhausted, Lease, Quote, Refused, Unroutable
from runestone.providers.provider import SetAdminState, TripBreaker
from runestone.resilience.health import Health
from runestone.resilience.selection import STRATEGIES
from supervisors.testing import VirtualTimeLoop, settle
from tests.support.fleet import MODEL, Fleet, failure, fleet, group, provider, release, tried

pytestmark = pytest.mark.anyio
SERVER = ServerSettings(admin_socket=Path("none"))
ABC = (provider("a"), provider("b"), provider("c"))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


def present(node: Fleet) -> Settings:
    """The settings that the router was started with."""
    ref = node.registry.lookup(names.FAILOVER)
    assert ref is not None
    router = ref.process.behaviour
    assert isinstance(router, FailoverRouter)
    groups = tuple(router._groups.values())
    return Settings(server=SERVER, providers=tuple(m.settings for m in node.memories.values()), groups=groups)


async def admit(node: Fleet, **options: Any) -> Admission:
    fields: dict[str, Any] = {"model": MODEL, "deadline": asyncio.get_running_loop().time() + 600.0} | options
    return await node.failover.call(Admit(**fields), timeout=None)


async def served_by(node: Fleet, **options: Any) -> str:
    answer = await admit(node, **options)
    assert isinstance(answer, Lease), answer
    release(answer)
    await settle()
    return answer.choice.provider


async def explained(node: Fleet, model: str = MODEL, group_: str | None = None, **more: Any) -> Explanation:
    answer = await node.failover.call(Explain(model=model, group=group_, **more))
    assert isinstance(answer, Explanation), answer
    return answer


async def test_new_groups_serve_at_once_and_what_is_known_of_the_others_stays() -> None:
    async with fleet(*ABC, groups=(group("a", "b", strategy="priority"),), router=True) as node:
        assert await served_by(node) == "a"
        settings_ = present(node)
        more = GroupSettings(name="more", providers=("c",))
        await node.failover.call(
            Reconfigure(
                evolve(settings_, groups=(*settings_.groups, more), models={"x": ModelAlias(model=MODEL, group="more")})
            )
        )

        assert await served_by(node, group="more") == "c"
        assert await served_by(node, model="x") == "c"
        told: Any = await node.failover.call(GetStats(DEFAULT_GROUP))
        assert told["requests"] == 1


async def test_a_group_that_is_deleted_ends_its_requests_in_flight_and_is_unknown_from_then_on() -> None:
    doomed = GroupSettings(name="doomed", providers=("a", "b"))
    async with fleet(*ABC, groups=(group("c"), doomed), router=True) as node:
        lease = await admit(node, group="doomed")
        assert isinstance(lease, Lease)
        settings_ = present(node)
        await node.failover.call(Reconfigure(evolve(settings_, groups=settings_.groups[:1])))
        lease.release("failure", failure())

        again = await admit(node, group="doomed", plan=lease.plan, tried=(tried(lease),), calls=1)
        assert again == Exhausted(group="doomed", reason="refused")
        assert isinstance(await admit(node, group="doomed"), Unroutable)
        assert await node.failover.call(GetStats("doomed")) is None
        assert node.crashes() == 0


async def test_a_provider_that_is_taken_out_is_refused_as_down_whoever_still_has_it_in_a_plan() -> None:
    async with fleet(*ABC, groups=(group("a", "b", strategy="priority"),), router=True) as node:
        lease = await admit(node)
        assert isinstance(lease, Lease)
        settings_ = present(node)
        left = tuple(p for p in settings_.providers if p.name != "b")
        await node.failover.call(Reconfigure(evolve(settings_, providers=left, groups=(group("a"),))))
        lease.release("failure", failure("timeout"))

        answer = await admit(node, plan=lease.plan, tried=(tried(lease, failure("timeout")),), calls=1)
        assert isinstance(answer, Exhausted)
        assert answer.refusals == (Refused(provider="b", tier=1, reason="down", retry_after_seconds=1.0),)
        del node.memories["a"]
        gone = await admit(node, plan=lease.plan, tried=(tried(lease),), calls=1)
        assert isinstance(gone, Exhausted)
        assert node.crashes() == 0


async def test_a_group_that_goes_by_price_asks_for_prices_once_and_then_the_cheapest() -> None:
    cheap = group("a", "b", "c", strategy="cost_optimized")
    async with fleet(*ABC, groups=(cheap,), router=True) as node:
        quote = await admit(node)
        assert isinstance(quote, Quote)
        assert [(choice.provider, choice.model, kind) for choice, kind in quote.choices] == [
            (name, MODEL, "openai") for name in "abc"
        ]
        assert node.memories["a"].leases == {}

        prices = {"a": 0.02, "b": None, "c": 0.01}
        assert await served_by(node, prices=prices) == "c"
        told = await explained(node, prices=prices)
        assert [(c.provider, c.price) for c in told.candidates] == [("c", 0.01), ("a", 0.02), ("b", None)]
        stats: Any = await node.failover.call(GetStats(DEFAULT_GROUP))
        assert stats["requests"] == 1


async def test_a_pin_needs_no_price() -> None:
    async with fleet(*ABC, groups=(group("a", "b", strategy="cost_optimized"),), router=True) as node:
        assert await served_by(node, model=f"b/{MODEL}") == "b"


async def test_a_group_in_legacy_mode_asks_its_first_member_alone_and_the_others_fail_over() -> None:
    old = GroupSettings(name="old", providers=("a", "b"), mode="legacy", strategy="priority")
    async with fleet(*ABC, groups=(group("a", "b", strategy="priority"), old), router=True) as node:
        await node.registry.via(names.provider("a")).call(SetAdminState("draining"))

        assert await served_by(node) == "b"
        answer = await admit(node, group="old")
        assert isinstance(answer, Exhausted)
        told = await explained(node, group_="old")
        assert [(c.provider, c.verdict, c.why) for c in told.candidates] == [
            ("a", "skipped", "is drained by an operator"),
            ("b", "not asked", "legacy mode asks the first one alone"),
        ]
        assert told.mode == "legacy"


async def test_an_explanation_takes_no_turn_and_tells_what_leads_nowhere() -> None:
    async with fleet(*ABC, groups=(group("a", "b", "c"),), router=True) as node:
        first = [(await explained(node)).candidates[0].provider for _ in range(3)]

        assert first == ["a", "a", "a"]
        assert [await served_by(node) for _ in range(2)] == ["a", "b"]
        nowhere = await node.failover.call(Explain(model="nobody-knows-it"))
        assert isinstance(nowhere, Unroutable)


async def test_an_explanation_says_why_each_one_would_not_be_asked() -> None:
    abcd = (*ABC, provider("d"), provider("e", kind="anthropic", default_model="claude-sonnet-4-5"))
    members = group("a", "b", "c", "d", "e", strategy="priority", max_attempts=2)
    async with fleet(*abcd, groups=(members,), router=True) as node:
        await node.registry.via(names.provider("a")).call(TripBreaker())
        node.memories["b"].health = Health(at=asyncio.get_running_loop().time(), good=500.0, all=1000.0)
        await node.fails("rate_limited", name="c", retry_after_seconds=9.0)

        told = {c.provider: (c.verdict, c.why, c.tier) for c in (await explained(node)).candidates}
        pinned = (await explained(node, model="e/claude-x")).candidates
        kind = {c.provider: c.verdict for c in (await explained(node, model="anthropic/claude-x")).candidates}

        assert told["a"] == ("skipped", "its breaker is open until `breaker auto` or `reset`", 1)
        assert told["b"][:1] + told["b"][2:] == ("last resort", 1)
        assert told["b"][1].startswith("score 0.25; out below 0.7, back in at 0.8")
        assert told["c"] == ("skipped", "is throttled for 9.0 s", 1)
        assert told["d"] == ("first", "priority", 1)
        assert told["e"][0] == "not asked"
        assert [(c.provider, c.model, c.verdict) for c in pinned] == [("e", "claude-x", "first")]
        assert kind["e"] == "first"


@settings(max_examples=60, deadline=None)
@given(
    strategy=st.sampled_from(sorted(STRATEGIES)),
    shares=st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3),
    draining=st.sets(st.sampled_from("abc"), max_size=2),
    tripped=st.sets(st.sampled_from("abc"), max_size=2),
    turns=st.integers(0, 4),
    prices=st.dictionaries(st.sampled_from("abc"), st.none() | st.floats(0.0, 9.0)),
)
def test_what_is_explained_is_what_is_done(
    strategy: Any, shares: list[float], draining: set[str], tripped: set[str], turns: int, prices: dict[str, Any]
) -> None:
    async def scene() -> None:
        async with fleet(*ABC, groups=(group("a", "b", "c", strategy=strategy),), router=True) as node:
            for name, share in zip("abc", shares, strict=True):
                now = asyncio.get_running_loop().time()
                node.memories[name].health = Health(at=now, good=share * 1000, all=1000.0, first_token_seconds=share)
            for _ in range(turns):
                await served_by(node, prices=prices)
            for name in draining:
                await node.registry.via(names.provider(name)).call(SetAdminState("draining"))
            for name in tripped:
                await node.registry.via(names.provider(name)).call(TripBreaker())
            told = await explained(node, prices=prices)
            first = next((c.provider for c in told.candidates if c.verdict == "first"), None)
            answer = await admit(node, prices=prices)

            assert (answer.choice.provider if isinstance(answer, Lease) else None) == first

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scene())
