"""Anthropic's whole answers in OpenAI's words."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from runestone.domain.chat import ChatRequest, Usage
from runestone.domain.failure import FailureKind, UpstreamError
from runestone.providers.codecs import Completion, codec_for

CODEC = codec_for("anthropic")
CHAT = ChatRequest(request_id="r", wire="openai", model="m", stream=False, body={}, raw=b"{}")
MESSAGE: dict[str, Any] = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 10, "output_tokens": 5},
}


def read(**more: Any) -> Completion:
    return CODEC.completion(CHAT, orjson.dumps({**MESSAGE, **more}), created=7)


def told(**more: Any) -> dict[str, Any]:
    return dict(orjson.loads(read(**more).body))


def message(*blocks: object, **more: Any) -> dict[str, Any]:
    return dict(told(content=list(blocks), **more)["choices"][0]["message"])


def test_an_answer_as_a_whole() -> None:
    assert told() == {
        "id": "chatcmpl-01",
        "object": "chat.completion",
        "created": 7,
        "model": "claude-sonnet-4-5",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("reason_of_tomorrow", "stop"),
        (None, "stop"),
        ([], "stop"),
    ],
)
def test_stop_reasons(reason: object, finish: str) -> None:
    answer = read(stop_reason=reason)
    assert answer.finish_reason == finish
    assert orjson.loads(answer.body)["choices"][0]["finish_reason"] == finish


def test_cached_tokens_are_part_of_the_prompt_once() -> None:
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 30,
        "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 2},
    }
    answer = read(usage=usage)
    assert answer.usage == Usage(
        input_tokens=60, output_tokens=5, cached_tokens=30, cache_write_tokens=20, reasoning_tokens=2
    )
    assert orjson.loads(answer.body)["usage"] == {
        "prompt_tokens": 60,
        "completion_tokens": 5,
        "total_tokens": 65,
        "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": None, "cache_read_input_tokens": None, "output_tokens": "5", "output_tokens_details": 1},
        {"input_tokens": -1, "output_tokens": 2**64 - 1},
        {},
    ],
)
def test_counts_that_are_null_or_odd_are_zero(usage: dict[str, Any]) -> None:
    assert read(usage=usage).usage == Usage(input_tokens=0, output_tokens=0)


@pytest.mark.parametrize("usage", [None, [], 7])
def test_an_answer_without_usage_has_none(usage: object) -> None:
    assert read(usage=usage).usage is None
    assert "usage" not in told(usage=usage)


def test_tool_use_becomes_tool_calls_and_content_is_null_without_text() -> None:
    blocks = [
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"a": [1, "é"]}},
        {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    ]
    assert message(*blocks) == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {"id": "toolu_1", "type": "function", "function": {"name": "look", "arguments": '{"a":[1,"é"]}'}},
            {"id": "toolu_2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
        ],
    }
    assert message({"type": "text", "text": "Looking."}, blocks[0])["content"] == "Looking."


def test_what_a_server_did_for_itself_is_no_call_for_the_client() -> None:
    blocks = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
        {"type": "block_of_tomorrow"},
        "no block",
        {"type": "text", "text": "Found."},
    ]
    assert message(*blocks) == {"role": "assistant", "content": "Found.", "refusal": None}


def test_thinking_is_never_content_and_keeps_its_signature() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
    hidden = {"type": "redacted_thinking", "data": "xyz"}
    assert message(thought, hidden, {"type": "text", "text": "Ah."}) == {
        "role": "assistant",
        "content": "Ah.",
        "refusal": None,
        "reasoning_content": "Hm.",
        "thinking_blocks": [thought, hidden],
    }


@pytest.mark.parametrize("thought", [{"type": "thinking"}, {"type": "thinking", "thinking": None}])
def test_a_thought_without_words_has_none(thought: dict[str, Any]) -> None:
    assert message(thought)["reasoning_content"] == ""


def test_a_refusal_says_why() -> None:
    refused = message(stop_reason="refusal", stop_details={"type": "refusal", "explanation": "No."})
    assert refused == {"role": "assistant", "content": "", "refusal": "No."}
    assert message(stop_reason="refusal")["refusal"] is None
    assert message(stop_details={"explanation": "No."})["refusal"] is None


def test_an_empty_answer_is_empty_text() -> None:
    assert message()["content"] == ""


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "invalid_answer"),
        (b"<html>", "invalid_answer"),
        (b"[]", "invalid_answer"),
        (b"\xff", "invalid_answer"),
        (b"{}", "invalid_answer"),
        (b'{"content":"Hello"}', "invalid_answer"),
        (b'{"content":[{"type":"tool_use","input":{"a":' + b"[" * 300 + b"]" * 300 + b"}}]}", "invalid_answer"),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}', "overloaded"),
        (b'{"type":"error","error":{"type":"api_error","message":"m"}}', "error_event"),
        (b'{"type":"error","error":{"type":"rate_limit_error","message":"m"}}', "rate_limited"),
        (b'{"type":"error","error":{"type":"billing_error","message":"m"}}', "quota_exceeded"),
    ],
)
def test_a_200_that_is_no_answer_is_a_failure(body: bytes, kind: FailureKind) -> None:
    with pytest.raises(UpstreamError) as caught:
        CODEC.completion(CHAT, body, created=1)
    assert caught.value.failure.kind == kind


def test_an_answer_that_lacks_names_is_told_all_the_same() -> None:
    answer = told(id=None, model=None, content=[{"type": "text"}, {"type": "text", "text": 7}, {"type": "tool_use"}])
    assert answer["id"] == "chatcmpl-unknown"
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"
