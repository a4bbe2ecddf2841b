"""Whoever reads what handlers have made of events misses none, though they hear of events a moment later: a gateway in this process."""

from __future__ import annotations

import io
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from loguru import logger

from runestone import app
from runestone.app import Running
from runestone.config.load import read
from runestone.operations.node import Node
from runestone.telemetry import logs
from runestone.telemetry.events import AttemptFinished, ProviderThrottled, RequestFinished
from tests.ledger.rows import event

pytestmark = pytest.mark.anyio
OPENAI = "openai-default"
DONE = RequestFinished(
    request_id="req_last", route="/v1/chat/completions", stream=False, status=200, outcome="ok", duration_seconds=0.1,
    provider=OPENAI, model="gpt-4o-mini", attempts=1,
)  # fmt: skip


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    ports = {
        "RUNESTONE_PORT": "0",
        "RUNESTONE_HEALTH_PORT": "0",
        "RUNESTONE_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db",
    }
    environ = {**ports, "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "admin.sock")}
    sink = logs.configure("INFO", "json", io.StringIO())
    running = await app.launch(read(environ), lambda: read(environ), demo=True, sink=sink)
    try:
        yield running
    finally:
        await running.stop()
        logger.remove()
        logger.add(sys.stderr)


@pytest.fixture
def node(running: Running) -> Node:
    return running.node


def recorded(node: Node) -> int:
    return sum(isinstance(one.event, AttemptFinished) for one in node.recorder.kept())


def throttled(node: Node) -> int:
    return int(node.metrics.throttles.at(provider=OPENAI).value)


def to_book(node: Node) -> int:
    return node.books.waiting


def logged(node: Node) -> int:
    tail = node.log_tail
    assert tail is not None
    return sum(line.request_id == "req_last" for _, line in tail.kept())


@pytest.mark.parametrize("count", [recorded, throttled, to_book, logged])
async def test_what_happened_just_now_is_known_to_who_asks(node: Node, count: Callable[[Node], int]) -> None:
    before = count(node)

    for told in (ProviderThrottled(provider=OPENAI, seconds=1.0), event(), DONE):
        node.bus.emit(told)

    assert count(node) == before + 1


async def test_a_level_of_the_log_holds_for_what_happens_from_then_on(node: Node) -> None:
    node.bus.emit(DONE)
    node.levels.settle("WARNING")

    assert logged(node) == 1


async def test_what_was_told_last_is_handed_out_when_a_node_has_ended(running: Running) -> None:
    seen, bus = list[str](), running.node.bus
    bus.subscribe_later(lambda event, _: seen.append(event.name), {RequestFinished})

    bus.emit(DONE)
    assert seen == []
    running.close()

    assert seen == ["request.finished"]
