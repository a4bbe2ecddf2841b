"""What a node and its providers have done, in numbers, beside how they stand now: the answer of ``get_metrics``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from runestone.providers.memory import ProviderMemory
from runestone.telemetry import figures
from runestone.telemetry.process import resident_bytes

if TYPE_CHECKING:
    from runestone.operations.node import Node

AT_A_GLANCE: Final = (
    "requests_per_second",
    "error_share",
    "latency_ms",
    "first_content_ms",
    "cost_usd",
    "restarts_5m",
)


def of_node_and_providers(node: Node) -> dict[str, Any]:
    """All of it. A provider with ``telemetry: false`` is left out."""
    done = figures.of_providers(node.metrics)
    memories = {name: memory for name, memory in sorted(node.memories.items()) if memory.settings.telemetry}
    return {"providers": {name: _told(node, memory, done) for name, memory in memories.items()}, "node": of_node(node)}


def of_provider(node: Node, memory: ProviderMemory) -> dict[str, Any]:
    """One provider."""
    return _told(node, memory, figures.of_providers(node.metrics))


def of_node(node: Node) -> dict[str, Any]:
    """The node's own."""
    return {
        **figures.of_node(node.metrics),
        "in_flight": node.in_flight(),
        "uptime_seconds": round(time.time() - node.started_at, 3),
        "memory_bytes": resident_bytes(),
        "loop_lag_ms": {"last": round(node.lag.last * 1000, 1), "worst": round(node.lag.worst * 1000, 1)},
    }


def _told(node: Node, memory: ProviderMemory, done: Mapping[str, Any]) -> dict[str, Any]:
    now = asyncio.get_running_loop().time()
    standing = {
        "status": node.status_of(memory),
        "breaker": memory.breaker.name(now),
        "health_score": round(memory.score(now), 4),
        "in_flight": len(memory.leases),
    }
    return {**standing, **done.get(memory.name, {"telemetry": False})}
