"""One upstream call with a lease in hand: opened up to its commit point, read to its end, closed in the task that opened it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Final, NoReturn

import httpx

from runestone.config.settings import TimeoutSettings
from runestone.domain.catalogue import thinks_first, wire_of
from runestone.domain.chat import ChatRequest, Usage
from runestone.domain.failure import Failure, FailureKind, UpstreamError
from runestone.domain.outcome import Outcome
from runestone.failover.idle import IdleWatch
from runestone.providers.codecs import Codec, StreamDecoder
from runestone.providers.codecs.answer import Piece, Unsupported, UpstreamRequest
from runestone.providers.codecs.headers import Headers, headroom, passed_on
from runestone.providers.messages import Lease
from runestone.providers.sse import TURN_BYTES, turn
from runestone.providers.stream import UpstreamStream
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import AttemptFinished
from runestone.telemetry.exchanged import Exchanged
from runestone.telemetry.trace_context import Trace, current

_AFTER_END_SECONDS: Final = 0.5  # what a stream gets for usage and its terminal event once its finish reason has come
_ERROR_BODY_BYTES: Final = 64 * 1024
_ERROR_BODY_SECONDS: Final = 2.0
_ANSWER_BYTES: Final = 64 * 1024 * 1024
_HEAD_BYTES: Final = 1024 * 1024  # before the first content, comments included
_NO_STREAM: Final = Failure(kind="invalid_answer", message="the answer to a streaming request is not a stream")


class UpstreamCall:
    """One attempt. :meth:`open` reaches the commit point, :meth:`read` gives what follows, :meth:`close` ends it in every case."""

    def __init__(
        self, chat: ChatRequest, lease: Lease, codec: Codec, timeouts: TimeoutSettings, bus: Bus, *, number: int = 1
    ) -> None:
        self.chat = chat
        self.lease = lease
        self.ended = False  # nothing follows what has been read
        self.head = b""  # what came up to the commit point, in the client's wire
        self.usage: Usage | None = None
        self.dropped: tuple[str, ...] = ()  # fields of the request that this provider was not sent
        self.headers: Headers = ()  # of the answer's head, those that the client may see
        self.first_content_seconds: float | None = None
        self._prompt = chat.stream and not thinks_first(lease.choice.model)  # a first token is due soon
        self._headroom: float | None = None  # what the provider says is left of its rate limit
        self._number = number
        self._codec = codec
        self._timeouts = timeouts
        self._bus = bus
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._closed_at: float | None = None
        self._stream: UpstreamStream | None = None
        self._decoder: StreamDecoder | None = None
        self._idle: IdleWatch | None = None
        self._exchanged: Exchanged | None = None  # for its span, where there is one
        self._received = 0  # bytes of the body, up to the commit point
        self._size = 0  # of the last read of a stream, once all of it has been looked at
        self._unread = b""  # of the last read, where it is too much for one turn of the loop
        self._begin = 0
        self._chunks = 0  # pieces of a stream behind its first content
        self._whole_at: float | None = None  # when the end of a stream came
        self._outcome: Outcome = "neutral"
        self._failure: Failure | None = None

    @property
    def same_wire(self) -> bool:
        """Whether the provider speaks the client's wire, so that its own words may reach the client."""
        return wire_of(self.lease.settings.kind) == self.chat.wire

    @property
    def seconds(self) -> float:
        """How long it has been out, or was."""
        return (self._loop.time() if self._closed_at is None else self._closed_at) - self._started

    async def open(self) -> None:
        """Send the request and wait for the commit point.

        Raises:
            UpstreamError: the attempt failed; nothing of it has reached the client.
        """
        request = self._request()
        settings = self.lease.settings
        kind: FailureKind = "first_token_timeout" if self.chat.stream else "timeout"
        limit = settings.timeout_seconds
        if self._prompt:
            limit = min(self._timeouts.first_token_seconds, limit)
        try:
            async with asyncio.timeout(limit):
                response = await self.lease.transport.handle_async_request(request)
                assert isinstance(response.stream, UpstreamStream)
                self._stream = response.stream
                self.headers = passed_on(response.headers.raw, same_wire=self.same_wire)
                self._headroom = headroom(response.headers.raw)
                await self._commit(response)
        except TimeoutError:
            self._fail(Failure(kind=kind, message=f"{settings.name} gave no answer within {limit:g} s"))
        except UpstreamError as error:
            self._fail(error.failure)
        self.first_content_seconds = self._loop.time() - self._started
        self.lease.first_content(self.first_content_seconds, self._headroom, prompt=self._prompt)

    async def read(self) -> bytes:
        """The next bytes for the client, ``b""`` after the last.

        Raises:
            UpstreamError: the upstream broke, stalled or told an error after the commit point.
        """
        while not self.ended:
            if self._failure is not None:
                raise UpstreamError(self._failure)
            piece = await self._next_piece()
            self._chunks += 1
            if self._exchanged is not None:
                self._exchanged.part(piece.data)
            if piece.failure is not None:
                self._note(piece.failure)
            if piece.ended:
                self._succeed()
            if piece.data:
                return piece.data
        return b""

    async def close(self) -> None:
        """Close the upstream, give the lease back, tell what became of it. The first call counts."""
        if self._closed_at is not None:
            return
        self._closed_at = self._loop.time()
        self._count()
        if self._idle is not None:
            self._idle.stop()
        self.lease.release(self._outcome, self._failure)
        if self.lease.settings.telemetry:
            self._bus.emit(self._finished())
        if self._stream is not None:
            await self._stream.aclose()

    def _finished(self) -> AttemptFinished:
        return AttemptFinished(
            provider=self.lease.choice.provider,
            model=self.lease.choice.model,
            stream=self.chat.stream,
            outcome=self._failure.kind if self._failure else "ok" if self._outcome == "success" else "cancelled",
            duration_seconds=self.seconds,
            first_content_seconds=self.first_content_seconds,
            chunk_seconds=self._chunk_seconds(),
            usage=self.usage,
            request_id=self.chat.request_id,
            number=self._number,
            kind=self.lease.settings.kind,
            api=self.chat.api,
            group=self.lease.plan.group,
            key=self.chat.key,
        )

    def _chunk_seconds(self) -> float | None:
        if self._whole_at is None or self.first_content_seconds is None or not self._chunks:
            return None
        return max(0.0, self._whole_at - self._started - self.first_content_seconds) / self._chunks

    # -- up to the commit point --------------------------------------------------------------------------------------

    def _request(self) -> httpx.Request:
        settings, trace = self.lease.settings, current.get()
        sent = self._codec.request(
            self.chat, model=self.lease.choice.model, api_key=settings.api_key, extra_headers=self._extra_headers(trace)
        )
        if isinstance(sent, Unsupported):
            self._fail(Failure(kind="unsupported", message=sent.message, param=sent.field))
        self.dropped = sent.dropped
        if trace is not None:
            self._exchanged = trace.asks(self.chat.body, sent.dropped)
        return _ready(_url(settings.base_url, sent.path), sent)

    def _extra_headers(self, trace: Trace | None) -> Mapping[str, str]:
        """Those of the settings; and where it is told of traces, the one that it is in."""
        headers = self.lease.settings.headers
        if trace is None or not (told := trace.outgoing()):
            return headers
        return {**headers, **told}

    async def _commit(self, response: httpx.Response) -> None:
        kind = response.headers.get("content-type", "")
        if response.status_code != 200:
            body = await self._error_body()
            raise UpstreamError(
                self._codec.failure(response.status_code, response.headers, body, now_epoch=time.time())
            )
        if not self.chat.stream:
            self._complete(await self._read_all())
        elif "json" in kind:
            self.usage = self._codec.completion(self.chat, await self._read_all(), created=int(time.time())).usage
            raise UpstreamError(_NO_STREAM)
        elif "html" in kind:
            raise UpstreamError(_NO_STREAM)
        else:
            await self._first_content()

    def _complete(self, body: bytes) -> None:
        completion = self._codec.completion(self.chat, body, created=int(time.time()))
        self.head, self.usage = completion.body, completion.usage
        if self._exchanged is not None:
            self._exchanged.whole(self.head)
        self._succeed()

    async def _first_content(self) -> None:
        assert self._stream is not None
        self._decoder = self._codec.stream(self.chat, created=int(time.time()))
        # a model that thinks first is silent meanwhile: until its first content, open()'s own limit is the only one
        patience = self._timeouts.idle_seconds if self._prompt else math.inf
        self._idle = IdleWatch(self._loop, self._stream, patience, self.lease.choice.provider)
        parts: list[bytes] = []
        while True:
            piece = await self._next_piece()
            self._received += self._size
            parts.append(piece.data)
            if piece.failure is not None and not piece.content:
                raise UpstreamError(piece.failure)
            if piece.failure is not None:
                self._note(piece.failure)
            if piece.ended:
                self._succeed()
            if piece.content or piece.finished:
                self.head = b"".join(parts)
                if self._exchanged is not None:
                    self._exchanged.part(self.head)
                if not piece.finished:
                    self._idle.end_within(self._timeouts.idle_seconds)
                return
            if self._received > _HEAD_BYTES:
                raise UpstreamError(Failure(kind="too_large", message="a megabyte came without any content"))

    async def _read_all(self) -> bytes:
        assert self._stream is not None
        parts: list[bytes] = []
        async for data in self._stream:
            parts.append(data)
            self._received += len(data)
            if self._received > _ANSWER_BYTES:
                message = f"the answer is larger than {_ANSWER_BYTES} bytes"
                raise UpstreamError(Failure(kind="too_large", message=message))
        return b"".join(parts)

    async def _error_body(self) -> bytes:
        """What comes of it in a while: the status holds, though its words may be too many, break off or never come."""
        assert self._stream is not None
        parts: list[bytes] = []
        with suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(min(_ERROR_BODY_SECONDS, self._timeouts.idle_seconds)):
                async for data in self._stream:
                    parts.append(data)
                    self._received += len(data)
                    if self._received > _ERROR_BODY_BYTES:
                        break
        return b"".join(parts)[:_ERROR_BODY_BYTES]

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _next_piece(self) -> Piece:
        assert self._stream is not None
        assert self._decoder is not None
        assert self._idle is not None
        if data := self._unread:
            await asyncio.sleep(0)
        else:
            self._idle.reading()
            try:
                data = await anext(self._stream)
            except StopAsyncIteration:
                return self._at_eof()
            except UpstreamError as error:
                piece = self._at_eof()
                if piece.failure is not None:
                    piece.failure = error.failure
                return piece
            finally:
                self._idle.pause()
        self._size = len(data)
        piece = self._decoder.feed(data if self._size <= TURN_BYTES else self._turn_of(data))
        if piece.finished and not piece.ended:
            self._idle.end_within(_AFTER_END_SECONDS)
        return piece

    def _turn_of(self, data: bytes) -> bytes:
        """What is read of ``data`` in this turn of the loop; the rest is for later ones."""
        begin = self._begin
        end = turn(data, begin)
        if end < len(data):
            self._unread, self._begin, self._size = data, end, 0
        else:
            self._unread, self._begin = b"", 0
        return data[begin:end]

    def _at_eof(self) -> Piece:
        """The upstream says no more. Whole if its finish reason has come, else a truncation: the decoder knows."""
        assert self._decoder is not None
        return self._decoder.eof()

    # -- endings -----------------------------------------------------------------------------------------------------

    def _succeed(self) -> None:
        self.ended, self._outcome = True, "success"
        self._whole_at = self._loop.time()
        self._count()

    def _note(self, failure: Failure) -> Failure:
        """What is told of it from here on holds nothing that the provider was sent in confidence."""
        settings = self.lease.settings
        key = () if settings.api_key is None else (settings.api_key.reveal(),)
        self._failure = failure.without((*key, *settings.headers.values()))
        self._outcome = failure.treatment.outcome
        self._count()
        return self._failure

    def _count(self) -> None:
        """The tokens as far as they are told, however it ends: a provider bills what it has done."""
        if self._decoder is not None:
            self.usage = self._decoder.usage

    def _fail(self, failure: Failure) -> NoReturn:
        raise UpstreamError(self._note(failure)) from None


def _ready(url: httpx.URL, sent: UpstreamRequest) -> httpx.Request:
    """``sent`` with the two headers that httpx would add: given a stream, it looks for none, which costs it a tenth of the time."""
    headers = [(b"host", url.netloc), *((k.encode(), v.encode("latin-1")) for k, v in sent.headers)]
    headers.append((b"content-length", b"%d" % len(sent.body)))
    request = httpx.Request("POST", url, headers=headers, stream=httpx.ByteStream(sent.body))
    request.read()
    return request


@lru_cache(maxsize=256)
def _url(base_url: str, path: str) -> httpx.URL:
    return httpx.URL(base_url.rstrip("/") + path)
