"""Traces: what the bus tells of a request is noted while it runs, and made into spans and sent in a thread when it is over."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, Protocol

from attrs import frozen
from loguru import logger

from runestone.telemetry.bus import Bus
from runestone.telemetry.events import (
    AttemptFinished,
    AttemptStarted,
    Event,
    Failover,
    RequestFinished,
    RequestStarted,
    Retry,
)
from runestone.telemetry.trace_context import Attempt, Parent, Sampled, Trace, current
from supervisors import Cast, ExitReason, GenServer, Info, run_blocking

QUEUE: Final = 4096  # requests whose spans wait to be sent
BATCH: Final = 256  # requests in one export
_SEND_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = 2.0  # what is left gets at the end

Loss = Literal["queue", "export"]
Dropped = Callable[[Loss, int], None]


class Exporting(Protocol):
    """Makes spans, and sends them. Its methods are called in a thread, one call at a time; ``sampled`` is called on the loop."""

    def sampled(self, parent: Parent | None, trace_id: int) -> bool:
        """Whether that trace will be kept."""
        ...

    def export(self, traces: Sequence[Trace]) -> int:
        """Make the spans of ``traces`` and send them; the result is the number of those that nobody took. It may block."""
        ...

    def close(self) -> None:
        """Give up what is being sent."""
        ...


class Recorder:
    """The handler of the bus: it notes, and queues each request that is over. It never blocks; beyond the bound it drops, and counts."""

    def __init__(self, base_url_of: Callable[[str], str | None], dropped: Dropped, sampled: Sampled | None) -> None:
        self.queue: deque[Trace] = deque()
        self._base_url_of = base_url_of
        self._dropped = dropped
        self._sampled = sampled
        self._notes: dict[type, Callable[[Any], None]] = {
            RequestStarted: self._request_started,
            RequestFinished: self._request_finished,
            AttemptStarted: self._attempt_started,
            AttemptFinished: self._attempt_finished,
            Retry: self._again,
            Failover: self._again,
        }
        self.kinds = self._notes.keys()  # of events that it is for

    def handle(self, event: Event) -> None:
        """Note one event, in the task of the request that it belongs to."""
        if (note := self._notes.get(type(event))) is not None:
            note(event)

    def take(self) -> list[Trace]:
        """The next batch."""
        return [self.queue.popleft() for _ in range(min(BATCH, len(self.queue)))]

    def _request_started(self, event: RequestStarted) -> None:
        current.set(Trace(event.request_id, event, self._sampled))

    def _request_finished(self, event: RequestFinished) -> None:
        trace = self._of(event.request_id)
        trace.finished, trace.ended = event, trace.now()
        if not trace.open:
            self._over(trace)

    def _again(self, event: Retry | Failover) -> None:
        self._of(event.request_id).cause = event

    def _attempt_started(self, event: AttemptStarted) -> None:
        trace = self._of(event.request_id)
        trace.attempts.append(Attempt(trace.now(), self._base_url_of(event.provider), trace.cause))
        trace.cause = None

    def _attempt_finished(self, event: AttemptFinished) -> None:
        trace = self._of(event.request_id)
        now = trace.now()
        if not trace.open:  # its start was not seen
            started = now - int(event.duration_seconds * 1e9)
            trace.attempts.append(Attempt(started, self._base_url_of(event.provider), trace.cause))
        attempt = trace.attempts[-1]
        attempt.finished, attempt.ended = event, now
        if trace.finished is not None or trace.started is None:  # of what came in elsewhere nobody tells the end
            self._over(trace)

    def _of(self, request_id: str) -> Trace:
        trace = current.get()
        if trace is None or trace.closed or trace.request_id != request_id:
            trace = Trace(request_id, None, self._sampled)
            current.set(trace)
        return trace

    def _over(self, trace: Trace) -> None:
        trace.closed = True
        if len(self.queue) < QUEUE:
            self.queue.append(trace)
        else:
            self._dropped("queue", 1)


@frozen
class _Send(Info):
    """Time to send what is there."""


@frozen
class _Sent(Cast):
    """A batch is over; so many of its requests were lost."""

    lost: int


class Traces(GenServer[_Sent]):
    """Sends what is recorded once a second, one batch at a time, in a thread; the last one at its end, within two seconds."""

    def __init__(
        self,
        bus: Bus,
        exporting: Callable[[], Exporting],
        base_url_of: Callable[[str], str | None],
        dropped: Dropped,
        *,
        propagate: bool = False,
    ) -> None:
        self._bus = bus
        self._exporting = exporting
        self._base_url_of = base_url_of
        self._dropped = dropped
        self._propagate = propagate
        self._out = 0  # requests of the batch that is being sent
        self._idle = asyncio.Event()

    def init(self) -> None:
        """Listen."""
        self._idle.set()
        self._exporter = self._exporting()
        sampled = self._exporter.sampled if self._propagate else None
        self._recorder = Recorder(self._base_url_of, self._dropped, sampled)
        unsubscribe = self._bus.subscribe(self._recorder.handle, self._recorder.kinds)
        self.process.on_exit(lambda _process, _reason: unsubscribe())
        self.send_after(_SEND_SECONDS, _Send())

    def status(self) -> dict[str, object]:
        """What the tree shows of it."""
        return {"requests to send": len(self._recorder.queue), "being sent": self._out}

    def handle_info(self, message: Info) -> None:
        """Send what is there."""
        if isinstance(message, _Send):
            self._begin()
            self.send_after(_SEND_SECONDS, _Send())

    def handle_cast(self, message: _Sent) -> None:
        """Count what was lost; go on if there is more than a batch."""
        if message.lost:
            self._dropped("export", message.lost)
        if len(self._recorder.queue) >= BATCH:
            self._begin()

    async def terminate(self, reason: ExitReason) -> None:
        """Send the rest, as long as there is time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._idle.wait()
                while batch := self._recorder.take():
                    if lost := await self._export(batch):
                        self._dropped("export", lost)
        self._exporter.close()
        if left := self._out + len(self._recorder.queue):
            self._dropped("export", left)
            logger.warning("the spans of {} requests were not sent: the collector takes too long", left)

    def _begin(self) -> None:
        if self._idle.is_set() and (batch := self._recorder.take()):
            self._idle.clear()
            self.spawn(self._send(batch), name="export")

    async def _send(self, batch: list[Trace]) -> None:
        try:
            lost = await self._export(batch)
        finally:
            self._idle.set()
        self.ref.cast(_Sent(lost))

    async def _export(self, batch: list[Trace]) -> int:
        self._out = len(batch)
        lost = await run_blocking(self._exporter.export, batch)
        self._out = 0
        return lost
