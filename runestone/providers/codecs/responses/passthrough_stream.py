"""The stream of responses, passed on. Deltas say what they are in their event's name, and are never parsed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from runestone.domain.chat import Usage
from runestone.domain.failure import Failure
from runestone.providers.codecs.answer import Piece
from runestone.providers.codecs.errors import failure_of_event
from runestone.providers.codecs.responses.usage import usage_of
from runestone.providers.sse import EVENT_BYTES, Blocks, parse

_DELTA: Final = re.compile(rb"event: response\.[a-z_.]+\.delta\ndata: \{")
_TOO_LARGE: Final = Failure(kind="too_large", message="an event of the stream is larger than a megabyte")
_TRUNCATED: Final = Failure(kind="truncated", message="the stream ended without its last event")
_GARBAGE: Final = Failure(kind="invalid_answer", message="an event of the stream is not a JSON object")
_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
_BEFORE_CONTENT: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_SILENT: Final = frozenset({"message", "reasoning"})  # items that begin without content


class ResponsesStream:
    """The state of one stream. Its last event tells the end and the usage at once."""

    __slots__ = ("_blocks", "_content", "_over", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._blocks = Blocks()
        self._content = False
        self._over: Failure | bool = False  # how it ended

    def feed(self, data: bytes) -> Piece:
        """Take the next bytes."""
        if self._over:
            return self._after()
        piece, out = Piece(), list[bytes]()
        if block := self._blocks.feed(data):
            for event in block.removesuffix(b"\n\n").split(b"\n\n"):
                if self._content and event.count(b"\n") == 1 and _DELTA.match(event):
                    piece.content = True
                    out += (event, b"\n\n")
                else:
                    self._read(event, piece, out)
                if self._over:
                    break
        if self._blocks.overflow and not self._over:
            self._fail(piece, _TOO_LARGE)
        piece.data = b"".join(out)
        return piece

    def eof(self) -> Piece:
        """Without its last event the answer is not whole."""
        if self._over:
            return self._after()
        piece = Piece()
        self._fail(piece, _TRUNCATED)
        return piece

    def _read(self, text: bytes, piece: Piece, out: list[bytes]) -> None:
        if len(text) >= EVENT_BYTES:
            self._fail(piece, _TOO_LARGE)
            return
        event = parse(text)
        if event is None or not event.data or event.data.startswith(b":") or event.data.strip() == b"[DONE]":
            return  # a comment, one that was wrapped into data, or the end of another wire
        try:
            data: Any = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            data = None
        if not isinstance(data, dict):
            self._fail(piece, _GARBAGE)
            return
        kind = data.get("type") if isinstance(data.get("type"), str) else event.name.decode(errors="replace")
        answer = data.get("response")
        answer = answer if isinstance(answer, Mapping) else {}
        if data.get("error") is not None or kind == "error" or event.name == b"error":
            self._fail(piece, failure_of_event(data.get("error") or {**data, "type": data.get("code")}))
        elif kind == "response.failed":
            self._fail(piece, failure_of_event(answer.get("error")))
        else:
            name = event.name or str(kind).encode(errors="replace")
            out.append(b"event: " + name + b"\ndata: " + event.data.replace(b"\n", b" ") + b"\n\n")
            self._note(str(kind), data, answer, piece)

    def _note(self, kind: str, data: Mapping[str, Any], answer: Mapping[str, Any], piece: Piece) -> None:
        if kind in _ENDS:
            self.usage = usage_of(answer.get("usage"))
            piece.finished = piece.ended = self._over = True
        elif kind == "response.output_item.added":
            item = data.get("item")
            silent = isinstance(item, Mapping) and item.get("type") in _SILENT
            self._content = piece.content = self._content or not silent
        elif kind not in _BEFORE_CONTENT and not kind.endswith("part.added"):
            self._content = piece.content = True

    def _fail(self, piece: Piece, failure: Failure) -> None:
        piece.failure = self._over = failure

    def _after(self) -> Piece:
        failure = self._over if isinstance(self._over, Failure) else None
        return Piece(finished=failure is None, ended=failure is None, failure=failure)
