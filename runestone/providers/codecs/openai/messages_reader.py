"""The messages of chat completions as turns: one a message, in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from runestone.domain.conversation import (
    Audio,
    Block,
    Document,
    Image,
    RedactedThinking,
    Refused,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)
from runestone.providers.codecs.cache_marks import cache_of
from runestone.providers.codecs.data_urls import document_in, image_at
from runestone.providers.codecs.fields import is_table, table, text


def turns_of(messages: object) -> tuple[Turn, ...]:
    """The turns; one without content is there all the same, and empty. Raises :class:`Refused`."""
    if not isinstance(messages, list) or not messages:
        raise Refused("messages", "messages must be a list with at least one message.")
    turns: list[Turn] = []
    older = "call_0"  # the older calls of functions have no id: the place of the last one will do
    for index, given in enumerate(messages):
        where = f"messages[{index}]"
        message = table(given, where)
        older = f"call_{index}" if message.get("function_call") else older
        turns.append(_turn(message, where, older))
    return tuple(turns)


def _turn(message: Mapping[str, Any], where: str, older: str) -> Turn:
    content = message.get("content")
    match message.get("role"):
        case "system" | "developer":
            return Turn("system", _blocks(content, where, ("text",)), where=where)
        case "user":
            return Turn("user", _blocks(content, where, ("text", "image_url", "file", "input_audio")), where=where)
        case "assistant":
            return Turn("assistant", _assistant(message, where, older), where=where)
        case "tool":
            return Turn("user", (_result(message, where, text(message.get("tool_call_id"), f"{where}.tool_call_id")),))
        case "function":
            return Turn("user", (_result(message, where, older),))
        case _:
            allowed = "system, developer, user, assistant or tool"
            raise Refused(f"{where}.role", f"{where}.role must be {allowed} for this provider.")


def _result(message: Mapping[str, Any], where: str, call: str) -> ToolResult:
    content = _blocks(message.get("content"), where, ("text", "image_url"))
    return ToolResult(id=call, content=content, where=where)  # type: ignore[arg-type] # of those kinds


def _assistant(message: Mapping[str, Any], where: str, older: str) -> tuple[Block, ...]:
    if message.get("audio"):
        raise Refused(f"{where}.audio", f"This provider cannot be given {where}.audio.")
    blocks: list[Block] = [*thoughts_of(message.get("thinking_blocks"), where)]
    blocks += _blocks(message.get("content"), where, ("text", "refusal"))
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        blocks.append(Text(refusal, where=f"{where}.refusal"))
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise Refused(f"{where}.tool_calls", f"{where}.tool_calls must be a list.")
    blocks += [_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(calls)]
    if message.get("function_call"):
        blocks.append(call_of(older, message["function_call"], f"{where}.function_call"))
    return tuple(blocks)


def thoughts_of(thoughts: object, where: str) -> list[Thinking | RedactedThinking]:
    """What this gateway has given: whatever else stands there is nobody's."""
    out: list[Thinking | RedactedThinking] = []
    for index, block in enumerate(thoughts if isinstance(thoughts, list) else ()):
        place = f"{where}.thinking_blocks[{index}]"
        match block:
            case {"type": "thinking", "thinking": str(words), "signature": str(signature)}:
                out.append(Thinking(text=words, signature=signature, where=place))
            case {"type": "thinking", "thinking": str(words)}:
                out.append(Thinking(text=words, where=place))
            case {"type": "redacted_thinking", "data": str(data)}:
                out.append(RedactedThinking(data=data, where=place))
            case _:
                pass
    return out


def _call(call: object, where: str) -> ToolCall:
    if not is_table(call) or not is_table(call.get("function")):
        raise Refused(where, f"{where} must be a call of a function.")
    return call_of(text(call.get("id"), f"{where}.id"), call["function"], f"{where}.function")


def call_of(call: str, function: object, where: str) -> ToolCall:
    """A call of a function, whose arguments are an object in JSON. Raises :class:`Refused`."""
    given = table(function, where)
    name = text(given.get("name"), f"{where}.name")
    try:
        arguments = orjson.loads(given.get("arguments") or "{}")
    except (orjson.JSONDecodeError, TypeError):
        arguments = None
    if not isinstance(arguments, dict):
        raise Refused(f"{where}.arguments", f"{where}.arguments must hold a JSON object.")
    return ToolCall(id=call, name=name, input=arguments, where=where)


def _blocks(content: object, where: str, allowed: tuple[str, ...]) -> tuple[Block, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content, where=f"{where}.content"),) if content else ()
    if not isinstance(content, list):
        raise Refused(f"{where}.content", f"{where}.content must be a string or a list of parts.")
    blocks: list[Block] = []
    for index, part in enumerate(content):
        place = f"{where}.content[{index}]"
        kind = part.get("type") if is_table(part) else None
        if not is_table(part) or kind not in allowed:
            raise Refused(f"{place}.type", f"This provider cannot be given {place} of type {kind!s}.")
        blocks.append(_PARTS[kind](part, place))
    return tuple(blocks)


def _words(part: Mapping[str, Any], place: str) -> Text:
    kind = part["type"]
    return Text(text(part.get(kind), f"{place}.{kind}"), cache=cache_of(part), where=place)


def _image(part: Mapping[str, Any], place: str) -> Image:
    value = part.get("image_url")
    return image_at(value.get("url") if is_table(value) else value, f"{place}.image_url", cache_of(part))


def _document(part: Mapping[str, Any], place: str) -> Document:
    file, place = part.get("file"), f"{place}.file"
    if not is_table(file) or not isinstance(file.get("file_data"), str):
        raise Refused(place, f"This provider knows no uploaded files: give {place}.file_data.")
    return document_in(file["file_data"], file.get("filename"), f"{place}.file_data", cache_of(part))


def _audio(part: Mapping[str, Any], place: str) -> Audio:
    sound, place = table(part.get("input_audio"), f"{place}.input_audio"), f"{place}.input_audio"
    return Audio(
        data=text(sound.get("data"), f"{place}.data"), format=text(sound.get("format"), f"{place}.format"), where=place
    )


_PARTS: Final[dict[str, Callable[[Mapping[str, Any], str], Block]]] = {
    "text": _words,
    "refusal": _words,
    "image_url": _image,
    "file": _document,
    "input_audio": _audio,
}
