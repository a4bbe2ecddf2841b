"""Answers as chat completions."""

from __future__ import annotations

from typing import Any

import orjson

from runestone.domain.answer import Answer
from runestone.domain.chat import ChatRequest, Usage
from runestone.domain.conversation import RedactedThinking, Text, Thinking, ToolCall
from runestone.domain.failure import Failure, UpstreamError


def write(answer: Answer, chat: ChatRequest, created: int) -> dict[str, Any]:
    """A whole answer. What the model thought is in ``reasoning_content``, and with its signature in ``thinking_blocks``."""
    del chat
    texts = [block.text for block in answer.blocks if isinstance(block, Text)]
    calls = [_call(block) for block in answer.blocks if isinstance(block, ToolCall)]
    thoughts = [block for block in answer.blocks if isinstance(block, Thinking | RedactedThinking)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
        "refusal": answer.refusal,
    }
    if calls:
        message["tool_calls"] = calls
    if thoughts:
        message["reasoning_content"] = "".join(block.text for block in thoughts if isinstance(block, Thinking))
        message["thinking_blocks"] = [thought(block) for block in thoughts]
    body: dict[str, Any] = {
        "id": id_of(answer.id),
        "object": "chat.completion",
        "created": created,
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}],
    }
    if answer.usage is not None:
        body["usage"] = usage(answer.usage)
    return body


def id_of(given: str) -> str:
    """The id that the client sees; the same answer has always the same."""
    return "chatcmpl-" + (given.removeprefix("msg_").removeprefix("chatcmpl-") or "unknown")


def usage(counted: Usage) -> dict[str, Any]:
    """The usage object that the client sees."""
    return {
        "prompt_tokens": counted.input_tokens,
        "completion_tokens": counted.output_tokens,
        "total_tokens": counted.input_tokens + counted.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": counted.cached_tokens,
            "cache_write_tokens": counted.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": counted.reasoning_tokens},
    }


def thought(block: Thinking | RedactedThinking) -> dict[str, Any]:
    """A thought as an extension that clients give back as it is."""
    if isinstance(block, RedactedThinking):
        return {"type": "redacted_thinking", "data": block.data}
    signature = {} if block.signature is None else {"signature": block.signature}
    return {"type": "thinking", "thinking": block.text} | signature


def _call(block: ToolCall) -> dict[str, Any]:
    try:
        arguments = orjson.dumps(dict(block.input)).decode()
    except orjson.JSONEncodeError:
        raise UpstreamError(Failure(kind="invalid_answer", message="the answer is nested too deeply")) from None
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}
