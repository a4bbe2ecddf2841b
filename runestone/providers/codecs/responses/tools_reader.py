"""The tools of responses, and whether one must be called. Tools that the provider itself runs are no other provider's."""

from __future__ import annotations

from runestone.domain.conversation import Refused, Tool, ToolChoice
from runestone.providers.codecs.fields import is_table, table, text


def tools_of(given: object) -> tuple[Tool, ...]:
    """The tools of the client. Raises :class:`Refused`."""
    if given is None:
        return ()
    if not isinstance(given, list):
        raise Refused("tools", "tools must be a list.")
    return tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(given))


def choice_of(choice: object) -> ToolChoice | None:
    """Whether one must be called. Raises :class:`Refused`."""
    match choice:
        case None:
            return None
        case "auto" | "required" | "none":
            return ToolChoice(mode=choice)
        case {"type": "function", "name": str(name)}:
            return ToolChoice(mode="named", name=name)
        case {"type": "allowed_tools", "tools": list(entries), **rest}:
            names = [entry.get("name") for entry in entries if is_table(entry)]
            return ToolChoice(
                mode="required" if rest.get("mode") == "required" else "auto",
                allowed=tuple(name for name in names if isinstance(name, str)),
            )
        case _:
            raise Refused("tool_choice", "tool_choice must be auto, none, required or name a function.")


def _tool(tool: object, where: str) -> Tool:
    given = table(tool, where)
    if given.get("type") != "function":
        raise Refused(
            f"{where}.type",
            f"This provider has no tool of type {given.get('type')!s}: {where} can be a function alone.",
        )
    description, parameters, strict = given.get("description"), given.get("parameters"), given.get("strict")
    return Tool(
        name=text(given.get("name"), f"{where}.name"),
        description=description if isinstance(description, str) else None,
        schema=table(parameters, f"{where}.parameters") if parameters else None,
        strict=strict if isinstance(strict, bool) else None,
        where=where,
    )
