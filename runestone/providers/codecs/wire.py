"""One wire in four directions: what a codec between two wires is put together from. All of it is pure and total.

A wire of clients is read as a question and written as an answer; a wire of providers the other way round. ``read_request`` and
``write_request`` raise :class:`~runestone.domain.conversation.Refused` and nothing else, ``read_answer``
:class:`~runestone.domain.failure.UpstreamError` and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import frozen

from runestone.domain.answer import Answer, StreamEvent
from runestone.domain.chat import ChatRequest, Usage
from runestone.domain.conversation import Chat

Body = dict[str, Any]


class StreamReader(Protocol):
    """Reads the bytes of one upstream stream, split anywhere, as events. After ``Ended`` or ``Failed`` it gives none."""

    @property
    def usage(self) -> Usage | None:
        """The tokens, as far as they are known."""
        ...

    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that ``data`` completes."""
        ...

    def eof(self) -> list[StreamEvent]:
        """The upstream closed, or stays silent after its end: what was open ends in ``Ended`` or ``Failed``."""
        ...


class StreamWriter(Protocol):
    """Writes events as the bytes of a client's wire. Nothing is written for ``Failed``: how a failure is told is chosen elsewhere."""

    def write(self, event: StreamEvent) -> bytes:
        """The bytes of ``event``, ``b""`` where the wire has no word for it; those of ``Ended`` end the stream."""
        ...


@frozen(kw_only=True)
class ClientWire:
    """A wire as clients speak it. ``write_answer`` and ``stream_writer`` take ``created`` in epoch seconds."""

    read_request: Callable[[Mapping[str, Any]], Chat]
    write_answer: Callable[[Answer, ChatRequest, int], Body]
    stream_writer: Callable[[ChatRequest, int], StreamWriter]


@frozen(kw_only=True)
class ProviderWire:
    """A wire as providers speak it. ``write_request`` takes the model, and gives the names of what it dropped too."""

    path: str
    write_request: Callable[[Chat, str], tuple[Body, list[str]]]
    read_answer: Callable[[Mapping[str, Any]], Answer]
    stream_reader: Callable[[], StreamReader]
