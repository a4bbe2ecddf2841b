"""Answers as Anthropic's messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runestone.domain.answer import Answer, Finish
from runestone.domain.chat import ChatRequest, Usage
from runestone.domain.conversation import RedactedThinking, Text, Thinking, ToolCall
from runestone.providers.codecs.tool_names import originals

STOP_REASONS: Final[dict[Finish, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def write(answer: Answer, chat: ChatRequest, created: int) -> dict[str, Any]:
    """A whole answer. A thought that nobody has signed has an empty signature, as its provider would refuse any other."""
    del created
    names = originals(chat.body)
    content = [_block(block, names) for block in answer.blocks if not (isinstance(block, Text) and not block.text)]
    if answer.refusal:
        content.append({"type": "text", "text": answer.refusal})
    return {
        **head(answer.id, answer.model),
        "content": content,
        "stop_reason": "refusal" if answer.refusal else STOP_REASONS[answer.finish],
        "stop_sequence": None,
        "usage": usage(answer.usage),
    }


def head(given: str, model: str) -> dict[str, Any]:
    """What a message begins with; the same answer has always the same id."""
    id_ = "msg_" + (given.removeprefix("chatcmpl-").removeprefix("msg_") or "unknown")
    return {"id": id_, "type": "message", "role": "assistant", "model": model}


def usage(counted: Usage | None) -> dict[str, Any]:
    """The usage object: here input does not include what was cached. Zeros where nothing is known."""
    if counted is None:
        counted = Usage(input_tokens=0, output_tokens=0)
    cached, written = counted.cached_tokens, counted.cache_write_tokens
    return {
        "input_tokens": max(counted.input_tokens - cached - written, 0),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": counted.output_tokens,
    }


def _block(block: Text | Thinking | RedactedThinking | ToolCall, names: Mapping[str, str]) -> dict[str, Any]:
    match block:
        case Text():
            return {"type": "text", "text": block.text}
        case ToolCall():
            return {
                "type": "tool_use",
                "id": block.id,
                "name": names.get(block.name, block.name),
                "input": dict(block.input),
            }
        case Thinking():
            return {"type": "thinking", "thinking": block.text, "signature": block.signature or ""}
        case RedactedThinking():
            return {"type": "redacted_thinking", "data": block.data}
