"""The stream of responses, passed on. Deltas say what they are in their event's name, and are never parsed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from runestone.domain.failure import Failure
from runestone.providers.codecs.answer import Piece
from runestone.providers.codecs.errors import failure_of_event
from runestone.providers.codecs.passing import PassingStream
from runestone.providers.codecs.reading import told_error
from runestone.providers.codecs.responses.usage import usage_of
from runestone.providers.sse import Event

_DELTA: Final = re.compile(rb"event: response\.[a-z_.]+\.delta\ndata: \{")
_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
_BEFORE_CONTENT: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_SILENT: Final = frozenset({"message", "reasoning"})  # items that begin without content


class ResponsesStream(PassingStream):
    """The state of one stream. Its last event tells the end and the usage at once, so that nothing can stand in for it."""

    def _passes(self, text: bytes) -> bool:
        return _DELTA.match(text) is not None

    def _failure(self, data: Mapping[str, Any], event: Event) -> Failure | None:
        if data.get("type") == "response.failed":
            answer = data.get("response")
            self.usage = usage_of(answer)
            return failure_of_event(answer.get("error") if isinstance(answer, Mapping) else None)
        if data.get("type") == "error" and not data.get("error"):
            return failure_of_event({**data, "type": data.get("code")})
        return told_error(data, event)

    def _note(self, data: Mapping[str, Any], piece: Piece) -> None:
        kind, answer, item = str(data.get("type")), data.get("response"), data.get("item")
        if kind in _ENDS:
            self.usage = usage_of(answer)
            self._finished = piece.finished = True
            self._end(piece)
        elif kind == "response.output_item.added":
            silent = isinstance(item, Mapping) and item.get("type") in _SILENT
            self._content = piece.content = self._content or not silent
        elif kind not in _BEFORE_CONTENT and not kind.endswith("part.added"):
            self._content = piece.content = True
