"""The event bus: who emits is never slowed down or broken by who listens.

Most of what listens is in no hurry: it gets what has waited a moment, all at once. Between the steps of a request its handlers take three
times as long, for nothing of them is in the processor's caches then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from contextvars import Context
from functools import partial
from typing import Final

from attrs import define
from loguru import logger

from runestone.telemetry.events import Event
from runestone.telemetry.writer import Writer

Handler = Callable[[Event], None]
#: Gets an event a moment after it was, in epoch seconds.
LaterHandler = Callable[[Event, float], None]
WAITING: Final = 10_000  # events for one handler apart
_TOGETHER: Final = 128  # events that are handed out at once, at most
_LATEST_SECONDS: Final = 0.05  # that an event waits for others

_clock = time.time


@define(slots=True, eq=False)
class _Subscription:
    handler: Callable[..., None]
    kinds: Collection[type] | None
    failures: int = 0


class Bus:
    """Hands each event to its handlers: a handler only counts, or queues for somebody else.

    Those of :meth:`subscribe` get it at once, in the emitter's task. Those of :meth:`subscribe_later` get it with others, after 50 ms at
    most, and before somebody reads what they have made of them: who does calls :meth:`flush`. It is for the thread of one event loop.
    """

    def __init__(self) -> None:
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._hearing: dict[type, tuple[_Subscription, ...]] = {}  # by the kind of event, as they are asked for
        self._later: tuple[_Subscription, ...] = ()
        self._events: list[Event] = []  # that wait for them
        self._times: list[float] = []  # when those were
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = False
        self._apart: dict[_Apart, Callable[[], None]] = {}  # each with how it is ended
        self._failures = 0
        self._gone = (0, 0)  # failures and drops of those apart that listen no more

    @property
    def failures(self) -> int:
        """Events that a handler failed on."""
        return self._failures + self._gone[0] + sum(one.failures for one in self._apart)

    @property
    def dropped(self) -> int:
        """Events that handlers apart never got, for they were too slow."""
        return self._gone[1] + sum(one.dropped for one in self._apart)

    def subscribe(self, handler: Handler, kinds: Collection[type] | None = None) -> Callable[[], None]:
        """Call ``handler`` with every event, or those that are of one of ``kinds``; the result ends that."""
        subscription = _Subscription(handler, kinds)
        self._now((*self._subscriptions, subscription))
        return lambda: self._now(tuple(s for s in self._subscriptions if s is not subscription))

    def subscribe_later(self, handler: LaterHandler, kinds: Collection[type] | None = None) -> Callable[[], None]:
        """As :meth:`subscribe`, but ``handler`` is called with many events one after the other, and when each was (epoch seconds).

        The result ends that; what waits by then is still handed out.
        """
        subscription = _Subscription(handler, kinds)
        self.flush()
        self._later = (*self._later, subscription)

        def end() -> None:
            if subscription in self._later:
                self.flush()
                self._later = tuple(s for s in self._later if s is not subscription)

        return end

    def subscribe_apart(self, handler: Handler, most: int = WAITING) -> Callable[[], None]:
        """As :meth:`subscribe`, but ``handler`` is called in a thread of its own, a moment later: it may take its time.

        While ``most`` events wait for it, what comes is dropped, and counted. The result ends that; what waits by then is still handed out.
        """
        apart = _Apart(handler, most)
        unsubscribe = self.subscribe(apart.put)

        def end() -> None:
            if self._apart.pop(apart, None) is not None:
                unsubscribe()
                apart.stop()
                self._gone = self._gone[0] + apart.failures, self._gone[1] + apart.dropped

        self._apart[apart] = end
        return end

    def close(self) -> None:
        """Hand out what waits and end all handlers apart: nothing will be emitted any more."""
        self.flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for end in [*self._apart.values()]:
            end()

    def emit(self, event: Event) -> None:
        """Tell everybody. A handler that fails is counted, and does no harm to the others or the emitter."""
        if self._later:
            self._events.append(event)
            self._times.append(_clock())
            if self._timer is None:
                self._set_timer()
        if self._subscriptions:
            self._tell_at_once(event)
        if len(self._events) >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Hand out what waits for others. What handlers emit meanwhile waits for the next time."""
        events, times = self._events, self._times
        if not events or self._flushing:
            return
        self._events, self._times, self._flushing = [], [], True
        try:
            ends = [self._hand_out(subscription, events, times) for subscription in self._later]
        finally:
            self._flushing = False
        for interrupted in filter(None, ends):
            raise interrupted

    def _hand_out(
        self, subscription: _Subscription, events: Sequence[Event], times: Sequence[float]
    ) -> BaseException | None:
        """Whatever interrupts one handler waits until the others have all of it, too."""
        handler, kinds, interrupted = subscription.handler, subscription.kinds, None
        for event, at in zip(events, times, strict=True):
            if kinds is None or type(event) in kinds:
                try:
                    handler(event, at)
                except Exception as error:  # noqa: BLE001 - a listener's bug must not become the request's
                    Context().run(self._failed, subscription, error)  # whose flush it is has nothing to do with it
                except BaseException as error:  # noqa: BLE001 - it is raised again by who flushes
                    interrupted = error
        return interrupted

    def _set_timer(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # nothing runs that would come back to it
            self.flush()
        else:
            self._timer = loop.call_later(_LATEST_SECONDS, self._timed, context=Context())  # not that of who came first

    def _timed(self) -> None:
        self._timer = None
        self.flush()

    def _tell_at_once(self, event: Event) -> None:
        kind = type(event)
        if (hearing := self._hearing.get(kind)) is None:
            hearing = tuple(s for s in self._subscriptions if s.kinds is None or kind in s.kinds)
            self._hearing[kind] = hearing
        for subscription in hearing:
            try:
                subscription.handler(event)
            except Exception as error:  # noqa: BLE001 - likewise
                self._failed(subscription, error)

    def _failed(self, subscription: _Subscription, error: Exception) -> None:
        self._failures += 1
        subscription.failures += 1
        _tell(subscription, error)

    def _now(self, subscriptions: tuple[_Subscription, ...]) -> None:
        self._subscriptions = subscriptions
        self._hearing.clear()


class _Apart:
    """A handler in a thread of its own."""

    def __init__(self, handler: Handler, most: int) -> None:
        self._subscription = _Subscription(handler, None)
        self._writer = Writer("event handler", self._hand_out, most)
        self.put = self._writer.put
        self.stop = partial(self._writer.stop, 0.0)

    @property
    def failures(self) -> int:
        return self._subscription.failures

    @property
    def dropped(self) -> int:
        return self._writer.dropped

    def _hand_out(self, events: Sequence[Event]) -> None:
        for event in events:
            try:
                self._subscription.handler(event)
            except Exception as error:  # noqa: BLE001 - likewise
                self._subscription.failures += 1
                _tell(self._subscription, error)


def _tell(subscription: _Subscription, error: Exception) -> None:
    """Log the first failure of a handler, the tenth, the hundredth, and so on: it may fail with every event."""
    count, handler = subscription.failures, subscription.handler
    if count == 10 ** (len(str(count)) - 1):
        name = getattr(handler, "__qualname__", type(handler).__name__)
        logger.error("the event handler {} failed, {} times by now: {}", name, count, type(error).__name__)
