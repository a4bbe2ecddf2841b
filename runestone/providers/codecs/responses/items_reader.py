"""The items of a request as turns: one an item, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runestone.domain.conversation import Block, Refused, Role, Text, ToolResult, Turn
from runestone.providers.codecs.cache_marks import cache_of
from runestone.providers.codecs.data_urls import document_in, image_at
from runestone.providers.codecs.fields import is_table, table, text
from runestone.providers.codecs.openai.messages_reader import call_of
from runestone.providers.codecs.responses.thoughts import opened

_ROLES: Final[dict[object, Role]] = {
    "user": "user", "assistant": "assistant", "system": "system", "developer": "system"
}  # fmt: skip


def turns_of(given: object) -> tuple[Turn, ...]:
    """The turns of ``input``: a string or a list of items. Raises :class:`Refused`."""
    if isinstance(given, str):
        return (Turn("user", (Text(given, where="input"),), where="input"),)
    if not isinstance(given, list) or not given:
        raise Refused("input", "input must be a string or a list with at least one item.")
    return tuple(_turn(table(item, f"input[{index}]"), f"input[{index}]") for index, item in enumerate(given))


def _turn(item: Mapping[str, Any], where: str) -> Turn:
    match item.get("type", "message"):
        case "message":
            role = _ROLES.get(item.get("role")) if isinstance(item.get("role"), str) else None
            if role is None:
                raise Refused(f"{where}.role", f"{where}.role must be user, assistant, system or developer.")
            return Turn(role, _blocks(item.get("content"), f"{where}.content"), where=where)
        case "function_call":
            return Turn(
                "assistant", (call_of(text(item.get("call_id"), f"{where}.call_id"), item, where),), where=where
            )
        case "function_call_output":
            call = text(item.get("call_id"), f"{where}.call_id")
            content = _blocks(item.get("output"), f"{where}.output")
            return Turn("user", (ToolResult(id=call, content=content, where=where),), where=where)  # type: ignore[arg-type] # of those kinds
        case "reasoning":
            return Turn("assistant", tuple(opened(item.get("encrypted_content"), where)), where=where)
        case kind:
            raise Refused(f"{where}.type", f"This provider cannot be given {where} of type {kind!s}.")


def _blocks(content: object, where: str) -> tuple[Block, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content, where=where),) if content else ()
    if not isinstance(content, list):
        raise Refused(where, f"{where} must be a string or a list of parts.")
    return tuple(_block(part, f"{where}[{index}]") for index, part in enumerate(content))


def _block(part: object, place: str) -> Block:
    given: Mapping[str, Any] = part if is_table(part) else {}
    match given.get("type"):
        case "input_text" | "output_text" | "text":
            return Text(text(given.get("text"), f"{place}.text"), cache=cache_of(given), where=place)
        case "refusal":
            return Text(text(given.get("refusal"), f"{place}.refusal"), where=place)
        case "input_image" if given.get("image_url") is not None:
            return image_at(given["image_url"], f"{place}.image_url", cache_of(given))
        case "input_file" if given.get("file_data") is not None:
            return document_in(given["file_data"], given.get("filename"), f"{place}.file_data", cache_of(given))
        case "input_image" | "input_file":
            raise Refused(place, f"This provider knows no uploaded files: give the content of {place} itself.")
        case kind:
            raise Refused(f"{place}.type", f"This provider cannot be given {place} of type {kind!s}.")
