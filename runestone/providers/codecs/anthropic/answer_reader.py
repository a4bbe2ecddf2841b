"""Anthropic's answers: stop reasons, usage, whole messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runestone.domain.answer import Answer, Finish
from runestone.domain.chat import Usage
from runestone.domain.conversation import RedactedThinking, Text, Thinking, ToolCall
from runestone.domain.failure import Failure, UpstreamError
from runestone.providers.codecs.counts import count_at, region_of, tier_of

_FINISH: Final[dict[object, Finish]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def read(answer: Mapping[str, Any]) -> Answer:
    """A whole message. Blocks of the provider's own tools and unknown ones are left out. Raises :class:`UpstreamError`."""
    content = answer.get("content")
    if not isinstance(content, list):
        raise UpstreamError(Failure(kind="invalid_answer", message="the answer has no content"))
    refused = answer.get("stop_reason") == "refusal"
    return Answer(
        id=words(answer.get("id")),
        model=words(answer.get("model")),
        blocks=tuple(block for given in content if (block := _block(given)) is not None),
        finish=finish_of(answer.get("stop_reason")),
        refusal=refusal_of(answer.get("stop_details")) if refused else None,
        usage=usage_of(answer.get("usage")),
    )


def finish_of(stop_reason: object) -> Finish:
    """The finish reason; an unknown one is a stop."""
    return _FINISH.get(stop_reason, "stop") if isinstance(stop_reason, str) else "stop"


def refusal_of(stop_details: object) -> str | None:
    """What the model said when it refused."""
    text = stop_details.get("explanation") if isinstance(stop_details, Mapping) else None
    return text if isinstance(text, str) and text else None


def usage_of(usage: object) -> Usage | None:
    """Read a usage object; counts that are missing or null are 0. Here input does not include what was cached."""
    if not isinstance(usage, Mapping):
        return None
    cached, written = count_at(usage, "cache_read_input_tokens"), count_at(usage, "cache_creation_input_tokens")
    tier = tier_of(usage.get("service_tier"))
    return Usage(
        input_tokens=count_at(usage, "input_tokens") + cached + written,
        output_tokens=count_at(usage, "output_tokens"),
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=count_at(usage, "output_tokens_details", "thinking_tokens"),
        cache_write_1h_tokens=min(written, count_at(usage, "cache_creation", "ephemeral_1h_input_tokens")),
        web_searches=count_at(usage, "server_tool_use", "web_search_requests"),
        service_tier="fast" if tier == "standard" and usage.get("speed") == "fast" else tier,
        region=region_of(usage.get("inference_geo")),
    )


def words(text: object) -> str:
    """``text`` if it is one."""
    return text if isinstance(text, str) else ""


def _block(block: object) -> Text | Thinking | RedactedThinking | ToolCall | None:
    if not isinstance(block, Mapping):
        return None
    match block.get("type"):
        case "text" if isinstance(block.get("text"), str):
            return Text(block["text"])
        case "tool_use":
            given = block.get("input")
            return ToolCall(
                id=words(block.get("id")), name=words(block.get("name")), input=given if isinstance(given, dict) else {}
            )
        case "thinking":
            signature = block.get("signature")
            return Thinking(
                text=words(block.get("thinking")), signature=signature if isinstance(signature, str) else None
            )
        case "redacted_thinking":
            return RedactedThinking(data=words(block.get("data")))
        case _:
            return None
