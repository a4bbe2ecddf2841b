"""Events as Anthropic's: blocks that never interleave, usage when it is known, and one order for all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from runestone.domain.answer import (
    Ended,
    Failed,
    Finish,
    Finished,
    RefusalDelta,
    Started,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ThinkingRedacted,
    ThinkingSigned,
    ToolDelta,
    ToolStarted,
)
from runestone.domain.chat import ChatRequest
from runestone.providers.codecs.anthropic.answer_writer import STOP_REASONS, head, usage
from runestone.providers.codecs.tool_names import originals

_TEXT: Final = "text"
_THINKING: Final = "thinking"
Open = int | str | None  # a tool's number, the kind of another block, or nothing


class EventWriter:
    """The state of one stream: which block is open, and what waits for it to close."""

    def __init__(self, chat: ChatRequest, created: int) -> None:
        del created
        self._names = originals(chat.body)
        self._started = False
        self._open: Open = None
        self._index = -1  # of the block that is open, or was last
        self._text = b""  # what stands before the text of a delta of the open block
        self._after = b""
        self._written: list[str] = []  # the arguments of the call that is open
        self._waiting: dict[
            int, tuple[orjson.Fragment, list[str]]
        ] = {}  # calls that began meanwhile, and their arguments
        self._finish: Finish = "stop"
        self._refused = False
        self._writers: dict[type[StreamEvent], Callable[[Any], bytes]] = {
            TextDelta: self._said,
            RefusalDelta: self._refusal,
            ThinkingDelta: self._thinking,
            ThinkingSigned: self._signed,
            ThinkingRedacted: self._redacted,
            ToolStarted: self._tool,
            ToolDelta: self._arguments,
            Started: self._start,
            Finished: self._finished,
            Ended: self._end,
            Failed: self._failed,
        }

    def write(self, event: StreamEvent) -> bytes:
        """The events of ``event``."""
        return self._writers[type(event)](event)

    # -- the message -------------------------------------------------------------------------------------------------

    def _start(self, event: Started) -> bytes:
        if self._started:
            return b""
        self._started = True
        message = {
            **head(event.id, event.model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage(None),
        }
        return _event("message_start", message=message)

    def _finished(self, event: Finished) -> bytes:
        """It is told at the end: its event carries the usage, which comes later."""
        self._finish = event.reason
        return b""

    def _failed(self, event: Failed) -> bytes:
        del event
        return b""

    def _end(self, event: Ended) -> bytes:
        reason = "refusal" if self._refused else STOP_REASONS[self._finish]
        delta = {"stop_reason": reason, "stop_sequence": None}
        return b"".join(
            (
                self._start(Started("", "")),
                self._closed(),
                _event("message_delta", delta=delta, usage=usage(event.usage)),
                _event("message_stop"),
            )
        )

    # -- blocks ------------------------------------------------------------------------------------------------------

    def _said(self, event: TextDelta) -> bytes:
        return self._words(_TEXT, event.text)

    def _refusal(self, event: RefusalDelta) -> bytes:
        self._refused = True
        return self._words(_TEXT, event.text)

    def _thinking(self, event: ThinkingDelta) -> bytes:
        return self._words(_THINKING, event.text)

    def _signed(self, event: ThinkingSigned) -> bytes:
        delta = {"type": "signature_delta", "signature": event.thinking.signature or ""}
        return self._opened(_THINKING) + self._delta(delta)

    def _redacted(self, event: ThinkingRedacted) -> bytes:
        block = {"type": "redacted_thinking", "data": event.thinking.data}
        return self._closed() + self._begun(None, block) + self._stop()

    def _words(self, kind: str, text: str) -> bytes:
        """More words of a block of ``kind``: the same bytes around them each time."""
        if self._open != kind:
            return self._opened(kind) + self._words(kind, text)
        return self._text + orjson.dumps(text) + self._after

    def _opened(self, kind: str) -> bytes:
        if self._open == kind:
            return b""
        empty = {"text": ""} if kind == _TEXT else {"thinking": "", "signature": ""}
        out = self._closed() + self._begun(kind, {"type": kind, **empty})
        delta = b'{"type":"%s_delta","%s":' % (kind.encode(), kind.encode())
        self._text = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":' % self._index
        )
        self._text += delta
        self._after = b"}}\n\n"
        return out

    def _tool(self, event: ToolStarted) -> bytes:
        """A call begins. One whose arguments are not whole yet keeps its block: blocks do not interleave, so this one waits."""
        name = self._names.get(event.name, event.name)
        begin = orjson.Fragment(orjson.dumps({"type": "tool_use", "id": event.id, "name": name, "input": {}}))
        if isinstance(self._open, int) and not self._whole():
            self._waiting[event.tool] = (begin, [])
            return b""
        return self._closed() + self._begun(event.tool, begin)

    def _arguments(self, event: ToolDelta) -> bytes:
        tool, text = event.tool, event.text
        if tool in self._waiting:
            self._waiting[tool][1].append(text)
            return b""
        if self._open != tool:
            return b""  # a call that never began, or is over: there is nothing to add to
        self._written.append(text)
        out = self._delta({"type": "input_json_delta", "partial_json": text})
        while self._waiting and self._whole():
            out += self._stop() + self._next()
        return out

    def _whole(self) -> bool:
        """Whether the arguments of the open call are."""
        try:
            orjson.loads("".join(self._written))
        except orjson.JSONDecodeError:
            return False
        return True

    def _next(self) -> bytes:
        """The first call that waits, with all that has come for it."""
        tool = next(iter(self._waiting))
        begin, texts = self._waiting.pop(tool)
        out = self._begun(tool, begin)
        self._written = texts
        return out + b"".join(self._delta({"type": "input_json_delta", "partial_json": text}) for text in texts)

    def _closed(self) -> bytes:
        """Everything that is open, or waits to be, closed."""
        out = b"" if self._open is None else self._stop()
        while self._waiting:
            out += self._next() + self._stop()
        return out

    def _begun(self, kind: Open, block: Any) -> bytes:
        self._open = kind
        self._written = []
        self._index += 1
        return _event("content_block_start", index=self._index, content_block=block)

    def _stop(self) -> bytes:
        self._open = None
        return _event("content_block_stop", index=self._index)

    def _delta(self, delta: Any) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)


def _event(name: str, **data: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps({"type": name, **data}) + b"\n\n"
