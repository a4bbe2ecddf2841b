"""OpenAI's stream, passed on. The hottest code of the gateway: events that need no look are recognised as bytes and never parsed.

An event needs a look before the first content, after a finish reason, and where one of the few things that matter could be in it. The
tests on bytes look for JSON keys with their quotes, which text inside a JSON string cannot hold unescaped: they may be wrong only by
looking too often.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from runestone.domain.catalogue import Row
from runestone.domain.chat import Usage
from runestone.domain.failure import Failure
from runestone.providers.codecs.answer import Piece
from runestone.providers.codecs.errors import failure_of_event
from runestone.providers.codecs.openai.usage import usage_of
from runestone.providers.codecs.reading import GARBAGE, TOO_LARGE
from runestone.providers.sse import EVENT_BYTES, Blocks, condensed, parse

DONE: Final = b"data: [DONE]\n\n"
_FINISH: Final = re.compile(rb'"finish_reason"\s*:\s*(?!null|\s)')
_USAGE: Final = re.compile(rb'"usage"\s*:\s*(?!null|\s)')
_NO_USAGE: Final = b',"usage":null'  # in every chunk but the last, once somebody has asked; never inside a string, whose quotes are escaped
_CONTENT: Final = (
    "content",
    "refusal",
    "tool_calls",
    "function_call",
    "reasoning_content",
    "reasoning",
    "audio",
    "thinking_blocks",
)


class OpenAIStream:
    """The state of one stream. ``choices`` is the request's ``n``: the stream is whole when each of them has finished.

    A server may give fewer than were asked for. Then its ``[DONE]`` ends the stream, if all that came have finished; to know them,
    every event of several choices is looked at. ``keeps_usage``: the client has not asked for the tokens, so they are kept from it.
    """

    __slots__ = (
        "_blocks",
        "_choices",
        "_content",
        "_finished",
        "_finished_choices",
        "_keeps_usage",
        "_over",
        "_row",
        "_seen_choices",
        "_tier",
        "usage",
    )

    def __init__(self, row: Row, *, choices: int = 1, keeps_usage: bool = False) -> None:
        self._row = row
        self.usage: Usage | None = None
        self._keeps_usage = keeps_usage
        self._tier: object = None  # as a chunk has told it; that of the usage may not
        self._blocks = Blocks()
        self._choices = choices
        self._finished_choices: set[int] = set()
        self._seen_choices: set[int] = set()
        self._content = False
        self._finished = False
        self._over: Failure | bool = False  # how it ended

    def feed(self, data: bytes) -> Piece:
        """Take the next bytes."""
        if self._over:
            return self._after()
        block = self._blocks.feed(data)
        if not block:
            piece = Piece(finished=self._finished)
        elif self._passes(block):
            piece = Piece(block.replace(_NO_USAGE, b"") if self._keeps_usage else block, content=True)
        else:
            piece, out = Piece(finished=self._finished), list[bytes]()
            self._look(condensed(block), piece, out)
            piece.data = b"".join(out)
        if self._blocks.overflow and not self._over:
            self._fail(piece, TOO_LARGE)
        return piece

    def eof(self) -> Piece:
        """An event without its blank line is discarded, as the standard says."""
        if self._over:
            return self._after()
        piece = Piece(finished=self._finished)
        if self._finished:
            piece.data = DONE
            self._end(piece)
        else:
            self._fail(piece, Failure(kind="truncated", message="the stream ended without a finish reason"))
        return piece

    def _passes(self, block: bytes) -> bool:
        return (
            self._content
            and not self._finished
            and self._choices == 1
            and len(block) < EVENT_BYTES
            and _needs_no_look(block)
        )

    def _look(self, block: bytes, piece: Piece, out: list[bytes]) -> None:
        """Read one event; halve several, so that long runs of those that need no look pass at once."""
        middle = _middle(block)
        if not middle:
            self._read(block.removesuffix(b"\n\n"), piece, out)
            return
        for part in (block[:middle], block[middle:]):
            if self._over:
                return
            if self._passes(part):
                out.append(part.replace(_NO_USAGE, b"") if self._keeps_usage else part)
                piece.content = True
            else:
                self._look(part, piece, out)

    def _read(self, text: bytes, piece: Piece, out: list[bytes]) -> None:
        if len(text) >= EVENT_BYTES:
            self._fail(piece, TOO_LARGE)
            return
        event = parse(text)
        if event is None or not event.data or event.data.startswith(b":"):
            return  # a comment, or one that was wrapped into data
        if event.data.strip() == b"[DONE]":
            self._done(piece, out)
            return
        try:
            chunk: Any = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            chunk = None
        if not isinstance(chunk, dict):
            self._fail(piece, GARBAGE)
        elif chunk.get("error") is not None:
            self._fail(piece, failure_of_event(chunk["error"]))
        elif event.name == b"error":
            self._fail(piece, failure_of_event(chunk))
        else:
            self._note(chunk, piece)
            data = event.data.replace(b"\n", b" ")
            if self._keeps_usage:
                if chunk.get("usage") is not None and chunk.get("choices") == []:
                    return  # the chunk that was not asked for
                data = data.replace(_NO_USAGE, b"")
            out.append(b"data: " + data + b"\n\n")

    def _note(self, chunk: Mapping[str, Any], piece: Piece) -> None:
        self._tier = chunk.get("service_tier") or self._tier
        self.usage = usage_of(chunk, self._row, self._tier) or self.usage
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            delta = choice.get("delta")
            if choice.get("text") or (isinstance(delta, dict) and any(delta.get(name) for name in _CONTENT)):
                self._content = piece.content = True
            index = choice.get("index")
            index = index if isinstance(index, int) else 0
            self._seen_choices.add(index)
            if choice.get("finish_reason") is not None:
                self._finished_choices.add(index)
                self._finished = piece.finished = len(self._finished_choices) >= self._choices

    def _done(self, piece: Piece, out: list[bytes]) -> None:
        if self._finished or (self._seen_choices and self._seen_choices <= self._finished_choices):
            self._finished = piece.finished = True
            out.append(DONE)
            self._end(piece)
        else:
            self._fail(piece, Failure(kind="truncated", message="the stream said [DONE] without a finish reason"))

    def _end(self, piece: Piece) -> None:
        piece.ended = self._over = True

    def _fail(self, piece: Piece, failure: Failure) -> None:
        piece.failure = self._over = failure

    def _after(self) -> Piece:
        failure = self._over if isinstance(self._over, Failure) else None
        return Piece(finished=self._finished, ended=failure is None, failure=failure)


def _middle(block: bytes) -> int:
    """Where to halve ``block``: behind the blank line next to its middle, 0 if it holds one event."""
    end = block.rfind(b"\n\n", 0, len(block) // 2) + 2
    if end > 1:
        return end
    end = block.find(b"\n\n") + 2
    return end if 1 < end < len(block) else 0


def _needs_no_look(block: bytes) -> bool:
    """Whether every event of ``block`` is one line of JSON without an error, a finish reason or a usage."""
    return (
        block.startswith(b"data: {")
        and block.endswith(b"}\n\n")
        and b'"error"' not in block
        and (b'"usage"' not in block or not _USAGE.search(block))
        and (block.count(b'"finish_reason"') == block.count(b'"finish_reason":null') or not _FINISH.search(block))
        and block.count(b"\n") == 2 * block.count(b"}\n\ndata: {") + 2
    )
