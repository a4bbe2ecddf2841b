"""The processes of one provider: its transport, its actor and its prober, under a supervisor of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from runestone.config.live import Live
from runestone.providers import names
from runestone.providers.memory import ProviderMemory
from runestone.providers.prober import Prober
from runestone.providers.provider import Provider
from runestone.providers.transport import Transport
from runestone.telemetry.bus import Bus
from supervisors import ChildSpec, GenServer, Registry, Supervisor

TRANSPORT = "transport"
ACTOR = "provider"
PROBER = "prober"


class TransportKeeper(GenServer[object]):
    """Owns the connections to one provider. A new incarnation has new ones; the old close with their last stream."""

    def __init__(self, memory: ProviderMemory, live: Live) -> None:
        self._memory = memory
        self._transport = Transport(
            connect_timeout_seconds=live.settings.timeouts.connect_seconds, on_stale=self._count_stale
        )

    async def init(self) -> None:
        """From now on, leases are given out with this transport; one that a crash has left behind ends with its last stream."""
        left, self._memory.transport = self._memory.transport, self._transport
        if left is not None:
            await left.aclose()

    def _count_stale(self) -> None:
        self._memory.stale += 1

    async def terminate(self, reason: object) -> None:
        """Give out no more; what is in use ends by itself."""
        if self._memory.transport is self._transport:
            self._memory.transport = None
        await self._transport.aclose()


def spec(memory: ProviderMemory, registry: Registry, bus: Bus, chance: Callable[[], float], live: Live) -> ChildSpec:
    """The child spec of one provider's subtree.

    It is transient: a subtree that exceeds its restart intensity exits with ``shutdown`` and stays down, and the rest of the node goes on.
    """
    children = (
        ChildSpec(
            id=TRANSPORT,
            start=partial(TransportKeeper, memory, live),
            name=names.transport(memory.name),
        ),
        ChildSpec(
            id=ACTOR,
            start=partial(Provider, memory, registry, bus, chance),
            name=names.provider(memory.name),
        ),
        ChildSpec(
            id=PROBER,
            start=partial(Prober, memory, bus, chance),
            name=names.prober(memory.name),
        ),
    )
    return ChildSpec(
        id=memory.name,
        start=partial(Supervisor, children),
        restart="transient",
        type="supervisor",
        name=names.subtree(memory.name),
    )
