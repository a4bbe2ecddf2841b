"""Events as those of responses: items and their parts begin, grow and end, each event with its number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from attrs import define, field

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
from runestone.providers.codecs.responses import answer_writer
from runestone.providers.codecs.responses.answer_writer import Item, Status
from runestone.providers.codecs.responses.thoughts import sealed


@define
class _Message:
    """A message in the making: its only part is text, or a refusal."""

    index: int
    stem: str
    kind: str  # of the part
    words: list[str] = field(factory=list)

    @property
    def id(self) -> str:
        return f"msg_{self.stem}"

    def part(self, text: str) -> dict[str, Any]:
        return answer_writer.text_part(text) if self.kind == "output_text" else {"type": "refusal", "refusal": text}

    def item(self, status: Status) -> Item:
        parts = [self.part("".join(self.words))] if self.words else []
        return answer_writer.message(self.stem, parts, status)


@define
class _Thought:
    """A thought in the making."""

    index: int
    stem: str
    words: list[str] = field(factory=list)
    encrypted: str | None = None

    @property
    def id(self) -> str:
        return f"rs_{self.stem}"

    def item(self, status: Status) -> Item:
        return answer_writer.reasoning(self.stem, "".join(self.words), self.encrypted, status)


@define
class _Call:
    """A call in the making; several may be."""

    index: int
    stem: str
    call_id: str
    name: str
    words: list[str] = field(factory=list)

    @property
    def id(self) -> str:
        return f"fc_{self.stem}"

    def item(self, status: Status) -> Item:
        return answer_writer.call(self.stem, self.call_id, self.name, "".join(self.words), status)


class ItemWriter:
    """The state of one stream."""

    def __init__(self, chat: ChatRequest, created: int) -> None:
        self._asked = chat.body
        self._created = created
        self._stem, self._model = "unknown", ""
        self._number = 0  # of the next event
        self._started = False
        self._items: list[_Message | _Thought | _Call] = []
        self._open: _Message | _Thought | None = None
        self._calls: dict[int, _Call] = {}
        self._finish: Finish = "stop"
        self._writers: dict[type[StreamEvent], Callable[[Any], bytes]] = {
            TextDelta: self._text,
            RefusalDelta: self._refusal,
            ThinkingDelta: self._thinking,
            ThinkingSigned: self._signed,
            ThinkingRedacted: self._redacted,
            ToolStarted: self._call,
            ToolDelta: self._arguments,
            Started: self._start,
            Finished: self._finished,
            Ended: self._end,
            Failed: self._failed,
        }

    def write(self, event: StreamEvent) -> bytes:
        """The events of ``event``."""
        return self._writers[type(event)](event)

    # -- the response ------------------------------------------------------------------------------------------------

    def _start(self, event: Started) -> bytes:
        if self._started:
            return b""
        self._started = True
        self._stem, self._model = answer_writer.stem_of(event.id), event.model
        shown = self._response([])
        return self._event("response.created", response=shown) + self._event("response.in_progress", response=shown)

    def _finished(self, event: Finished) -> bytes:
        """It is told at the end: its event carries the usage, which comes later."""
        self._finish = event.reason
        return b""

    def _failed(self, event: Failed) -> bytes:
        del event
        return b""

    def _end(self, event: Ended) -> bytes:
        out = [self._start(Started("", "")), self._closed(), *(self._call_done(call) for call in self._calls.values())]
        items = [item.item("completed") for item in self._items]
        shown = self._response(items, finish=self._finish, usage=event.usage)
        out.append(self._event(f"response.{shown['status']}", response=shown))
        return b"".join(out)

    def _response(self, output: list[Item], **more: Any) -> dict[str, Any]:
        return answer_writer.response(self._asked, self._stem, self._model, self._created, output=output, **more)

    # -- words -------------------------------------------------------------------------------------------------------

    def _text(self, event: TextDelta) -> bytes:
        message, begun = self._message("output_text")
        message.words.append(event.text)
        return begun + self._event(
            "response.output_text.delta",
            item_id=message.id,
            output_index=message.index,
            content_index=0,
            delta=event.text,
            logprobs=[],
        )

    def _refusal(self, event: RefusalDelta) -> bytes:
        message, begun = self._message("refusal")
        message.words.append(event.text)
        return begun + self._event(
            "response.refusal.delta", item_id=message.id, output_index=message.index, content_index=0, delta=event.text
        )

    def _message(self, kind: str) -> tuple[_Message, bytes]:
        if isinstance(self._open, _Message) and self._open.kind == kind:
            return self._open, b""
        closed = self._closed()
        message = self._open = _Message(len(self._items), self._next_stem(), kind)
        begun = self._added(message) + self._event(
            "response.content_part.added",
            item_id=message.id,
            output_index=message.index,
            content_index=0,
            part=message.part(""),
        )
        return message, closed + begun

    def _thinking(self, event: ThinkingDelta) -> bytes:
        thought, begun = self._thought()
        if not thought.words:
            begun += self._summary(thought, "part.added", part={"type": "summary_text", "text": ""})
        thought.words.append(event.text)
        return begun + self._summary(thought, "text.delta", delta=event.text)

    def _signed(self, event: ThinkingSigned) -> bytes:
        thought, begun = self._thought()
        thought.encrypted = sealed(event.thinking)
        return begun + self._closed()

    def _redacted(self, event: ThinkingRedacted) -> bytes:
        closed = self._closed()
        thought, begun = self._thought()
        thought.encrypted = sealed(event.thinking)
        return closed + begun + self._closed()

    def _thought(self) -> tuple[_Thought, bytes]:
        if isinstance(self._open, _Thought):
            return self._open, b""
        closed = self._closed()
        thought = self._open = _Thought(len(self._items), self._next_stem())
        return thought, closed + self._added(thought)

    def _closed(self) -> bytes:
        """The message or the thought that is open, closed."""
        item, self._open = self._open, None
        match item:
            case None:
                return b""
            case _Thought():
                done = b""
                if text := "".join(item.words):
                    done = self._summary(item, "text.done", text=text)
                    done += self._summary(item, "part.done", part={"type": "summary_text", "text": text})
                return done + self._done(item)
            case _Message():
                text, place = "".join(item.words), {"item_id": item.id, "output_index": item.index, "content_index": 0}
                if item.kind == "output_text":
                    done = self._event("response.output_text.done", **place, text=text, logprobs=[])
                else:
                    done = self._event("response.refusal.done", **place, refusal=text)
                return (
                    done + self._event("response.content_part.done", **place, part=item.part(text)) + self._done(item)
                )

    # -- calls -------------------------------------------------------------------------------------------------------

    def _call(self, event: ToolStarted) -> bytes:
        closed = self._closed()
        call = self._calls[event.tool] = _Call(len(self._items), self._next_stem(), event.id, event.name)
        return closed + self._added(call)

    def _arguments(self, event: ToolDelta) -> bytes:
        if (call := self._calls.get(event.tool)) is None:
            return b""
        call.words.append(event.text)
        return self._event(
            "response.function_call_arguments.delta", item_id=call.id, output_index=call.index, delta=event.text
        )

    def _call_done(self, call: _Call) -> bytes:
        done = self._event(
            "response.function_call_arguments.done",
            item_id=call.id,
            output_index=call.index,
            name=call.name,
            arguments="".join(call.words),
        )
        return done + self._done(call)

    # -- events ------------------------------------------------------------------------------------------------------

    def _next_stem(self) -> str:
        return f"{self._stem}_{len(self._items)}"

    def _added(self, item: _Message | _Thought | _Call) -> bytes:
        self._items.append(item)
        return self._event("response.output_item.added", output_index=item.index, item=item.item("in_progress"))

    def _done(self, item: _Message | _Thought | _Call) -> bytes:
        return self._event("response.output_item.done", output_index=item.index, item=item.item("completed"))

    def _summary(self, thought: _Thought, what: str, **more: Any) -> bytes:
        return self._event(
            f"response.reasoning_summary_{what}",
            item_id=thought.id,
            output_index=thought.index,
            summary_index=0,
            **more,
        )

    def _event(self, event: str, /, **data: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        shown = orjson.dumps({"type": event, "sequence_number": number, **data})
        return b"event: " + event.encode() + b"\ndata: " + shown + b"\n\n"
