"""What is logged while a request is served names the request, whoever says it; and nothing does so afterwards."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from attrs import evolve
from loguru import logger
from starlette.types import Message, Receive, Scope, Send

from runestone.config.live import Live
from runestone.config.settings import ServerSettings, Settings
from runestone.gateway import Gateway, Phase
from runestone.http.front import Front
from runestone.load import Load
from runestone.telemetry import logs
from runestone.telemetry.bus import Bus
from supervisors import LoopLag, Registry


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    found = io.StringIO()
    logs.configure("INFO", "json", found)
    yield found
    logger.remove()
    logger.add(sys.stderr)
    root.handlers, root.level = handlers, level


async def buggy(scope: Scope, receive: Receive, send: Send) -> None:
    logger.info("from the route")
    logging.getLogger("library").warning("from a library")
    await asyncio.create_task(beside())
    raise ZeroDivisionError


async def beside() -> None:
    logger.info("from a task of it")


async def ask(front: Front, request_id: str) -> list[Message]:
    sent = list[Message]()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"x-request-id", request_id.encode())]
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/buggy",
        "headers": headers,
        "raw_path": b"/buggy",
        "http_version": "1.1",
    }
    await front(scope, receive, send)
    return sent


def test_every_line_of_a_request_s_task_names_it_and_no_other_does(stream: io.StringIO) -> None:
    async def story() -> None:
        bus, live = Bus(), Live(Settings(server=ServerSettings(admin_socket=Path("unused"))))
        gateway = Gateway.over(Registry(), live, Phase(), Load(LoopLag(), lambda: 0.0), bus)
        front = evolve(Front.over(gateway, bus), hot={"/buggy": buggy})
        await asyncio.gather(ask(front, "one"), ask(front, "two"))
        await ask(front, "three")  # in this very task
        logger.info("afterwards")

    asyncio.run(story())
    logger.remove()

    records = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    for request_id in ("one", "two", "three"):
        said = [r["event"] for r in records if r.get("request_id") == request_id]
        assert said == [
            "from the route",
            "from a library",
            "from a task of it",
            f"request {request_id} failed by a bug",
        ]
    assert [r["event"] for r in records if "request_id" not in r] == ["afterwards"]
