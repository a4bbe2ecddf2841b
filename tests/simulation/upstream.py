"""Upstreams that do as they are told: a transport and its streams in memory, with the real wires of the stand-in providers."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import httpx
from attrs import define, field, frozen

from runestone.config.settings import ProviderSettings
from runestone.domain.catalogue import wire_of
from runestone.domain.failure import Failure, FailureKind, UpstreamError
from runestone.providers.connection_errors import BROKEN
from runestone.providers.stream import UpstreamStream
from runestone.simulated.wires.anthropic import Anthropic
from runestone.simulated.wires.openai import OpenAI
from runestone.simulated.wires.text import Text
from tests.simulation.script import Profile

Ending = Literal["whole", "silent after its finish", "cut after its finish", "cut", "closed", "error event", "stall"]
Step = tuple[float, bytes | UpstreamError | None]  # after so many seconds: bytes, a break, or the end

_FOREVER: Final = 1e6
_NUMBER: Final = re.compile(rb"question (\d+)")
_REFUSALS: Final[tuple[FailureKind, ...]] = ("refused", "dns", "connect_timeout")
_KINDS: Final[dict[int, FailureKind]] = {
    400: "caller_error",
    401: "credentials",
    402: "quota_exceeded",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    422: "caller_error",
    429: "rate_limited",
    500: "server_error",
    503: "server_error",
    529: "overloaded",
}

_ENDINGS: Final[dict[Ending, frozenset[str]]] = {
    "whole": frozenset({"ok"}),
    "silent after its finish": frozenset({"ok"}),
    "cut after its finish": frozenset({"ok"}),
    "cut": frozenset({"truncated", "invalid_answer"}),
    "closed": frozenset({"truncated", "invalid_answer"}),
    "error event": frozenset({"error_event", "overloaded"}),
    "stall": frozenset(),
}


@frozen(kw_only=True)
class Behaviour:
    """What an upstream does with one call.

    It refuses the connection, or answers after ``head_seconds`` with ``status``; a 200 says ``spoken`` of ``pieces`` pieces, ``gap_seconds``
    apart, and then does as ``ending`` says. ``stalls``: the head never comes.
    """

    refusal: FailureKind | None = None
    status: int = 200
    retry_after: float | None = None
    head_seconds: float = 0.0
    stalls: bool = False
    pieces: int = 3
    spoken: int = 3
    gap_seconds: float = 0.0
    ending: Ending = "whole"

    @property
    def good(self) -> bool:
        """It ends with its finish reason."""
        whole = self.ending in ("whole", "silent after its finish", "cut after its finish")
        return self.refusal is None and self.status == 200 and not self.stalls and whole

    @property
    def failures(self) -> frozenset[str]:
        """What the call may be judged as, if the gateway stays to the end; slowness aside."""
        if self.refusal is not None:
            return frozenset({self.refusal})
        if self.status != 200:
            return frozenset({_KINDS[self.status]})
        return frozenset() if self.stalls else _ENDINGS[self.ending]

    def __str__(self) -> str:
        if self.refusal is not None:
            return self.refusal
        if self.status != 200:
            return f"{self.status}" + ("" if self.retry_after is None else f", come back after {self.retry_after:g} s")
        head = "never answers" if self.stalls else f"head after {self.head_seconds:g} s"
        return f"{head}, {self.spoken} of {self.pieces} pieces {self.gap_seconds:g} s apart, then {self.ending}"


GOOD: Final = Behaviour()


def drawn(draw: random.Random, profile: Profile, mood: float) -> Behaviour:
    """How a call goes. ``mood``: the share of calls that go wrong."""
    pieces = draw.randint(1, 5)
    slow = profile == "leaving" or draw.random() < 0.1
    options: dict[str, Any] = {
        "pieces": pieces,
        "spoken": pieces,
        "head_seconds": draw.choice((0.0, 0.05, 0.5, 1.5)) if not slow else draw.choice((1.0, 5.0, 20.0)),
        "gap_seconds": draw.choice((0.0, 0.01, 0.3)) if not slow else draw.choice((0.5, 1.0, 5.0)),
    }
    if profile == "calm":
        return Behaviour(pieces=pieces, spoken=pieces, head_seconds=draw.choice((0.0, 0.05)))
    if profile == "storm":
        return Behaviour(status=draw.choice((500, 529)), head_seconds=draw.choice((0.0, 0.5)))
    if draw.random() >= mood:
        ending: Ending = draw.choice(("whole", "whole", "whole", "silent after its finish", "cut after its finish"))
        return Behaviour(ending=ending, **options)
    return _bad(draw, options)


def _bad(draw: random.Random, options: dict[str, Any]) -> Behaviour:
    match draw.randint(1, 10):
        case 1 | 2:
            return Behaviour(refusal=draw.choice(_REFUSALS), head_seconds=draw.choice((0.0, 0.5)))
        case 3 | 4 | 5:
            status = draw.choice((500, 503, 503, 529, 429, 429, 429, 400, 401, 402, 403, 404, 404, 408, 422))
            hinted = status in (429, 503, 529) and draw.random() < 0.6
            return Behaviour(
                status=status,
                retry_after=draw.choice((0.2, 2.0, 15.0, 15.0)) if hinted else None,
                head_seconds=draw.choice((0.0, 0.5)),
            )
        case 6:
            return Behaviour(stalls=True)
        case _:
            options["spoken"] = draw.randint(0, options["pieces"])
            return Behaviour(ending=draw.choice(("cut", "closed", "error event", "stall")), **options)


@define(eq=False)
class UpstreamCallRecord:
    """One call as its upstream has seen it. Times are loop time; ``None``: not yet."""

    number: int
    provider: str
    question: int
    model: str
    behaviour: Behaviour
    began: float
    generation: int
    probe: bool
    tokens: tuple[str, ...] = ()
    content_at: float | None = None
    finish_at: float | None = None
    ended: float | None = None
    judged: str | None = None  # as the gateway told the bus
    judged_at: float | None = None
    waited: float = 0.0  # the longest that somebody waited for more, once content had come
    streams: int = 0
    closed: int = 0

    @property
    def said(self) -> str:
        """The whole of the answer."""
        return "".join(self.tokens)


@frozen
class _Said(Text):
    """An answer by whose words anybody can tell which call they come from, and which piece they are."""

    def __iter__(self) -> Iterator[str]:
        return (f"<{self.name}.{index}>" for index in range(self.tokens))


class ScriptedStream(UpstreamStream):
    """The body of an answer, step by step: the time of a step begins when somebody reads."""

    def __init__(
        self, record: UpstreamCallRecord, steps: list[Step], ended: Callable[[UpstreamCallRecord], None]
    ) -> None:
        self._record = record
        self._steps = steps
        self._ended = ended
        self._error: UpstreamError | None = None
        self._waiting: asyncio.Future[None] | None = None
        record.streams += 1

    async def __anext__(self) -> bytes:
        assert not self._record.closed, "read after it was closed"
        if self._error is not None:
            raise self._error
        seconds, what = self._steps[0] if self._steps else (0.0, None)
        if seconds:
            await self._pause(seconds)
        self._steps = self._steps[1:]
        if isinstance(what, UpstreamError):
            raise what
        if what is None:
            raise StopAsyncIteration
        now = asyncio.get_running_loop().time()
        if self._record.content_at is None and b"<" in what:
            self._record.content_at = now
        return what

    async def _pause(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer, since = loop.call_later(seconds, _wake, self._waiting), loop.time()
        try:
            await self._waiting
        finally:
            timer.cancel()
            if self._record.content_at is not None:
                self._record.waited = max(self._record.waited, loop.time() - since)
            self._waiting = None

    def fail(self, error: UpstreamError) -> None:
        self._error = error
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

    async def aclose(self) -> None:
        self._record.closed += 1
        self._ended(self._record)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


@define(eq=False)
class ScriptedUpstream:
    """Stands where the transport to one provider stands. ``began`` and ``ended`` are told of each call."""

    settings: ProviderSettings
    behave: Callable[[str, int], Behaviour]  # by provider and the number of the call there
    began: Callable[[str, int, str, Behaviour], UpstreamCallRecord]
    ended: Callable[[UpstreamCallRecord], None]
    calls: int = field(default=0, init=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As the real transport: an answer whose body is still to come, or an :class:`UpstreamError`."""
        body = json.loads(request.content)
        found = _NUMBER.search(request.content)
        assert found is not None
        self.calls += 1
        behaviour = self.behave(self.settings.name, self.calls)
        record = self.began(self.settings.name, int(found[1]), body["model"], behaviour)
        try:
            await asyncio.sleep(_FOREVER if behaviour.stalls else behaviour.head_seconds)
        except asyncio.CancelledError:
            self.ended(record)
            raise
        if behaviour.refusal is not None:
            self.ended(record)
            raise UpstreamError(Failure(kind=behaviour.refusal, message="as the script says"))
        return self._answer(record, body)

    def _answer(self, record: UpstreamCallRecord, body: dict[str, Any]) -> httpx.Response:
        behaviour = record.behaviour
        wire = (OpenAI if wire_of(self.settings.kind) == "openai" else Anthropic)(self.settings.name)
        headers = {"content-type": "application/json"}
        if behaviour.status != 200:
            if behaviour.retry_after is not None:
                headers["retry-after-ms"] = str(int(behaviour.retry_after * 1000))
            data = json.dumps(wire.error(behaviour.status)).encode()
            stream = ScriptedStream(record, [(0.0, data)], self.ended)
            return httpx.Response(behaviour.status, headers=headers, stream=stream)
        said = _Said(str(record.number), body, behaviour.pieces)
        record.tokens = tuple(said)
        if body.get("stream"):
            headers["content-type"] = "text/event-stream"
            steps = _events(record, wire, body, said)
        else:
            steps = _whole(record, wire, body, said)
        return httpx.Response(200, headers=headers, stream=ScriptedStream(record, steps, self.ended))


def _events(record: UpstreamCallRecord, wire: OpenAI | Anthropic, body: dict[str, Any], said: Text) -> list[Step]:
    behaviour = record.behaviour
    events = list(wire.events(body, said))
    content = [index for index, event in enumerate(events) if b"<" in event]
    if not behaviour.good:
        kept = events[: content[0] + behaviour.spoken]
        return [*_paced(record, kept), *_end(behaviour, wire)]
    if behaviour.ending == "whole":
        return [*_paced(record, [*events, wire.terminal()]), (0.0, None)]
    finish = next(index for index, event in enumerate(events) if b'"stop"' in event or b'"end_turn"' in event)
    return [*_paced(record, events[: finish + 1]), *_end(behaviour, wire)]


def _paced(record: UpstreamCallRecord, events: list[bytes]) -> list[Step]:
    """Each event by itself, or broken in two as TCP may; some two together."""
    draw, gap = random.Random(f"pieces {record.number}"), record.behaviour.gap_seconds
    steps: list[Step] = []
    kept = b""
    for event in events:
        data, kept = kept + event, b""
        match draw.randint(1, 6):
            case 1:
                kept = data
            case 2:
                cut = draw.randint(1, len(data) - 1)
                steps += [(gap, data[:cut]), (gap, data[cut:])]
            case _:
                steps.append((gap, data))
    return [*steps, (gap, kept)] if kept else steps


def _whole(record: UpstreamCallRecord, wire: OpenAI | Anthropic, body: dict[str, Any], said: Text) -> list[Step]:
    behaviour = record.behaviour
    data = json.dumps(wire.whole(body, said)).encode()
    if behaviour.good:
        return [(behaviour.gap_seconds, data[:40]), (behaviour.gap_seconds, data[40:]), (0.0, None)]
    if behaviour.ending == "error event":
        return [(0.0, json.dumps(wire.error(500)).encode()), (0.0, None)]
    return [(behaviour.gap_seconds, data[:40]), *_end(behaviour, wire)]


def _end(behaviour: Behaviour, wire: OpenAI | Anthropic) -> list[Step]:
    match behaviour.ending:
        case "cut" | "cut after its finish":
            return [(behaviour.gap_seconds, UpstreamError(BROKEN))]
        case "error event":
            return [(behaviour.gap_seconds, wire.error_event()), (0.0, None)]
        case "stall" | "silent after its finish":
            return [(_FOREVER, None)]
        case _:
            return [(behaviour.gap_seconds, None)]
