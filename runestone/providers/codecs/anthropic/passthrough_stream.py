"""Anthropic's stream, passed on: events that need no look are recognised as bytes and never parsed.

Between its first and its last event a message is deltas of content, one after the other, which say in their first bytes what they are.
Everything else is looked at: what begins and ends a message, counts tokens, or is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from runestone.domain.chat import Usage
from runestone.domain.failure import Failure
from runestone.providers.codecs.answer import Piece
from runestone.providers.codecs.anthropic.answer_reader import usage_of
from runestone.providers.codecs.errors import failure_of_event
from runestone.providers.sse import EVENT_BYTES, Blocks, parse

STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_DELTA: Final = b'event: content_block_delta\ndata: {"type":"content_block_delta",'
_DELTA_SPACED: Final = b'event: content_block_delta\ndata: {"type": "content_block_delta",'
_TOO_LARGE: Final = Failure(kind="too_large", message="an event of the stream is larger than a megabyte")
_TRUNCATED: Final = Failure(kind="truncated", message="the stream ended without a stop reason")
_GARBAGE: Final = Failure(kind="invalid_answer", message="an event of the stream is not a JSON object")
_SILENT: Final = frozenset({"text", "thinking"})  # blocks that begin without content


class AnthropicStream:
    """The state of one stream."""

    __slots__ = ("_blocks", "_content", "_counts", "_finished", "_over", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._blocks = Blocks()
        self._counts: dict[str, Any] = {}
        self._content = False
        self._finished = False
        self._over: Failure | bool = False  # how it ended

    def feed(self, data: bytes) -> Piece:
        """Take the next bytes."""
        if self._over:
            return self._after()
        piece, out = Piece(finished=self._finished), list[bytes]()
        if block := self._blocks.feed(data):
            for event in block.removesuffix(b"\n\n").split(b"\n\n"):
                if self._content and event.startswith((_DELTA, _DELTA_SPACED)) and event.count(b"\n") == 1:
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
        """Whole if the stop reason has come; the client then gets the end that the provider left out."""
        if self._over:
            return self._after()
        piece = Piece(finished=self._finished)
        if self._finished:
            piece.data = STOP
            self._end(piece)
        else:
            self._fail(piece, _TRUNCATED)
        return piece

    def _read(self, text: bytes, piece: Piece, out: list[bytes]) -> None:
        if len(text) >= EVENT_BYTES:
            self._fail(piece, _TOO_LARGE)
            return
        event = parse(text)
        if event is None or not event.data or event.data.startswith(b":"):
            return  # a comment, or one that was wrapped into data
        try:
            data: Any = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            data = None
        if not isinstance(data, dict):
            self._fail(piece, _GARBAGE)
        elif data.get("error") is not None or event.name == b"error" or data.get("type") == "error":
            self._fail(piece, failure_of_event(data.get("error") or data))
        else:
            self._note(data, piece)
            if piece.failure is None:
                name = event.name or str(data.get("type")).encode(errors="replace")
                out.append(b"event: " + name + b"\ndata: " + event.data.replace(b"\n", b" ") + b"\n\n")

    def _note(self, data: Mapping[str, Any], piece: Piece) -> None:
        match data.get("type"):
            case "message_start":
                message = data.get("message")
                self._count(message.get("usage") if isinstance(message, Mapping) else None)
            case "content_block_start":
                block = data.get("content_block")
                kind = block.get("type") if isinstance(block, Mapping) else None
                if kind not in _SILENT or (isinstance(block, Mapping) and block.get("text")):
                    self._content = piece.content = True
            case "content_block_delta":
                self._content = piece.content = True
            case "message_delta":
                self._count(data.get("usage"))
                delta = data.get("delta")
                if isinstance(delta, Mapping) and delta.get("stop_reason") is not None:
                    self._finished = piece.finished = True
            case "message_stop":
                if self._finished:
                    self._end(piece)
                else:
                    self._fail(piece, _TRUNCATED)
            case _:
                pass

    def _count(self, usage: object) -> None:
        """Counts are cumulative: a later one replaces an earlier one, what is missing or null stays."""
        if isinstance(usage, Mapping):
            self._counts.update({name: value for name, value in usage.items() if value is not None})
            self.usage = usage_of(self._counts)

    def _end(self, piece: Piece) -> None:
        piece.ended = self._over = True

    def _fail(self, piece: Piece, failure: Failure) -> None:
        piece.failure = self._over = failure

    def _after(self) -> Piece:
        failure = self._over if isinstance(self._over, Failure) else None
        return Piece(finished=self._finished, ended=failure is None, failure=failure)
