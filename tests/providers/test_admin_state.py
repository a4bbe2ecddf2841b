"""A provider that an operator has taken out of service, and how that differs from one that is being removed. Virtual time."""

from __future__ import annotations

import asyncio

import pytest
from attrs import evolve

from runestone.failover.router import Explain
from runestone.providers import names
from runestone.providers.messages import AdminState, Admit, Exhausted, Lease
from runestone.providers.provider import AutoBreaker, DisableBreaker, Drained, Leave, SetAdminState, TripBreaker
from supervisors.testing import VirtualTimeLoop, settle
from tests.support.fleet import MODEL, Fleet, fleet, group, provider, release

pytestmark = pytest.mark.anyio
OUT: tuple[AdminState, ...] = ("draining", "maintenance")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


def now() -> float:
    return asyncio.get_running_loop().time()


async def put(node: Fleet, state: AdminState, name: str = "a") -> None:
    await node.registry.via(names.provider(name)).call(SetAdminState(state))


def drained(node: Fleet) -> asyncio.Task[bool]:
    return asyncio.ensure_future(node.registry.via(names.provider("a")).call(Drained(), timeout=None))


async def admit(node: Fleet, model: str = MODEL, *, trial: bool = False) -> object:
    return await node.failover.call(Admit(model=model, deadline=now() + 60.0, trial=trial), timeout=None)


@pytest.mark.parametrize("state", OUT)
async def test_it_refuses_what_is_new_by_the_operators_word_and_what_runs_ends(state: AdminState) -> None:
    async with fleet(provider("a")) as node:
        lease = await node.lease()
        await put(node, state)

        refused = await node.refused()

        assert (refused.reason, refused.retry_after_seconds) == (state, None)
        release(lease)
        await settle()
        assert node.memories["a"].leases == {}
        assert node.memories["a"].last_success is not None
        await put(node, "ready")
        release(await node.lease())


@pytest.mark.parametrize("state", OUT)
async def test_the_operators_word_stands_through_crashes_and_a_clean_slate(state: AdminState) -> None:
    async with fleet(provider("a")) as node:
        await put(node, state)
        await node.crash()
        await node.crash()  # the second within the window starts fresh
        assert (await node.refused()).reason == state

        node.memories["a"].forget(now())
        assert (await node.refused()).reason == state

        node.memories["a"].change(evolve(node.memories["a"].settings, base_url="http://elsewhere.invalid"), now())
        assert (await node.refused()).reason == state


@pytest.mark.parametrize("state", OUT)
async def test_one_that_waits_for_its_last_call_learns_of_it_at_once(state: AdminState) -> None:
    async with fleet(provider("a")) as node:
        leases = [await node.lease(), await node.lease()]
        await put(node, state)
        waiting = drained(node)

        for lease in leases:
            await settle()
            assert not waiting.done()
            release(lease)

        assert await waiting is True
        assert await drained(node) is True
        assert now() == 0.0


async def test_one_that_waits_for_its_last_call_learns_that_it_serves_again() -> None:
    async with fleet(provider("a")) as node:
        lease = await node.lease()
        await put(node, "draining")
        waiting = drained(node)
        await settle()
        assert not waiting.done()

        await put(node, "ready")

        assert await waiting is False
        assert await drained(node) is False
        release(lease)


async def test_a_removal_is_taken_back_by_no_operator_and_is_told_apart() -> None:
    async with fleet(provider("a")) as node:
        lease = await node.lease()
        leaving = asyncio.ensure_future(node.registry.via(names.provider("a")).call(Leave(), timeout=None))
        await settle()
        await put(node, "ready")

        assert (await node.refused()).reason == "leaving"
        assert not leaving.done()
        release(lease)
        await leaving


async def test_new_settings_end_a_removal_that_was_broken_off() -> None:
    async with fleet(provider("a")) as node:
        memory = node.memories["a"]
        memory.leaving = True
        assert (await node.refused()).reason == "leaving"

        memory.change(memory.settings, now())

        release(await node.lease())


async def test_maintenance_is_told_before_that_its_connections_are_gone_and_draining_after() -> None:
    async with fleet(provider("a")) as node:
        memory = node.memories["a"]
        memory.transport = None
        told = {}
        for state in ("ready", *OUT):
            await put(node, state)
            told[state] = (await node.refused()).reason

        assert told == {"ready": "down", "draining": "down", "maintenance": "maintenance"}


@pytest.mark.parametrize("state", OUT)
@pytest.mark.parametrize("crash", [False, True])
async def test_nobody_is_sent_there_even_where_nobody_else_is_left_and_the_refusal_says_why(
    state: AdminState, *, crash: bool
) -> None:
    async with fleet(provider("a"), provider("b"), groups=(group("a", "b"),), router=True) as node:
        await put(node, state)
        await node.registry.via(names.provider("b")).call(TripBreaker())
        if crash:
            await node.root.terminate_child("a")  # as between a crash and the next incarnation

        answer = await admit(node)

        assert isinstance(answer, Exhausted)
        assert {refused.provider: refused.reason for refused in answer.refusals} == {"a": state, "b": "breaker_open"}
        assert not answer.restarting
        assert node.memories["a"].calls == 0


@pytest.mark.parametrize("state", OUT)
async def test_an_operators_own_call_goes_there_all_the_same(state: AdminState) -> None:
    async with fleet(provider("a"), provider("b"), router=True) as node:
        await put(node, state)

        answer = await admit(node, f"a/{MODEL}", trial=True)

        assert isinstance(answer, Lease)
        assert answer.choice.provider == "a"
        release(answer)


async def test_an_operators_own_call_obeys_breaker_and_removal() -> None:
    async with fleet(provider("a"), router=True) as node:
        await node.registry.via(names.provider("a")).call(TripBreaker())
        tripped = await admit(node, f"a/{MODEL}", trial=True)
        await node.registry.via(names.provider("a")).call(AutoBreaker())
        leaving = asyncio.ensure_future(node.registry.via(names.provider("a")).call(Leave()))
        await settle()
        left = await admit(node, f"a/{MODEL}", trial=True)

        assert isinstance(tripped, Exhausted)
        assert isinstance(left, Exhausted)
        assert [r.reason for r in (*tripped.refusals, *left.refusals)] == ["breaker_open", "leaving"]
        await leaving


@pytest.mark.parametrize(("state", "says"), [("draining", "is drained by"), ("maintenance", "is in maintenance by")])
async def test_an_explanation_names_the_operator(state: AdminState, says: str) -> None:
    async with fleet(provider("a"), provider("b"), router=True) as node:
        await put(node, state)

        told = await node.failover.call(Explain(model=MODEL))

        verdicts = {one.provider: (one.verdict, one.why) for one in told.candidates}  # type: ignore[union-attr] # it is one
        assert verdicts["a"] == ("skipped", f"{says} an operator")
        assert verdicts["b"][0] == "first"


async def test_a_disabled_breaker_lets_everything_through_until_it_decides_again() -> None:
    async with fleet(provider("a")) as node:
        via = node.registry.via(names.provider("a"))
        await via.call(DisableBreaker())
        await node.fails(*("server_error",) * 5)
        memory = node.memories["a"]
        assert (memory.breaker.mode, memory.breaker.name(now())) == ("disabled", "closed")

        await via.call(AutoBreaker())
        assert memory.breaker.mode == "auto"
        await node.fails("server_error")

        assert (await node.refused()).reason == "breaker_open"


async def test_auto_lifts_a_trip_and_leaves_what_the_provider_has_earned() -> None:
    async with fleet(provider("a")) as node:
        via = node.registry.via(names.provider("a"))
        await node.fails("rate_limited", retry_after_seconds=20.0)
        await via.call(TripBreaker())
        await via.call(AutoBreaker())

        assert node.memories["a"].breaker.name(now()) == "closed"
        assert (await node.refused()).reason == "throttled"
