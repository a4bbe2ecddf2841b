"""Anthropic's tools, and whether one must be called. Tools that the provider itself runs are no other provider's."""

from __future__ import annotations

from typing import Any, Final, Literal

from runestone.domain.conversation import Refused, Tool, ToolChoice
from runestone.providers.codecs.cache_marks import cache_of
from runestone.providers.codecs.fields import is_table, table, text, text_or_none

_MODES: Final[dict[object, Literal["auto", "required", "none"]]] = {"auto": "auto", "any": "required", "none": "none"}


def tools_of(given: object) -> tuple[Tool, ...]:
    """The tools of the client. Raises :class:`Refused`."""
    if given is None:
        return ()
    if not isinstance(given, list):
        raise Refused("tools", "tools must be a list.")
    return tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(given))


def choice_of(choice: object) -> ToolChoice | None:
    """Whether one must be called. Raises :class:`Refused`."""
    if choice is None:
        return None
    given: Any = table(choice, "tool_choice")
    kind = given.get("type")
    if kind == "tool":
        return ToolChoice(mode="named", name=text(given.get("name"), "tool_choice.name"))
    if not isinstance(kind, str) or kind not in _MODES:
        raise Refused("tool_choice.type", "tool_choice.type must be auto, any, tool or none.")
    return ToolChoice(mode=_MODES[kind])


def parallel(choice: object) -> bool:
    """Whether several may be called at once."""
    return not (is_table(choice) and choice.get("disable_parallel_tool_use") is True)


def _tool(tool: object, where: str) -> Tool:
    given = table(tool, where)
    if given.get("type", "custom") not in (None, "custom"):
        raise Refused(
            f"{where}.type",
            f"This provider has no tool of type {given['type']!s}: {where} can be a tool of yours alone.",
        )
    schema, strict = given.get("input_schema"), given.get("strict")
    return Tool(
        name=text(given.get("name"), f"{where}.name"),
        description=text_or_none(given, "description", f"{where}.description"),
        schema=table(schema, f"{where}.input_schema") if schema else None,
        strict=strict if isinstance(strict, bool) else None,
        cache=cache_of(given),
        where=where,
    )
