"""A body of Anthropic's messages as the canonical chat: the fields. Messages and tools have modules of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runestone.domain.conversation import Chat, Effort, Format, Reasoning, Refused
from runestone.providers.codecs.anthropic.messages_reader import turns_of
from runestone.providers.codecs.anthropic.tools_reader import choice_of, parallel, tools_of
from runestone.providers.codecs.fields import is_table, listed, number, positive, table, text, text_or_none

_EFFORTS: Final[dict[object, Effort]] = {
    "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"
}  # fmt: skip
_TIERS: Final = {"auto": "auto", "standard_only": "default"}
#: Fields that are read, or that mean nothing to a provider.
_KNOWN: Final = frozenset(
    {
        "model", "messages", "system", "stream", "max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "tools",
        "tool_choice", "thinking", "output_config", "output_format", "metadata", "service_tier", "mcp_servers",
    }
)  # fmt: skip


def read(body: Mapping[str, Any]) -> Chat:
    """What ``body`` asks. Raises :class:`Refused` for what no other wire can be asked, or what makes no sense."""
    if body.get("mcp_servers"):
        raise Refused("mcp_servers", "This provider talks to no MCP servers: leave mcp_servers out.")
    most = positive(body, "max_tokens")
    if most is None:
        raise Refused("max_tokens", "max_tokens is required: set it to a positive integer.")
    tools = tools_of(body.get("tools"))
    stop = body.get("stop_sequences")
    return Chat(
        turns=turns_of(body.get("system"), body.get("messages")),
        stream=body.get("stream") is True,
        max_tokens=most,
        temperature=number(body, "temperature"),
        top_p=number(body, "top_p"),
        top_k=positive(body, "top_k"),
        stop=() if stop is None else tuple(listed(stop, "stop_sequences", "a list of strings")),
        tools=tools,
        tool_choice=choice_of(body.get("tool_choice")) if tools else None,
        parallel_tools=parallel(body.get("tool_choice")),
        reasoning=_reasoning(body),
        format=_format(body),
        user=_user(body.get("metadata")),
        tier=_TIERS.get(text_or_none(body, "service_tier") or "", None),
        dropped=tuple(name for name, value in body.items() if name not in _KNOWN and value is not None),
    )


def _reasoning(body: Mapping[str, Any]) -> Reasoning | None:
    """How much to think. An effort without thinking is one all the same: it governs the whole answer."""
    config = body.get("output_config")
    effort = _EFFORTS.get(config.get("effort")) if is_table(config) and isinstance(config.get("effort"), str) else None
    thinking = body.get("thinking")
    if thinking is None:
        return None if effort is None else Reasoning(effort=effort, where="output_config.effort")
    match table(thinking, "thinking").get("type"):
        case "disabled":
            return Reasoning(effort="none", where="thinking")
        case "enabled":
            budget = positive(thinking, "budget_tokens", "thinking.budget_tokens")
            return Reasoning(effort=effort, budget=budget, where="thinking")
        case "adaptive" | "between_tools":
            return Reasoning(effort=effort, where="thinking")
        case _:
            raise Refused("thinking.type", "thinking.type must be enabled, adaptive or disabled for this provider.")


def _format(body: Mapping[str, Any]) -> Format | None:
    config = body.get("output_config")
    wanted, where = (config.get("format"), "output_config.format") if is_table(config) else (None, "")
    if wanted is None:
        wanted, where = body.get("output_format"), "output_format"
    if wanted is None:
        return None
    given = table(wanted, where)
    if given.get("type") != "json_schema" or not is_table(given.get("schema")):
        raise Refused(where, f"{where} must be of type json_schema with a schema.")
    return Format(kind="schema", schema=given["schema"], where=where)


def _user(metadata: object) -> str | None:
    if metadata is None:
        return None
    user = table(metadata, "metadata").get("user_id")
    return None if user is None else text(user, "metadata.user_id")
