"""Every kind of provider: its row is whole, the shapes of its answers are read right, and it is asked in its own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from runestone.domain.catalogue import BUILT_IN, CATALOGUE, KINDS, Row, wire_of
from runestone.domain.chat import Api, ChatRequest, Usage, Wire
from runestone.domain.secret import Secret
from runestone.providers.codecs import Codec, Unsupported, UpstreamRequest, codec_for

RECORDED: Final = Path(__file__).parent / "recorded"
HELLO: Final[list[Any]] = [{"role": "user", "content": "Hello"}]
CACHED: Final = {"deepseek": 8, "openai": 8, "anthropic": 8}
CHARGED = {"openrouter": 14_250_000, "perplexity": 5_017_000_000, "xai": 12_300}  # picodollars, as their usage tells
APIS: Final[tuple[Api, ...]] = ("chat", "messages", "responses", "completions", "embeddings", "count_tokens")
every = pytest.mark.parametrize("kind", KINDS)


def chat(api: Api, body: dict[str, Any]) -> ChatRequest:
    body = {"model": "m", **body}
    wire: Wire = "anthropic" if api in ("messages", "count_tokens") else "openai"
    stream = body.get("stream") is True
    return ChatRequest(
        request_id="r", wire=wire, api=api, model="m", stream=stream, body=body, raw=b" " + orjson.dumps(body)
    )


def asked(kind: str, api: Api = "chat", key: str | None = "sk-1", **body: Any) -> UpstreamRequest:
    request = codec_for(kind, api).request(
        chat(api, {"messages": HELLO, **body}),
        model="m",
        api_key=None if key is None else Secret(key),
        extra_headers={},
    )
    assert isinstance(request, UpstreamRequest), request
    return request


def said(codec: Codec, request: ChatRequest, stream: bytes, size: int) -> tuple[list[dict[str, Any]], Usage | None]:
    """The chunks that a client of chat completions gets for ``stream``, read in pieces of ``size``."""
    decoder = codec.stream(request, created=1)
    pieces = [decoder.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    pieces.append(decoder.eof())
    assert pieces[-1].ended
    assert [piece.failure for piece in pieces if piece.failure] == []
    events = b"".join(piece.data for piece in pieces).split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    return [orjson.loads(event.removeprefix(b"data: ")) for event in events[:-2]], decoder.usage


@every
def test_each_row_is_whole(kind: str) -> None:
    row = CATALOGUE[kind]

    assert row.kind == kind
    assert row.base_url is None or row.base_url.startswith(("https://", "http://localhost:"))
    assert (row.base_url is None) == (kind in ("azure", "compatible"))
    assert row.key_variable is not None or not row.needs_key
    assert not row.passes & row.lacks
    assert {"chat", "messages"} & row.passes
    assert (RECORDED / kind / "answer.json").exists()


def test_the_two_that_are_there_by_themselves_have_a_default_model() -> None:
    assert {kind: CATALOGUE[kind].default_model for kind in BUILT_IN} == {
        "openai": "gpt-4o-mini",
        "anthropic": "claude-sonnet-4-5",
    }
    assert wire_of("groq") == "openai"


@every
def test_a_recorded_answer_is_read(kind: str) -> None:
    body = (RECORDED / kind / "answer.json").read_bytes()
    request = chat("messages", {"messages": HELLO, "max_tokens": 9})
    told = orjson.loads(codec_for(kind, "messages").completion(request, body, created=1).body)

    if kind == "gemini":
        assert told["content"] == [{"type": "tool_use", "id": "function-call-1", "name": "look", "input": {"a": 1}}]
        assert told["stop_reason"] == "tool_use"
    else:
        assert told["content"][-1]["text"] == "Hello"
        assert told["stop_reason"] == "end_turn"
    same = codec_for(kind).completion(chat("chat", {"messages": HELLO}), body, created=1)
    cached = CACHED.get(kind, 0) if kind != "openai" else 0
    assert same.usage == Usage(
        input_tokens=12, output_tokens=5, cached_tokens=cached, charged_picodollars=CHARGED.get(kind)
    )
    if wire_of(kind) == "openai":
        assert same.body == body


@every
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_recorded_stream_is_read_however_it_is_cut(kind: str, size: int) -> None:
    stream = (RECORDED / kind / "stream.sse").read_bytes()
    chunks, usage = said(codec_for(kind), chat("chat", {"messages": HELLO, "stream": True}), stream, size)

    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    if kind == "gemini":
        (call,) = [call for delta in deltas for call in delta.get("tool_calls") or ()]
        assert (call["function"]["name"], call["function"]["arguments"]) == ("look", '{"a":1}')
    else:
        text = "".join(
            part if isinstance(part := delta.get("content") or "", str) else part[0]["text"] for delta in deltas
        )
        assert text == "Hello"
    known = Usage(
        input_tokens=12, output_tokens=5, cached_tokens=CACHED.get(kind, 0), charged_picodollars=CHARGED.get(kind)
    )
    assert usage == (None if kind == "compatible" else known)


@every
@pytest.mark.parametrize("size", [1, 100_000])
def test_a_recorded_stream_reaches_a_client_of_anthropics_wire(kind: str, size: int) -> None:
    stream = (RECORDED / kind / "stream.sse").read_bytes()
    decoder = codec_for(kind, "messages").stream(chat("messages", {"messages": HELLO, "stream": True}), created=1)
    pieces = [decoder.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    pieces.append(decoder.eof())
    events = [orjson.loads(e.partition(b"data: ")[2]) for e in b"".join(p.data for p in pieces).split(b"\n\n")[:-1]]

    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    if kind == "gemini":
        assert "".join(delta["partial_json"] for delta in deltas) == '{"a":1}'
        assert events[-2]["delta"]["stop_reason"] == "tool_use"
    else:
        assert "".join(delta.get("text", "") for delta in deltas) == "Hello"
        assert events[-2]["delta"]["stop_reason"] == "end_turn"
    if kind != "compatible":
        assert events[-2]["usage"]["output_tokens"] == 5


@pytest.mark.parametrize(
    ("kind", "header"),
    [("groq", ("authorization", "Bearer sk-1")), ("azure", ("api-key", "sk-1")), ("anthropic", ("x-api-key", "sk-1"))],
)
def test_each_carries_its_key_in_its_own_header(kind: str, header: tuple[str, str]) -> None:
    names = {"authorization", "x-api-key", "api-key"}

    assert [pair for pair in asked(kind).headers if pair[0] in names] == [header]


@pytest.mark.parametrize("kind", ["ollama", "vllm", "lmstudio", "compatible"])
def test_one_without_a_key_is_asked_without(kind: str) -> None:
    assert "authorization" not in dict(asked(kind, key=None).headers)


@pytest.mark.parametrize(
    ("kind", "given", "sent", "dropped"),
    [
        ("mistral", {"tool_choice": "required"}, {"tool_choice": "any"}, ()),
        ("mistral", {"tool_choice": "auto"}, {"tool_choice": "auto"}, ()),
        ("mistral", {"max_completion_tokens": 5, "seed": 1}, {"max_tokens": 5, "random_seed": 1}, ()),
        ("mistral", {"user": "u", "stream_options": {"include_usage": True}}, {}, ("user",)),
        ("mistral", {"logprobs": None}, {}, ()),
        ("deepseek", {"max_completion_tokens": 5}, {"max_tokens": 5}, ()),
        ("groq", {"max_completion_tokens": 5}, {"max_completion_tokens": 5}, ()),
    ],
)
def test_each_is_asked_in_its_own_words(
    kind: str, given: dict[str, Any], sent: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    request = asked(kind, **given)

    assert orjson.loads(request.body) == {"model": "m", "messages": HELLO, **sent}
    assert request.dropped == dropped


def test_the_words_of_a_row_hold_for_clients_of_another_wire_too() -> None:
    tool = {"name": "look", "input_schema": {"type": "object"}}
    request = asked("mistral", "messages", max_tokens=9, tools=[tool], tool_choice={"type": "any"})

    assert orjson.loads(request.body)["tool_choice"] == "any"
    assert request.path == "/chat/completions"


@every
def test_a_row_without_rules_leaves_the_bytes_alone(kind: str) -> None:
    row: Row = CATALOGUE[kind]
    native: Api = "chat" if row.wire == "openai" else "messages"
    request = chat(native, {"messages": HELLO, "brand_new": 1.50})
    sent = codec_for(kind, native).request(request, model="m", api_key=Secret("k"), extra_headers={})

    assert isinstance(sent, UpstreamRequest)
    assert (sent.body == request.raw) is (not row.rules)


@every
@pytest.mark.parametrize("api", APIS)
def test_every_route_is_passed_translated_or_refused_by_name(kind: str, api: Api) -> None:
    row = CATALOGUE[kind]
    question: dict[str, Any] = {"messages": HELLO, "max_tokens": 9}
    if api in ("responses", "embeddings"):
        question = {"input": "Hello"}
    elif api == "completions":
        question = {"prompt": "Hello"}
    sent = codec_for(kind, api).request(chat(api, question), model="m", api_key=Secret("k"), extra_headers={})

    if api in row.lacks:
        assert isinstance(sent, Unsupported)
        assert sent.field == "model"
        return
    assert isinstance(sent, UpstreamRequest)
    own = {
        "chat": "/chat/completions",
        "messages": "/messages",
        "responses": "/responses",
        "completions": "/completions",
        "embeddings": "/embeddings",
        "count_tokens": "/messages/count_tokens",
    }
    native = "/chat/completions" if row.wire == "openai" else "/messages"
    assert sent.path == (own[api] if api in row.passes else native)
