"""An upstream that answers with hundreds of thousands of empty events, beside one that serves: neither answer is another for it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from runestone import app
from runestone.config.load import read
from tests.support.scripted import Peer, serving

pytestmark = pytest.mark.anyio
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
_STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
_GIVE_UP_SECONDS = 60


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def word(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


def words(body: str) -> str:
    events = [json.loads(e.removeprefix("data: ")) for e in body.split("\n\n") if e.startswith("data: {")]
    return "".join(e["choices"][0]["delta"].get("content", "") for e in events)


@pytest.mark.parametrize("empty", [b"\r\n\r\n", b":\n\n"], ids=["blank", "comments"])
async def test_a_stream_goes_on_while_the_one_beside_it_is_flooded_with_empty_events(
    tmp_path: Path, empty: bytes
) -> None:
    flooding, done = asyncio.Event(), asyncio.Event()

    async def hostile(peer: Peer) -> None:
        """Floods until the other stream is over."""
        await peer.request()
        await peer.send(_HEAD + word("before "))
        while not done.is_set():
            await peer.send(empty * 20_000)
            flooding.set()
        await peer.send(word("after") + _STOP)

    async def good(peer: Peer) -> None:
        await peer.request()
        await peer.send(_HEAD)
        for number in range(50):
            await flooding.wait()
            await peer.send(word(f"{number} "))
            await asyncio.sleep(0)
        await peer.send(_STOP)

    async with serving(hostile) as bad, serving(good) as well:
        file = tmp_path / "runestone.toml"
        file.write_text(
            f'[providers.bad]\nkind = "openai"\napi_key = "sk-none"\nbase_url = "{bad.url}"\n'
            f'[providers.well]\nkind = "openai"\napi_key = "sk-none"\nbase_url = "{well.url}"\n'
        )
        environ = {
            "RUNESTONE_PORT": "0",
            "RUNESTONE_HEALTH_PORT": "0",
            "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "admin.sock"),
            "RUNESTONE_CONFIG": str(file),
        }
        running = await app.launch(read(environ), lambda: read(environ))
        try:
            base = running.node.listeners["public"]
            async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=_GIVE_UP_SECONDS) as client:

                async def ask(provider: str) -> str:
                    question = {
                        "model": f"{provider}/gpt-4o",
                        "stream": True,
                        "messages": [{"role": "user", "content": "hi"}],
                    }
                    answer = await client.post("/v1/chat/completions", json=question)
                    assert answer.status_code == 200, answer.text
                    assert answer.text.endswith("data: [DONE]\n\n")
                    return words(answer.text)

                flooded = asyncio.ensure_future(ask("bad"))
                beside = await ask("well")
                assert not flooded.done()
                done.set()
                assert await flooded == "before after"
        finally:
            await running.stop()

    assert beside == "".join(f"{number} " for number in range(50))
