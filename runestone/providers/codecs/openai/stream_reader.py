"""Chunks of chat completions as events: what servers of this wire give, in the many ways in which they give it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define

from runestone.domain.answer import (
    Finished,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStarted,
)
from runestone.domain.catalogue import Row
from runestone.providers.codecs.openai.answer_reader import finish_of, words_of
from runestone.providers.codecs.openai.usage import usage_of
from runestone.providers.codecs.reading import EventsReader, told_error
from runestone.providers.sse import Event


@define
class _Call:
    """A call of a tool: the ``number``-th. It is told once its id and its name are known."""

    number: int
    id: str = ""
    name: str = ""
    told: bool = False
    arguments: str = ""  # what came before it was told
    has_arguments: bool = False


class ChunkReader(EventsReader):
    """The state of one stream of a provider of ``row``."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self._row = row
        self._tier: object = None  # as a chunk has told it; that of the usage may not
        self._started = False
        self._calls: dict[object, _Call] = {}
        self._last: _Call | None = None

    def _read(self, event: Event) -> None:
        if event.data.strip() == b"[DONE]":
            self._end()
        else:
            super()._read(event)

    def _object(self, data: Mapping[str, Any], event: Event) -> None:
        if (failure := told_error(data, event)) is not None:
            self._fail(failure)
        else:
            self._chunk(data)

    def _chunk(self, chunk: Mapping[str, Any]) -> None:
        if not self._started:
            self._started = True
            self._out.append(Started(_text(chunk.get("id")), _text(chunk.get("model"))))
        self._tier = chunk.get("service_tier") or self._tier
        self.usage = usage_of(chunk, self._row, self._tier) or self.usage
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


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
