"""Tools, and whether one must be called, in Anthropic's words."""

from __future__ import annotations

import re
from typing import Any, Final

from runestone.domain.conversation import Chat, Refused, Tool
from runestone.providers.codecs.cache_marks import marked

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_NO_PARAMETERS: Final = {"type": "object", "properties": {}}
_MODES: Final = {"auto": "auto", "required": "any", "none": "none"}


def tools_of(chat: Chat, *, forced: bool) -> dict[str, Any]:
    """``tools`` and ``tool_choice``; nothing without tools. ``forced``: the model can be made to call one. Raises :class:`Refused`."""
    if not chat.tools:
        return {}
    choice = chat.tool_choice
    tools = [_tool(tool) for tool in chat.tools]
    if choice is not None and choice.allowed is not None:
        tools = [tool for tool in tools if tool["name"] in choice.allowed]
        if not tools:
            raise Refused(choice.where, f"{choice.where} allows none of the tools.")
    out: dict[str, Any] = {"tools": tools}
    chosen: dict[str, Any] | None = None
    if choice is not None:
        chosen = {"type": "tool", "name": choice.name} if choice.mode == "named" else {"type": _MODES[choice.mode]}
        if chosen["type"] in ("any", "tool") and not forced:
            raise Refused(choice.where, f"This model cannot be made to call a tool: set {choice.where} to auto.")
    if not chat.parallel_tools and (chosen is None or chosen["type"] != "none"):
        chosen = {**(chosen or {"type": "auto"}), "disable_parallel_tool_use": True}
    if chosen is not None:
        out["tool_choice"] = chosen
    return out


def _tool(tool: Tool) -> dict[str, Any]:
    if not _NAME.fullmatch(tool.name):
        raise Refused(f"{tool.where}.name", f"{tool.where}.name must be 1 to 128 letters, digits, _ or -.")
    out: dict[str, Any] = {"name": tool.name, "input_schema": tool.schema or _NO_PARAMETERS}
    if tool.description is not None:
        out["description"] = tool.description
    if tool.strict is not None:
        out["strict"] = tool.strict
    return marked(out, tool.cache)
