"""A provider with a limit of concurrent calls: who is refused, who waits, and for how long. Virtual time, real actors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from runestone.config.settings import ProviderSettings
from runestone.domain.routing import DEFAULT_GROUP
from runestone.failover.router import GetStats
from runestone.providers import names
from runestone.providers.messages import Admission, Admit, Exhausted, Lease
from runestone.providers.provider import SetAdminState, TripBreaker
from runestone.resilience.concurrency import ConcurrencyPolicy
from supervisors.testing import VirtualTimeLoop, leak_check, settle
from tests.support.fleet import MODEL, Fleet, failure, fleet, group, provider, release


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Callable[[], asyncio.AbstractEventLoop]]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


pytestmark = pytest.mark.anyio
THREE = [group("a", "b", "c", strategy="priority")]


def limited(name: str, limit: int = 1, **policy: float | bool) -> ProviderSettings:
    return provider(name, concurrency=ConcurrencyPolicy(limit=limit, **policy))  # type: ignore[arg-type]


def now() -> float:
    return asyncio.get_running_loop().time()


def admit(node: Fleet, key: str = "", *, seconds: float = 600.0) -> asyncio.Task[Admission]:
    """A request that asks for a lease, and gives it back when it has ended or is cancelled."""

    async def ask() -> Admission:
        message = Admit(model=MODEL, key=key, deadline=now() + seconds)
        return await node.failover.call(message, timeout=None)

    return node.request(ask)


async def lease(node: Fleet, key: str = "") -> Lease:
    answer = await admit(node, key)
    assert isinstance(answer, Lease), answer
    return answer


async def test_at_its_limit_the_others_are_asked_first() -> None:
    async with fleet(limited("a"), provider("b"), groups=[group("a", "b", strategy="priority")], router=True) as node:
        held = await held_lease(node)
        other = await held_lease(node)

        assert (held.choice.provider, other.choice.provider) == ("a", "b")


async def held_lease(node: Fleet) -> Lease:
    """A lease of nobody's request: it stays out until it is given back."""
    answer = await node.failover.call(Admit(model=MODEL, deadline=now() + 600.0), timeout=None)
    assert isinstance(answer, Lease), answer
    return answer


async def test_where_all_are_at_their_limit_the_request_waits_for_the_first_place() -> None:
    async with fleet(limited("a"), router=True) as node:
        held = await held_lease(node)
        waiting, began = admit(node), now()
        await settle()
        assert (waiting.done(), node.memories["a"].waiting) == (False, 1)
        release(held)
        answer = await waiting

        assert isinstance(answer, Lease)
        assert now() == began
        assert not answer.panic
        assert node.memories["a"].waiting == 0


async def test_who_has_waited_for_as_long_as_may_be_is_told_when_to_come_back() -> None:
    async with fleet(limited("a", queue_seconds=5.0), router=True) as node:
        await held_lease(node)
        began = now()
        answer = await admit(node)

        assert isinstance(answer, Exhausted)
        assert [(r.provider, r.reason) for r in answer.refusals] == [("a", "saturated")]
        assert answer.retry_after_seconds == 1.0
        assert now() - began == pytest.approx(5.0)
        assert node.memories["a"].waiting == 0


async def test_who_gives_up_its_place_is_offered_to_one_that_has_recovered_meanwhile_before_it_is_refused() -> None:
    async with fleet(limited("a", queue_seconds=5.0), provider("b"), provider("c"), groups=THREE, router=True) as node:
        await node.fails("rate_limited", name="b", retry_after_seconds=2.0)
        await node.fails("rate_limited", name="c", retry_after_seconds=60.0)
        await held_lease(node)
        began = now()
        answer = await admit(node)

        assert isinstance(answer, Lease)
        assert answer.choice.provider == "b"
        assert now() - began == pytest.approx(5.0)
        told: Any = await node.failover.call(GetStats(DEFAULT_GROUP))
        assert (told["exhausted"], told["refusals"]["a:saturated"], told["refusals"]["b:throttled"]) == (0, 2, 1)


async def test_who_is_sent_away_from_a_line_that_ends_is_offered_to_the_others_too() -> None:
    async with fleet(limited("a", queue_seconds=5.0), provider("b"), groups=[group("a", "b")], router=True) as node:
        await node.fails("rate_limited", name="b", retry_after_seconds=2.0)
        await held_lease(node)
        waiting = admit(node)
        await asyncio.sleep(3.0)
        await node.registry.via("provider:a").call(SetAdminState("draining"))

        answer = await waiting

        assert isinstance(answer, Lease)
        assert answer.choice.provider == "b"


async def test_who_gives_up_its_place_is_offered_once_to_each_and_stands_in_no_second_line() -> None:
    two = (limited("a", queue_seconds=5.0), limited("b", queue_seconds=5.0))
    async with fleet(*two, groups=[group("a", "b", strategy="priority")], router=True) as node:
        await held_lease(node)
        await held_lease(node)
        began = now()

        answer = await admit(node)

        assert isinstance(answer, Exhausted)
        assert now() - began == pytest.approx(5.0)
        assert [(r.provider, r.reason) for r in answer.refusals] == [("b", "saturated"), ("a", "saturated")]


async def test_nobody_waits_beyond_its_own_deadline() -> None:
    async with fleet(limited("a", queue_seconds=5.0), router=True) as node:
        await held_lease(node)
        began = now()

        assert isinstance(await admit(node, seconds=2.0), Exhausted)
        assert now() - began == pytest.approx(2.0)


async def test_a_full_line_takes_nobody() -> None:
    async with fleet(limited("a", queue=2), router=True) as node:
        held = await held_lease(node)
        first, second = admit(node), admit(node)
        await settle()

        assert isinstance(await admit(node), Exhausted)
        release(held)
        assert isinstance(await first, Lease)
        assert isinstance(await second, Lease)


async def test_the_line_is_served_by_turns_of_the_clients_keys() -> None:
    async with fleet(limited("a"), router=True) as node:
        held = await held_lease(node)
        order: list[str] = []

        async def one(key: str) -> None:
            answer = await node.failover.call(Admit(model=MODEL, key=key, deadline=now() + 600.0), timeout=None)
            order.append(key)
            await asyncio.sleep(0.1)
            assert isinstance(answer, Lease)
            release(answer)

        tasks = [node.request(lambda key=key: one(key)) for key in ("hog", "hog", "hog", "modest")]  # type: ignore[misc]
        await settle()
        release(held)
        await asyncio.gather(*tasks)

        assert order == ["hog", "modest", "hog", "hog"]


async def test_a_client_that_leaves_the_line_takes_no_place() -> None:
    async with fleet(limited("a"), router=True) as node:
        held = await held_lease(node)
        gone, patient = admit(node), admit(node)
        await settle()
        gone.cancel()
        await settle()
        assert node.memories["a"].waiting == 1
        release(held)

        assert isinstance(await patient, Lease)
        await settle()
        assert not node.memories["a"].leases


@pytest.mark.parametrize("reason", ["draining", "throttled", "breaker_open"])
async def test_who_waits_is_told_at_once_when_the_provider_takes_nobody_any_more(reason: str) -> None:
    async with fleet(limited("a", 2), router=True) as node:
        held = [await held_lease(node) for _ in range(2)]
        waiting = admit(node)
        await settle()
        began = now()
        via = node.registry.via(names.provider("a"))
        if reason == "draining":
            await via.call(SetAdminState("draining"))
        elif reason == "breaker_open":
            await via.call(TripBreaker())
        else:
            release(held[0], failure("rate_limited", retry_after_seconds=30.0))
        answer = await waiting

        assert isinstance(answer, Exhausted)
        assert [r.reason for r in answer.refusals] == [reason]
        assert now() == began


async def test_a_crash_of_the_provider_actor_loses_nobody_in_line_and_keeps_the_limit() -> None:
    async with fleet(limited("a"), router=True) as node:
        held = await held_lease(node)

        async def until_served() -> Admission:
            while True:
                try:
                    return await node.failover.call(Admit(model=MODEL, deadline=now() + 600.0), timeout=None)
                except Exception as error:  # noqa: BLE001 - as the loop of attempts does: asked again
                    assert "Exited" in type(error).__name__, error
                    await asyncio.sleep(0.05)

        waiting = node.request(until_served)
        await settle()
        await node.crash()
        assert node.memories["a"].waiting == 0
        await asyncio.sleep(0.1)
        assert not waiting.done()
        release(held)

        assert isinstance(await waiting, Lease)


async def test_an_adaptive_limit_is_lowered_by_429_and_529_and_raised_by_success() -> None:
    async with fleet(limited("a", 10, adaptive=True), router=True) as node:
        held = [await held_lease(node) for _ in range(10)]
        await asyncio.sleep(1.0)
        release(held.pop(), failure("overloaded"))
        await settle()
        assert node.memories["a"].concurrency.limit == 7
        release(held.pop(), failure("rate_limited", retry_after_seconds=0.01))
        await settle()
        assert node.memories["a"].concurrency.limit == 7  # it was out with the other one
        for _ in range(8):
            release(held.pop())
            await settle()
            await asyncio.sleep(1.0)
            held.extend([await held_lease(node) for _ in range(7 - len(held))])

        assert node.memories["a"].concurrency.limit == 8


async def test_more_calls_are_never_out_than_the_limit_whatever_the_schedule() -> None:
    with leak_check():
        async with fleet(limited("a", 3, queue_seconds=60.0), limited("b", 2, queue_seconds=60.0), router=True) as node:
            most = {"a": 0, "b": 0}
            served = 0

            async def one(number: int) -> None:
                nonlocal served
                await asyncio.sleep(number % 7 * 0.1)
                answer = await node.failover.call(Admit(model=MODEL, deadline=now() + 600.0), timeout=None)
                assert isinstance(answer, Lease), answer
                name = answer.choice.provider
                most[name] = max(most[name], len(node.memories[name].leases))
                try:
                    await asyncio.sleep(0.05 * (number % 5))
                    served += 1
                finally:
                    release(answer)

            tasks = [node.request(lambda n=n: one(n)) for n in range(200)]  # type: ignore[misc]
            for task in tasks[::9]:
                await asyncio.sleep(0.01)
                task.cancel()
            await asyncio.wait(tasks)
            await settle()

            assert most == {"a": 3, "b": 2}
            assert served >= 170
            assert [len(m.leases) + m.waiting for m in node.memories.values()] == [0, 0]
