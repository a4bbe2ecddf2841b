"""The canonical chat as a body of Anthropic's messages: the fields. Turns and tools have modules of their own."""

from __future__ import annotations

from typing import Any, Final

import orjson

from runestone.domain.conversation import Chat, Effort, Refused
from runestone.providers.codecs.anthropic.models import Capabilities, capabilities
from runestone.providers.codecs.anthropic.schema import strict
from runestone.providers.codecs.anthropic.tools_writer import tools_of
from runestone.providers.codecs.anthropic.turns_writer import turns_of
from runestone.providers.codecs.efforts import effort_of

_MAX_TOKENS: Final = 4096
_BUDGETS: Final[dict[Effort, int]] = {
    "minimal": 1024, "low": 1024, "medium": 4096, "high": 8192, "xhigh": 16384, "max": 16384
}  # fmt: skip
_EFFORTS: Final[dict[Effort, str]] = {
    "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"
}  # fmt: skip
_TIERS: Final = {"auto": "auto", "default": "standard_only", "priority": "auto", "fast": "auto"}
_JSON_ONLY: Final = "Answer with one JSON object and nothing else."


def write(chat: Chat, model: str) -> tuple[dict[str, Any], list[str]]:
    """The body for ``model``, and the names of what was dropped. Raises :class:`Refused`."""
    able = capabilities(model)
    dropped: list[str] = []
    system, turns = turns_of(chat.turns, mid_system=able.mid_system)
    if turns[-1]["role"] == "assistant" and not able.prefill:
        raise Refused(
            "messages", "This model does not go on from an answer that was begun: end messages with a turn of the user."
        )
    out: dict[str, Any] = {"model": model, "max_tokens": chat.max_tokens or _MAX_TOKENS, "messages": turns}
    out |= tools_of(chat, forced=able.forced_tools)
    out |= _thinking(chat, out, able, dropped)
    out |= _sampling(chat, able, dropped, thinking="thinking" in out)
    out |= _output(chat, out, able, system, dropped)
    out |= _rest(chat, dropped)
    if system:
        out["system"] = system
    if chat.stream:
        out["stream"] = True
    return out, dropped


def _sampling(chat: Chat, able: Capabilities, dropped: list[str], *, thinking: bool) -> dict[str, Any]:
    wanted = {"temperature": chat.temperature, "top_p": chat.top_p, "top_k": chat.top_k}
    given = {name: value for name, value in wanted.items() if value is not None}
    if not able.sampling or thinking:
        dropped += [name for name, value in given.items() if value != 1]
        return {}
    if chat.temperature is not None and not 0 <= chat.temperature <= 1:
        given["temperature"] = min(max(chat.temperature, 0), 1)
        dropped.append("temperature")  # its range ends at 1 here: it is not what was asked for
    return given


def _thinking(chat: Chat, out: dict[str, Any], able: Capabilities, dropped: list[str]) -> dict[str, Any]:
    wanted = chat.reasoning
    if wanted is None or (effort := wanted.effort or effort_of(wanted.budget)) == "none":
        return {}
    forced = out.get("tool_choice", {}).get("type") in ("any", "tool")
    if not forced and not _unsigned_tool_use(out["messages"]):
        if able.adaptive:
            level = "max" if effort == "xhigh" and not able.xhigh else _EFFORTS[effort]
            return {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": level}}
        # The budget counts among the most tokens: where the client set none, the answer keeps its room.
        most = _BUDGETS[effort] + _MAX_TOKENS if chat.max_tokens is None else chat.max_tokens
        if able.budgets and most > _BUDGETS["minimal"]:
            budget = min(wanted.budget or _BUDGETS[effort], most - 1)
            return {"thinking": {"type": "enabled", "budget_tokens": budget}, "max_tokens": most}
    dropped.append(wanted.where)
    return {}


def _unsigned_tool_use(turns: list[dict[str, Any]]) -> bool:
    """A tool loop that began without thinking cannot go on with it."""
    last: list[dict[str, Any]] = next((turn["content"] for turn in reversed(turns) if turn["role"] == "assistant"), [])
    kinds = [block["type"] for block in last]
    return "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking")


def _output(
    chat: Chat, out: dict[str, Any], able: Capabilities, system: list[dict[str, Any]], dropped: list[str]
) -> dict[str, Any]:
    wanted = chat.format
    if wanted is None:
        return {}
    if wanted.kind == "json":
        system.append({"type": "text", "text": _JSON_ONLY})
        dropped.append(wanted.where)
        return {}
    if not able.schemas:
        raise Refused(wanted.where, "This model takes no JSON schema: choose a newer one.")
    try:
        closed = strict(wanted.schema)
    except (RecursionError, orjson.JSONEncodeError):
        raise Refused(wanted.where, f"The schema of {wanted.where} is nested too deeply.") from None
    return {"output_config": {**out.get("output_config", {}), "format": {"type": "json_schema", "schema": closed}}}


def _rest(chat: Chat, dropped: list[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if stops := [item for item in chat.stop if item.strip()]:
        out["stop_sequences"] = stops
    if chat.user:
        out["metadata"] = {"user_id": chat.user}
    if chat.tier in _TIERS:
        out["service_tier"] = _TIERS[chat.tier]
    elif chat.tier is not None:
        dropped.append("service_tier")
    return out
