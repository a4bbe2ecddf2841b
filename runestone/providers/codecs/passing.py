"""A stream of the same wire, passed on event by event: what needs no look is recognised as bytes and never parsed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from runestone.domain.chat import Usage
from runestone.domain.failure import Failure
from runestone.providers.codecs.answer import Piece
from runestone.providers.codecs.reading import GARBAGE, TOO_LARGE, TRUNCATED
from runestone.providers.sse import EVENT_BYTES, Blocks, Event, condensed, parse


class PassingStream:
    """The base of a decoder whose events have names. A wire says which of them pass unread, and what the others mean."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._blocks = Blocks()
        self._content = False
        self._finished = False
        self._over: Failure | bool = False  # how it ended

    def feed(self, data: bytes) -> Piece:
        """Take the next bytes."""
        if self._over:
            return self._after()
        piece, out = Piece(finished=self._finished), list[bytes]()
        if block := self._blocks.feed(data):
            for text in condensed(block).removesuffix(b"\n\n").split(b"\n\n"):
                if self._content and text.count(b"\n") == 1 and self._passes(text):
                    piece.content = True
                    out += (text, b"\n\n")
                else:
                    self._read(text, piece, out)
                if self._over:
                    break
        if self._blocks.overflow and not self._over:
            self._fail(piece, TOO_LARGE)
        piece.data = b"".join(out)
        return piece

    def eof(self) -> Piece:
        """Whole if the reason for its end has come; the client then gets the last event that the provider left out."""
        if self._over:
            return self._after()
        piece = Piece(finished=self._finished)
        if self._finished:
            piece.data = self._last()
            self._end(piece)
        else:
            self._fail(piece, TRUNCATED)
        return piece

    def _read(self, text: bytes, piece: Piece, out: list[bytes]) -> None:
        if len(text) >= EVENT_BYTES:
            self._fail(piece, TOO_LARGE)
            return
        event = parse(text)
        if event is None or not event.data or event.data.startswith(b":"):
            return  # a comment, or one that was wrapped into data
        try:
            data: Any = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            data = None
        if not isinstance(data, dict):
            self._fail(piece, GARBAGE)
        elif (failure := self._failure(data, event)) is not None:
            self._fail(piece, failure)
        else:
            self._note(data, piece)
            if piece.failure is None:
                name = event.name or str(data.get("type")).encode(errors="replace")
                out.append(b"event: " + name + b"\ndata: " + event.data.replace(b"\n", b" ") + b"\n\n")

    def _passes(self, text: bytes) -> bool:
        """Whether an event of two lines is content and nothing else."""
        raise NotImplementedError

    def _failure(self, data: Mapping[str, Any], event: Event) -> Failure | None:
        """The failure that an event stands for."""
        raise NotImplementedError

    def _note(self, data: Mapping[str, Any], piece: Piece) -> None:
        """What an event means: content, a reason for the end, usage, the end itself."""
        raise NotImplementedError

    def _last(self) -> bytes:
        """The event that ends a stream."""
        raise NotImplementedError

    def _end(self, piece: Piece) -> None:
        piece.ended = self._over = True

    def _fail(self, piece: Piece, failure: Failure) -> None:
        piece.failure = self._over = failure

    def _after(self) -> Piece:
        failure = self._over if isinstance(self._over, Failure) else None
        return Piece(finished=self._finished, ended=failure is None, failure=failure)
