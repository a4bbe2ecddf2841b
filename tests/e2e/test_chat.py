"""The main job, from outside: the guide's curl and the official SDK against a running gateway."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import anyio
import httpx
import openai
import pytest

from tests.e2e.node import Gateway, Upstream, eventually, needs_curl

HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
DOWN = ["refused", "reset", "status=500", "status=503", "status=529", "error_event", "garbage", "html=502"]


def sdk(node: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=node.base_url, api_key="any", max_retries=0)


def streamed(node: Gateway, **more: object) -> str:
    with sdk(node).chat.completions.create(**HELLO, stream=True, **more) as stream:  # type: ignore[call-overload]
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def whole(node: Gateway) -> str:
    return sdk(node).chat.completions.create(**HELLO).choices[0].message.content or ""  # type: ignore[call-overload]


@needs_curl
def test_the_guides_curl_streams_an_answer(node: Gateway) -> None:
    command = f"""curl -sN -X POST http://localhost:{node.port}/v1/chat/completions \
      -H "Authorization: Bearer your-api-key" -H "Content-Type: application/json" -d '{json.dumps({**HELLO, "stream": True})}'"""

    out = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=30).stdout

    events = [line.removeprefix("data: ") for line in out.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]][-1] == "stop"


def test_the_sdk_streams_the_same_text_as_it_gets_whole(node: Gateway) -> None:
    assert streamed(node) == whole(node)


def test_the_async_sdk_streams_and_gets_whole(node: Gateway) -> None:
    async def both() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=node.base_url, api_key="any", max_retries=0) as client:
            answer = await client.chat.completions.create(**HELLO)  # type: ignore[call-overload]
            parts = []
            async with await client.chat.completions.create(**HELLO, stream=True) as stream:  # type: ignore[call-overload]
                async for chunk in stream:
                    parts += [choice.delta.content or "" for choice in chunk.choices]
        return answer.choices[0].message.content, "".join(parts)

    text, parts = anyio.run(both)

    assert text
    assert text == parts


def test_everything_that_a_client_sends_reaches_an_openai_upstream_untouched(node: Gateway, primary: Upstream) -> None:
    tools = [
        {
            "type": "function",
            "function": {"name": "look", "parameters": {"type": "object", "properties": {}}, "strict": True},
        }
    ]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    body = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}],
        "tools": tools,
        "tool_choice": "auto",
        "seed": 7,
        "some_field_of_tomorrow": {"a": [1, 2.50, "é"]},
    }

    answer = node.post(
        body, {"OpenAI-Organization": "org-1", "Cookie": "secret=1", "x-runestone-group": "default-chat-service"}
    )

    assert answer.status_code == 200
    sent = primary.requests()[-1]
    assert sent["body"] == body
    headers = {k.lower(): v for k, v in dict(sent["headers"]).items()}
    assert headers["openai-organization"] == "org-1"
    assert "cookie" not in headers
    assert not [name for name in headers if name.startswith("x-runestone")]


def test_an_anthropic_model_is_answered_in_openais_wire(node: Gateway, secondary: Upstream) -> None:
    body = {
        "model": "claude-sonnet-4-5",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}],
    }

    answer = node.post(body)

    assert answer.status_code == 200
    assert answer.headers["x-runestone-provider"] == "anthropic-default"
    data = answer.json()
    assert data["object"] == "chat.completion"
    assert data["choices"][0]["finish_reason"] == "stop"
    assert data["choices"][0]["message"]["content"]
    usage = data["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert secondary.requests()[-1]["body"]["system"] == [{"type": "text", "text": "Be short."}]


def test_an_anthropic_stream_ends_with_usage_where_the_client_asked_for_it(node: Gateway) -> None:
    client = sdk(node)
    options = {"include_usage": True}

    with client.chat.completions.create(  # type: ignore[call-overload]
        model="claude-sonnet-4-5", messages=HELLO["messages"], stream=True, stream_options=options
    ) as stream:
        chunks = list(stream)

    assert chunks[-1].usage.completion_tokens > 0
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


@pytest.mark.parametrize("fault", DOWN)
@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_primary_is_replaced_before_the_client_notices(
    node: Gateway, primary: Upstream, fault: str, *, stream: bool
) -> None:
    primary.fault(fault)

    answer = node.post({**HELLO, "stream": stream})

    assert answer.status_code == 200, answer.text
    assert answer.headers["x-runestone-provider"] == "anthropic-default"
    assert answer.headers["x-runestone-model"] == "claude-sonnet-4-5"
    assert int(answer.headers["x-runestone-attempts"]) >= 2
    assert "[DONE]" in answer.text if stream else answer.json()["choices"][0]["message"]["content"]


def test_a_host_that_does_not_resolve_is_replaced(serve: Callable[..., Gateway]) -> None:
    node = serve(OPENAI_BASE_URL="http://no-such-host.invalid/v1")

    answer = node.post(HELLO)

    assert answer.headers["x-runestone-provider"] == "anthropic-default"
    assert "resolved" in node.provider("openai-default")["last_error"]["what"]


def test_a_plain_port_behind_https_is_replaced(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve(OPENAI_BASE_URL=primary.url.replace("http:", "https:"))

    answer = node.post(HELLO)

    assert answer.headers["x-runestone-provider"] == "anthropic-default"
    assert node.provider("openai-default")["last_error"]["what"].startswith("tls")


def test_a_silent_primary_is_replaced_after_the_first_token_timeout(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(RUNESTONE_FIRST_TOKEN_TIMEOUT_MS="1000")
    primary.fault("stall")

    answer = node.post({**HELLO, "stream": True})

    assert answer.headers["x-runestone-provider"] == "anthropic-default"
    assert answer.text.rstrip().endswith("[DONE]")


def test_a_throttled_primary_is_left_alone_until_it_may_be_asked_again(node: Gateway, primary: Upstream) -> None:
    primary.fault("status=429 retry_after=60")

    first, second = node.post(HELLO), node.post(HELLO)

    assert first.headers["x-runestone-provider"] == second.headers["x-runestone-provider"] == "anthropic-default"
    assert len(primary.requests()) == 1
    shown = node.provider("openai-default")
    assert shown["status"] == "throttled"
    assert shown["breaker"]["state"] == "closed"


def test_429_reaches_the_client_when_every_candidate_is_throttled(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream
) -> None:
    node = serve(RUNESTONE_REQUEST_DEADLINE_MS="5000")
    primary.fault("status=429 retry_after=60")
    secondary.fault("status=429 retry_after=60")

    node.post(HELLO)
    answer = node.post(HELLO)

    assert answer.status_code == 429
    assert 50 <= int(answer.headers["retry-after"]) <= 60
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_the_callers_own_error_reaches_it_after_exactly_one_upstream_call(
    node: Gateway, primary: Upstream, secondary: Upstream, status: int
) -> None:
    primary.fault(f"status={status}")

    answer = node.post(HELLO)

    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert (len(primary.requests()), len(secondary.requests())) == (1, 0)


def test_a_provider_is_retried_where_there_is_no_other(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve(ANTHROPIC_API_KEY="")
    primary.fault("status=503 times=2")

    answer = node.post(HELLO)

    assert answer.status_code == 200
    assert answer.headers["x-runestone-attempts"] == "3"


@pytest.mark.parametrize("fault", ["cut_after=3", "reset_after=3", "error_event_after=3", "no_done cut_after=3"])
def test_an_error_after_the_first_byte_is_told_in_band_and_never_followed_by_done(
    node: Gateway, primary: Upstream, secondary: Upstream, fault: str
) -> None:
    primary.fault(fault)

    answer = node.post({**HELLO, "stream": True})

    events = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    assert "error" in json.loads(events[-1].removeprefix("data: "))
    assert "[DONE]" not in answer.text
    assert len(secondary.requests()) == 0
    with pytest.raises(openai.APIError):
        streamed(node)


def test_a_stream_whose_finish_reason_came_is_whole_even_without_done(node: Gateway, primary: Upstream) -> None:
    primary.fault("no_done")

    answer = node.post({**HELLO, "stream": True})

    assert answer.text.rstrip().endswith("data: [DONE]")


def test_a_stalled_stream_is_ended_by_the_idle_timeout(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve(RUNESTONE_IDLE_TIMEOUT_MS="1000")
    primary.fault("stall_after=3")

    answer = node.post({**HELLO, "stream": True})

    assert '"upstream_stalled"' in answer.text
    assert "[DONE]" not in answer.text


def test_the_breaker_opens_after_five_failures_and_closes_by_probes(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(ANTHROPIC_API_KEY="", RETRY_MAX_ATTEMPTS="1", CIRCUIT_BREAKER_RECOVERY_TIMEOUT="1500")
    primary.fault("status=500")

    failed = [node.post(HELLO).status_code for _ in range(5)]
    refused = [node.post(HELLO) for _ in range(5)]

    assert failed == [500] * 5
    assert [r.status_code for r in refused] == [503] * 5
    assert all(int(r.headers["retry-after"]) >= 1 for r in refused)
    assert len(primary.requests()) == 5
    assert node.ctl("breaker", "show", "openai-default")["breaker"]["state"] == "open"
    primary.fault("none")
    eventually(lambda: node.ctl("breaker", "show", "openai-default")["breaker"]["state"] == "half_open", "half-open")
    assert [node.post(HELLO).status_code for _ in range(2)] == [200, 200]
    assert node.ctl("breaker", "show", "openai-default")["breaker"]["state"] == "closed"


def test_a_disabled_breaker_only_measures(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve(ANTHROPIC_API_KEY="", RETRY_MAX_ATTEMPTS="1", OPENAI_CIRCUIT_BREAKER="false")
    primary.fault("status=500")

    statuses = [node.post(HELLO).status_code for _ in range(8)]

    assert statuses == [500] * 8
    assert len(primary.requests()) == 8


def test_the_deadline_bounds_the_whole_request(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve(ANTHROPIC_API_KEY="", RUNESTONE_REQUEST_DEADLINE_MS="1000")
    primary.fault("stall")

    answer = node.post(HELLO)

    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    eventually(lambda: node.provider("openai-default")["in_flight"] == 0, "the lease is back")


@pytest.mark.parametrize(
    ("model", "provider", "sent"),
    [
        ("openai/gpt-4o", "openai-default", "gpt-4o"),
        ("anthropic/claude-sonnet-4-5", "anthropic-default", "claude-sonnet-4-5"),
        ("openai-default/anything-at-all", "openai-default", "anything-at-all"),
        ("openai/mock", "openai-default", "mock"),
        ("default-chat-service", "openai-default", "gpt-4o-mini"),
    ],
)
def test_a_model_name_leads_to_its_provider(node: Gateway, model: str, provider: str, sent: str) -> None:
    answer = node.post({**HELLO, "model": model})

    assert answer.status_code == 200, answer.text
    assert (answer.headers["x-runestone-provider"], answer.headers["x-runestone-model"]) == (provider, sent)


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        ({**HELLO, "model": "llama-99"}, {}, 404, "model_not_found"),
        ({**HELLO}, {"x-runestone-group": "nope"}, 400, "unknown_group"),
        ({"messages": HELLO["messages"]}, {}, 400, "missing_model"),
        ({"model": "gpt-4o-mini"}, {}, 400, "missing_messages"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_with_its_reason(
    node: Gateway, primary: Upstream, body: dict[str, object], headers: dict[str, str], status: int, code: str
) -> None:
    answer = node.post(body, headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert primary.requests() == []


def test_a_pin_has_no_failover(serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream) -> None:
    node = serve(RETRY_MAX_ATTEMPTS="1")
    primary.fault("status=500")

    answer = node.post({**HELLO, "model": "openai-default/gpt-4o-mini"})

    assert answer.status_code == 500
    assert secondary.requests() == []


def test_without_a_key_the_gateway_starts_and_says_which_variable_to_set(serve: Callable[..., Gateway]) -> None:
    node = serve(OPENAI_API_KEY="", ANTHROPIC_API_KEY="")

    answer = node.post(HELLO)

    assert answer.status_code == 503
    assert answer.json()["error"]["message"]
    assert node.health().status_code == 503
    eventually(lambda: node.log.read_text().count("missing_api_key") >= 2, "the log has a line for each")
    assert "OPENAI_API_KEY" in node.told()


def test_inbound_keys_are_checked(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_API_KEYS="sk-inbound-key-0123456789abcdef")

    wrong = node.post(HELLO, {"Authorization": "Bearer sk-wrong"})
    right = node.post(HELLO, {"Authorization": "Bearer sk-inbound-key-0123456789abcdef"})
    other = node.post(HELLO, {"x-api-key": "sk-inbound-key-0123456789abcdef"})

    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    assert (node.post(HELLO).status_code, right.status_code, other.status_code) == (401, 200, 200)


def test_without_inbound_keys_a_web_page_may_not_use_the_gateway(node: Gateway) -> None:
    rebound = node.post(HELLO, {"Host": "evil.example"})
    page = node.post(HELLO, {"Origin": "https://evil.example"})
    form = httpx.post(
        f"{node.base_url}/chat/completions", content=json.dumps(HELLO), headers={"Content-Type": "text/plain"}
    )

    assert (rebound.status_code, page.status_code, form.status_code) == (403, 403, 415)


def test_no_key_is_ever_shown(serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream) -> None:
    keys = {"OPENAI_API_KEY": "sk-canary-aaaaaaaaaaaaaaaa", "ANTHROPIC_API_KEY": "sk-canary-bbbbbbbbbbbbbbbb"}
    node = serve(**keys, RUNESTONE_API_KEYS="sk-canary-cccccccccccccccc")
    key = {"Authorization": "Bearer sk-canary-cccccccccccccccc"}
    seen = [node.post(HELLO, key).text]
    primary.fault("status=401")
    secondary.fault("status=401")
    seen += [node.post(HELLO, key).text, node.post(HELLO).text]
    seen += [node.health(path).text for path in ("", "/detailed", "/providers", "/metrics")]
    seen += [
        node.ctl_raw(*c).stdout for c in (["status"], ["tree"], ["providers"], ["provider", "show", "openai-default"])
    ]

    assert "canary" not in "\n".join(seen) + node.told()
