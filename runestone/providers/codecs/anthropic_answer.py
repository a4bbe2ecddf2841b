"""Anthropic's answers in OpenAI's words: stop reasons, usage, whole messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from runestone.domain.chat import Usage
from runestone.providers.codecs.answer import Completion

_MOST_TOKENS: Final = 2**53  # what is larger is no count, and sums of it are no JSON
_FINISH: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def finish_of(stop_reason: object) -> str:
    """The finish reason; an unknown one is a stop."""
    return _FINISH.get(stop_reason, "stop") if isinstance(stop_reason, str) else "stop"


def refusal_of(stop_details: object) -> str | None:
    """What the model said when it refused."""
    text = stop_details.get("explanation") if isinstance(stop_details, Mapping) else None
    return text if isinstance(text, str) and text else None


def id_of(message_id: object) -> str:
    """The id that the client sees; the same message has always the same."""
    return "chatcmpl-" + (message_id.removeprefix("msg_") if isinstance(message_id, str) else "unknown")


def usage_of(usage: object) -> Usage | None:
    """Read a usage object; counts that are missing or null are 0."""
    if not isinstance(usage, Mapping):
        return None
    cached, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    return Usage(
        input_tokens=_count(usage, "input_tokens") + cached + written,
        output_tokens=_count(usage, "output_tokens"),
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=_count(usage.get("output_tokens_details"), "thinking_tokens"),
    )


def openai_usage(usage: Usage) -> dict[str, Any]:
    """The usage object that the client sees."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def completion_of(answer: Mapping[str, Any], *, created: int) -> Completion:
    """A whole message, whose ``content`` is a list, as a chat completion. Blocks of server tools and unknown ones are left out."""
    blocks = [block for block in answer["content"] if isinstance(block, Mapping)]
    texts = [block["text"] for block in blocks if block.get("type") == "text" and isinstance(block.get("text"), str)]
    calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
    thoughts = [dict(block) for block in blocks if block.get("type") in ("thinking", "redacted_thinking")]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
        "refusal": refusal_of(answer.get("stop_details")) if answer.get("stop_reason") == "refusal" else None,
    }
    if calls:
        message["tool_calls"] = calls
    if thoughts:
        message["reasoning_content"] = "".join(_words(block.get("thinking")) for block in thoughts)
        message["thinking_blocks"] = thoughts
    usage, finish = usage_of(answer.get("usage")), finish_of(answer.get("stop_reason"))
    body = {
        "id": id_of(answer.get("id")),
        "object": "chat.completion",
        "created": created,
        "model": answer.get("model"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
    }
    if usage is not None:
        body["usage"] = openai_usage(usage)
    return Completion(body=orjson.dumps(body), usage=usage, finish_reason=finish)


def _call(block: Mapping[str, Any]) -> dict[str, Any]:
    arguments = orjson.dumps(block.get("input") or {}).decode()
    return {"id": block.get("id"), "type": "function", "function": {"name": block.get("name"), "arguments": arguments}}


def _words(text: object) -> str:
    return text if isinstance(text, str) else ""


def _count(counts: object, name: str) -> int:
    value = counts.get(name) if isinstance(counts, Mapping) else None
    return value if isinstance(value, int) and 0 < value <= _MOST_TOKENS else 0
