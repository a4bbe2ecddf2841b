"""Anthropic's system and messages as turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from runestone.domain.conversation import (
    Block,
    Document,
    Image,
    RedactedThinking,
    Refused,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)
from runestone.providers.codecs.cache_marks import cache_of
from runestone.providers.codecs.fields import is_table, table, text, text_or_none

_ROLES: Final[dict[object, Role]] = {"user": "user", "assistant": "assistant", "system": "system"}
_ALLOWED: Final[dict[Role, tuple[str, ...]]] = {
    "system": ("text",),
    "user": ("text", "image", "document", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
}
_IN_RESULTS: Final = ("text", "image", "document")


def turns_of(system: object, messages: object) -> tuple[Turn, ...]:
    """Instructions first, then one turn a message. Raises :class:`Refused`."""
    if not isinstance(messages, list) or not messages:
        raise Refused("messages", "messages must be a list with at least one message.")
    turns = [_turn(message, f"messages[{index}]") for index, message in enumerate(messages)]
    if instructions := _blocks(system, "system", ("text",)):
        turns.insert(0, Turn("system", instructions, where="system"))
    return tuple(turns)


def _turn(message: object, where: str) -> Turn:
    given = table(message, where)
    role = _ROLES.get(given.get("role")) if isinstance(given.get("role"), str) else None
    if role is None:
        raise Refused(f"{where}.role", f"{where}.role must be user or assistant.")
    return Turn(role, _blocks(given.get("content"), f"{where}.content", _ALLOWED[role]), where=where)


def _blocks(content: object, where: str, allowed: tuple[str, ...]) -> tuple[Block, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content, where=where),) if content else ()
    if not isinstance(content, list):
        raise Refused(where, f"{where} must be a string or a list of blocks.")
    return tuple(_block(block, f"{where}[{index}]", allowed) for index, block in enumerate(content))


def _block(block: object, place: str, allowed: tuple[str, ...]) -> Block:
    kind = block.get("type") if is_table(block) else None
    if not is_table(block) or kind not in allowed:
        raise Refused(f"{place}.type", f"This provider cannot be given {place} of type {kind!s}.")
    return _KINDS[kind](block, place)


def _text(block: Mapping[str, Any], place: str) -> Text:
    return Text(text(block.get("text"), f"{place}.text"), cache=cache_of(block), where=place)


def _image(block: Mapping[str, Any], place: str) -> Image:
    source, where = table(block.get("source"), f"{place}.source"), f"{place}.source"
    match source.get("type"):
        case "url":
            return Image(url=text(source.get("url"), f"{where}.url"), cache=cache_of(block), where=where)
        case "base64":
            return Image(
                media_type=text(source.get("media_type"), f"{where}.media_type"),
                data=text(source.get("data"), f"{where}.data"),
                cache=cache_of(block),
                where=where,
            )
        case kind:
            raise Refused(f"{where}.type", f"This provider cannot be given {where} of type {kind!s}.")


def _document(block: Mapping[str, Any], place: str) -> Document:
    source, where = table(block.get("source"), f"{place}.source"), f"{place}.source"
    title, cache = text_or_none(block, "title", f"{place}.title"), cache_of(block)
    match source.get("type"):
        case "url":
            url = text(source.get("url"), f"{where}.url")
            return Document(media_type="application/pdf", url=url, title=title, cache=cache, where=where)
        case "base64" | "text" as kind:
            media = source.get("media_type", "text/plain" if kind == "text" else None)
            return Document(
                media_type=text(media, f"{where}.media_type"),
                data=text(source.get("data"), f"{where}.data"),
                title=title,
                cache=cache,
                where=where,
            )
        case kind:
            raise Refused(f"{where}.type", f"This provider cannot be given {where} of type {kind!s}.")


def _thinking(block: Mapping[str, Any], place: str) -> Thinking:
    signature = text_or_none(block, "signature", f"{place}.signature")
    return Thinking(text=text(block.get("thinking"), f"{place}.thinking"), signature=signature or None, where=place)


def _redacted(block: Mapping[str, Any], place: str) -> RedactedThinking:
    return RedactedThinking(data=text(block.get("data"), f"{place}.data"), where=place)


def _call(block: Mapping[str, Any], place: str) -> ToolCall:
    return ToolCall(
        id=text(block.get("id"), f"{place}.id"),
        name=text(block.get("name"), f"{place}.name"),
        input=table(block.get("input", {}), f"{place}.input"),
        cache=cache_of(block),
        where=place,
    )


def _result(block: Mapping[str, Any], place: str) -> ToolResult:
    content = _blocks(block.get("content"), f"{place}.content", _IN_RESULTS)
    return ToolResult(
        id=text(block.get("tool_use_id"), f"{place}.tool_use_id"),
        content=content,  # type: ignore[arg-type] # of those kinds
        is_error=block.get("is_error") is True,
        cache=cache_of(block),
        where=place,
    )


_KINDS: Final[dict[str, Callable[[Mapping[str, Any], str], Block]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _call,
    "tool_result": _result,
}
