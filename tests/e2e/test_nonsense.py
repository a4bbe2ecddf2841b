"""Bodies and events of a provider that no two readers of JSON read alike, or none reads: a failure of the provider, never of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.e2e.node import Upstream, gateway
from tests.e2e.rows import MODELS, PATHS, QUICK, WIRES, Seen, Wire
from tests.support.plain import PLAIN
from tests.support.scripted import Peer, serving

NONSENSE: Final = {
    "nothing but blanks": b"   ",
    "a bracket too few": b'{"choices": [',
    "a bracket too many": b'{"choices": []}}',
    "brackets for ever": b"[" * 200_000,
    "objects for ever": b'{"a":' * 200_000,
    "a number of 5000 digits alone": b"9" * 5000,
    "no number": b'{"choices": NaN}',
    "infinity": b'{"choices": Infinity}',
    "a trailing comma": b'{"choices": [],}',
    "single quotes": b"{'choices': []}",
    "no UTF-8": b'{"choices": "\xff\xfe"}',
    "an overlong slash": b'{"choices": "\xc0\xaf"}',
    "a NUL": b'{"choices": "\x00"}',
    "a control character": b'{"choices": "\x07"}',
    "half a surrogate pair": b'{"choices": "\\ud800"}',
    "a bad escape": b'{"choices": "\\x"}',
    "a list": b"[1, 2]",
    "a string": b'"choices"',
    "null": b"null",
    "two objects": b"{}{}",
    "a byte order mark": b"\xef\xbb\xbf{",
    "a comment": b'{"choices": [] /* none */}',
}
ODD: Final = {
    # JSON, and still no answer
    "an empty object": b"{}",
    "no choice": b'{"choices": []}',
    "choices of a wrong type": b'{"choices": 7, "content": 7}',
    "a choice of a wrong type": b'{"choices": ["x"], "content": ["x"]}',
    "a message of a wrong type": b'{"choices": [{"message": 1, "delta": 1}], "type": 3}',
    "a number beyond all": b'{"choices": [], "usage": {"prompt_tokens": 1e999}}',
    "usage of a wrong type": b'{"choices": [], "usage": [1], "type": "message_start", "message": []}',
}


async def script(peer: Peer) -> None:
    """Answer with the nonsense that the question names, as a body or as the only event."""
    while True:
        request = await peer.request()
        name = next(name for name in (*NONSENSE, *ODD) if f'"{name}"'.encode() in request)
        data = {**NONSENSE, **ODD}[name]
        streamed = b'"stream":true' in request.replace(b" ", b"")
        kind = b"text/event-stream" if streamed else b"application/json"
        body = b"data: " + data + b"\n\n" if streamed else data
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (kind, len(body)) + body)


async def endings(folder: Path) -> dict[tuple[str, Wire, Wire, bool], str]:
    """What clients see of each."""
    seen: dict[tuple[str, Wire, Wire, bool], str] = {}
    async with serving(script) as server:
        url = f"{server.url}/v1"
        keys = {"OPENAI_API_KEY": "sk-o", "ANTHROPIC_API_KEY": "sk-a"}
        breakers = {"OPENAI_CIRCUIT_BREAKER": "false", "ANTHROPIC_CIRCUIT_BREAKER": "false"}
        environment = {**QUICK, **keys, **breakers, "OPENAI_BASE_URL": url, "ANTHROPIC_BASE_URL": url}
        running = gateway(folder, environment)
        node = await asyncio.to_thread(running.__enter__)
        try:
            async with httpx.AsyncClient(timeout=30, **PLAIN) as http:
                for name, provider, client, stream in cases():
                    model = f"{provider}-default/{MODELS[provider]}"
                    messages = [{"role": "user", "content": name}]
                    body = {"model": model, "max_tokens": 9, "messages": messages, "stream": stream}
                    answer = await http.post(f"{node.base_url}{PATHS[client]}", json=body)
                    whole = Seen(client, answer.status_code, answer.headers, answer.content)
                    seen[name, provider, client, stream] = whole.ending
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)
    return seen


def cases() -> Iterator[tuple[str, Wire, Wire, bool]]:
    for name in (*NONSENSE, *ODD):
        for provider in WIRES:
            for client in WIRES:
                for stream in (True, False):
                    yield name, provider, client, stream


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, Wire, Wire, bool], str]:
    return asyncio.run(endings(tmp_path_factory.mktemp("nonsense")))


@pytest.mark.parametrize("name", list(NONSENSE))
def test_what_is_no_object_of_json_is_an_invalid_answer(
    seen: dict[tuple[str, Wire, Wire, bool], str], name: str
) -> None:
    for (told, provider, client, stream), ending in seen.items():
        words = ("502 upstream_invalid_answer", "502 upstream_truncated") if client == "openai" else ("502 api_error",)
        if told == name:
            assert ending in words, (provider, client, stream)


@pytest.mark.parametrize("name", list(ODD))
def test_what_is_json_and_no_answer_is_never_the_gateways_own_error(
    seen: dict[tuple[str, Wire, Wire, bool], str], name: str
) -> None:
    for (told, provider, client, stream), ending in seen.items():
        words = ("502 upstream_invalid_answer", "502 upstream_truncated", "502 api_error")
        if told == name and stream:
            assert ending in words, (provider, client, stream)
        elif told == name:
            assert ending in (*words, "200 whole"), (provider, client, stream)


@pytest.mark.parametrize(
    ("kind", "calls", "failures", "status"),
    [
        ("server_error", 2, 2, "up"),
        ("overloaded_error", 2, 2, "up"),
        ("insufficient_quota", 1, 0, "quarantined"),
        ("rate_limit_error", 1, 0, "throttled"),
    ],
)
def test_a_stream_that_is_answered_by_an_error_in_one_piece_has_met_that_error_and_goes_elsewhere(
    tmp_path: Path, secondary: Upstream, kind: str, calls: int, failures: int, status: str
) -> None:
    body = b'{"error": {"message": "no", "type": "%s"}}' % kind.encode()
    seen: list[bytes] = []

    async def error(peer: Peer) -> None:
        while True:
            seen.append(await peer.request())
            await peer.send(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
            )

    async def scene() -> tuple[httpx.Response, dict[str, Any]]:
        async with serving(error) as server:
            keys = {"OPENAI_API_KEY": "sk-o", "ANTHROPIC_API_KEY": "sk-a"}
            urls = {"OPENAI_BASE_URL": f"{server.url}/v1", "ANTHROPIC_BASE_URL": secondary.url}
            running = gateway(tmp_path, {**QUICK, **keys, **urls})
            node = await asyncio.to_thread(running.__enter__)
            try:
                question = {"model": MODELS["openai"], "messages": [{"role": "user", "content": "?"}], "stream": True}
                answer = await asyncio.to_thread(node.post, question)
                return answer, await asyncio.to_thread(node.provider, "openai-default")
            finally:
                await asyncio.to_thread(running.__exit__, None, None, None)

    answer, provider = asyncio.run(scene())

    assert answer.headers["x-runestone-provider"] == "anthropic-default"
    assert answer.text.endswith("data: [DONE]\n\n")
    assert (len(seen), provider["breaker"]["consecutive_failures"], provider["status"]) == (calls, failures, status)
