"""Events as chunks of completions."""

from __future__ import annotations

from typing import Any, Final

import orjson

from runestone.domain.answer import Ended, Finish, Finished, Started, StreamEvent, TextDelta
from runestone.domain.chat import ChatRequest, Usage
from runestone.providers.codecs.completions.answer_writer import choice, head
from runestone.providers.codecs.openai.answer_writer import usage

_DONE: Final = b"data: [DONE]\n\n"


class TextWriter:
    """The state of one stream."""

    def __init__(self, chat: ChatRequest, created: int) -> None:
        self._created = created
        self._include_usage = chat.include_usage
        self._head = head("", "", created)

    def write(self, event: StreamEvent) -> bytes:
        """The chunk of ``event``; of a conversation its words alone have one."""
        match event:
            case TextDelta(text):
                return self._chunk(text, None)
            case Started(id_, model):
                self._head = head(id_, model, self._created)
                return b""
            case Finished(reason):
                return self._chunk("", reason)
            case Ended(counted):
                return self._usage(counted) + _DONE
            case _:
                return b""

    def _chunk(self, text: str, finish: Finish | None) -> bytes:
        return self._written(choices=[choice(text, finish)])

    def _usage(self, counted: Usage | None) -> bytes:
        if not self._include_usage:
            return b""
        return self._written(choices=[], usage=usage(counted or Usage(input_tokens=0, output_tokens=0)))

    def _written(self, **more: Any) -> bytes:
        return b"data: " + orjson.dumps({**self._head, **more}) + b"\n\n"
