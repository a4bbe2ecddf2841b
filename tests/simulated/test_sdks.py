"""The official SDKs take a simulated provider for a real one: sync and async, streamed and whole, served and failed."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import openai
import pytest

from tests.simulated.running import QUESTION, Running, running

ANSWER = (
    "sim: this is a simulated answer with some plausible words in ["
    + '[{"role": "user", "content": "Hello"}]'[-40:]
    + "]"
)


def ask_openai(sim: Running, *, stream: bool, **more: Any) -> tuple[str, str | None, int]:
    """The text, why it ended, and how many tokens it had."""
    create = sim.openai().chat.completions.create
    if not stream:
        whole = create(model="m", messages=QUESTION, **more)  # type: ignore[arg-type]
        assert whole.usage is not None
        return whole.choices[0].message.content or "", whole.choices[0].finish_reason, whole.usage.completion_tokens
    text, reason, tokens = "", None, 0
    options = {"include_usage": True}
    with create(model="m", messages=QUESTION, stream=True, stream_options=options, **more) as chunks:  # type: ignore[call-overload]
        for chunk in chunks:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    return text, reason, tokens


async def ask_openai_async(sim: Running, *, stream: bool) -> tuple[str, str | None, int]:
    text, reason, tokens = "", None, 0
    async with openai.AsyncOpenAI(base_url=sim.provider.url, api_key="k", max_retries=0) as client:
        create: Any = client.chat.completions.create
        if not stream:
            whole = await create(model="m", messages=QUESTION)
            return whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage.completion_tokens
        options = {"include_usage": True}
        async with await create(model="m", messages=QUESTION, stream=True, stream_options=options) as chunks:
            async for chunk in chunks:
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    reason = choice.finish_reason or reason
                tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    return text, reason, tokens


def ask_anthropic(sim: Running, *, stream: bool) -> tuple[str, str | None, int]:
    messages: Any = QUESTION
    client = sim.anthropic()
    if stream:
        with client.messages.stream(model="m", max_tokens=100, messages=messages) as events:
            assert "".join(events.text_stream) == events.get_final_text()
            message: Any = events.get_final_message()
    else:
        message = client.messages.create(model="m", max_tokens=100, messages=messages)
    block = message.content[0]
    return block.text, message.stop_reason, message.usage.output_tokens


async def ask_anthropic_async(sim: Running, *, stream: bool) -> tuple[str, str | None, int]:
    messages: Any = QUESTION
    url = sim.provider.url.removesuffix("/v1")
    async with anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client:
        if stream:
            async with client.messages.stream(model="m", max_tokens=100, messages=messages) as events:
                message: Any = await events.get_final_message()
        else:
            message = await client.messages.create(model="m", max_tokens=100, messages=messages)
    block = message.content[0]
    return block.text, message.stop_reason, message.usage.output_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_the_openai_sdk_gets_the_answer(any_sim: Running, stream: bool) -> None:
    assert ask_openai(any_sim, stream=stream) == (ANSWER, "stop", 12)
    assert asyncio.run(ask_openai_async(any_sim, stream=stream)) == (ANSWER, "stop", 12)


@pytest.mark.parametrize("stream", [False, True])
def test_the_anthropic_sdk_gets_the_answer(any_sim: Running, stream: bool) -> None:
    assert ask_anthropic(any_sim, stream=stream) == (ANSWER, "end_turn", 12)
    assert asyncio.run(ask_anthropic_async(any_sim, stream=stream)) == (ANSWER, "end_turn", 12)


@pytest.mark.parametrize("tokens", [0, 1, 2, 3, 1000])
@pytest.mark.parametrize("stream", [False, True])
def test_the_answer_has_as_many_pieces_as_were_asked_for(sim: Running, tokens: int, stream: bool) -> None:
    sim.fault(f"tokens={tokens}")

    text, reason, counted = ask_openai(sim, stream=stream)

    assert (reason, counted) == ("stop", max(tokens, 1))
    assert text.startswith("sim:")
    assert len(text.partition(" [")[0].split()) == max(tokens - 1, 1)
    assert ask_anthropic(sim, stream=stream) == (text, "end_turn", max(tokens, 1))


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", [False, True])
def test_the_same_question_has_the_same_answer_byte_for_byte(wire: str, stream: bool) -> None:
    answers = []
    for loop in ("asyncio", "uvloop"):
        with running(loop=loop) as sim:
            sim.fault("tokens=2000")
            answers += [sim.post(wire, stream=stream).content for _ in range(2)]

    assert len(set(answers)) == 1
    assert len(answers[0]) > 2000


def test_another_provider_and_another_question_have_other_answers(sim: Running) -> None:
    with running(name="other") as other:
        assert sim.post().content != other.post().content
    assert sim.post().content != sim.post(messages=[{"role": "user", "content": "Bye"}]).content


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look"}}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_that_must_be_called_is_called(sim: Running, choice: Any, stream: bool) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    create: Any = sim.openai().chat.completions.create
    if stream:
        stream_: Any = sim.openai().chat.completions.stream
        with stream_(model="m", messages=QUESTION, tools=[tool], tool_choice=choice) as chunks:
            answer = chunks.get_final_completion().choices[0]
    else:
        answer = create(model="m", messages=QUESTION, tools=[tool], tool_choice=choice).choices[0]
    calls, reason = answer.message.tool_calls, answer.finish_reason
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [("call_simulated", "look", "{}")]
    assert reason == "tool_calls"


def test_the_usage_comes_only_where_it_was_asked_for(sim: Running) -> None:
    assert b'"usage"' not in sim.post(stream=True).content
    assert b'"usage"' in sim.post(stream=True, stream_options={"include_usage": True}).content


def test_the_models_are_listed(sim: Running) -> None:
    assert [model.id for model in sim.openai().models.list()] == ["gpt-4o-mini"]


# -- errors ------------------------------------------------------------------------------------------------------------

STATUSES = [
    (400, openai.BadRequestError, anthropic.BadRequestError),
    (401, openai.AuthenticationError, anthropic.AuthenticationError),
    (403, openai.PermissionDeniedError, anthropic.PermissionDeniedError),
    (404, openai.NotFoundError, anthropic.NotFoundError),
    (413, openai.APIStatusError, anthropic.RequestTooLargeError),
    (429, openai.RateLimitError, anthropic.RateLimitError),
    (500, openai.InternalServerError, anthropic.InternalServerError),
    (503, openai.InternalServerError, anthropic.ServiceUnavailableError),
    (529, openai.InternalServerError, anthropic.OverloadedError),
]


@pytest.mark.parametrize(("status", "of_openai", "of_anthropic"), STATUSES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_status_is_raised_as_the_sdks_own_error(
    sim: Running, status: int, of_openai: type[Exception], of_anthropic: type[Exception], stream: bool
) -> None:
    sim.fault(f"status={status} retry_after=7")
    with pytest.raises(of_openai) as raised:
        ask_openai(sim, stream=stream)
    error = raised.value
    assert isinstance(error, openai.APIStatusError)
    assert (error.status_code, error.response.headers["retry-after"]) == (status, "7")
    assert error.body is not None
    with pytest.raises(of_anthropic) as raised:
        ask_anthropic(sim, stream=stream)
    assert isinstance(raised.value, anthropic.APIStatusError)
    assert raised.value.status_code == status


@pytest.mark.parametrize("fault", ["refused", "reset"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_connection_that_fails_is_raised_as_such(sim: Running, fault: str, stream: bool) -> None:
    sim.fault(fault)
    with pytest.raises(openai.APIConnectionError):
        ask_openai(sim, stream=stream)
    with pytest.raises(anthropic.APIConnectionError):
        ask_anthropic(sim, stream=stream)


def test_a_stall_is_a_timeout(sim: Running) -> None:
    messages: Any = QUESTION
    sim.fault("stall")
    with pytest.raises(openai.APITimeoutError):
        sim.openai(timeout=0.2).chat.completions.create(model="m", messages=messages)
    with pytest.raises(anthropic.APITimeoutError):
        sim.anthropic(timeout=0.2).messages.create(model="m", max_tokens=1, messages=messages)


@pytest.mark.parametrize("fault", ["error_event", "error_event_after=3"])
def test_an_error_inside_a_stream_is_raised(sim: Running, fault: str) -> None:
    sim.fault(fault)
    with pytest.raises(openai.APIError, match="simulated error 500"):
        ask_openai(sim, stream=True)
    with pytest.raises(anthropic.APIStatusError, match="simulated overload"):
        ask_anthropic(sim, stream=True)


def test_responses_are_served_whole_and_streamed(sim: Running) -> None:
    client = sim.openai()
    whole = client.responses.create(model="m", input="Hello")
    with client.responses.stream(model="m", input="Hello") as stream:
        numbers = [event.sequence_number for event in stream]
        streamed = stream.get_final_response()

    assert whole.output_text == streamed.output_text
    assert whole.output_text.startswith("sim: this is")
    assert numbers == list(range(len(numbers)))
    assert whole.usage is not None
    assert whole.usage.total_tokens == 9 + 12


def test_a_function_is_called_in_responses(sim: Running) -> None:
    tool: Any = {
        "type": "function",
        "name": "look",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    }
    with sim.openai().responses.stream(model="m", input="Hello", tools=[tool], tool_choice="required") as stream:
        (call,) = stream.get_final_response().output

    assert call.type == "function_call"
    assert (call.name, call.arguments) == ("look", "{}")


def test_the_older_completions_are_served_whole_and_streamed(sim: Running) -> None:
    client = sim.openai()
    whole = client.completions.create(model="m", prompt="Hello").choices[0].text
    chunks = client.completions.create(model="m", prompt="Hello", stream=True)

    assert "".join(chunk.choices[0].text for chunk in chunks) == whole
    assert whole.startswith("sim: this is")


def test_embeddings_are_the_same_packed_and_as_numbers(sim: Running) -> None:
    client = sim.openai()
    packed = client.embeddings.create(model="m", input=["one", "three"])
    plain = client.embeddings.create(model="m", input=["one", "three"], encoding_format="float")

    assert [e.embedding for e in packed.data] == [e.embedding for e in plain.data]
    assert packed.data[0].embedding != packed.data[1].embedding


def test_anthropic_s_tools_thoughts_counts_and_models(sim: Running) -> None:
    client, tool = sim.anthropic(), {"name": "look", "input_schema": {"type": "object"}}
    messages: Any = QUESTION
    with client.messages.stream(
        model="m",
        max_tokens=100,
        messages=messages,
        tools=[tool],  # type: ignore[list-item]
        tool_choice={"type": "any"},
        thinking={"type": "enabled", "budget_tokens": 1024},
    ) as stream:
        thought, call = stream.get_final_message().content

    assert thought.type == "thinking"
    assert (thought.thinking, thought.signature) == ("Let me see.", "c2lnbmVk")
    assert call.type == "tool_use"
    assert (call.name, call.input) == ("look", {})
    assert client.messages.count_tokens(model="m", messages=messages).input_tokens > 0
    assert [model.id for model in client.models.list()] == ["claude-sonnet-4-5"]
