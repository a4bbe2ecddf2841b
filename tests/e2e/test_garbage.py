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
from runestone.providers.messages import Lease
from runestone.telemetry.events import CATALOGUE

pytestmark = pytest.mark.anyio
OF_A_REQUEST = (Exchange, Attempts, UpstreamCall, Lease)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    environ = {
        "RUNESTONE_PORT": "0",
        "RUNESTONE_HEALTH_PORT": "0",
        "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "admin.sock"),
    }
    running = await app.launch(read(environ), lambda: read(environ), demo=True)
    try:
        yield running.node.listeners["public"]
    finally:
        await running.stop()


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize(("stream", "model"), [(False, "gpt-4o-mini"), (True, "gpt-4o-mini"), (True, "no-such-model")])
async def test_a_request_leaves_the_garbage_collector_nothing(url: str, stream: bool, model: str) -> None:
    question = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hello"}]}
    answers = 20

    async with httpx.AsyncClient(base_url=url) as client:
        for _ in range(answers):
            answer = await client.post("/v1/chat/completions", json=question, timeout=30)
            assert answer.status_code == (404 if model == "no-such-model" else 200)

        left = [type(one).__name__ for one in gc.get_objects() if isinstance(one, OF_A_REQUEST)]

    assert len(left) <= 2 * len(OF_A_REQUEST), left  # the server may not be back from the last one or two


@pytest.mark.parametrize("event", CATALOGUE.values(), ids=CATALOGUE.keys())
def test_the_garbage_collector_passes_events_by(event: type) -> None:
    assert not event.__flags__ & (1 << 14)  # Py_TPFLAGS_HAVE_GC
