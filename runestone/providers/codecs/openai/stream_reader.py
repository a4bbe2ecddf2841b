"""Chunks of chat completions as events: what servers of this wire give, in the many ways in which they give it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from attrs import define

from runestone.domain.answer import (
    Ended,
    Failed,
    Finished,
    RefusalDelta,
    Started,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
)
from runestone.domain.catalogue import Row
from runestone.domain.chat import Usage
from runestone.domain.failure import Failure
from runestone.providers.codecs.errors import failure_of_event
from runestone.providers.codecs.openai.answer_reader import finish_of, words_of
from runestone.providers.codecs.openai.usage import usage_of
from runestone.providers.sse import Event, Events

_TOO_LARGE: Final = Failure(kind="too_large", message="an event of the stream is larger than a megabyte")
_TRUNCATED: Final = Failure(kind="truncated", message="the stream ended without a finish reason")
_GARBAGE: Final = Failure(kind="invalid_answer", message="an event of the stream is not a JSON object")


@define
class _Call:
    """A call of a tool: the ``number``-th. It is told once its id and its name are known."""

    number: int
    id: str = ""
    name: str = ""
    told: bool = False
    arguments: str = ""  # what came before it was told
    has_arguments: bool = False


class ChunkReader:
    """The state of one stream of a provider of ``row``."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self.usage: Usage | None = None
        self._events = Events()
        self._started = False
        self._finished = False
        self._over = False
        self._calls: dict[object, _Call] = {}
        self._last: _Call | None = None
        self._out: list[StreamEvent] = []

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Take the next bytes."""
        for event in self._events.feed(data):
            self._read(event)
        if self._events.overflow:
            self._fail(_TOO_LARGE)
        return self._taken()

    def eof(self) -> list[StreamEvent]:
        """Whole if the finish reason has come, even without ``[DONE]``."""
        if not self._over:
            self._end()
        return self._taken()

    def _taken(self) -> list[StreamEvent]:
        out, self._out = self._out, []
        return out

    def _read(self, event: Event) -> None:
        if self._over or not event.data or event.data.startswith(b":"):
            return  # a comment that was wrapped into data
        if event.data.strip() == b"[DONE]":
            self._end()
            return
        try:
            chunk: Any = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            chunk = None
        if not isinstance(chunk, dict):
            self._fail(_GARBAGE)
        elif chunk.get("error") is not None:
            self._fail(failure_of_event(chunk["error"]))
        elif event.name == b"error":
            self._fail(failure_of_event(chunk))
        else:
            self._chunk(chunk)

    def _chunk(self, chunk: Mapping[str, Any]) -> None:
        if not self._started:
            self._started = True
            self._out.append(Started(_text(chunk.get("id")), _text(chunk.get("model"))))
        self.usage = usage_of(chunk, self._row) or self.usage
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return
        choice = choices[0]
        if isinstance(delta := choice.get("delta"), dict):
            self._delta(delta)
        if (reason := choice.get("finish_reason")) is not None and not self._finished:
            self._complete_calls()
            self._finished = True
            self._out.append(Finished(finish_of(reason, called=bool(self._calls))))

    def _delta(self, delta: Mapping[str, Any]) -> None:
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            self._out.append(ThinkingDelta(thought))
        if text := words_of(delta.get("content")):
            self._out.append(TextDelta(text))
        refusal = delta.get("refusal")
        if isinstance(refusal, str) and refusal:
            self._out.append(RefusalDelta(refusal))
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                self._call(call)

    # -- calls of tools ----------------------------------------------------------------------------------------------

    def _call(self, given: Mapping[str, Any]) -> None:
        call = self._last = self._which(given)
        function = given.get("function")
        function = function if isinstance(function, dict) else {}
        call.id = call.id or _text(given.get("id"))
        call.name = call.name or _text(function.get("name"))
        arguments = function.get("arguments")
        if isinstance(arguments, str) and arguments:
            call.arguments += arguments
        self._tell(call, patient=True)

    def _which(self, given: Mapping[str, Any]) -> _Call:
        """The call that a delta belongs to: by its index, else by its id, else the last one."""
        index, id_ = given.get("index"), given.get("id")
        key: object = index if isinstance(index, int) else id_ if isinstance(id_, str) and id_ else None
        if key is None and self._last is not None:
            return self._last
        if key not in self._calls:
            self._calls[key] = _Call(len(self._calls))
        return self._calls[key]

    def _tell(self, call: _Call, *, patient: bool) -> None:
        if not call.told:
            if patient and not (call.id and call.name):
                return
            call.told = True
            self._out.append(ToolStarted(call.number, call.id or f"call_{call.number}", call.name))
        if call.arguments:
            call.has_arguments = True
            self._out.append(ToolDelta(call.number, call.arguments))
            call.arguments = ""

    def _complete_calls(self) -> None:
        for call in self._calls.values():
            if not call.has_arguments and not call.arguments:
                call.arguments = "{}"
            self._tell(call, patient=False)

    # -- endings -----------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        if self._finished:
            self._over = True
            self._out.append(Ended(self.usage))
        else:
            self._fail(_TRUNCATED)

    def _fail(self, failure: Failure) -> None:
        if not self._over:
            self._over = True
            self._out.append(Failed(failure))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
