"""Anthropic's stream as events: one state machine, one method per event of the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from attrs import define, field

from runestone.domain.answer import (
    Finished,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingRedacted,
    ThinkingSigned,
    ToolDelta,
    ToolStarted,
)
from runestone.domain.conversation import RedactedThinking, Thinking
from runestone.domain.failure import Failure
from runestone.providers.codecs.anthropic.answer_reader import finish_of, refusal_of, usage_of, words
from runestone.providers.codecs.errors import failure_of_event
from runestone.providers.codecs.reading import GARBAGE, EventsReader, told_error
from runestone.providers.sse import Event

_TOO_DEEP: Final = Failure(kind="invalid_answer", message="an event of the stream is nested too deeply")


@define
class _Block:
    """A content block that is open upstream."""

    kind: str
    tool: int = 0  # its index among the tool calls
    input: object = None
    has_arguments: bool = False
    thinking: list[str] = field(factory=list)
    signature: list[str] = field(factory=list)


class EventReader(EventsReader):
    """The state of one stream."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, Any] = {}
        self._blocks: dict[object, _Block] = {}
        self._tools = 0
        self._handlers: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "message_start": self._message_start,
            "content_block_start": self._block_start,
            "content_block_delta": self._block_delta,
            "content_block_stop": self._block_stop,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
            "error": self._error,
        }

    def _object(self, data: Mapping[str, Any], event: Event) -> None:
        kind = data.get("type")
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is not None:
            handler(data)
        elif (failure := told_error(data, event)) is not None:  # the other dialect: somebody stands between
            self._fail(failure)

    def _nonsense(self, event: Event) -> None:
        """A name that means nothing here may carry anything."""
        if event.name.decode(errors="replace") in ("", *self._handlers):
            self._fail(GARBAGE)

    # -- events of the wire ------------------------------------------------------------------------------------------

    def _message_start(self, event: Mapping[str, Any]) -> None:
        message = _object(event.get("message"))
        self._count(message.get("usage"))
        self._out.append(Started(words(message.get("id")), words(message.get("model"))))

    def _block_start(self, event: Mapping[str, Any]) -> None:
        given = _object(event.get("content_block"))
        block = self._blocks[_index(event)] = _Block(str(given.get("type")), input=given.get("input"))
        text = given.get("text")
        if block.kind == "text" and isinstance(text, str) and text:
            self._out.append(TextDelta(text))
        elif block.kind == "tool_use":
            block.tool, self._tools = self._tools, self._tools + 1
            self._out.append(ToolStarted(block.tool, words(given.get("id")), words(given.get("name"))))
        elif block.kind == "redacted_thinking":
            self._out.append(ThinkingRedacted(RedactedThinking(data=words(given.get("data")))))

    def _block_delta(self, event: Mapping[str, Any]) -> None:
        delta = _object(event.get("delta"))
        match delta.get("type"):
            case "text_delta":
                text = delta.get("text")
                if isinstance(text, str) and text:
                    self._out.append(TextDelta(text))
            case "input_json_delta":
                self._arguments(self._blocks.get(_index(event)), delta.get("partial_json"))
            case "thinking_delta":
                self._thinking(self._blocks.get(_index(event)), delta.get("thinking"))
            case "signature_delta":
                if (block := self._blocks.get(_index(event))) is not None:
                    block.signature.append(words(delta.get("signature")))
            case _:
                pass

    def _block_stop(self, event: Mapping[str, Any]) -> None:
        block = self._blocks.pop(_index(event), None)
        if block is None:
            return
        if block.kind == "tool_use" and not block.has_arguments:
            try:
                self._arguments(block, orjson.dumps(block.input or {}).decode())
            except orjson.JSONEncodeError:
                self._fail(_TOO_DEEP)
        elif block.kind == "thinking" and (signature := "".join(block.signature)):
            self._out.append(ThinkingSigned(Thinking(text="".join(block.thinking), signature=signature)))

    def _message_delta(self, event: Mapping[str, Any]) -> None:
        self._count(event.get("usage"))
        delta = _object(event.get("delta"))
        reason = delta.get("stop_reason")
        if reason is None or self._finished:
            return
        refusal = refusal_of(delta.get("stop_details") or event.get("stop_details"))
        if reason == "refusal" and refusal:
            self._out.append(RefusalDelta(refusal))
        self._finished = True
        self._out.append(Finished(finish_of(reason)))

    def _message_stop(self, _: Mapping[str, Any]) -> None:
        self._end()

    def _error(self, event: Mapping[str, Any]) -> None:
        self._fail(failure_of_event(event.get("error")))

    # -- parts of them -----------------------------------------------------------------------------------------------

    def _arguments(self, block: _Block | None, text: object) -> None:
        """Arguments of a tool of the client; those of a provider's own tool are not its business."""
        if block is not None and block.kind == "tool_use" and isinstance(text, str) and text:
            block.has_arguments = True
            self._out.append(ToolDelta(block.tool, text))

    def _thinking(self, block: _Block | None, text: object) -> None:
        if isinstance(text, str) and text:
            if block is not None:
                block.thinking.append(text)
            self._out.append(ThinkingDelta(text))

    def _count(self, usage: object) -> None:
        """Counts are cumulative: a later one replaces an earlier one, what is missing or null stays."""
        if isinstance(usage, Mapping):
            self._counts.update({name: value for name, value in usage.items() if value is not None})
            self.usage = usage_of(self._counts)


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else -1
