"""Two figures of our own: the gateway's admission, and how long an actor takes to answer beside an endless crash loop."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any, cast

_ADMISSIONS = 20_000
_LOOP_SECONDS = 3.0


async def admission() -> float:
    """Seconds from asking failover to the lease in hand: two mailboxes, one reply. Its release is handled between two of them."""
    from runestone.config.settings import GroupSettings, ProviderSettings, ServerSettings, Settings
    from runestone.domain.routing import DEFAULT_GROUP
    from runestone.domain.secret import Secret
    from runestone.failover.router import FailoverRouter
    from runestone.providers import names
    from runestone.providers.memory import ProviderMemory
    from runestone.providers.messages import Admit, Lease
    from runestone.providers.provider import Provider
    from runestone.resilience.breaker import Breaker
    from runestone.telemetry.bus import Bus
    from supervisors import ChildSpec, Registry, Supervisor, start

    provider = ProviderSettings(
        name="a", kind="openai", base_url="http://nowhere.invalid", api_key=Secret("none"), default_model="gpt-4o-mini"
    )
    group = GroupSettings(name=DEFAULT_GROUP, providers=("a",))
    settings = Settings(server=ServerSettings(admin_socket=Path("none")), providers=(provider,), groups=(group,))
    memory = ProviderMemory(settings=provider, breaker=Breaker.new(provider.breaker), transport=cast("Any", object()))
    registry, bus = Registry(), Bus()
    actor = partial(Provider, memory, registry, bus, lambda: 0.5)
    router = partial(FailoverRouter, settings, {"a": memory}, registry, bus, lambda: 0.5)
    children = [
        ChildSpec(id="a", start=actor, name=names.provider("a")),
        ChildSpec(id="failover", start=router, name=names.FAILOVER),
    ]
    root = await start(partial(Supervisor, children), registry=registry)
    failover = registry.via(names.FAILOVER)
    admit = Admit(model="gpt-4o-mini", deadline=1e12)
    seconds = 0.0
    for _ in range(_ADMISSIONS):
        began = time.perf_counter()
        lease = await failover.call(admit, timeout=None)
        seconds += time.perf_counter() - began
        assert isinstance(lease, Lease)
        lease.release("success")
        while memory.leases:
            await asyncio.sleep(0)
    await root.stop()
    return seconds / _ADMISSIONS


async def beside_a_crash_loop() -> float:
    """The longest time in seconds that an actor took to answer, while another one crashed as soon as it was started, for ever."""
    from supervisors import Call, ChildSpec, GenServer, Supervisor, start

    class Ping(Call[int]):
        pass

    class Well(GenServer[Any]):
        def handle_call(self, message: Any, caller: Any) -> int:
            return 1

    children = [
        ChildSpec(id="well", start=Well, name="well"),
        ChildSpec(id="broken", start=partial(Supervisor, [ChildSpec(id="x", start=_Crashing)], max_restarts=10**9)),
    ]
    root = await start(partial(Supervisor, children), observers=[lambda _: None])
    well = root.process.system.registry.via("well")
    worst, end = 0.0, time.perf_counter() + _LOOP_SECONDS
    while time.perf_counter() < end:
        began = time.perf_counter()
        await well.call(Ping())
        worst = max(worst, time.perf_counter() - began)
        await asyncio.sleep(0.001)
    await root.stop()
    return worst


def _Crashing() -> Any:  # noqa: N802 - a factory of actors
    from supervisors import Continue, GenServer

    class Crashing(GenServer[Any]):
        def init(self) -> Continue:
            return Continue(None)

        def handle_continue(self, term: Any) -> None:
            raise RuntimeError("always")

    return Crashing()
