"""A codec between two wires: the client's question read into the canonical chat and written in the provider's words, the answer back."""

from __future__ import annotations

from typing import Any, Final

import orjson
from attrs import frozen

from runestone.domain.answer import Ended, Failed, Finished, StreamEvent, ThinkingSigned
from runestone.domain.answer import Started as AnswerStarted
from runestone.domain.chat import ChatRequest, Usage
from runestone.domain.conversation import Refused
from runestone.domain.failure import Failure, UpstreamError
from runestone.providers.codecs.answer import TOO_DEEP, Completion, Piece, Unsupported
from runestone.providers.codecs.errors import failure_of_event
from runestone.providers.codecs.wire import Body, ClientWire, ProviderWire, StreamReader, StreamWriter

_NO_CONTENT: Final = (AnswerStarted, ThinkingSigned, Finished, Ended, Failed)


@frozen
class Translation:
    """What lies between ``client`` and ``provider``."""

    client: ClientWire
    provider: ProviderWire

    def request(self, chat: ChatRequest, *, model: str) -> tuple[bytes, tuple[str, ...]] | Unsupported:
        """The provider's body and the fields that it has no word for, or the field that cannot be served."""
        try:
            asked = self.client.read_request(chat.body)
            body, dropped = self.provider.write_request(asked, model)
            return orjson.dumps(body), (*asked.dropped, *dropped)
        except Refused as refused:
            return Unsupported(field=refused.field, message=refused.message)
        except (orjson.JSONEncodeError, RecursionError):
            return TOO_DEEP

    def completion(self, chat: ChatRequest, body: bytes, *, created: int) -> Completion:
        """A whole answer. Raises :class:`UpstreamError`."""
        answer = self.provider.read_answer(answer_object(body))
        written: Body = self.client.write_answer(answer, chat, created)
        try:
            return Completion(body=orjson.dumps(written), usage=answer.usage, finish_reason=answer.finish)
        except orjson.JSONEncodeError:
            raise UpstreamError(_invalid("the answer is nested too deeply")) from None

    def stream(self, chat: ChatRequest, *, created: int) -> TranslatedStream:
        """A decoder for one stream."""
        return TranslatedStream(self.provider.stream_reader(), self.client.stream_writer(chat, created))


class TranslatedStream:
    """The events of the provider's wire written in the client's."""

    __slots__ = ("_finished", "_over", "_reader", "_writer")

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._finished = False
        self._over: Failure | bool = False  # how it ended

    @property
    def usage(self) -> Usage | None:
        """The tokens, as far as they are known."""
        return self._reader.usage

    def feed(self, data: bytes) -> Piece:
        """Take the next bytes."""
        return self._piece([] if self._over else self._reader.feed(data))

    def eof(self) -> Piece:
        """The upstream closed, or stays silent after its end."""
        return self._piece([] if self._over else self._reader.eof())

    def _piece(self, events: list[StreamEvent]) -> Piece:
        out: list[bytes] = []
        content = False
        for event in events:
            if type(event) not in _NO_CONTENT:
                content = True
            elif isinstance(event, Finished):
                self._finished = True
            elif isinstance(event, Ended):
                self._over = True
            elif isinstance(event, Failed):
                self._over = event.failure
            out.append(self._writer.write(event))
        return Piece(
            data=b"".join(out),
            content=content,
            finished=self._finished,
            ended=self._over is True,
            failure=self._over if isinstance(self._over, Failure) else None,
        )


def answer_object(body: bytes) -> dict[str, Any]:
    """The JSON object that an answer with status 200 must be, and no error. Raises :class:`UpstreamError`."""
    try:
        answer: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UpstreamError(_invalid("the answer is not JSON")) from None
    if not isinstance(answer, dict):
        raise UpstreamError(_invalid("the answer is not a JSON object"))
    if answer.get("error") is not None:
        raise UpstreamError(failure_of_event(answer["error"]))
    return answer


def _invalid(message: str) -> Failure:
    return Failure(kind="invalid_answer", message=message)
