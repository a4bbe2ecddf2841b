"""A stream that is cut at any of its bytes, on each pair of wires: never shown as whole, told once, counted once, never begun again."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from attrs import define, field

from runestone.console.client import AdminClient
from runestone.simulated.wires import WIRES as SIMULATED
from runestone.simulated.wires import Text
from tests.e2e.node import eventually, gateway
from tests.e2e.rows import MODELS, PATHS, QUICK, WIRES, Seen, Wire
from tests.support.plain import PLAIN
from tests.support.scripted import Peer, serving

BYTES = 4096
AT_ONCE = 8
QUESTION = {"messages": [{"role": "user", "content": "?"}]}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"
FINISHED = {"openai": re.compile(rb'"finish_reason": "stop"'), "anthropic": re.compile(rb'"stop_reason": "end_turn"')}
SAID = {
    wire: re.compile(rb'"%s": ("(?:[^"\\]|\\.)+")' % name)
    for wire, name in (("openai", b"content"), ("anthropic", b"text"))
}


def answer(wire: Wire) -> bytes:
    """A stream of some 4 KiB, as the provider would send it whole."""
    simulated = SIMULATED[f"/v1{PATHS[wire]}"]("model")
    for tokens in range(2, 100):
        body = {**QUESTION, "model": MODELS[wire], "stream": True}
        whole = b"".join([*simulated.events(body, Text("model", body, tokens)), simulated.terminal()])
        if len(whole) >= BYTES:
            return whole
    raise AssertionError


@define
class Expected:
    """What the first ``size`` bytes of a stream are worth: only whole events count."""

    wire: Wire
    whole: bytes
    ends: list[int] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.ends = [found.end() for found in re.finditer(rb"\n\n", self.whole)]

    def text(self, size: int) -> str:
        """What the model had said."""
        return "".join(json.loads(said) for said in SAID[self.wire].findall(self._events(size)))

    def finished(self, size: int) -> bool:
        """Whether the reason for the end had come."""
        return bool(FINISHED[self.wire].search(self._events(size)))

    def _events(self, size: int) -> bytes:
        return self.whole[: max((end for end in self.ends if end <= size), default=0)]


@define
class Cutter:
    """A provider that cuts each stream where its request says, with or without the framing of chunks."""

    whole: dict[str, bytes]
    calls: dict[tuple[str, int], int] = field(factory=dict)

    async def script(self, peer: Peer) -> None:
        """Serve one request."""
        request = await peer.request()
        wire = "anthropic" if b"/messages" in request.split(b"\r\n")[0] else "openai"
        size = int(re.findall(rb"cut at (\d+)", request)[-1])
        self.calls[wire, size] = self.calls.get((wire, size), 0) + 1
        whole = self.whole[wire]
        if size % 2:
            await peer.send(HEAD + b"\r\n" + whole[:size])
        else:
            await peer.send(HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(whole) + whole[:size])


@asynccontextmanager
async def cutting(folder: Path, whole: dict[str, bytes]) -> AsyncIterator[tuple[Cutter, str, AdminClient]]:
    """The cutter behind a gateway whose breakers only measure, the gateway's address, and its console."""
    cutter = Cutter(whole)
    async with serving(cutter.script) as server:
        url = f"{server.url}/v1"
        environment = {
            **QUICK,
            "OPENAI_API_KEY": "sk-o",
            "OPENAI_BASE_URL": url,
            "ANTHROPIC_API_KEY": "sk-a",
            "ANTHROPIC_BASE_URL": url,
            "OPENAI_CIRCUIT_BREAKER": "false",
            "ANTHROPIC_CIRCUIT_BREAKER": "false",
            "RUNESTONE_LOG_LEVEL": "ERROR",
            "RUNESTONE_FIRST_TOKEN_TIMEOUT_MS": "20000",
            "RUNESTONE_IDLE_TIMEOUT_MS": "20000",
        }
        running = gateway(folder, environment)
        node = await asyncio.to_thread(running.__enter__)
        try:
            yield cutter, node.base_url, AdminClient(node.socket)
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)


async def ask(client: httpx.AsyncClient, url: str, wire: Wire, provider: Wire, size: int) -> Seen:
    """The answer that is cut after ``size`` bytes."""
    question: dict[str, Any] = {
        "messages": [{"role": "user", "content": f"cut at {size}"}],
        "max_tokens": 9,
        "stream": True,
    }
    body = {**question, "model": f"{provider}-default/{MODELS[provider]}"}
    answered = await client.post(f"{url}{PATHS[wire]}", json=body)
    return Seen(wire, answered.status_code, answered.headers, answered.content)


def verdict(seen: Seen, expected: Expected, size: int) -> list[str]:
    """What is wrong with an answer."""
    told = {"openai": "upstream_truncated", "anthropic": "api_error"}[seen.wire]
    text = expected.text(size)
    ending = f"502 {told}" if not text else f"200 then {told}" if not expected.finished(size) else "200 whole"
    wrong = [] if seen.ending == ending else [f"cut at {size}: {seen.ending} instead of {ending}"]
    if seen.streamed and seen.text != text:
        wrong.append(f"cut at {size}: {seen.text!r} instead of {text!r}")
    return wrong


def pairs() -> Iterator[object]:
    """Those that are translated take as long again, and the codecs' own tests cut them too."""
    for provider in WIRES:
        for client in WIRES:
            yield pytest.param(provider, client, marks=() if provider == client else pytest.mark.long)


@pytest.mark.parametrize(("provider", "client"), list(pairs()))
def test_a_stream_that_is_cut_at_any_byte_is_told_once_and_counted_once(
    tmp_path: Path, provider: Wire, client: Wire
) -> None:
    asyncio.run(_cut_everywhere(tmp_path, provider, client))


async def _cut_everywhere(folder: Path, provider: Wire, client: Wire) -> None:
    whole: dict[str, bytes] = {wire: answer(wire) for wire in WIRES}
    expected = Expected(provider, whole[provider])
    sizes = range(len(whole[provider]) + 1)
    seen: dict[int, Seen] = {}
    async with cutting(folder, whole) as (cutter, url, admin):
        left = iter(sizes)
        async with httpx.AsyncClient(timeout=60, **PLAIN) as http:

            async def work() -> None:
                for size in left:
                    seen[size] = await ask(http, url, client, provider, size)

            await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        state = await asyncio.to_thread(_settled, admin, provider)

    wrong = [line for size in sizes for line in verdict(seen[size], expected, size)]
    assert wrong == []
    assert cutter.calls == {(provider, size): 1 for size in sizes}
    failed = sum(not expected.finished(size) for size in sizes)
    assert (state["calls"], state["failures"]) == (len(sizes), failed)
    assert {answered.ending for answered in seen.values()} == {
        "200 whole",
        *(f"{how} {'upstream_truncated' if client == 'openai' else 'api_error'}" for how in ("502", "200 then")),
    }


def _settled(admin: AdminClient, provider: Wire) -> dict[str, Any]:
    """The provider once nothing is in flight."""

    def idle() -> dict[str, Any] | None:
        found = admin.request("GET", f"/v1/providers/{provider}-default")["provider"]
        return None if found["in_flight"] else dict(found)

    return dict(eventually(idle, "the leases are back"))


def test_the_streams_are_of_the_size_that_was_meant() -> None:
    for wire in WIRES:
        assert BYTES <= len(answer(wire)) < BYTES + 512
        assert json.loads(answer(wire).split(b"data: ")[1].split(b"\n")[0])
