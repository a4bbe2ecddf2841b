"""The canonical chat as a body of chat completions: the fields. Turns have a module of their own."""

from __future__ import annotations

from typing import Any, Final

from runestone.domain.conversation import Chat, Format, Refused, Tool, ToolChoice
from runestone.providers.codecs.efforts import effort_of
from runestone.providers.codecs.openai.models import reasons
from runestone.providers.codecs.openai.schema import is_strict
from runestone.providers.codecs.openai.turns_writer import messages_of
from runestone.providers.codecs.tool_names import shortened

_STOPS: Final = 4
_FORMAT_NAME: Final = "answer"


def write(chat: Chat, model: str) -> tuple[dict[str, Any], list[str]]:
    """The body for ``model``, and the names of what was dropped. Raises :class:`Refused`."""
    dropped: list[str] = []
    if _marked(chat):
        dropped.append("cache_control")  # this wire caches by itself
    reasoning = reasons(model)
    messages = messages_of(chat.turns, instructor="developer" if reasoning else "system")
    out: dict[str, Any] = {"model": model, "messages": messages}
    if chat.max_tokens is not None:
        out["max_completion_tokens" if reasoning else "max_tokens"] = chat.max_tokens
    out |= _sampling(chat, dropped, reasoning=reasoning)
    out |= _thinking(chat, dropped, reasoning=reasoning)
    out |= _tools(chat)
    if chat.format is not None:
        out["response_format"] = _format(chat.format)
    if chat.user:
        out["safety_identifier"] = chat.user
    if chat.tier is not None:
        out["service_tier"] = chat.tier
    if chat.stream:
        out |= {"stream": True, "stream_options": {"include_usage": True}}
    return out, dropped


def _marked(chat: Chat) -> bool:
    blocks = (block for turn in chat.turns for block in turn.blocks)
    return any(getattr(part, "cache", None) is not None for part in (*blocks, *chat.tools))


def _sampling(chat: Chat, dropped: list[str], *, reasoning: bool) -> dict[str, Any]:
    if len(chat.stop) > _STOPS:
        raise Refused("stop_sequences", f"This provider takes {_STOPS} stop sequences at the most.")
    given: dict[str, Any] = {"temperature": chat.temperature, "top_p": chat.top_p, "stop": list(chat.stop) or None}
    if chat.top_k is not None:
        dropped.append("top_k")
    if reasoning:
        dropped += [
            "stop_sequences" if name == "stop" else name for name, value in given.items() if value not in (None, 1)
        ]
        return {}
    return {name: value for name, value in given.items() if value is not None}


def _thinking(chat: Chat, dropped: list[str], *, reasoning: bool) -> dict[str, Any]:
    wanted = chat.reasoning
    if wanted is None:
        return {}
    if not reasoning:
        if wanted.effort != "none":
            dropped.append(wanted.where)
        return {}
    return {"reasoning_effort": wanted.effort or effort_of(wanted.budget)}


def _tools(chat: Chat) -> dict[str, Any]:
    if not chat.tools:
        return {}
    out: dict[str, Any] = {"tools": [_tool(tool) for tool in chat.tools]}
    if (choice := chat.tool_choice) is not None:
        out["tool_choice"] = _choice(choice)
    if not chat.parallel_tools:
        out["parallel_tool_calls"] = False
    return out


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": shortened(tool.name)}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.schema is not None:
        function["parameters"] = tool.schema
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: ToolChoice) -> Any:
    if choice.allowed is not None:
        tools = [{"type": "function", "function": {"name": shortened(name)}} for name in choice.allowed]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": tools}}
    if choice.mode == "named":
        return {"type": "function", "function": {"name": shortened(choice.name or "")}}
    return choice.mode


def _format(wanted: Format) -> dict[str, Any]:
    if wanted.kind == "json":
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": wanted.name or _FORMAT_NAME, "schema": wanted.schema}
    if wanted.description is not None:
        schema["description"] = wanted.description
    strict = wanted.strict if wanted.strict is not None else is_strict(wanted.schema)
    if strict is not None:
        schema["strict"] = strict
    return {"type": "json_schema", "json_schema": schema}
