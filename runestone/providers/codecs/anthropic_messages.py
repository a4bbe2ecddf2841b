"""OpenAI's messages as Anthropic's system blocks and turns."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import orjson

from runestone.providers.codecs.refusal import Refused

Block = dict[str, Any]

_IMAGES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
_TTLS: Final = {"30m": "1h", "12h": "1h", "24h": "1h"}  # the longest one here


def conversation(messages: object, *, mid_system: bool) -> tuple[list[Block], list[dict[str, Any]]]:
    """The system blocks and the turns: neighbours of the same role are one turn. Raises :class:`Refused`.

    Instructions that come later stay where they are if ``mid_system``, else they join the first ones: never lost, never another's words.
    """
    if not isinstance(messages, list) or not messages:
        raise Refused("messages", "messages must be a list with at least one message.")
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    awaited: set[str] = set()  # results must follow their calls at once: nothing may come between
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, Mapping):
            raise Refused(where, f"{where} must be an object.")
        role, blocks = _message(message, where)
        awaited |= {block["id"] for block in blocks if block["type"] == "tool_use"}
        awaited -= {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if role == "system" and not (mid_system and turns and not awaited):
            system += blocks
        elif blocks and turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if not turns:
        # One turn is needed: instructions alone are then the question.
        turns, system = ([{"role": "user", "content": system}] if system else []), []
    if not turns:
        raise Refused("messages", "Every message is empty: this provider needs one with content.")
    for turn in turns:
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")  # results come first in their turn
    return system, turns


def _message(message: Mapping[str, Any], where: str) -> tuple[str, list[Block]]:
    content = message.get("content")
    match message.get("role"):
        case "system" | "developer":
            return "system", _parts(content, where, ("text",))
        case "user":
            return "user", _parts(content, where, ("text", "image_url", "file"))
        case "assistant":
            return "assistant", _assistant(message, where)
        case "tool":
            result: Block = {"type": "tool_result", "tool_use_id": message.get("tool_call_id")}
            if not isinstance(result["tool_use_id"], str):
                raise Refused(f"{where}.tool_call_id", f"{where}.tool_call_id must be a string.")
            if blocks := _parts(content, where, ("text", "image_url")):
                result["content"] = blocks
            return "user", [result]
        case _:
            raise Refused(
                f"{where}.role", f"{where}.role must be system, developer, user, assistant or tool for this provider."
            )


def _assistant(message: Mapping[str, Any], where: str) -> list[Block]:
    for name in ("audio", "function_call"):
        if message.get(name):
            raise Refused(f"{where}.{name}", f"This provider cannot be given {where}.{name}.")
    thinking = message.get("thinking_blocks")
    blocks = [dict(block) for block in thinking if isinstance(block, Mapping)] if isinstance(thinking, list) else []
    blocks = [block for block in blocks if block.get("type") in ("thinking", "redacted_thinking")]
    blocks += _parts(message.get("content"), where, ("text", "refusal"))
    if isinstance(message.get("refusal"), str) and message["refusal"].strip():
        blocks.append({"type": "text", "text": message["refusal"]})
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise Refused(f"{where}.tool_calls", f"{where}.tool_calls must be a list.")
    return blocks + [_tool_use(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls)]


def _tool_use(call: object, where: str) -> Block:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        raise Refused(where, f"{where} must be a call of a function.")
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except (orjson.JSONDecodeError, TypeError):
        arguments = None
    if not isinstance(arguments, dict):
        raise Refused(f"{where}.function.arguments", f"{where}.function.arguments must hold a JSON object.")
    for place, value in (("id", call.get("id")), ("function.name", function.get("name"))):
        if not isinstance(value, str):
            raise Refused(f"{where}.{place}", f"{where}.{place} must be a string.")
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments}


def _parts(content: object, where: str, allowed: tuple[str, ...]) -> list[Block]:
    """Content as blocks. Text without words is left out: a block of nothing, or of white space, is an error there."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    if not isinstance(content, list):
        raise Refused(f"{where}.content", f"{where}.content must be a string or a list of parts.")
    blocks: list[Block] = []
    for index, part in enumerate(content):
        place = f"{where}.content[{index}]"
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(part, Mapping) or kind not in allowed:
            raise Refused(f"{place}.type", f"This provider cannot be given {place} of type {kind!s}.")
        block = _part(part, kind, place)
        if block is None:
            continue
        if (cache := cache_control(part)) is not None:
            block["cache_control"] = cache
        blocks.append(block)
    return blocks


def cache_control(part: Mapping[str, Any]) -> dict[str, Any] | None:
    """The mark behind which the provider may cache, in either wire's words."""
    mark = part.get("cache_control") or part.get("prompt_cache_breakpoint")
    if not mark:
        return None
    ttl = mark.get("ttl") if isinstance(mark, Mapping) else None
    if not isinstance(ttl, str):
        return {"type": "ephemeral"}
    return {"type": "ephemeral", "ttl": _TTLS.get(ttl, ttl)}


def _part(part: Mapping[str, Any], kind: str, place: str) -> Block | None:
    value = part.get(kind)
    match kind:
        case "text" | "refusal":
            if not isinstance(value, str):
                raise Refused(f"{place}.{kind}", f"{place}.{kind} must be a string.")
            return {"type": "text", "text": value} if value.strip() else None
        case "image_url":
            url = value.get("url") if isinstance(value, Mapping) else value
            return {"type": "image", "source": _image(url, f"{place}.image_url")}
        case _:
            return _document(value, f"{place}.file")


def _image(url: object, place: str) -> Block:
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        return {"type": "url", "url": url}
    media, data = _data_url(url, place)
    if media not in _IMAGES:
        raise Refused(place, f"{place} must be a PNG, JPEG, GIF or WebP image for this provider.")
    return {"type": "base64", "media_type": media, "data": data}


def _document(file: object, place: str) -> Block:
    if not isinstance(file, Mapping) or not isinstance(file.get("file_data"), str):
        raise Refused(place, f"This provider knows no uploaded files: give {place}.file_data.")
    media, data = _data_url(file["file_data"], f"{place}.file_data")
    block: Block = {"type": "document"}
    if media == "application/pdf":
        block["source"] = {"type": "base64", "media_type": media, "data": data}
    elif media == "text/plain":
        block["source"] = {"type": "text", "media_type": media, "data": _text(data, place)}
    else:
        raise Refused(f"{place}.file_data", f"{place}.file_data must be a PDF or plain text for this provider.")
    if isinstance(file.get("filename"), str):
        block["title"] = file["filename"]
    return block


def _data_url(url: object, place: str) -> tuple[str, str]:
    """Media type and base64 text of a ``data:`` URL."""
    if isinstance(url, str) and url.startswith("data:"):
        head, comma, data = url[5:].partition(",")
        media, *parameters = head.split(";")
        if comma and "base64" in parameters:
            return media.strip().lower(), data
    raise Refused(place, f"{place} must be a data: URL in base64 or, for an image, an http(s) URL.")


def _text(data: str, place: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Refused(f"{place}.file_data", f"{place}.file_data is not UTF-8 text in base64.") from None
