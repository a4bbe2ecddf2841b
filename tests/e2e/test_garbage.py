"""What a request leaves behind: nothing. A gateway in this process, asked by HTTP, while the garbage collector does not come."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from runestone import app
from runestone.config.load import read
from runestone.failover.attempts import Attempts
from runestone.failover.call import UpstreamCall
from runestone.http.exchange import Exchange
from runestone.operations.node import Node
from runestone.providers.messages import Lease
from runestone.telemetry.events import CATALOGUE

pytestmark = pytest.mark.anyio
OF_A_REQUEST = (Exchange, Attempts, UpstreamCall, Lease)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    environ = {
        "RUNESTONE_PORT": "0",
        "RUNESTONE_HEALTH_PORT": "0",
        "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "admin.sock"),
    }
    running = await app.launch(read(environ), lambda: read(environ), demo=True)
    try:
        yield running.node
    finally:
        await running.stop()


def collected() -> list[object]:
    """What the garbage collector finds."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return gc.garbage[:]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("model", "fault", "status"),
    [
        ("gpt-4o-mini", "none", 200),
        (
            "openai-default/gpt-4o-mini",
            "slow_first_token=0.1",
            200,
        ),  # so slow that somebody listens whether the client leaves
        ("gpt-4o-mini", "status=500", 200),  # the other provider answers
        ("openai-default/gpt-4o-mini", "status=400", 400),
        ("no-such-model", "none", 404),
    ],
)
async def test_a_request_leaves_the_garbage_collector_nothing(
    node: Node, model: str, fault: str, status: int, stream: bool
) -> None:
    assert node.set_simulated_fault is not None
    await node.set_simulated_fault("openai-default", fault)
    question = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hello"}]}

    async with httpx.AsyncClient(base_url=node.listeners["public"], trust_env=False) as client:
        for _ in range(20):
            answer = await client.post("/v1/chat/completions", json=question, timeout=30)
            assert answer.status_code == status

        found = collected()

    assert [type(one).__name__ for one in found if isinstance(one, OF_A_REQUEST)] == []


@pytest.mark.parametrize("event", CATALOGUE.values(), ids=CATALOGUE.keys())
def test_the_garbage_collector_passes_events_by(event: type) -> None:
    assert not event.__flags__ & (1 << 14)  # Py_TPFLAGS_HAVE_GC
