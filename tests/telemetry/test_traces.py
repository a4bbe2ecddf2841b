"""Spans of real requests through a gateway in this process, held against OpenTelemetry's conventions by the SDK's in-memory exporter."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, get_args

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from runestone.domain.catalogue import KINDS
from runestone.domain.chat import Api
from runestone.http.apis import ROUTES
from runestone.telemetry import semconv
from tests.telemetry.traced import traced

pytestmark = pytest.mark.anyio
HELLO: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "canary-prompt"}]}
TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
TRACEPARENT = f"00-{TRACE:032x}-{SPAN:016x}-01"

# gen_ai.*, error.* and server.* of a client span with the types of their values: docs/gen-ai/client-inference.md
INFERENCE = {
    "error.type": str, "gen_ai.operation.name": str, "gen_ai.provider.name": str, "gen_ai.request.model": str,
    "gen_ai.request.stream": bool, "gen_ai.output.type": str, "gen_ai.request.choice.count": int, "gen_ai.request.seed": int,
    "gen_ai.request.max_tokens": int, "gen_ai.request.temperature": float, "gen_ai.request.top_p": float, "gen_ai.request.top_k": int,
    "gen_ai.request.frequency_penalty": float, "gen_ai.request.presence_penalty": float, "gen_ai.response.id": str,
    "gen_ai.response.finish_reasons": tuple, "gen_ai.response.model": str, "gen_ai.response.time_to_first_chunk": float,
    "gen_ai.usage.cache_read.input_tokens": int, "gen_ai.usage.cache_write.input_tokens": int,
    "gen_ai.usage.input_tokens": int, "gen_ai.usage.output_tokens": int, "gen_ai.usage.reasoning.output_tokens": int,
    "server.address": str, "server.port": int,
}  # fmt: skip
# of a server span: docs/http/http-spans.md
HTTP = {
    "error.type": str, "http.request.method": str, "http.response.status_code": int, "http.route": str,
    "server.address": str, "server.port": int, "url.path": str, "url.scheme": str,
}  # fmt: skip
# values of gen_ai.provider.name that are well known: where one applies it must be used
WELL_KNOWN = {
    "anthropic", "azure.ai.openai", "deepseek", "gcp.gemini", "groq", "mistral_ai", "openai", "perplexity", "x_ai",
}  # fmt: skip


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def context(span: ReadableSpan) -> SpanContext:
    found: SpanContext | None = span.context
    assert found is not None
    return found


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def conforms(span: ReadableSpan) -> None:
    """Names, kinds, types and what is required of a span, by the conventions."""
    told, allowed = attributes(span), HTTP if span.kind is SpanKind.SERVER else INFERENCE
    for name, value in told.items():
        assert name.startswith("runestone.") or type(value) is allowed[name], (name, value)
    if span.kind is SpanKind.SERVER:
        assert {"http.request.method", "url.path", "url.scheme"} <= told.keys()
        assert span.name == f"{told['http.request.method']} {told['http.route']}"
    else:
        assert {"gen_ai.operation.name", "gen_ai.request.model"} <= told.keys()
        assert span.name == f"{told['gen_ai.operation.name']} {told['gen_ai.request.model']}"
        assert told.get("gen_ai.request.stream", True) is True
        assert ("server.address" in told) == ("server.port" in told)
    if span.kind is SpanKind.CLIENT:
        assert {"gen_ai.provider.name", "server.address"} <= told.keys()
    assert span.status.status_code in (StatusCode.UNSET, StatusCode.ERROR)
    assert (span.status.status_code is StatusCode.ERROR) == ("error.type" in told)


def within(inner: ReadableSpan, outer: ReadableSpan) -> None:
    """``inner`` is a child of ``outer``, in its trace and in its time."""
    assert parent(inner) == context(outer).span_id
    assert context(inner).trace_id == context(outer).trace_id
    assert times(outer)[0] <= times(inner)[0] <= times(inner)[1] <= times(outer)[1]


async def test_a_failover_is_one_trace_of_a_request_an_operation_and_a_span_for_each_call(tmp_path: Path) -> None:
    async with traced(tmp_path) as gateway:
        await gateway.first.set_fault("503")
        answer = await gateway.ask({**HELLO, "stream": True}, x_request_id="req-failover")
        assert (answer.status_code, answer.headers["x-runestone-attempts"]) == (200, "3")
        first, second = int(gateway.first.url.split(":")[2][:-3]), int(gateway.second.url.split(":")[2][:-3])

        spans = await gateway.spans()

    server, operation, one, two, three = spans
    for span in spans:
        conforms(span)
        assert attributes(span)["runestone.request_id"] == "req-failover"
    assert [(span.name, span.kind.name) for span in spans] == [
        ("POST /v1/chat/completions", "SERVER"),
        ("chat gpt-4o-mini", "INTERNAL"),
        ("chat gpt-4o-mini", "CLIENT"),
        ("chat gpt-4o-mini", "CLIENT"),
        ("chat claude-sonnet-4-5", "CLIENT"),
    ]
    assert server.parent is None
    within(operation, server)
    for attempt in (one, two, three):
        within(attempt, operation)
    assert times(one)[1] <= times(two)[0] < times(two)[1] <= times(three)[0]

    assert attributes(server) == {
        "http.request.method": "POST", "http.route": "/v1/chat/completions", "url.path": "/v1/chat/completions",
        "url.scheme": "http", "http.response.status_code": 200, "runestone.request_id": "req-failover",
    }  # fmt: skip
    told = attributes(operation)
    answer_id = json.loads(answer.text.split("\n")[0].removeprefix("data: "))["id"]
    answered = {
        "gen_ai.response.id": answer_id, "gen_ai.response.model": "claude-sonnet-4-5",
        "gen_ai.response.finish_reasons": ("stop",),
    }  # fmt: skip
    tokens = {
        "gen_ai.usage.input_tokens": told["gen_ai.usage.input_tokens"],
        "gen_ai.usage.output_tokens": told["gen_ai.usage.output_tokens"],
    }
    assert min(tokens.values()) > 0
    assert 0.0 < told["gen_ai.response.time_to_first_chunk"] <= (times(server)[1] - times(server)[0]) / 1e9
    assert {name: value for name, value in told.items() if "usage" not in name and "chunk" not in name} == {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini", "gen_ai.request.stream": True,
        "gen_ai.provider.name": "anthropic", **answered,
        "runestone.provider": "second", "runestone.group": "default-chat-service", "runestone.attempts": 3,
        "runestone.outcome": "ok", "runestone.request_id": "req-failover",
    }  # fmt: skip
    for number, attempt in enumerate((one, two), 1):
        assert attributes(attempt) == {
            "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini", "gen_ai.request.stream": True,
            "gen_ai.provider.name": "openai", "server.address": "127.0.0.1", "server.port": first,
            "error.type": "server_error", "runestone.provider": "first", "runestone.attempt": number,
            "runestone.group": "default-chat-service", "runestone.outcome": "server_error",
            "runestone.request_id": "req-failover",
        }  # fmt: skip
    told = attributes(three)
    assert tokens.items() <= told.items()
    assert {name: value for name, value in told.items() if "usage" not in name and "chunk" not in name} == {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "claude-sonnet-4-5", "gen_ai.request.stream": True,
        "gen_ai.provider.name": "anthropic", "server.address": "127.0.0.1", "server.port": second, **answered,
        "runestone.provider": "second", "runestone.attempt": 3, "runestone.group": "default-chat-service",
        "runestone.outcome": "ok", "runestone.request_id": "req-failover",
    }  # fmt: skip
    events = [[(event.name, dict(event.attributes or {})) for event in span.events] for span in spans]
    assert events == [
        [], [], [],
        [("retry", {"runestone.reason": "server_error", "runestone.waited_seconds": 0.0})],
        [("failover", {"runestone.reason": "server_error", "runestone.failed_provider": "first"})],
    ]  # fmt: skip
    assert [span.status.status_code.name for span in spans] == ["UNSET", "UNSET", "ERROR", "ERROR", "UNSET"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_settings_of_a_request_are_told_of_each_call_as_far_as_it_was_sent_them(
    tmp_path: Path, stream: bool
) -> None:
    asked = {
        "temperature": 1, "top_p": 0.5, "max_tokens": 40, "seed": 7, "frequency_penalty": 0.25, "presence_penalty": 0.5,
        "n": 1, "stop": ["canary-stop"], "user": "canary-user",
    }  # fmt: skip
    async with traced(tmp_path) as gateway:
        await gateway.first.set_fault("503")
        answer = await gateway.ask({**HELLO, **asked, "stream": stream})
        assert answer.headers["x-runestone-provider"] == "second"
        sent = gateway.second.records[-1].body
        assert not sent.keys() & {"seed", "frequency_penalty", "presence_penalty"}
        _, (operation,), calls = await gateway.by_kind()

    settings = {
        "gen_ai.request.temperature": 1.0, "gen_ai.request.top_p": 0.5, "gen_ai.request.max_tokens": 40,
        "gen_ai.request.seed": 7, "gen_ai.request.frequency_penalty": 0.25, "gen_ai.request.presence_penalty": 0.5,
    }  # fmt: skip
    told = [
        {name: value for name, value in attributes(span).items() if "request." in name and name in INFERENCE}
        for span in (operation, *calls)
    ]
    for span, found in zip((operation, *calls), told, strict=True):
        conforms(span)
        assert "canary" not in span.to_json()
        found.pop("gen_ai.request.model")
        assert found.pop("gen_ai.request.stream", False) is stream
    translated = {
        name: value for name, value in settings.items() if name.rsplit(".", 1)[1] in {"temperature", "top_p", "max_tokens"}
    }  # fmt: skip
    assert told == [settings, settings, settings, translated]


@pytest.mark.parametrize(
    ("path", "body", "reasons"),
    [
        ("chat/completions", HELLO, ("stop",)),
        ("completions", {"model": "gpt-4o-mini", "prompt": "canary-prompt"}, ("stop",)),
        ("messages", {**HELLO, "model": "gpt-4o-mini", "max_tokens": 500}, ("end_turn",)),
        ("responses", {"model": "gpt-4o-mini", "input": "canary-prompt"}, ("completed",)),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_s_id_and_why_each_choice_ended_are_told_in_the_client_s_words(
    tmp_path: Path, path: str, body: dict[str, Any], reasons: tuple[str, ...], stream: bool
) -> None:
    async with traced(tmp_path) as gateway:
        await gateway.first.set_fault("pace=0.01")  # the end of a stream does not come with its head
        answer = await gateway.ask({**body, "stream": stream}, path)
        assert answer.status_code == 200
        _, operations, calls = await gateway.by_kind()

    for span in (*operations, *calls):
        conforms(span)
        told = attributes(span)
        assert told["gen_ai.response.finish_reasons"] == reasons
        assert told["gen_ai.response.id"] in answer.text


async def test_of_an_answer_that_breaks_off_each_choice_has_the_reason_error(tmp_path: Path) -> None:
    async with traced(tmp_path) as gateway:
        await gateway.first.set_fault("cut after=3")
        await gateway.ask({**HELLO, "n": 2, "stream": True})
        _, (operation,), (call,) = await gateway.by_kind()

    assert attributes(operation)["gen_ai.response.finish_reasons"] == ("error", "error")
    assert attributes(call)["gen_ai.response.finish_reasons"] == ("error", "error")
    assert attributes(call)["gen_ai.request.choice.count"] == 2


async def test_a_whole_answer_is_told_without_what_only_streams_have(tmp_path: Path) -> None:
    async with traced(tmp_path) as gateway:
        assert (await gateway.ask(HELLO)).status_code == 200
        spans = await gateway.spans()

    assert [span.kind.name for span in spans] == ["SERVER", "INTERNAL", "CLIENT"]
    for span in spans:
        conforms(span)
        assert attributes(span).keys() & {"gen_ai.request.stream", "gen_ai.response.time_to_first_chunk"} == set()


async def test_a_request_that_nobody_can_serve_is_an_error_of_all_three(tmp_path: Path) -> None:
    async with traced(tmp_path) as gateway:
        await gateway.first.set_fault("503")
        await gateway.second.set_fault("refused")
        assert (await gateway.ask(HELLO)).status_code >= 500
        server, operation, *calls = await gateway.spans()

    assert len(calls) >= 3
    for span in (server, operation, *calls):
        conforms(span)
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description is None  # it could hold what a provider said
    assert (
        attributes(operation)["error.type"] == attributes(calls[-1])["error.type"] == attributes(server)["error.type"]
    )


async def test_a_stream_that_breaks_off_is_an_error_though_its_status_was_200(tmp_path: Path) -> None:
    async with traced(tmp_path) as gateway:
        await gateway.first.set_fault("cut after=3")
        answer = await gateway.ask({**HELLO, "stream": True})
        assert (answer.status_code, b"[DONE]" in answer.content) == (200, False)
        spans = await gateway.spans()

    assert [span.kind.name for span in spans] == ["SERVER", "INTERNAL", "CLIENT"]
    for span in spans:
        conforms(span)
    assert {attributes(span)["error.type"] for span in spans} == {attributes(spans[1])["runestone.outcome"]}


async def test_a_client_that_asks_nonsense_is_no_error_of_the_server(tmp_path: Path) -> None:
    async with traced(tmp_path) as gateway:
        await gateway.ask({"model": "gpt-4o-mini", "messages": []})
        await gateway.client.get(f"{gateway.node.url}/chat/completions")
        await gateway.client.get(f"{gateway.node.url}/models")
        await gateway.client.get(f"{gateway.node.url}/models/canary-path")
        await gateway.client.get(f"{gateway.node.url}/canary-path")
        spans = await gateway.spans()

    assert [(span.name, attributes(span)["http.response.status_code"]) for span in spans] == [
        ("POST /v1/chat/completions", 400),
        ("GET /v1/chat/completions", 405),
        ("GET /v1/models", 200),
        ("GET /v1/models", 404),
        ("GET", 404),
    ]
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}
    assert "canary-path" not in repr([span.to_json() for span in spans])
    assert attributes(spans[-1]).keys() & {"http.route", "url.path"} == set()


async def test_a_client_that_leaves_makes_no_error(tmp_path: Path) -> None:
    async with traced(tmp_path) as gateway:
        await gateway.first.set_fault("stall after=2")
        url = f"{gateway.node.url}/chat/completions"
        async with gateway.client.stream("POST", url, json={**HELLO, "stream": True}) as answer:
            async for _ in answer.aiter_bytes():
                break
        while gateway.first.open_streams:
            await asyncio.sleep(0.01)
        server, operation, call = await gateway.spans()

    assert {span.status.status_code for span in (server, operation, call)} == {StatusCode.UNSET}
    assert attributes(operation)["runestone.outcome"] == "client_gone"
    assert attributes(call)["runestone.outcome"] == "cancelled"


async def test_the_trace_of_the_client_goes_on(tmp_path: Path) -> None:
    async with traced(tmp_path) as gateway:
        await gateway.ask(HELLO, traceparent=TRACEPARENT)
        server, operation, call = await gateway.spans()

    assert parent(server) == SPAN
    assert server.parent is not None
    assert server.parent.is_remote
    assert {context(span).trace_id for span in (server, operation, call)} == {TRACE}


@pytest.mark.parametrize(
    "header", ["", "00-1-2-01", f"ff{TRACEPARENT[2:]}", TRACEPARENT.upper(), f"{TRACEPARENT}-more", "x" * 5000]
)
async def test_what_is_no_trace_context_begins_a_new_trace(tmp_path: Path, header: str) -> None:
    async with traced(tmp_path) as gateway:
        assert (await gateway.ask(HELLO, traceparent=header)).status_code == 200
        server, *_ = await gateway.spans()

    assert server.parent is None
    assert context(server).trace_id != TRACE


async def test_a_client_that_does_not_sample_is_not_traced(tmp_path: Path) -> None:
    async with traced(tmp_path, propagate=True) as gateway:
        await gateway.ask(HELLO, traceparent=TRACEPARENT[:-1] + "0")
        assert gateway.first.records[-1].headers["traceparent"].startswith(f"00-{TRACE:032x}-")
        assert gateway.first.records[-1].headers["traceparent"].endswith("-00")
        assert await gateway.spans() == []


async def test_each_call_carries_the_id_of_its_span_where_that_is_set(tmp_path: Path) -> None:
    async with traced(tmp_path, propagate=True) as gateway:
        await gateway.first.set_fault("503")
        await gateway.ask(HELLO, traceparent=TRACEPARENT)
        await gateway.ask(HELLO)
        sent = [record.headers["traceparent"] for record in (*gateway.first.records, *gateway.second.records)]
        _, _, calls = await gateway.by_kind()

    told = [f"00-{context(c).trace_id:032x}-{context(c).span_id:016x}-{context(c).trace_flags:02x}" for c in calls]
    assert len(calls) >= 4
    assert sorted(sent) == sorted(told)
    assert len({context(call).trace_id for call in calls}) == 2


async def test_the_client_s_trace_state_goes_on_to_providers_and_into_spans_where_its_trace_does(
    tmp_path: Path,
) -> None:
    state = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    async with traced(tmp_path, propagate=True) as gateway:
        await gateway.first.set_fault("503")
        await gateway.ask(HELLO, traceparent=TRACEPARENT, tracestate=state)
        calls = [*gateway.first.records, *gateway.second.records]
        assert {call.headers["tracestate"] for call in calls} == {state}
        assert len(calls) >= 3
        await gateway.ask(HELLO, traceparent="00-no", tracestate=state)
        await gateway.ask(HELLO, tracestate=state)
        await gateway.ask(HELLO, traceparent=TRACEPARENT, tracestate="no state")
        await gateway.ask(HELLO, traceparent=TRACEPARENT, tracestate="a=" + 600 * "x")
        later = [*gateway.first.records, *gateway.second.records]
        assert len(later) > len(calls)
        assert sum("tracestate" in call.headers for call in later) == len(calls)
        spans = await gateway.spans()

    of_trace = [span for span in spans if context(span).trace_id == TRACE]
    assert {context(span).trace_state.to_header() for span in of_trace} == {state, ""}


async def test_several_headers_of_trace_state_are_one(tmp_path: Path) -> None:
    async with traced(tmp_path, propagate=True) as gateway:
        headers = [("traceparent", TRACEPARENT), ("tracestate", "a=1,"), ("tracestate", "b@c=2,")]
        await gateway.client.post(f"{gateway.node.url}/chat/completions", json=HELLO, headers=headers)

        assert gateway.first.records[-1].headers["tracestate"] == "a=1,b@c=2"


async def test_providers_are_told_nothing_unless_it_is_set(tmp_path: Path) -> None:
    async with traced(tmp_path) as gateway:
        await gateway.ask(HELLO, traceparent=TRACEPARENT, tracestate="a=1", baggage="a=1")

        assert gateway.first.records[-1].headers.keys() & {"traceparent", "tracestate", "baggage"} == set()


async def test_a_provider_without_telemetry_has_no_span_and_is_told_nothing(tmp_path: Path) -> None:
    async with traced(tmp_path, propagate=True, second_telemetry=False) as gateway:
        await gateway.first.set_fault("503")
        assert (await gateway.ask(HELLO)).headers["x-runestone-provider"] == "second"
        assert "traceparent" not in gateway.second.records[-1].headers
        _, (operation,), calls = await gateway.by_kind()

    assert [attributes(call)["runestone.provider"] for call in calls] == ["first", "first"]
    assert "second" not in attributes(operation).values()
    assert "gen_ai.provider.name" not in attributes(operation)  # it would be the one that failed


async def test_a_field_that_a_provider_cannot_serve_makes_no_span_of_a_call(tmp_path: Path) -> None:
    async with traced(tmp_path, propagate=True) as gateway:
        await gateway.first.set_fault("503")
        answer = await gateway.ask({**HELLO, "n": 2})
        assert answer.status_code >= 400
        assert not gateway.second.records
        _, _, calls = await gateway.by_kind()

    assert [attributes(call)["runestone.provider"] for call in calls] == ["first", "first"]


async def test_requests_at_the_same_time_with_the_same_id_are_two_traces(tmp_path: Path) -> None:
    async with traced(tmp_path) as gateway:
        await gateway.first.set_fault("stall after=2")
        url = f"{gateway.node.url}/chat/completions"
        async with AsyncExitStack() as both:
            for model in ("gpt-4o-mini", "gpt-4o"):
                body = {**HELLO, "model": model, "stream": True}
                request = gateway.client.stream("POST", url, json=body, headers={"x-request-id": "same"})
                answer = await both.enter_async_context(request)
                assert answer.headers["x-request-id"] == "same"
            assert gateway.first.open_streams == 2
        while gateway.first.open_streams:
            await asyncio.sleep(0.01)
        servers, operations, calls = await gateway.by_kind()

    assert len(servers) == len(operations) == len(calls) == 2
    for call in calls:
        (operation,) = (o for o in operations if context(o).span_id == parent(call))
        assert attributes(operation)["gen_ai.request.model"] == attributes(call)["gen_ai.request.model"]
        within(operation, next(s for s in servers if context(s).span_id == parent(operation)))


async def test_a_chat_from_inside_has_spans_of_what_was_asked_and_of_its_calls_and_none_of_http(tmp_path: Path) -> None:
    async with traced(tmp_path, propagate=True) as gateway:
        for _ in range(2):
            async for _event in gateway.node.chat({"request": HELLO}):
                pass
        servers, operations, calls = await gateway.by_kind()
        sent = [record.headers["traceparent"].split("-")[1:3] for record in gateway.first.records]

    assert servers == []
    assert [operation.parent for operation in operations] == [None, None]
    assert [parent(call) for call in calls] == [context(operation).span_id for operation in operations]
    assert sent == [[f"{context(call).trace_id:032x}", f"{context(call).span_id:016x}"] for call in calls]
    assert sent[0][0] != sent[1][0]


async def test_neither_a_prompt_nor_an_answer_nor_a_key_is_in_a_span(tmp_path: Path) -> None:
    async with traced(tmp_path) as gateway:
        answer = await gateway.ask(HELLO, authorization="Bearer canary-inbound")
        text = answer.json()["choices"][0]["message"]["content"]
        await gateway.first.set_fault("401")
        await gateway.ask({**HELLO, "user": "canary-user"}, authorization="Bearer canary-inbound")
        spans = await gateway.spans()

    told = "".join(span.to_json() for span in spans)
    assert len(spans) >= 6
    assert text
    assert text not in told
    assert "canary" not in told


def test_every_route_has_an_operation_and_it_is_that_of_its_calls() -> None:
    assert {route.path: semconv.OPERATIONS[route.api] for route in ROUTES} == dict(semconv.ROUTES)
    assert set(semconv.OPERATIONS) == set(get_args(Api))


def test_every_kind_goes_by_the_well_known_name_of_its_vendor() -> None:
    names = {kind: semconv.PROVIDERS.get(kind, kind) for kind in KINDS}

    assert set(names.values()) >= WELL_KNOWN
    own = {"together", "openrouter", "fireworks", "ollama", "vllm", "lmstudio", "compatible"}
    assert {kind for kind, name in names.items() if name not in WELL_KNOWN} == own
