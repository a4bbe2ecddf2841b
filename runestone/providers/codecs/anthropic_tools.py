"""OpenAI's tools and tool choice in Anthropic's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from runestone.providers.codecs.anthropic_messages import cache_control
from runestone.providers.codecs.refusal import Refused

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_NO_PARAMETERS: Final = {"type": "object", "properties": {}}


def tools_of(body: Mapping[str, Any], *, forced: bool) -> dict[str, Any]:
    """``tools`` and ``tool_choice``; nothing without tools. ``forced``: the model can be made to call one. Raises :class:`Refused`."""
    given = body.get("tools")
    if not given:
        return {}
    if not isinstance(given, list):
        raise Refused("tools", "tools must be a list.")
    tools = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(given)]
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        tools, choice = _allowed(tools, choice)
    out: dict[str, Any] = {"tools": tools}
    chosen = _choice(choice)
    if chosen is not None and chosen["type"] in ("any", "tool") and not forced:
        raise Refused("tool_choice", "This model cannot be made to call a tool: set tool_choice to auto.")
    if body.get("parallel_tool_calls") is False and (chosen is None or chosen["type"] != "none"):
        chosen = {**(chosen or {"type": "auto"}), "disable_parallel_tool_use": True}
    if chosen is not None:
        out["tool_choice"] = chosen
    return out


def _tool(tool: object, where: str) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(tool, Mapping) or tool.get("type") != "function" or not isinstance(function, Mapping):
        raise Refused(where, f"{where} must be of type function for this provider.")
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Refused(f"{where}.function.name", f"{where}.function.name must be 1 to 128 letters, digits, _ or -.")
    out: dict[str, Any] = {"name": name, "input_schema": function.get("parameters") or _NO_PARAMETERS}
    if isinstance(function.get("description"), str):
        out["description"] = function["description"]
    if isinstance(function.get("strict"), bool):
        out["strict"] = function["strict"]
    if (cache := cache_control(tool) or cache_control(function)) is not None:
        out["cache_control"] = cache
    return out


def _choice(choice: object) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in ("auto", "required", "none"):
        return {"type": "any" if choice == "required" else choice}
    function = choice.get("function") if isinstance(choice, Mapping) else None
    if isinstance(function, Mapping) and isinstance(function.get("name"), str):
        return {"type": "tool", "name": function["name"]}
    raise Refused("tool_choice", "tool_choice must be auto, none, required or name a function.")


def _allowed(tools: list[dict[str, Any]], choice: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    allowed = choice.get("allowed_tools", choice)
    entries = allowed.get("tools") if isinstance(allowed, Mapping) else None
    if not isinstance(allowed, Mapping) or not isinstance(entries, list):
        raise Refused("tool_choice", "tool_choice.allowed_tools must list tools.")
    functions = [entry.get("function", entry) for entry in entries if isinstance(entry, Mapping)]
    names = {function.get("name") for function in functions if isinstance(function, Mapping)}
    kept = [tool for tool in tools if tool["name"] in names]
    if not kept:
        raise Refused("tool_choice", "tool_choice.allowed_tools names none of the tools.")
    return kept, "required" if allowed.get("mode") == "required" else "auto"
