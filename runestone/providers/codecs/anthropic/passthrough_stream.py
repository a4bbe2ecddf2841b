"""Anthropic's stream, passed on.

Between its first and its last event a message is deltas of content, one after the other, which say in their first bytes what they are.
Everything else is looked at: what begins and ends a message, counts tokens, or is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runestone.domain.failure import Failure
from runestone.providers.codecs.answer import Piece
from runestone.providers.codecs.anthropic.answer_reader import usage_of
from runestone.providers.codecs.errors import failure_of_event
from runestone.providers.codecs.passing import PassingStream
from runestone.providers.codecs.reading import TRUNCATED, told_error
from runestone.providers.sse import Event

STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_DELTAS: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta",',
    b'event: content_block_delta\ndata: {"type": "content_block_delta",',
)
_SILENT: Final = frozenset({"text", "thinking"})  # blocks that begin without content


class AnthropicStream(PassingStream):
    """The state of one stream."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, Any] = {}

    def _passes(self, text: bytes) -> bool:
        return text.startswith(_DELTAS)

    def _failure(self, data: Mapping[str, Any], event: Event) -> Failure | None:
        return (
            failure_of_event(data) if data.get("type") == "error" and not data.get("error") else told_error(data, event)
        )

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
            case "message_stop" if self._finished:
                self._end(piece)
            case "message_stop":
                self._fail(piece, TRUNCATED)
            case _:
                pass

    def _last(self) -> bytes:
        return STOP

    def _count(self, usage: object) -> None:
        """Counts are cumulative: a later one replaces an earlier one, what is missing or null stays."""
        if isinstance(usage, Mapping):
            self._counts.update({name: value for name, value in usage.items() if value is not None})
            self.usage = usage_of(self._counts)
