"""Turns as Anthropic's system blocks and messages: neighbours of the same role are one message, results of tools come first in theirs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, assert_never

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
from runestone.providers.codecs.cache_marks import marked

Written = dict[str, Any]
_IMAGES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")


def turns_of(turns: Iterable[Turn], *, mid_system: bool) -> tuple[list[Written], list[Written]]:
    """The system blocks and the messages. Raises :class:`Refused`.

    Instructions that come later stay where they are if ``mid_system``, else they join the first ones: never lost, never another's words.
    """
    system: list[Written] = []
    messages: list[Written] = []
    awaited: set[str] = set()  # results must follow their calls at once: nothing may come between
    for turn in turns:
        awaited |= {block.id for block in turn.blocks if isinstance(block, ToolCall)}
        awaited -= {block.id for block in turn.blocks if isinstance(block, ToolResult)}
        blocks = _blocks(turn.blocks)
        if turn.role == "system" and not (mid_system and messages and not awaited):
            system += blocks
        elif blocks and messages and messages[-1]["role"] == turn.role:
            messages[-1]["content"] += blocks
        elif blocks:
            messages.append({"role": turn.role, "content": blocks})
    if not messages:
        # One turn is needed: instructions alone are then the question.
        messages, system = ([{"role": "user", "content": system}] if system else []), []
    if not messages:
        raise Refused("messages", "Every message is empty: this provider needs one with content.")
    for message in messages:
        message["content"].sort(key=lambda block: block["type"] != "tool_result")
    return system, messages


def _blocks(blocks: Iterable[Block]) -> list[Written]:
    return [written for block in blocks if (written := _block(block)) is not None]


def _block(block: Block) -> Written | None:  # noqa: PLR0911 - one for each kind
    match block:
        case Text():
            # A block of nothing, or of white space, is an error there.
            return marked({"type": "text", "text": block.text}, block.cache) if block.text.strip() else None
        case Image():
            return marked({"type": "image", "source": _image(block)}, block.cache)
        case Document():
            return marked(_document(block), block.cache)
        case Audio():
            raise Refused(block.where, f"This provider cannot be given {block.where}: it hears nothing.")
        case Thinking():
            thought = {"type": "thinking", "thinking": block.text}
            return thought | ({} if block.signature is None else {"signature": block.signature})
        case RedactedThinking():
            return {"type": "redacted_thinking", "data": block.data}
        case ToolCall():
            call = {"type": "tool_use", "id": block.id, "name": block.name, "input": dict(block.input)}
            return marked(call, block.cache)
        case ToolResult():
            return marked(_result(block), block.cache)
        case _:
            assert_never(block)


def _image(image: Image) -> Written:
    if image.url is not None:
        return {"type": "url", "url": image.url}
    if image.media_type not in _IMAGES:
        raise Refused(image.where, f"{image.where} must be a PNG, JPEG, GIF or WebP image for this provider.")
    return {"type": "base64", "media_type": image.media_type, "data": image.data}


def _document(document: Document) -> Written:
    source: Written
    if document.url is not None:
        source = {"type": "url", "url": document.url}
    elif document.media_type == "application/pdf":
        source = {"type": "base64", "media_type": document.media_type, "data": document.data}
    elif document.media_type == "text/plain":
        source = {"type": "text", "media_type": document.media_type, "data": document.data}
    else:
        raise Refused(document.where, f"{document.where} must be a PDF or plain text for this provider.")
    return {"type": "document", "source": source} | ({} if document.title is None else {"title": document.title})


def _result(result: ToolResult) -> Written:
    written: Written = {"type": "tool_result", "tool_use_id": result.id}
    if content := _blocks(result.content):
        written["content"] = content
    if result.is_error:
        written["is_error"] = True
    return written
