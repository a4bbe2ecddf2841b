"""Answers as responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson

from runestone.domain.answer import Answer, Finish
from runestone.domain.chat import ChatRequest, Usage
from runestone.domain.conversation import RedactedThinking, Text, Thinking, ToolCall
from runestone.domain.failure import Failure, UpstreamError
from runestone.providers.codecs.responses.thoughts import sealed

Item = dict[str, Any]
Status = Literal["in_progress", "completed", "incomplete"]
_INCOMPLETE: Final[dict[Finish, str]] = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED: Final = (
    "instructions", "max_output_tokens", "metadata", "safety_identifier", "service_tier", "temperature", "top_p", "truncation", "user"
)  # fmt: skip


def write(answer: Answer, chat: ChatRequest, created: int) -> dict[str, Any]:
    """A whole answer."""
    stem = stem_of(answer.id)
    output = [_item(block, f"{stem}_{index}") for index, block in enumerate(answer.blocks) if not _is_text(block)]
    parts = [text_part(block.text) for block in answer.blocks if isinstance(block, Text) and block.text]
    if answer.refusal:
        parts.append({"type": "refusal", "refusal": answer.refusal})
    if parts:
        thoughts = sum(item["type"] == "reasoning" for item in output)
        output.insert(thoughts, message(f"{stem}_{len(answer.blocks)}", parts, "completed"))
    return response(chat.body, stem, answer.model, created, output=output, finish=answer.finish, usage=answer.usage)


def response(
    asked: Mapping[str, Any],
    stem: str,
    model: str,
    created: int,
    *,
    output: list[Item],
    finish: Finish | None = None,
    usage: Usage | None = None,
) -> dict[str, Any]:
    """The object around the items; it tells the client what it has asked. ``finish`` is ``None`` while the answer is in progress."""
    reason = None if finish is None else _INCOMPLETE.get(finish)
    status: Status = "in_progress" if finish is None else "incomplete" if reason else "completed"
    return {
        "id": f"resp_{stem}",
        "object": "response",
        "created_at": created,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        **{name: asked.get(name) for name in _ECHOED},
        "model": model,
        "output": output,
        "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "reasoning": asked.get("reasoning") or {"effort": None, "summary": None},
        "store": False,
        "text": asked.get("text") or {"format": {"type": "text"}},
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": asked.get("tools") or [],
        "usage": None if usage is None else _usage(usage),
    }


def stem_of(given: str) -> str:
    """What all ids of one answer have in common."""
    return given.removeprefix("msg_").removeprefix("chatcmpl-") or "unknown"


def message(stem: str, parts: list[dict[str, Any]], status: Status) -> Item:
    """What the model said."""
    return {"id": f"msg_{stem}", "type": "message", "role": "assistant", "status": status, "content": parts}


def text_part(text: str) -> dict[str, Any]:
    """Words of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call(stem: str, id_: str, name: str, arguments: str, status: Status) -> Item:
    """A call of a function."""
    return {
        "id": f"fc_{stem}",
        "type": "function_call",
        "call_id": id_,
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def reasoning(stem: str, text: str, encrypted: str | None, status: Status) -> Item:
    """What the model thought."""
    summary = [{"type": "summary_text", "text": text}] if text else []
    return {
        "id": f"rs_{stem}",
        "type": "reasoning",
        "summary": summary,
        "encrypted_content": encrypted,
        "status": status,
    }


def _is_text(block: object) -> bool:
    return isinstance(block, Text)


def _item(block: Text | Thinking | RedactedThinking | ToolCall, stem: str) -> Item:
    if isinstance(block, ToolCall):
        try:
            arguments = orjson.dumps(dict(block.input)).decode()
        except orjson.JSONEncodeError:
            raise UpstreamError(Failure(kind="invalid_answer", message="the answer is nested too deeply")) from None
        return call(stem, block.id, block.name, arguments, "completed")
    assert not isinstance(block, Text)
    text = block.text if isinstance(block, Thinking) else ""
    return reasoning(stem, text, sealed(block), "completed")


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
