"""A provider says in its answer's head whether to ask again: a gateway in this process, and a server whose every byte is said here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import orjson
import pytest

from runestone import app
from runestone.config.load import read
from tests.support.scripted import Peer, Scripted, serving

pytestmark = pytest.mark.anyio
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "well"}, "finish_reason": "stop"}],
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def answer(status: int, body: object, head: str = "") -> bytes:
    told = orjson.dumps(body)
    kind = f"content-type: application/json\r\ncontent-length: {len(told)}\r\n"
    return f"HTTP/1.1 {status} Told\r\n{kind}{head}\r\n".encode() + told


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[Callable[[bytes], Awaitable[tuple[httpx.Response, Scripted]]]]:
    """Ask a gateway whose provider answers with those bytes, and then well."""
    async with AsyncExitStack() as stack:

        async def ask(first: bytes) -> tuple[httpx.Response, Scripted]:
            async def script(peer: Peer) -> None:
                while True:
                    await peer.request()
                    await peer.send(first if len(peer.requests) == 1 else answer(200, ANSWER))

            upstream = await stack.enter_async_context(serving(script))
            environ = {
                "RUNESTONE_PORT": "0",
                "RUNESTONE_HEALTH_PORT": "0",
                "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "admin.sock"),
                "OPENAI_API_KEY": "sk-none",
                "OPENAI_BASE_URL": upstream.url,
                "RETRY_BASE_DELAY_MS": "10",
            }
            running = await app.launch(read(environ), lambda: read(environ))
            stack.push_async_callback(running.stop)
            question = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
            async with httpx.AsyncClient(trust_env=False, timeout=30.0) as client:
                url = f"{running.node.listeners['public']}/v1/chat/completions"
                return await client.post(url, json=question), upstream

        yield ask


@pytest.mark.parametrize("status", [400, 404, 408, 409, 413, 422])
@pytest.mark.parametrize("said", ["true", "false", None])
async def test_what_a_provider_asks_to_be_tried_again_is_tried_again_there_and_nothing_else_is(
    asked: Callable[[bytes], Awaitable[tuple[httpx.Response, Scripted]]], status: int, said: str | None
) -> None:
    head = "" if said is None else f"x-should-retry: {said}\r\n"
    again = said == "true" and status in (408, 409)

    got, upstream = await asked(answer(status, {"error": {"message": "a word"}}, head))

    assert (got.status_code, len(upstream.requests)) == ((200, 2) if again else (status, 1))
    assert got.headers["x-runestone-attempts"] == str(len(upstream.requests))


async def test_a_provider_that_forbids_a_retry_of_its_500_is_asked_once(
    asked: Callable[[bytes], Awaitable[tuple[httpx.Response, Scripted]]],
) -> None:
    got, upstream = await asked(answer(500, {"error": {"message": "a word"}}, "x-should-retry: false\r\n"))

    assert (got.status_code, len(upstream.requests)) == (500, 1)
