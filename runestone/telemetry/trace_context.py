"""W3C trace context, and the record of a request that its spans are made of afterwards. Nothing here needs OpenTelemetry."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from typing import Any, Final

from attrs import frozen

from runestone.telemetry.events import AttemptFinished, Failover, RequestFinished, RequestStarted, Retry
from runestone.telemetry.exchanged import Exchanged, Value, asked_of
from runestone.telemetry.ids import random_bits

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER: Final = re.compile(
    r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_LONGEST: Final = 512
_MOST_MEMBERS: Final = 32
_RANDOM: Final = 0x02  # the flag of trace ids that are random as a whole


@frozen
class Parent:
    """The span of somebody else that a request belongs to."""

    trace_id: int
    span_id: int
    flags: int
    state: str = ""  # the ``tracestate``: what other tracing systems want to be told again


def parsed(header: str | None, state: str | None = None) -> Parent | None:
    """The parent in a ``traceparent``, with its ``tracestate``; ``None`` for none, and for one that is not valid: a new trace begins."""
    if header is None or len(header) > _LONGEST or (match := _TRACEPARENT.fullmatch(header)) is None:
        return None
    version, trace_id, span_id, flags = match[1], int(match[2], 16), int(match[3], 16), int(match[4], 16)
    if version == "ff" or (version == "00" and match[5] is not None) or not trace_id or not span_id:
        return None
    return Parent(trace_id, span_id, flags, _handed_on(state))


def _handed_on(state: str | None) -> str:
    """A ``tracestate`` without empty members; nothing of one that is not valid, as the standard wants it."""
    if state is None or len(state) > _LONGEST:
        return ""
    members = [member for part in state.split(",") if (member := part.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    if len(members) > _MOST_MEMBERS or len(keys) < len(members) or not all(map(_MEMBER.fullmatch, members)):
        return ""
    return ",".join(members)


Sampled = Callable[[Parent | None, int], bool]  # whether the trace with that id will be kept


class Attempt:
    """One upstream call, between its start and its end. Times are epoch nanoseconds."""

    __slots__ = ("base_url", "cause", "ended", "exchanged", "finished", "span_id", "started")

    def __init__(self, started: int, base_url: str | None, cause: Retry | Failover | None) -> None:
        self.started = started
        self.base_url = base_url
        self.cause = cause  # why it is made, if it is not the first
        self.span_id: int | None = None  # of its span, where the provider has been told
        self.exchanged: Exchanged | None = None  # what its request and its answer say of themselves
        self.finished: AttemptFinished | None = None
        self.ended = 0


class Trace:
    """What has happened to one request so far. Times are epoch nanoseconds that no step of the system's clock moves.

    ``started`` is ``None`` for what did not come in on the public port, or began before anybody looked. With ``sampled``, providers are
    told of the trace: then its ids are decided before the first call.
    """

    __slots__ = (
        "_offset",
        "_sampled",
        "asked",
        "attempts",
        "cause",
        "closed",
        "ended",
        "finished",
        "flags",
        "request_id",
        "started",
        "started_at",
        "state",
        "trace_id",
    )

    def __init__(self, request_id: str, started: RequestStarted | None, sampled: Sampled | None) -> None:
        self.request_id = request_id
        self.started = started
        self.finished: RequestFinished | None = None
        self.ended = 0
        self.attempts: list[Attempt] = []
        self.asked: Mapping[str, Value] = {}  # the settings of the request
        self.cause: Retry | Failover | None = None  # of the next attempt
        self.closed = False  # nothing will be added
        self.trace_id: int | None = None
        self.flags = 0
        self.state = ""
        self._sampled = sampled
        self.started_at = time.time_ns()
        self._offset = self.started_at - time.perf_counter_ns()

    def now(self) -> int:
        """The present time."""
        return time.perf_counter_ns() + self._offset

    @property
    def open(self) -> bool:
        """Whether an upstream call is out."""
        return bool(self.attempts) and self.attempts[-1].finished is None

    @property
    def parent(self) -> Parent | None:
        """The client's span."""
        return parsed(self.started.traceparent, self.started.tracestate) if self.started is not None else None

    def asks(self, body: Mapping[str, Any], left_out: Collection[str]) -> Exchanged | None:
        """The call that is out was sent the request ``body`` without the fields ``left_out``: who is to be shown its answer.

        ``None``: this call has no span.
        """
        if not self.open:
            return None
        self.asked = self.asked or asked_of(body)
        exchanged = Exchanged(asked_of(body, left_out) if left_out else self.asked)
        self.attempts[-1].exchanged = exchanged
        return exchanged

    def outgoing(self) -> dict[str, str]:
        """The headers of the call that is about to be made: the ``traceparent`` with the id of its span, and the client's ``tracestate``.

        None: providers are told nothing, or this call has no span, for nothing is told of its provider.
        """
        if self._sampled is None or not self.open:
            return {}
        if self.trace_id is None:
            parent = self.parent
            self.state = "" if parent is None else parent.state
            self.trace_id = _id(128) if parent is None else parent.trace_id
            random_id = _RANDOM if parent is None else parent.flags & _RANDOM
            self.flags = int(self._sampled(parent, self.trace_id)) | random_id
        attempt = self.attempts[-1]
        attempt.span_id = _id(64)
        told = {"traceparent": f"00-{self.trace_id:032x}-{attempt.span_id:016x}-{self.flags:02x}"}
        return {**told, "tracestate": self.state} if self.state else told


def _id(bits: int) -> int:
    return random_bits(bits) or 1  # zero is no id


#: The record of the request that the present task serves. Clients may send two requests with one id; they cannot share a task.
current: Final[ContextVar[Trace | None]] = ContextVar("trace", default=None)
