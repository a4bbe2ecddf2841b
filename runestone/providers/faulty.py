"""A fault in front of a provider: between its connections and whoever holds a lease, so that any provider fails as a simulated one does.

A fault that is a whole answer, or none, never reaches the provider; one that strikes in the middle, or makes an answer slow, lets the
provider answer first.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Mapping
from typing import Any, Final, Self

import httpx
from attrs import define, field, frozen

from runestone.domain import fault_answers
from runestone.domain.failure import Failure, UpstreamError
from runestone.domain.fault_answers import BROKEN_EVENT, BROKEN_JSON, HTML, NOT_JSON
from runestone.domain.faults import NONE, Draw, Fault, UnknownFault, differences, parse
from runestone.providers.connection_errors import BROKEN
from runestone.providers.stream import UpstreamStream
from runestone.providers.transport import Transport

#: What can go wrong in front of a provider. The others are about HTTP itself, or about what a simulated model says.
IN_FRONT: Final = (
    "refused",
    "reset",
    "cut",
    "stall",
    "garbage",
    "invalid_json",
    "empty",
    "error_event",
    "status",
    "html",
    "redirect",
    "retry_after",
    "cut_after",
    "reset_after",
    "stall_after",
    "error_event_after",
    "invalid_json_after",
    "cut_at",
    "reset_at",
    "stall_at",
    "slow",
    "slow_first_token",
    "pace",
    "rate",
    "seed",
    "times",
)
_REFUSED: Final = Failure(kind="refused", message="the connection failed: connection refused")
_LOST: Final = Failure(kind="disconnected", message="the connection was lost before an answer")
_EVENT_END: Final = re.compile(rb"\r?\n\r?\n")
_STREAM: Final = "text/event-stream"
_JSON: Final = "application/json"
_WITHOUT_BODY: Final = (204, 304)


@define(eq=False)
class Front:
    """The fault that is switched on in front of one provider. ``spec`` is how it was said."""

    spec: str
    _draw: Draw = field(repr=False)

    @classmethod
    def saying(cls, spec: str) -> Self | None:
        """The fault that ``spec`` says, ``None`` for none. Raises :class:`UnknownFault` for what is none, or makes no sense in front."""
        fault = parse(spec)
        if fault == NONE:
            return None
        if odd := [name for name in differences(fault) if name not in IN_FRONT]:
            words = ", ".join(IN_FRONT)
            raise UnknownFault(
                f"{', '.join(odd)} makes sense at a simulated provider alone; in front of one work {words}"
            )
        return cls(spec.strip(), Draw(fault, random.Random(0 if fault.seed is None else fault.seed).random))

    def over(self, transport: Transport) -> AnyTransport:
        """The way of one more call: one that the fault leaves alone goes straight on."""
        fault = self._draw.next()
        return transport if fault == NONE else FaultyTransport(transport, fault)

    def at_a_look(self, transport: Transport) -> AnyTransport:
        """The way of a question whether the provider is there: it is stopped only where nobody is, and counts as no call."""
        return FaultyTransport(transport, self._draw.fault) if self.gone else transport

    @property
    def gone(self) -> bool:
        """Whether nobody is there, whoever asks."""
        return self._draw.fault.refused and self._draw.fault.rate >= 1.0 and self._draw.left != 0


@frozen
class FaultyTransport(httpx.AsyncBaseTransport):
    """``transport`` as it is with ``fault``."""

    transport: Transport
    fault: Fault

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Fail, answer in the provider's place, or let it answer, as the fault says. Raises as :class:`Transport` does."""
        fault = self.fault
        if fault.refused:
            raise UpstreamError(_REFUSED)
        if fault.reset or fault.cut:
            raise UpstreamError(_LOST)
        if fault.stall:
            await asyncio.Event().wait()
        if (own := _own_answer(fault, request)) is not None:
            status, kind, body = own
            headers = {"content-type": kind, **({} if fault.redirect is None else {"location": request.url.path})}
            if fault.retry_after is not None:
                headers["retry-after"] = f"{fault.retry_after:g}"
            return httpx.Response(
                status, headers=headers, stream=FaultyStream(_Bytes(body), fault, events=kind == _STREAM)
            )
        answer = await self.transport.handle_async_request(request)
        assert isinstance(answer.stream, UpstreamStream)
        events = answer.headers.get("content-type", "").startswith(_STREAM)
        stream = FaultyStream(answer.stream, fault, events=events, wire=_wire(request))
        return httpx.Response(answer.status_code, headers=answer.headers.raw, stream=stream)

    async def connect(self, url: httpx.URL) -> None:
        """Look whether anybody is there. Raises as :class:`Transport` does."""
        if self.fault.refused:
            raise UpstreamError(_REFUSED)
        await self.transport.connect(url)


AnyTransport = Transport | FaultyTransport


class FaultyStream(UpstreamStream):
    """The bytes of ``inner`` up to where ``fault`` strikes, as slowly as it says. ``events``: they are those of a stream."""

    def __init__(self, inner: UpstreamStream, fault: Fault, *, events: bool, wire: str = "openai") -> None:
        self._inner = inner
        self._fault = fault
        self._wire = wire
        self._by_event = events and (fault.pace > 0 or any(map(_is_set, _strikes_after(fault))))
        self._buffer = b""
        self._ended = False  # ``inner`` says no more
        self._begun = False
        self._events = 0  # that were given
        self._given = 0  # bytes
        self._due: UpstreamError | None = None  # what comes instead of more
        self._failure: UpstreamError | None = None
        self._waiting: asyncio.Future[None] | None = None

    async def __anext__(self) -> bytes:
        if not self._begun:
            self._begun = True
            await self._pause(self._fault.slow_first_token)
        if self._due is not None:
            raise self._due
        left = self._left()
        if left == 0:
            await self._strike()
        data = await (self._next_event() if self._by_event else self._next_piece())
        data = data if left is None else data[:left]
        self._given += len(data)
        return data

    def fail(self, error: UpstreamError) -> None:
        """Make the read in progress, and every later one, raise ``error``."""
        self._failure = error
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        self._inner.fail(error)

    async def aclose(self) -> None:
        """Close the answer below."""
        await self._inner.aclose()

    async def _next_piece(self) -> bytes:
        """What comes next: a byte of it where it is to be slow."""
        if not self._buffer:
            self._buffer = await anext(self._inner)
        size = 1 if self._fault.slow else len(self._buffer)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        await self._pause(self._fault.slow)
        return data

    async def _next_event(self) -> bytes:
        """The next event of a stream, or what comes in its place."""
        fault, number = self._fault, self._events
        if number in (fault.cut_after, fault.reset_after):
            raise UpstreamError(BROKEN)
        if number == fault.stall_after:
            await self._pause(None)
        if number == fault.error_event_after:
            self._due = UpstreamError(BROKEN)
            return _error_event(self._wire)
        while (end := _EVENT_END.search(self._buffer)) is None and not self._ended:
            try:
                self._buffer += await anext(self._inner)
            except StopAsyncIteration:
                self._ended = True
        if not self._buffer:
            raise StopAsyncIteration
        size = len(self._buffer) if end is None else end.end()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        if number:
            await self._pause(fault.pace)
        self._events += 1
        return BROKEN_EVENT + data if number == fault.invalid_json_after else data

    def _left(self) -> int | None:
        """How many bytes come before the fault strikes, if it does so by their number."""
        places = [at for at in (self._fault.cut_at, self._fault.reset_at, self._fault.stall_at) if at is not None]
        return max(min(places) - self._given, 0) if places else None

    async def _strike(self) -> None:
        if self._fault.cut_at is None and self._fault.reset_at is None:
            await self._pause(None)
        raise UpstreamError(BROKEN)

    async def _pause(self, seconds: float | None) -> None:
        """Wait, for ever if it must be (``None``), until somebody has had enough."""
        if self._failure is None and seconds != 0:
            self._waiting = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._waiting}, timeout=seconds)
        if self._failure is not None:
            raise self._failure


class _Bytes(UpstreamStream):
    """An answer that is there already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __anext__(self) -> bytes:
        data, self._data = self._data, b""
        if not data:
            raise StopAsyncIteration
        return data

    def fail(self, error: UpstreamError) -> None:
        """Nobody waits for it."""

    async def aclose(self) -> None:
        """There is nothing to close."""


def _own_answer(fault: Fault, request: httpx.Request) -> tuple[int, str, bytes] | None:
    """Status, kind and body of the answer that ``fault`` is, if it is one."""
    wire = _wire(request)
    if fault.html is not None:
        return fault.html, "text/html", HTML
    if fault.redirect is not None:
        return fault.redirect, "text/plain", b"elsewhere"
    if fault.status is not None and fault.status != 200:
        silent = fault.status in _WITHOUT_BODY
        return fault.status, _JSON, b"" if silent else json.dumps(_error(wire, fault.status)).encode()
    if fault.garbage or fault.invalid_json or fault.empty or fault.error_event:
        return _nonsense(fault, wire, streamed=_asks_for_a_stream(request))
    return None


def _nonsense(fault: Fault, wire: str, *, streamed: bool) -> tuple[int, str, bytes]:
    """A 200 that is no answer."""
    if fault.error_event:
        body = _error_event(wire) if streamed else json.dumps(_error(wire, 500)).encode()
    elif fault.empty:
        body = b""
    else:
        words = NOT_JSON if fault.garbage else BROKEN_JSON
        body = b"data: " + words + b"\n\n" if streamed else words
    return 200, _STREAM if streamed else _JSON, body


def _wire(request: httpx.Request) -> str:
    path = request.url.path
    if path.endswith("/responses"):
        return "responses"
    return "anthropic" if "/messages" in path else "openai"


def _error(wire: str, status: int) -> Mapping[str, Any]:
    return fault_answers.anthropic_error(status) if wire == "anthropic" else fault_answers.openai_error(status)


def _error_event(wire: str) -> bytes:
    match wire:
        case "anthropic":
            return fault_answers.anthropic_error_event()
        case "responses":
            return fault_answers.responses_error_event()
        case _:
            return fault_answers.openai_error_event()


def _asks_for_a_stream(request: httpx.Request) -> bool:
    try:
        body = json.loads(request.content or b"null")
    except ValueError:
        return False
    return isinstance(body, dict) and body.get("stream") is True


def _strikes_after(fault: Fault) -> tuple[int | None, ...]:
    return fault.cut_after, fault.reset_after, fault.stall_after, fault.error_event_after, fault.invalid_json_after


def _is_set(value: int | None) -> bool:
    return value is not None
