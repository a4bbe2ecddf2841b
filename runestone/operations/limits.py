"""Every limit that something may come up against: how much of it is in use, who waits for it, and what was refused for it."""

from __future__ import annotations

import asyncio
from typing import Any

from attrs import frozen

from runestone.operations.node import Node
from runestone.operations.operation import Body, Operation
from runestone.operations.snapshot import connections
from runestone.providers.memory import ProviderMemory
from runestone.telemetry import process


@frozen
class LimitActions:
    """What may be asked about the limits of ``node``."""

    node: Node

    def table(self) -> list[Operation]:
        """All of them."""
        return [Operation("GET", "/v1/limits", self.limits)]

    async def limits(self, _: str, __: Body) -> dict[str, Any]:
        """Of the providers and of the node. A ``limit`` of ``None``: there is none."""
        now = asyncio.get_running_loop().time()
        providers = [_provider(memory, now) for _, memory in sorted(self.node.memories.items())]
        return {"providers": providers, "node": self._node()}

    def _node(self) -> dict[str, Any]:
        load, opened = self.node.gateway.load, process.open_descriptors()
        clients = connections(self.node.tree())
        return {
            "requests": {"in_use": load.taken, "limit": self.node.settings.server.max_requests},
            "connections": None if clients is None else {"in_use": clients[0], "limit": clients[1]},
            "descriptors": None if opened is None else {"in_use": opened, "limit": process.most_descriptors()},
            "refused_share": round(load.shedding, 4),
            "shed": dict(load.shed),
        }


def _provider(memory: ProviderMemory, now: float) -> dict[str, Any]:
    """``headroom`` is what its last answer that said so had left of its rate limit, 0 to 1; ``most`` what an adaptive limit may grow to."""
    policy, health = memory.concurrency.policy, memory.health
    told = health.headroom_at > 0.0
    throttled = memory.throttle.retry_after(now)
    return {
        "name": memory.name,
        "in_flight": len(memory.leases),
        "limit": memory.concurrency.limit,
        "adaptive": policy.adaptive,
        "most": policy.limit,
        "waiting": memory.waiting,
        "queue": policy.queue,
        "headroom": round(health.headroom, 4) if told else None,
        "headroom_age_seconds": round(now - health.headroom_at, 3) if told else None,
        "throttled_seconds": None if throttled is None else round(throttled, 3),
    }
