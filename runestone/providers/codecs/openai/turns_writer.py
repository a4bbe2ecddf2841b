"""Turns as messages of chat completions: results of tools directly behind their calls, what is left of the user's turn behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import orjson

from runestone.domain.conversation import (
    Audio,
    Block,
    Document,
    Image,
    Refused,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from runestone.providers.codecs.tool_names import shortened

Message = dict[str, Any]
_SHOWN_BELOW: Final = "(an image: it follows below)"


def messages_of(turns: Iterable[Turn], *, instructor: Literal["system", "developer"]) -> list[Message]:
    """The messages. Raises :class:`Refused`. What a model thought is left out: it is never its visible words."""
    return [message for turn in _joined(turns) for message in _messages(turn, instructor)]


def _joined(turns: Iterable[Turn]) -> Iterator[Turn]:
    """Turns of the assistant that follow each other are one: all its calls must stand in the message that their results follow."""
    said: list[Block] = []
    for turn in turns:
        if turn.role == "assistant":
            said += turn.blocks
            continue
        if said:
            yield Turn("assistant", tuple(said))
            said = []
        yield turn
    if said:
        yield Turn("assistant", tuple(said))


def _messages(turn: Turn, instructor: str) -> Iterator[Message]:
    match turn.role:
        case "system":
            if words := [block.text for block in turn.blocks if isinstance(block, Text) and block.text]:
                yield {"role": instructor, "content": "\n\n".join(words)}
        case "assistant":
            if message := _assistant(turn):
                yield message
        case "user":
            yield from _user(turn)


def _assistant(turn: Turn) -> Message | None:
    words = "".join(block.text for block in turn.blocks if isinstance(block, Text))
    calls = [_call(block) for block in turn.blocks if isinstance(block, ToolCall)]
    if not words and not calls:
        return None
    return {"role": "assistant", "content": words or None} | ({"tool_calls": calls} if calls else {})


def _call(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = orjson.dumps(dict(call.input)).decode()
    except orjson.JSONEncodeError:
        raise Refused(call.where, f"{call.where} is nested too deeply.") from None
    return {"id": call.id, "type": "function", "function": {"name": shortened(call.name), "arguments": arguments}}


def _user(turn: Turn) -> Iterator[Message]:
    left: list[Block] = []  # pictures that a tool gave: its message takes text alone
    for block in turn.blocks:
        if isinstance(block, ToolResult):
            yield {"role": "tool", "tool_call_id": block.id, "content": _result(block, left)}
    left += [block for block in turn.blocks if not isinstance(block, ToolResult)]
    parts = [_part(block) for block in left if not (isinstance(block, Text) and not block.text)]
    if not parts:
        return
    only = parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts
    yield {"role": "user", "content": only}


def _result(result: ToolResult, left: list[Block]) -> str:
    words: list[str] = []
    for block in result.content:
        if isinstance(block, Text):
            words.append(block.text)
        else:
            words.append(_SHOWN_BELOW if isinstance(block, Image) else f"(a file: {block.title or 'it'} follows below)")
            left.append(block)
    text = "\n".join(words)
    return f"Error: {text}" if result.is_error else text


def _part(block: Block) -> dict[str, Any]:
    match block:
        case Text():
            return {"type": "text", "text": block.text}
        case Image():
            url = block.url if block.url is not None else f"data:{block.media_type};base64,{block.data}"
            return {"type": "image_url", "image_url": {"url": url}}
        case Document():
            return _document(block)
        case Audio():
            return {"type": "input_audio", "input_audio": {"data": block.data, "format": block.format}}
        case _:
            raise Refused(block.where, f"{block.where} cannot stand in a turn of the user.")


def _document(document: Document) -> dict[str, Any]:
    """A PDF is a file; text goes as text, under its title."""
    if document.data is None:
        raise Refused(document.where, f"This provider fetches no documents: give {document.where} as base64.")
    if document.media_type == "text/plain":
        title = f"{document.title}:\n\n" if document.title else ""
        return {"type": "text", "text": title + document.data}
    if document.media_type != "application/pdf":
        raise Refused(document.where, f"{document.where} must be a PDF or plain text for this provider.")
    data = f"data:{document.media_type};base64,{document.data}"
    return {"type": "file", "file": {"filename": document.title or "document.pdf", "file_data": data}}
