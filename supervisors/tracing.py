"""To follow what one actor handles, without holding it up."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Literal

from attrs import evolve

from supervisors.events import bounded_repr
from supervisors.receive import Server, SystemRequest
from supervisors.ref import Address
from supervisors.traced import TracedHandlers, TraceEvent

End = Literal["max_events", "seconds", "exited", "closed"]


def trace(
    ref: Address,
    *,
    max_events: int = 100,
    seconds: float = 5.0,
    payloads: bool = True,
    buffer: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Trace:
    """Follow the messages that an actor handles, from now on, until there were ``max_events`` or ``seconds`` have passed.

    Iterate over it with ``async for`` to see them as they come, or ``await`` it for a list of them all.

    * ``payloads`` - without them an event tells the type of its message and no more.
    * ``buffer`` - how many events wait for a slow reader, all by default; the actor never does. What has no room is dropped and counted.
    * ``clock`` - tells seconds, by default of real time. Who waits how long in the mailbox is told by that of the actor's first trace.
    """
    return Trace(
        ref, max_events, seconds, payloads=payloads, buffer=max_events if buffer is None else buffer, clock=clock
    )


class Trace:
    """What :func:`trace` returns. It ends by itself, so a forgotten one costs nothing for long.

    * ``dropped`` - events that had no room.
    * ``ended`` - why it is over: ``"max_events"``, ``"seconds"``, ``"exited"`` (or nobody was there), ``"closed"``; ``None`` before.
    """

    def __init__(
        self,
        ref: Address,
        max_events: int,
        seconds: float,
        *,
        payloads: bool,
        buffer: int,
        clock: Callable[[], float],
    ) -> None:
        self.dropped = 0
        self.ended: End | None = None
        self._left = max_events
        self._payloads = payloads
        self._buffer = buffer
        self._clock = clock
        self._layer: TracedHandlers | None = None
        self._events: deque[TraceEvent] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._end, "seconds")
        self._process = ref.resolve()
        self._request(self._enter)
        if self._process is None:
            self._end("exited")
        else:
            self._process.on_exit(self._exited)

    def close(self) -> None:
        """Follow no longer."""
        self._end("closed")

    def __aiter__(self) -> AsyncIterator[TraceEvent]:
        return self

    async def __anext__(self) -> TraceEvent:
        while not self._events:
            if self.ended is not None:
                raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._events.popleft()

    def __await__(self) -> Generator[Any, None, list[TraceEvent]]:
        return self._collect().__await__()

    async def _collect(self) -> list[TraceEvent]:
        return [event async for event in self]

    def _end(self, why: End) -> None:
        if self.ended is None:
            self.ended = why
            self._timer.cancel()
            if self._process is not None:
                self._process.forget_exit(self._exited)
            self._request(self._leave)
            self._wake()

    def _exited(self, *_: object) -> None:
        self._end("exited")

    def _enter(self, server: Server) -> None:
        if self.ended is None:
            self._layer = TracedHandlers(server.mailbox, self._note)
            server.mailbox.watch_arrivals(self._clock)
            server.add_layer(self._layer)

    def _leave(self, server: Server) -> None:
        if self._layer is not None:
            server.remove_layer(self._layer)
            server.mailbox.forget_arrivals()

    def _note(self, message: Any, event: TraceEvent) -> None:
        if self.ended is not None:  # its end is on the way to the actor
            return
        self._left -= 1
        if len(self._events) < self._buffer:
            self._events.append(evolve(event, message=bounded_repr(message)) if self._payloads else event)
            self._wake()
        else:
            self.dropped += 1
        if not self._left:
            self._end("max_events")

    def _request(self, function: Callable[[Server], None]) -> None:
        process = self._process
        if process is not None and process.reason is None and process.mailbox is not None:
            process.mailbox.put_system(SystemRequest(function, self._loop.create_future()))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
