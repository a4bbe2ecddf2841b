"""A gateway in this process over two simulated providers, and the spans that its events become."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from attrs import define, field
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from runestone.api import Node
from runestone.simulated.server import SimulatedProvider
from runestone.telemetry.spans import Pipeline
from runestone.telemetry.traces import Traces
from supervisors import ActorRef, start
from tests.support.plain import PLAIN

_OUTER = (SpanKind.SERVER, SpanKind.INTERNAL, SpanKind.CLIENT)  # from the outside
FILE = """
[failover]
strategy = "priority"
[retry]
max_attempts = 2
base_delay_ms = 0
[providers.first]
kind = "openai"
base_url = "{first}"
api_key = "sk-canary-first"
telemetry = {first_telemetry}
[providers.second]
kind = "anthropic"
base_url = "{second}"
api_key = "sk-canary-second"
telemetry = {second_telemetry}
[groups.default-chat-service]
members = ["first", "second"]
"""


@define
class Traced:
    """The gateway, its providers, and who makes the spans."""

    node: Node
    first: SimulatedProvider
    second: SimulatedProvider
    exporter: InMemorySpanExporter
    traces: ActorRef
    client: httpx.AsyncClient
    lost: dict[str, int] = field(factory=dict)

    async def ask(self, body: dict[str, Any], path: str = "chat/completions", **headers: str) -> httpx.Response:
        """Ask it."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(f"{self.node.url}/{path}", json=body, headers=told)

    async def spans(self) -> list[ReadableSpan]:
        """All spans, in the order of their start. It ends the gateway: until then a request may have something to tell."""
        await self.node.stop()
        await self.traces.stop()
        return sorted(
            self.exporter.get_finished_spans(), key=lambda span: (span.start_time or 0, _OUTER.index(span.kind))
        )

    async def by_kind(self) -> tuple[list[ReadableSpan], list[ReadableSpan], list[ReadableSpan]]:
        """The spans of HTTP requests, of what was asked, of calls."""
        spans = await self.spans()
        server, internal, client = ([span for span in spans if span.kind is kind] for kind in _OUTER)
        return server, internal, client


@asynccontextmanager
async def traced(
    folder: Path,
    *,
    propagate: bool = False,
    first_telemetry: bool = True,
    second_telemetry: bool = True,
) -> AsyncIterator[Traced]:
    """Run it for the time of the block."""
    first, second = SimulatedProvider(name="first"), SimulatedProvider(name="second")
    file = folder / "runestone.toml"
    exporter, lost = InMemorySpanExporter(), dict[str, int]()

    def dropped(reason: str, count: int) -> None:
        lost[reason] = lost.get(reason, 0) + count

    try:
        await first.start()
        await second.start()
        file.write_text(
            FILE.format(
                first=first.url,
                second=second.url,
                first_telemetry=str(first_telemetry).lower(),
                second_telemetry=str(second_telemetry).lower(),
            )
        )
        file.chmod(0o600)
        environ = {
            "RUNESTONE_PORT": "0",
            "RUNESTONE_HEALTH_PORT": "0",
            "RUNESTONE_ADMIN_SOCKET": str(folder / "admin.sock"),
            "RUNESTONE_MAX_LOOP_LAG_MS": "0",
        }
        node = await Node(config=file, environ=environ).start()
        async with httpx.AsyncClient(**PLAIN) as client:
            assert node._running is not None
            bus, memories = node._running.node.bus, node._running.node.memories
            actor = partial(
                Traces,
                bus,
                lambda: Pipeline(exporter),
                lambda name: memories[name].settings.base_url,
                dropped,
                propagate=propagate,
            )
            traces = await start(actor)
            try:
                yield Traced(node, first, second, exporter, traces, client, lost)
            finally:
                if node._running is not None:
                    await node.stop()
                    await traces.stop()
    finally:
        await first.close()
        await second.close()
