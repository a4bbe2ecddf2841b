"""Events as chunks of chat completions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from runestone.domain.answer import (
    Ended,
    Failed,
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
from runestone.domain.chat import ChatRequest, Usage
from runestone.providers.codecs.openai.answer_writer import id_of, thought, usage

_DONE: Final = b"data: [DONE]\n\n"


class ChunkWriter:
    """The state of one stream: what stands before and after the delta of every chunk, so that text goes out without another dictionary."""

    def __init__(self, chat: ChatRequest, created: int) -> None:
        self._created = created
        self._include_usage = chat.include_usage
        self._frame(Started("", ""))
        self._writers: dict[type[StreamEvent], Callable[[Any], bytes]] = {
            TextDelta: self._text,
            RefusalDelta: self._refusal,
            ThinkingDelta: self._thinking,
            ThinkingSigned: self._thought,
            ThinkingRedacted: self._thought,
            ToolStarted: self._call,
            ToolDelta: self._arguments,
            Started: self._start,
            Finished: self._finish,
            Ended: self._end,
            Failed: self._failed,
        }

    def write(self, event: StreamEvent) -> bytes:
        """The chunk of ``event``."""
        return self._writers[type(event)](event)

    def _text(self, event: TextDelta) -> bytes:
        return self._before + b'{"content":' + orjson.dumps(event.text) + b"}" + self._after

    def _refusal(self, event: RefusalDelta) -> bytes:
        return self._delta({"refusal": event.text})

    def _thinking(self, event: ThinkingDelta) -> bytes:
        return self._delta({"reasoning_content": event.text})

    def _thought(self, event: ThinkingSigned | ThinkingRedacted) -> bytes:
        return self._delta({"thinking_blocks": [thought(event.thinking)]})

    def _call(self, event: ToolStarted) -> bytes:
        function = {"name": event.name, "arguments": ""}
        return self._delta(
            {"tool_calls": [{"index": event.tool, "id": event.id, "type": "function", "function": function}]}
        )

    def _arguments(self, event: ToolDelta) -> bytes:
        return self._delta({"tool_calls": [{"index": event.tool, "function": {"arguments": event.text}}]})

    def _start(self, event: Started) -> bytes:
        self._frame(event)
        return self._delta({"role": "assistant", "content": "", "refusal": None})

    def _finish(self, event: Finished) -> bytes:
        return self._before + b"{}" + self._after.replace(b"null", b'"%s"' % event.reason.encode(), 1)

    def _end(self, event: Ended) -> bytes:
        return self._usage(event.usage) + _DONE

    def _failed(self, event: Failed) -> bytes:
        del event
        return b""

    def _usage(self, counted: Usage | None) -> bytes:
        if not self._include_usage:
            return b""
        shown = usage(counted or Usage(input_tokens=0, output_tokens=0))
        return b"data: " + orjson.dumps({**self._head, "choices": [], "usage": shown}) + b"\n\n"

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return self._before + orjson.dumps(delta) + self._after

    def _frame(self, started: Started) -> None:
        self._head = {
            "id": id_of(started.id),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": started.model,
        }
        self._before = b"data: " + orjson.dumps(self._head)[:-1] + b',"choices":[{"index":0,"delta":'
        counted = b',"usage":null' if self._include_usage else b""
        self._after = b',"finish_reason":null,"logprobs":null}]' + counted + b"}\n\n"
