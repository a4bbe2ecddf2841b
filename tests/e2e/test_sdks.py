"""The real SDKs of both vendors against the gateway, each with each provider behind it: what a user has when the base URL is swapped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import anthropic
import openai
import pytest
from pydantic import BaseModel

from tests.e2e.node import Gateway, Upstream, gateway

pytestmark = pytest.mark.anyio
PROVIDERS: Final = ("openai-default/gpt-4o-mini", "anthropic-default/claude-sonnet-4-5")
LOOK: Final[Any] = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}},
}
LOOK_A: Final[Any] = {"name": "look", "input_schema": LOOK["function"]["parameters"]}
ASKED: Final[Any] = [{"role": "user", "content": "Hello there"}]

both = pytest.mark.parametrize("model", PROVIDERS, ids=["openai", "anthropic"])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, _openai: Upstream, _anthropic: Upstream) -> Iterator[Gateway]:
    """One gateway for all: the SDKs change nothing, and a failure of one test takes no provider from the next."""
    environment = {
        "OPENAI_CIRCUIT_BREAKER": "false",
        "ANTHROPIC_CIRCUIT_BREAKER": "false",
        "OPENAI_API_KEY": "sk-upstream-openai",
        "OPENAI_BASE_URL": _openai.url,
        "ANTHROPIC_API_KEY": "sk-upstream-anthropic",
        "ANTHROPIC_BASE_URL": _anthropic.url,
    }
    with gateway(tmp_path_factory.mktemp("sdks"), environment) as running:
        yield running


@pytest.fixture
def oai(node: Gateway, primary: Upstream, secondary: Upstream) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=node.base_url, api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(node: Gateway, primary: Upstream, secondary: Upstream) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=node.public_url, api_key="unused", max_retries=0) as client:
        yield client


def words(model: str) -> str:
    """How the answer of the provider behind ``model`` begins."""
    return f"{model.partition('-')[0]}: this is"


# -- OpenAI's SDK -----------------------------------------------------------------------------------------------------------


@both
def test_chat_completions(oai: openai.OpenAI, model: str) -> None:
    answer = oai.chat.completions.create(model=model, messages=ASKED)

    assert (answer.choices[0].message.content or "").startswith(words(model))
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


@both
def test_chat_completions_streamed_through_the_typed_helper(oai: openai.OpenAI, model: str) -> None:
    with oai.chat.completions.stream(model=model, messages=ASKED, stream_options={"include_usage": True}) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()

    assert "".join(deltas) == final.choices[0].message.content
    assert "".join(deltas).startswith(words(model))
    assert len(deltas) > 3
    assert final.usage is not None
    assert final.usage.completion_tokens > 0


@both
async def test_chat_completions_from_async_code(
    node: Gateway, primary: Upstream, secondary: Upstream, model: str
) -> None:
    async with openai.AsyncOpenAI(base_url=node.base_url, api_key="unused", max_retries=0) as client:
        whole = await client.chat.completions.create(model=model, messages=ASKED)
        stream = await client.chat.completions.create(model=model, messages=ASKED, stream=True)
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]

    assert "".join(parts) == whole.choices[0].message.content


@both
def test_a_tool_loop(oai: openai.OpenAI, model: str) -> None:
    messages = list(ASKED)
    first = oai.chat.completions.create(model=model, messages=messages, tools=[LOOK], tool_choice="required")
    (call,) = first.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, first.choices[0].finish_reason) == ("look", "tool_calls")
    json.loads(call.function.arguments)

    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "seen"}]
    second = oai.chat.completions.create(model=model, messages=messages, tools=[LOOK])

    assert (second.choices[0].message.content or "").startswith(words(model))


@both
def test_a_streamed_tool_call_through_the_typed_helper(oai: openai.OpenAI, model: str) -> None:
    with oai.chat.completions.stream(model=model, messages=ASKED, tools=[LOOK], tool_choice="required") as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]

    assert [event.name for event in done] == ["look"]
    json.loads(done[0].arguments)


class Seen(BaseModel):
    """What the model is asked to answer with."""

    a: str


def test_a_schema_made_by_the_sdk_reaches_the_other_wire(oai: openai.OpenAI, secondary: Upstream) -> None:
    with pytest.raises(Exception, match=r"(?i)json|valid"):  # the simulated answer is no JSON; what was asked counts
        oai.chat.completions.parse(model=PROVIDERS[1], messages=ASKED, response_format=Seen)

    (request,) = secondary.requests()
    assert request["body"]["output_config"]["format"]["schema"]["required"] == ["a"]


@both
def test_responses(oai: openai.OpenAI, model: str) -> None:
    answer = oai.responses.create(model=model, input="Hello there", instructions="Be brief.")

    assert answer.status == "completed"
    assert answer.output_text.startswith(words(model))
    assert answer.usage is not None
    assert answer.usage.output_tokens > 0


@both
def test_responses_streamed_through_the_typed_helper(oai: openai.OpenAI, model: str) -> None:
    with oai.responses.stream(model=model, input="Hello there") as stream:
        events = list(stream)
        final = stream.get_final_response()

    assert final.output_text.startswith(words(model))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == final.output_text
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")


@both
def test_a_tool_loop_of_responses(oai: openai.OpenAI, model: str) -> None:
    tool: Any = {"type": "function", "name": "look", "parameters": LOOK["function"]["parameters"], "strict": False}
    items: list[Any] = [{"role": "user", "content": "Hello there"}]
    first = oai.responses.create(model=model, input=items, tools=[tool], tool_choice="required")
    (call,) = [item for item in first.output if item.type == "function_call"]
    json.loads(call.arguments)
    items += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": "seen"}]

    second = oai.responses.create(model=model, input=items, tools=[tool])

    assert second.output_text.startswith(words(model))


@both
def test_the_older_completions(oai: openai.OpenAI, model: str) -> None:
    whole = oai.completions.create(model=model, prompt="Hello there")
    streamed = "".join(
        chunk.choices[0].text
        for chunk in oai.completions.create(model=model, prompt="Hi", stream=True)
        if chunk.choices
    )

    assert whole.choices[0].text.startswith(words(model))
    assert streamed.startswith(words(model))


def test_embeddings(oai: openai.OpenAI) -> None:
    answer = oai.embeddings.create(model="openai-default/text-embedding-3-small", input=["one", "two"])

    assert len(answer.data) == 2
    assert len(answer.data[0].embedding) == len(answer.data[1].embedding) > 0


def test_embeddings_of_a_provider_that_has_none_are_refused(oai: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="embeddings"):
        oai.embeddings.create(model=PROVIDERS[1], input="one")


# -- Anthropic's SDK --------------------------------------------------------------------------------------------------------


@both
def test_messages(claude: anthropic.Anthropic, model: str) -> None:
    answer = claude.messages.create(model=model, max_tokens=100, messages=ASKED, system="Be brief.")

    (block,) = answer.content
    assert block.type == "text"
    assert block.text.startswith(words(model))
    assert answer.stop_reason == "end_turn"
    assert (answer.type, answer.role) == ("message", "assistant")
    assert answer.usage.input_tokens > 0
    assert answer.usage.output_tokens > 0


@both
def test_messages_streamed_through_the_typed_helper(claude: anthropic.Anthropic, model: str) -> None:
    with claude.messages.stream(model=model, max_tokens=100, messages=ASKED) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()

    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert kinds.index("content_block_start") < kinds.index("content_block_delta") < kinds.index("content_block_stop")
    assert kinds.index("content_block_stop") < kinds.index("message_delta")
    assert final.content[0].type == "text"
    assert final.content[0].text.startswith(words(model))
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 1


@both
async def test_messages_from_async_code(node: Gateway, primary: Upstream, secondary: Upstream, model: str) -> None:
    async with anthropic.AsyncAnthropic(base_url=node.public_url, api_key="unused", max_retries=0) as client:
        whole = await client.messages.create(model=model, max_tokens=100, messages=ASKED)
        async with client.messages.stream(model=model, max_tokens=100, messages=ASKED) as stream:
            text = "".join([part async for part in stream.text_stream])

    assert whole.content[0].type == "text"
    assert text == whole.content[0].text


@both
def test_a_tool_loop_of_messages(claude: anthropic.Anthropic, model: str) -> None:
    messages = list(ASKED)
    first = claude.messages.create(
        model=model, max_tokens=100, messages=messages, tools=[LOOK_A], tool_choice={"type": "any"}
    )
    (call,) = [block for block in first.content if block.type == "tool_use"]
    assert (call.name, first.stop_reason) == ("look", "tool_use")
    assert isinstance(call.input, dict)
    messages += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "seen"}]},
    ]

    second = claude.messages.create(model=model, max_tokens=100, messages=messages, tools=[LOOK_A])

    assert second.content[0].type == "text"
    assert second.content[0].text.startswith(words(model))


@both
def test_a_streamed_tool_call_of_messages(claude: anthropic.Anthropic, model: str) -> None:
    with claude.messages.stream(
        model=model, max_tokens=100, messages=ASKED, tools=[LOOK_A], tool_choice={"type": "tool", "name": "look"}
    ) as stream:
        final = stream.get_final_message()

    (call,) = [block for block in final.content if block.type == "tool_use"]
    assert call.name == "look"
    assert final.stop_reason == "tool_use"


def test_thinking_passes_with_its_signature(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(
        model=PROVIDERS[1], max_tokens=4000, messages=ASKED, thinking={"type": "enabled", "budget_tokens": 2000}
    ) as stream:
        final = stream.get_final_message()

    assert final.content[0].type == "thinking"
    assert final.content[0].signature


def test_tokens_are_counted_by_the_provider_and_estimated_where_it_has_no_word_for_that(
    claude: anthropic.Anthropic, secondary: Upstream
) -> None:
    counted = claude.messages.count_tokens(model=PROVIDERS[1], messages=ASKED)
    assert secondary.requests()[-1]["path"] == "/v1/messages/count_tokens"
    estimate = claude.messages.with_raw_response.count_tokens(model=PROVIDERS[0], messages=ASKED)

    assert counted.input_tokens > 0
    assert estimate.headers["x-runestone-estimated"] == "true"
    assert estimate.parse().input_tokens > 0


def test_versions_betas_and_unknown_fields_travel_untouched(claude: anthropic.Anthropic, secondary: Upstream) -> None:
    claude.messages.create(
        model="claude-sonnet-5",
        max_tokens=100,
        messages=ASKED,
        extra_headers={"anthropic-version": "2026-10-21", "anthropic-beta": "brand-new-2026-11-11"},
        extra_body={"brand_new": {"x": [1, 2.50]}},
    )

    (request,) = secondary.requests()
    assert request["headers"]["anthropic-version"] == "2026-10-21"
    assert request["headers"]["anthropic-beta"] == "brand-new-2026-11-11"
    assert request["body"]["brand_new"] == {"x": [1, 2.5]}


def test_a_wrong_request_is_an_error_of_the_sdk_s_own_kind_with_a_request_id(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(
            model=PROVIDERS[0], max_tokens=100, messages=ASKED, extra_body={"mcp_servers": [{"name": "x"}]}
        )
    assert "mcp_servers" in str(caught.value)
    assert caught.value.request_id

    with pytest.raises(anthropic.NotFoundError) as missing:
        claude.messages.create(model="nobody-knows", max_tokens=100, messages=ASKED)
    assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index] # JSON


@both
def test_an_overloaded_provider_is_told_in_the_client_s_words(
    claude: anthropic.Anthropic, oai: openai.OpenAI, primary: Upstream, secondary: Upstream, model: str
) -> None:
    for upstream in (primary, secondary):
        upstream.fault("status=503" if upstream is primary else "status=529")

    with pytest.raises(anthropic.APIStatusError) as theirs:
        claude.messages.create(model=model, max_tokens=100, messages=ASKED)
    with pytest.raises(openai.APIStatusError) as ours:
        oai.chat.completions.create(model=model, messages=ASKED)

    assert theirs.value.status_code == 529
    assert ours.value.status_code == 503


@both
def test_a_stream_that_breaks_off_is_an_error_and_never_looks_whole(
    claude: anthropic.Anthropic, primary: Upstream, secondary: Upstream, model: str
) -> None:
    for upstream in (primary, secondary):
        upstream.fault("cut_after=6")

    with (
        pytest.raises(anthropic.APIError),
        claude.messages.stream(model=model, max_tokens=100, messages=ASKED) as stream,
    ):
        stream.get_final_message()


def test_models_are_listed_in_the_shape_of_each_sdk(oai: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    assert "gpt-4o-mini" in {model.id for model in oai.models.list()}
    assert "claude-sonnet-4-5" in {model.id for model in claude.models.list()}
    assert claude.models.retrieve("claude-sonnet-4-5").type == "model"


def test_a_provider_s_limits_reach_its_own_clients_and_its_id_reaches_all(oai: openai.OpenAI) -> None:
    own = oai.chat.completions.with_raw_response.create(model=PROVIDERS[0], messages=ASKED)
    other = oai.chat.completions.with_raw_response.create(model=PROVIDERS[1], messages=ASKED)

    assert own.headers["x-ratelimit-remaining-requests"] == "99"
    assert "x-ratelimit-remaining-requests" not in other.headers
    assert own.headers["x-upstream-request-id"] == other.headers["x-upstream-request-id"] == "req_simulated"
    assert own.headers["x-request-id"] != "req_simulated"


@both
def test_what_a_coding_agent_sends_is_served_by_any_provider(
    claude: anthropic.Anthropic, primary: Upstream, secondary: Upstream, model: str
) -> None:
    """The shape of an agent's requests: cached instructions, many tools, a loop in its middle, thoughts, betas, new fields."""
    ephemeral: Any = {"type": "ephemeral", "ttl": "1h"}
    tools: Any = [
        {**LOOK_A, "name": f"tool_{n}", "description": "d" * 500, "cache_control": ephemeral if n == 29 else None}
        for n in range(30)
    ]
    messages: Any = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "<reminder>be careful</reminder>"}, {"type": "text", "text": "Go."}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "tool_1", "input": {"a": "x"}},
                {"type": "tool_use", "id": "toolu_2", "name": "tool_2", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "seen"},
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "content": [{"type": "text", "text": "no"}],
                    "is_error": True,
                },
                {"type": "text", "text": "Go on.", "cache_control": ephemeral},
            ],
        },
    ]
    with claude.messages.stream(
        model=model,
        max_tokens=32000,
        system=[{"type": "text", "text": "You are an agent.", "cache_control": ephemeral}],
        messages=messages,
        tools=[{k: v for k, v in tool.items() if v is not None} for tool in tools],  # type: ignore[misc] # tools
        metadata={"user_id": "user_1"},
        extra_headers={"anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14"},
        extra_query={"beta": "true"},
        extra_body={"context_management": {"edits": []}, "thinking": {"type": "enabled", "budget_tokens": 4000}},
    ) as stream:
        final = stream.get_final_message()
        told = stream.response.headers.get("x-runestone-dropped", "")

    assert final.content[-1].type == "text"
    assert final.content[-1].text.startswith(words(model))
    to_openai = model == PROVIDERS[0]
    assert set(filter(None, told.split(","))) == (
        {"context_management", "thinking", "cache_control"} if to_openai else set()
    )
    (request,) = (primary if to_openai else secondary).requests()
    assert len(request["body"]["tools"]) == 30
    assert len(request["body"]["messages"]) == (6 if to_openai else 3)
