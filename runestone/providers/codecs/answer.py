"""What codecs take and give: requests for a provider, whole answers, and the pieces of a stream in the client's wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from attrs import define, field, frozen

from runestone.domain.chat import ChatRequest, Usage
from runestone.domain.failure import Failure
from runestone.domain.secret import Secret


@frozen(kw_only=True)
class UpstreamRequest:
    """A request in the provider's wire. ``path`` is relative to the provider's base URL."""

    path: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    dropped: tuple[str, ...] = ()  # fields of the client's request that this wire has no word for


@frozen(kw_only=True)
class Unsupported:
    """The request cannot be served at this kind of provider because of ``field``; nothing is to be sent."""

    field: str
    message: str


TOO_DEEP: Final = Unsupported(field="messages", message="The request is nested too deeply.")  # to be written again


@frozen(kw_only=True)
class Completion:
    """A whole answer in the client's wire."""

    body: bytes = field(repr=False)
    usage: Usage | None = None
    finish_reason: str | None = None


@define
class Piece:
    """What became of the bytes that were fed to a decoder.

    - ``data``: whole events in the client's wire. What precedes a failure in the same bytes is valid and in here.
    - ``content``: this piece holds content; once content has come, pieces that were passed on unparsed say so too.
    - ``finished``: a real end has been seen, now or before.
    - ``ended``: the terminal event has been seen, and ``data`` ends with the client's own; nothing follows.
    - ``failure``: the stream is over and not whole; nothing of the failure itself is in ``data``.
    """

    data: bytes = b""
    content: bool = False
    finished: bool = False
    ended: bool = False
    failure: Failure | None = None


class StreamDecoder(Protocol):
    """Turns the bytes of one upstream stream into pieces."""

    @property
    def usage(self) -> Usage | None:
        """The tokens, as far as they are known."""
        ...

    def feed(self, data: bytes) -> Piece:
        """Take the next bytes, split anywhere."""
        ...

    def eof(self) -> Piece:
        """The upstream closed, or stays silent after its end: ``ended`` if the answer is whole, else a failure ``truncated``."""
        ...


class Codec(Protocol):
    """The wire of one kind of provider, for clients of OpenAI's wire."""

    def credentials(self, api_key: Secret | None) -> dict[str, str]:
        """The headers that say who asks, by lower-case name."""
        ...

    def request(
        self, chat: ChatRequest, *, model: str, api_key: Secret | None, extra_headers: Mapping[str, str]
    ) -> UpstreamRequest | Unsupported:
        """The request for ``model`` at the provider, or the field that it cannot serve."""
        ...

    def completion(self, chat: ChatRequest, body: bytes, *, created: int) -> Completion:
        """The answer to a request without ``stream``; ``created`` in epoch seconds, where the provider tells none.

        Raises:
            UpstreamError: ``error_event``, ``invalid_answer`` or what the error in a 200 stands for.
        """
        ...

    def stream(self, chat: ChatRequest, *, created: int) -> StreamDecoder:
        """A decoder for one stream."""
        ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, *, now_epoch: float) -> Failure:
        """What an answer that is not a 200 stands for. ``headers`` have lower-case names."""
        ...
