"""The prober in a real subtree on virtual time: whom it asks and when, what it learns, and what it leaves alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from attrs import define, evolve, field
from loguru import logger

from runestone.config.live import Live
from runestone.config.settings import ProviderSettings, ServerSettings, Settings
from runestone.domain.failure import UpstreamError
from runestone.providers import names
from runestone.providers.memory import ProviderMemory
from runestone.providers.messages import Lease
from runestone.providers.provider import ResetBreaker, SetAdminState, TripBreaker
from runestone.providers.roster import RestartProvider, Roster, SetProvider
from runestone.providers.transport import Transport
from runestone.resilience.breaker import Breaker
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import BreakerChanged, Event, ProbeFinished, ProviderThrottled
from supervisors import ActorRef, ChildSpec, DynamicSupervisor, Registry, Supervisor, start
from supervisors.testing import Recorder, VirtualTimeLoop, crash, leak_check, settle
from tests.support.fleet import LastResort, acquire, failure, provider, release

pytestmark = pytest.mark.anyio
LIVE = Live(Settings(server=ServerSettings(admin_socket=Path("unused"))))
INTERVAL = 30.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What is logged above DEBUG."""
    lines: list[str] = []
    sink = logger.add(lambda m: lines.append(f"{m.record['level'].name}: {m.record['message']}"), level="INFO")
    yield lines
    logger.remove(sink)


def now() -> float:
    return asyncio.get_running_loop().time()


@define(eq=False)
class Wire:
    """What stands for the connections: it answers with ``status``; with ``None`` nobody takes a connection."""

    status: int | None = 200
    hangs: bool = False
    asked: list[tuple[float, str]] = field(factory=list)
    connected: list[float] = field(factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((now(), f"{request.method} {request.url.path}"))
        if self.hangs:
            await asyncio.Event().wait()
        if self.status is None:
            raise UpstreamError(failure("refused"))
        return httpx.Response(self.status, stream=httpx.ByteStream(b"{}"))

    async def connect(self, url: httpx.URL) -> None:
        self.connected.append(now())
        if self.status is None:
            raise UpstreamError(failure("refused"))


@define(eq=False)
class Node:
    """One provider in the tree of a gateway, on a wire that answers what a test wants."""

    memory: ProviderMemory
    registry: Registry
    wire: Wire
    events: list[Event]

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def probes(self) -> list[str]:
        return [event.outcome for event in self.events if isinstance(event, ProbeFinished)]

    def ref(self, name: str) -> ActorRef:
        ref = self.registry.lookup(name)
        assert ref is not None, name
        return ref

    def score(self) -> float:
        return self.memory.score(now())

    def state(self) -> str:
        return self.memory.breaker.name(now())

    async def lease(self) -> Lease:
        answer = await self.ref(names.provider("a")).call(acquire())
        assert isinstance(answer, Lease), answer
        return answer

    async def call(self, *kinds: str) -> None:
        """One call that ends well, or one that fails for each of ``kinds``."""
        for kind in kinds or (None,):
            release(await self.lease(), None if kind is None else failure(kind))  # type: ignore[arg-type] # a kind
        await settle()

    async def renew(self, settings: ProviderSettings | None = None) -> None:
        job = RestartProvider("a") if settings is None else SetProvider(settings)
        await self.registry.via(names.ROSTER).call(job, timeout=None)


@asynccontextmanager
async def running(interval: float = INTERVAL, **options: Any) -> AsyncIterator[Node]:
    settings = provider("a", probe_interval_seconds=interval, **options)
    memory, registry, bus, wire = (
        ProviderMemory(settings=settings, breaker=Breaker.new(settings.breaker)),
        Registry(),
        Bus(),
        Wire(),
    )
    events: list[Event] = []
    bus.subscribe(events.append)
    children = [
        ChildSpec(id="providers", start=partial(Supervisor, ()), type="supervisor", name=names.PROVIDERS),
        ChildSpec(
            id="roster", start=partial(Roster, {"a": memory}, registry, bus, lambda: 0.5, LIVE), name=names.ROSTER
        ),
        ChildSpec(id="failover", start=LastResort, name=names.FAILOVER),
        ChildSpec(id="requests", start=DynamicSupervisor, type="supervisor", name=names.REQUESTS),
    ]
    async with leak_check():
        root = await start(partial(Supervisor, children), registry=registry, observers=[Recorder()])
        real = memory.transport
        memory.transport = cast("Transport", wire)
        try:
            yield Node(memory, registry, wire, events)
        finally:
            memory.transport = real
            await root.stop()


# -- when ------------------------------------------------------------------------------------------------------------------


async def test_an_idle_provider_is_asked_for_its_models_once_an_interval_and_for_nothing_else() -> None:
    async with running() as node:
        await asyncio.sleep(100)

        assert node.wire.asked == [(at, "GET /models") for at in (22.5, 52.5, 82.5)]
        assert node.wire.connected == []
        assert node.probes() == ["ok"] * 3


async def test_a_provider_that_is_called_is_not_asked() -> None:
    async with running() as node:
        for _ in range(20):
            await node.call()
            await asyncio.sleep(10)

        assert node.wire.asked == []


async def test_a_provider_with_a_long_call_out_is_not_asked() -> None:
    async with running() as node:
        lease = await node.lease()
        await asyncio.sleep(1000)
        assert node.wire.asked == []

        release(lease)
        await asyncio.sleep(2 * INTERVAL)
        assert len(node.wire.asked) == 1


async def test_a_provider_whose_breaker_is_open_is_asked_though_it_has_just_been_called() -> None:
    async with running() as node:
        await asyncio.sleep(20)
        await node.call("server_error", "server_error", "server_error")
        await asyncio.sleep(5)

        assert node.state() == "open"
        assert [at for at, _ in node.wire.asked] == [22.5]


async def test_an_interval_of_zero_asks_nothing() -> None:
    async with running(interval=0.0) as node:
        await asyncio.sleep(10_000)

        assert node.wire.asked == []


@pytest.mark.parametrize("why", ["maintenance", "throttled", "credentials", "quota_exceeded", "down"])
async def test_who_is_not_to_be_asked_is_not(why: str) -> None:
    async with running() as node:
        if why == "maintenance":
            await node.ref(names.provider("a")).call(SetAdminState("maintenance"))
        elif why == "throttled":
            release(await node.lease(), failure("rate_limited", retry_after_seconds=250.0))
        elif why == "down":
            node.memory.transport = None
        else:
            await node.call(why)

        await asyncio.sleep(250)
        assert node.wire.asked == []

        if why == "maintenance":
            await node.ref(names.provider("a")).call(SetAdminState("ready"))
        elif why == "down":
            node.memory.transport = cast("Transport", node.wire)
        await asyncio.sleep(51 + 2 * INTERVAL)
        assert node.wire.asked


async def test_a_drained_provider_is_looked_after_still() -> None:
    async with running() as node:
        await node.ref(names.provider("a")).call(SetAdminState("draining"))

        await asyncio.sleep(2 * INTERVAL)

        assert node.wire.asked


async def test_a_429_to_a_probe_has_no_effect_but_a_longer_pause() -> None:
    async with running() as node:
        node.wire.status = 429
        await asyncio.sleep(300)

        assert [at for at, _ in node.wire.asked] == [22.5, 82.5, 202.5]
        assert node.memory.throttle.retry_after(now()) is None
        assert node.told(ProviderThrottled) == []
        assert node.score() == 1.0
        assert node.probes() == ["rate_limited"] * 3


async def test_a_provider_without_a_list_of_models_is_only_connected_to() -> None:
    async with running() as node:
        node.wire.status = 404
        await asyncio.sleep(100)

        assert [at for at, _ in node.wire.asked] == [22.5]
        assert node.wire.connected == [52.5, 82.5]
        assert node.probes() == ["ok"] * 3


# -- what it learns --------------------------------------------------------------------------------------------------------


async def test_who_takes_no_connection_twice_has_no_score_until_it_takes_one_again() -> None:
    async with running() as node:
        node.wire.status = None
        await asyncio.sleep(25)
        assert node.score() == 1.0
        await asyncio.sleep(30)
        assert node.score() == 0.0
        await asyncio.sleep(1000)
        assert node.score() == 0.0

        node.wire.status = 200
        await asyncio.sleep(30)
        assert node.score() == 1.0
        assert node.state() == "closed"
        assert node.told(BreakerChanged) == []


async def test_a_call_that_ends_well_takes_back_what_probes_said() -> None:
    async with running() as node:
        node.wire.status = None
        await asyncio.sleep(55)
        assert node.score() == 0.0

        await node.call()

        assert node.score() == 1.0


async def test_one_that_connects_and_does_not_answer_is_not_down() -> None:
    async with running() as node:
        node.wire.hangs = True
        await asyncio.sleep(1000)

        assert set(node.probes()) == {"error"}
        assert node.score() == 1.0
        assert node.memory.last_probe is not None
        assert node.memory.last_probe.what == "error: no answer within 5 s"


async def test_a_refused_key_is_told_once_and_quarantines_nothing(logged: list[str]) -> None:
    async with running() as node:
        node.wire.status = 401
        await asyncio.sleep(100)

        assert logged == ["ERROR: alert: a probe of a: refuses the API key"]
        assert node.probes() == ["credentials"] * 2
        assert node.memory.quarantine.retry_after(None, now()) is None
        assert node.memory.probing.trouble(now(), node.memory.last_call) == "credentials"
        assert isinstance(await node.lease(), Lease)


@pytest.mark.parametrize("status", [200, None])
async def test_an_open_breaker_opens_no_sooner_and_no_later_for_probes(status: int | None) -> None:
    async with running(interval=1.0) as node:
        node.wire.status = status
        await node.call("server_error", "server_error", "server_error")
        breaker = node.memory.breaker

        await asyncio.sleep(9.9)

        assert len(node.probes()) == 10
        assert node.state() == "open"
        assert node.memory.breaker is breaker
        await asyncio.sleep(0.2)
        assert node.state() == "half_open"
        await node.call()
        await node.call()
        assert node.state() == "closed"


async def test_a_breaker_that_is_forced_open_stays_so() -> None:
    async with running() as node:
        await node.ref(names.provider("a")).call(TripBreaker())
        await asyncio.sleep(500)

        assert node.probes()
        assert (node.state(), node.memory.breaker.mode) == ("open", "forced_open")
        await node.ref(names.provider("a")).call(ResetBreaker())
        assert node.state() == "closed"


async def test_probes_are_no_calls() -> None:
    async with running() as node:
        await asyncio.sleep(1000)

        memory = node.memory
        assert node.probes()
        assert (memory.calls, memory.failures, memory.leases, memory.next_lease) == (0, 0, {}, 0)
        assert memory.health.all == 0.0


async def test_one_over_connections_that_were_replaced_meanwhile_says_nothing() -> None:
    async with running() as node:
        node.wire.hangs = True
        await asyncio.sleep(23)
        assert len(node.wire.asked) == 1

        node.memory.transport = cast("Transport", Wire())
        await asyncio.sleep(10)

        assert node.probes() == []
        assert node.memory.probing.outcome is None
        await asyncio.sleep(INTERVAL)
        assert node.probes() == ["ok"]


async def test_what_a_probe_finds_is_logged_when_it_changes(logged: list[str]) -> None:
    async with running() as node:
        await asyncio.sleep(100)
        node.wire.status = None
        await asyncio.sleep(100)
        node.wire.status = 200
        await asyncio.sleep(100)

        assert len(node.probes()) == 10
        assert logged == ["WARNING: a probe of a: unreachable: refused", "INFO: a probe of a: answers"]


# -- its life --------------------------------------------------------------------------------------------------------------


async def test_a_crash_of_the_prober_changes_nothing_else_and_it_goes_on() -> None:
    async with running() as node:
        node.wire.status = None
        await asyncio.sleep(55)
        before = {name: node.ref(name) for name in (names.provider("a"), names.transport("a"), names.subtree("a"))}

        crash(node.ref(names.prober("a")), RuntimeError("a bug"))
        await settle()

        assert {name: node.ref(name) for name in before} == before
        assert node.ref(names.prober("a")).incarnation == 2
        assert node.score() == 0.0
        node.wire.status = 200
        await asyncio.sleep(INTERVAL)
        assert node.probes()[-1] == "ok"


async def test_a_prober_that_crashes_at_every_probe_never_brings_its_provider_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(interval=0.1) as node:
        before = node.ref(names.subtree("a"))

        async def broken(*_: object) -> httpx.Response:
            raise RuntimeError("a bug")

        monkeypatch.setattr(Wire, "handle_async_request", broken)
        await asyncio.sleep(100)

        assert node.ref(names.prober("a")).incarnation > 10
        assert node.ref(names.subtree("a")) == before
        assert before.alive
        monkeypatch.undo()


async def test_a_restart_of_the_provider_forgets_what_probes_said() -> None:
    async with running() as node:
        node.wire.status = None
        await asyncio.sleep(55)
        assert node.score() == 0.0
        prober = node.ref(names.prober("a"))

        await node.renew()

        assert node.score() == 1.0
        assert node.ref(names.prober("a")) != prober


async def test_another_interval_is_in_force_at_once_and_zero_forgets_what_probes_said() -> None:
    async with running(interval=3600.0) as node:
        await node.renew(evolve(node.memory.settings, probe_interval_seconds=10.0))
        node.wire.status = None
        await asyncio.sleep(25)
        assert node.score() == 0.0
        asked = len(node.wire.asked)

        await node.renew(evolve(node.memory.settings, probe_interval_seconds=0.0))
        await asyncio.sleep(1000)

        assert node.score() == 1.0
        assert len(node.wire.asked) == asked
        assert node.memory.last_probe is None


async def test_a_provider_that_is_not_counted_by_name_is_probed_and_not_told_of() -> None:
    async with running(telemetry=False) as node:
        await asyncio.sleep(100)

        assert len(node.wire.asked) == 3
        assert node.events == []
