"""The tools of chat completions, and whether one must be called; the older functions are tools too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runestone.domain.conversation import Refused, Tool, ToolChoice
from runestone.providers.codecs.cache_marks import cache_of
from runestone.providers.codecs.fields import is_table, table, text


def tools_of(body: Mapping[str, Any]) -> tuple[Tool, ...]:
    """The tools that are offered. Raises :class:`Refused`."""
    given = body.get("tools") or []
    if not isinstance(given, list):
        raise Refused("tools", "tools must be a list.")
    tools = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(given)]
    functions = body.get("functions") or []
    if not isinstance(functions, list):
        raise Refused("functions", "functions must be a list.")
    tools += [_function(table(f, f"functions[{i}]"), f"functions[{i}]") for i, f in enumerate(functions)]
    return tuple(tools)


def choice_of(body: Mapping[str, Any]) -> ToolChoice | None:
    """Whether one must be called. Raises :class:`Refused`."""
    choice = body.get("tool_choice")
    if choice is None:
        return _older(body.get("function_call"))
    if isinstance(choice, str) and choice in ("auto", "required", "none"):
        return ToolChoice(mode=choice)  # type: ignore[arg-type] # one of them
    if is_table(choice) and choice.get("type") == "allowed_tools":
        return _allowed(choice)
    function = choice.get("function") if is_table(choice) else None
    if is_table(function) and isinstance(function.get("name"), str):
        return ToolChoice(mode="named", name=function["name"])
    raise Refused("tool_choice", "tool_choice must be auto, none, required or name a function.")


def _tool(tool: object, where: str) -> Tool:
    function = tool.get("function") if is_table(tool) else None
    if not is_table(tool) or tool.get("type") != "function" or not is_table(function):
        raise Refused(where, f"{where} must be of type function for this provider.")
    return _function(function, f"{where}.function", tool)


def _function(function: Mapping[str, Any], where: str, around: Mapping[str, Any] | None = None) -> Tool:
    description, strict = function.get("description"), function.get("strict")
    parameters = function.get("parameters")
    return Tool(
        name=text(function.get("name"), f"{where}.name"),
        description=description if isinstance(description, str) else None,
        schema=table(parameters, f"{where}.parameters") if parameters else None,
        strict=strict if isinstance(strict, bool) else None,
        cache=cache_of(around or {}) or cache_of(function),
        where=where,
    )


def _older(call: object) -> ToolChoice | None:
    match call:
        case None:
            return None
        case "auto" | "none":
            return ToolChoice(mode=call, where="function_call")
        case {"name": str(name)}:
            return ToolChoice(mode="named", name=name, where="function_call")
        case _:
            raise Refused("function_call", "function_call must be auto, none or name a function.")


def _allowed(choice: Mapping[str, Any]) -> ToolChoice:
    allowed = choice.get("allowed_tools", choice)
    entries = allowed.get("tools") if is_table(allowed) else None
    if not is_table(allowed) or not isinstance(entries, list):
        raise Refused("tool_choice", "tool_choice.allowed_tools must list tools.")
    functions = [entry.get("function", entry) for entry in entries if is_table(entry)]
    names = [function.get("name") for function in functions if is_table(function)]
    return ToolChoice(
        mode="required" if allowed.get("mode") == "required" else "auto",
        allowed=tuple(name for name in names if isinstance(name, str)),
    )
