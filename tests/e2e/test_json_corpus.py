"""The corpus of JSON over sockets: as bodies of clients, and as the bodies and events of providers. Nobody's nonsense is a bug of the node."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.node import Gateway, Upstream, gateway
from tests.e2e.rows import MODELS, PATHS, QUICK, WIRES, Seen, Wire
from tests.support.json_corpus import ACCEPTED, EITHER, REFUSED
from tests.support.plain import PLAIN
from tests.support.scripted import Peer, serving

QUESTION = b'"model":"openai-default/gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]'


def asked(node: Gateway, documents: dict[str, bytes], form: bytes) -> dict[str, tuple[int, str]]:
    """What becomes of a question that holds each of ``documents`` in the place that ``form`` has for it: status, and code of the error."""
    told: dict[str, tuple[int, str]] = {}
    with httpx.Client(timeout=30, **PLAIN, headers={"content-type": "application/json"}) as client:
        for name, document in documents.items():
            answer = client.post(f"{node.base_url}/chat/completions", content=form.replace(b"DOCUMENT", document))
            told[name] = answer.status_code, answer.json().get("error", {}).get("code", "")
    return told


def test_bodies_of_clients_are_served_or_refused_as_the_grammar_says(node: Gateway, primary: Upstream) -> None:
    inside = b'{%s,"metadata":DOCUMENT}' % QUESTION

    served = asked(node, ACCEPTED, inside)
    calls = primary.state()["requests"]
    refused = asked(node, REFUSED, inside)
    alone = asked(node, {**REFUSED, **ACCEPTED}, b"DOCUMENT")
    instead = asked(node, ACCEPTED, b'{"model":DOCUMENT,"messages":DOCUMENT}')

    assert {name: told for name, told in served.items() if told != (200, "")} == {}
    assert calls == len(ACCEPTED)
    assert {name: told for name, told in refused.items() if told != (400, "invalid_json")} == {}
    assert {name: told for name, told in alone.items() if told[0] != 400} == {}
    assert {name: told for name, told in instead.items() if told[0] not in (400, 404)} == {}
    assert primary.state()["requests"] == calls
    either = asked(node, EITHER, inside)
    assert {name: told for name, told in either.items() if told not in ((200, ""), (400, "invalid_json"))} == {}
    assert "bug" not in node.told()


async def script(peer: Peer) -> None:
    """Answer with the document that the question names, as the body or as the second event."""
    documents = [*REFUSED.values(), *EITHER.values()]
    while True:
        request = await peer.request()
        document = documents[int(re.findall(rb"document (\d+)", request)[-1])]
        streamed = b'"stream":true' in request.replace(b" ", b"")
        if streamed:
            lines = re.split(rb"\r\n|\r|\n", document)
            document = b": first\n\n" + b"".join(b"data: %s\n" % line for line in lines) + b"\n"
        kind = b"text/event-stream" if streamed else b"application/json"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (kind, len(document))
        await peer.send(head + document)


async def endings(folder: Path) -> dict[tuple[str, Wire, bool], str]:
    """What clients see of each document that a provider sends."""
    seen: dict[tuple[str, Wire, bool], str] = {}
    async with serving(script) as server:
        url = f"{server.url}/v1"
        environment = {
            **QUICK,
            **{f"{name}_BASE_URL": url for name in ("OPENAI", "ANTHROPIC")},
            **{f"{name}_API_KEY": "sk-x" for name in ("OPENAI", "ANTHROPIC")},
            **{f"{name}_CIRCUIT_BREAKER": "false" for name in ("OPENAI", "ANTHROPIC")},
            "RUNESTONE_LOG_LEVEL": "WARNING",
        }
        running = gateway(folder, environment)
        node = await asyncio.to_thread(running.__enter__)
        try:
            async with httpx.AsyncClient(timeout=30, **PLAIN) as http:
                for number, name, wire, stream in cases():
                    messages = [{"role": "user", "content": f"document {number}"}]
                    model = f"{wire}-default/{MODELS[wire]}"
                    body = {"model": model, "max_tokens": 9, "messages": messages, "stream": stream}
                    answer = await http.post(f"{node.base_url}{PATHS[wire]}", json=body)
                    told = Seen(wire, answer.status_code, answer.headers, answer.content)
                    seen[name, wire, stream] = told.ending
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)
        assert "bug" not in node.told()
    return seen


def cases() -> Iterator[tuple[int, str, Wire, bool]]:
    for number, name in enumerate((*REFUSED, *EITHER)):
        for wire in WIRES:
            for stream in (True, False):
                yield number, name, wire, stream


def test_answers_of_providers_that_are_no_json_are_failures_of_theirs(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    words = {"502 upstream_invalid_answer", "502 upstream_truncated", "502 api_error"}

    seen = asyncio.run(endings(tmp_path_factory.mktemp("corpus")))

    assert len(seen) == 4 * (len(REFUSED) + len(EITHER))
    assert {case: end for case, end in seen.items() if case[0] in REFUSED and end not in words} == {}
    assert {case: end for case, end in seen.items() if case[0] in EITHER and end not in {*words, "200 whole"}} == {}
