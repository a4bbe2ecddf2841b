"""The telemetry actor on virtual time: it listens while it lives, and looks once a second at what nobody tells."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from runestone.telemetry.actor import Looks, Mailbox, Standing, Telemetry
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import BreakerChanged, ProviderThrottled
from runestone.telemetry.metrics import Metrics, Sources
from supervisors import ChildSpec, GenServer, Registry, Supervisor, on_handled, start
from supervisors.testing import Recorder, VirtualTimeLoop, crash, leak_check, settle

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


async def test_it_counts_while_it_lives_and_a_crash_loses_no_counts() -> None:
    bus, metrics = Bus(), Metrics()
    actor = partial(Telemetry, bus, metrics, Looks(providers=lambda: {"a": ["m"]}, groups=lambda: {"g": ["a"]}))
    children = [ChildSpec(id="telemetry", start=actor, name="telemetry")]
    async with leak_check():
        root = await start(partial(Supervisor, children), observers=[Recorder()])
        ref = root.process.system.registry.lookup("telemetry")
        assert ref is not None
        bus.emit(ProviderThrottled(provider="a", seconds=1.0))
        bus.emit(BreakerChanged(provider="a", before="closed", after="open"))

        crash(ref, RuntimeError("a bug"))
        await settle()
        bus.emit(ProviderThrottled(provider="a", seconds=1.0))
        bus.flush()

        assert metrics.throttles.at(provider="a").value == 2.0
        assert metrics.breaker.at(provider="a", state="open").value == 1.0
        await root.stop()
        bus.emit(ProviderThrottled(provider="a", seconds=1.0))
        assert metrics.throttles.at(provider="a").value == 2.0


async def test_a_new_supervisor_above_it_resets_no_gauge() -> None:
    bus, metrics = Bus(), Metrics()
    for after in ("open", "half_open"):
        root = await start(partial(Telemetry, bus, metrics, Looks(providers=lambda: {"a": ["m"]})))
        bus.emit(BreakerChanged(provider="a", before="", after=after))
        await root.stop()

    assert metrics.breaker.at(provider="a", state="half_open").value == 1.0
    assert metrics.transitions.at(provider="a", to="open").value == 1.0


async def test_scores_are_looked_at_once_a_second() -> None:
    metrics, looks = Metrics(), list[float]()

    def standings(now: float) -> list[Standing]:
        looks.append(now)
        limit = 4 if len(looks) < 3 else None
        up, score = len(looks) != 3, 1.0 / len(looks)
        return [Standing(provider="a", score=score, up=up, in_flight=3, waiting=2, limit=limit, stale=len(looks))]

    root = await start(partial(Telemetry, Bus(), metrics, Looks(providers=lambda: {"a": ["m"]}, standings=standings)))
    await asyncio.sleep(1.5)
    assert metrics.concurrency.values() == {"a": 4.0}
    await asyncio.sleep(1.0)

    assert looks == [0.0, 1.0, 2.0]
    assert metrics.provider_in_flight.at(provider="a").value == 3.0
    assert metrics.waiting.at(provider="a").value == 2.0
    assert metrics.stale.at(provider="a").value == 3.0
    assert metrics.concurrency.values() == {}
    assert metrics.score.at(provider="a").value == pytest.approx(1 / 3)
    assert metrics.up.at(provider="a").value == 0.0
    await root.stop()


async def test_a_breakers_gauge_is_right_again_after_a_change_that_was_missed() -> None:
    metrics = Metrics()
    standing = Standing(provider="a", score=0.0, up=False, breaker="open")
    root = await start(
        partial(Telemetry, Bus(), metrics, Looks(providers=lambda: {"a": ["m"]}, standings=lambda _: [standing]))
    )

    assert metrics.breaker.values() == {"a,closed": 0.0, "a,open": 1.0, "a,half_open": 0.0}
    await root.stop()


async def test_a_change_that_waits_does_not_take_the_place_of_what_was_seen_after_it() -> None:
    bus, metrics = Bus(), Metrics()
    standing = Standing(provider="a", score=1.0, up=True, breaker="closed")
    root = await start(
        partial(Telemetry, bus, metrics, Looks(providers=lambda: {"a": ["m"]}, standings=lambda _: [standing]))
    )

    await asyncio.sleep(0.99)
    bus.emit(BreakerChanged(provider="a", before="closed", after="open"))
    await asyncio.sleep(0.5)

    assert metrics.breaker.at(provider="a", state="closed").value == 1.0
    await root.stop()


async def test_how_one_stands_who_is_not_counted_by_name_makes_no_series() -> None:
    metrics = Metrics()
    standing = Standing(provider="quiet", score=0.0, up=False)
    root = await start(partial(Telemetry, Bus(), metrics, Looks(standings=lambda _: [standing])))

    assert metrics.score.values() == {}
    assert metrics.breaker.values() == {}
    await root.stop()


async def test_mailboxes_are_looked_at_once_a_second_and_the_depth_of_one_that_is_gone_is_not_told() -> None:
    metrics, watched = Metrics(), list[float]()
    loop = asyncio.get_running_loop()

    def mailboxes() -> list[Mailbox]:
        first = Mailbox(path="root/a", incarnation=1, depth=3, drops=1, taken=7)
        return [first, Mailbox(path="root/b", incarnation=1, depth=1, drops=0)] if loop.time() < 1.0 else [first]

    looks = Looks(mailboxes=mailboxes, watch=lambda: watched.append(loop.time()))
    root = await start(partial(Telemetry, Bus(), metrics, looks))
    assert metrics.mailbox_depth.values() == {"root/a": 3.0, "root/b": 1.0}
    await asyncio.sleep(1.5)

    assert metrics.mailbox_depth.values() == {"root/a": 3.0}
    assert metrics.mailbox_dropped.values() == {"root/a": 1.0, "root/b": 0.0}
    assert metrics.mailbox_taken.values() == {"root/a": 7.0, "root/b": 0.0}
    assert watched == [0.0, 1.0]
    await root.stop()


async def test_each_message_of_a_named_actor_is_timed_from_the_next_look_on_in_its_next_life_too() -> None:
    class Slow(GenServer[float]):
        async def handle_cast(self, message: float) -> None:
            await asyncio.sleep(message)

    def mailboxes() -> list[Mailbox]:
        ref = registry.lookup("slow")
        assert ref is not None
        listen = partial(on_handled, ref, clock=asyncio.get_running_loop().time)
        paths = "node/providers/quiet", "node/slow"
        return [Mailbox(path=path, incarnation=1, depth=0, drops=0, on_handled=listen) for path in paths]

    metrics, looks = Metrics(), Looks(mailboxes=mailboxes)
    children = [
        ChildSpec(id="slow", start=Slow, name="slow"),
        ChildSpec(id="telemetry", start=partial(Telemetry, Bus(), metrics, looks)),
    ]
    registry = Registry()
    root = await start(partial(Supervisor, children), registry=registry, observers=[Recorder()])
    for _ in range(2):
        slow = registry.lookup("slow")
        assert slow is not None
        for seconds in (0.0, 0.5):
            slow.cast(seconds)
        await asyncio.sleep(2.0)
        crash(slow, RuntimeError("a bug"))
        await settle()
        await asyncio.sleep(1.0)

    series = metrics.handle_seconds.at(actor="node/slow")
    assert (series.observations, series.sum) == (4, 1.0)
    assert metrics.handle_seconds.values() == {"node/slow": 4.0}
    await root.stop()


async def test_what_was_lost_is_remembered_for_five_minutes() -> None:
    lost, loop = {"ledger": 0}, asyncio.get_running_loop()
    metrics = Metrics(Sources(dropped=lambda: lost), clock=loop.time)
    root = await start(partial(Telemetry, Bus(), metrics, Looks()))
    assert metrics.queues() == ["ledger"]
    assert not metrics.lost_of_late("ledger")

    lost["ledger"] = 3
    await asyncio.sleep(2.0)
    assert metrics.lost_of_late("ledger")
    assert not metrics.lost_of_late("log")
    await asyncio.sleep(310.0)

    assert not metrics.lost_of_late("ledger")
    await root.stop()
