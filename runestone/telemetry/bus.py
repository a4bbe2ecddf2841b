"""The event bus: who emits is never slowed down or broken by who listens."""

from __future__ import annotations

from collections.abc import Callable, Collection

from attrs import define
from loguru import logger

from runestone.telemetry.events import Event

Handler = Callable[[Event], None]


@define(slots=True, eq=False)
class _Subscription:
    handler: Handler
    kinds: Collection[type] | None
    failures: int = 0


class Bus:
    """Hands each event to its handlers, at once and in the emitter's task: a handler only counts, or queues for somebody else."""

    def __init__(self) -> None:
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._hearing: dict[type, tuple[_Subscription, ...]] = {}  # by the kind of event, as they are asked for
        self.failures = 0

    def subscribe(self, handler: Handler, kinds: Collection[type] | None = None) -> Callable[[], None]:
        """Call ``handler`` with every event, or those that are of one of ``kinds``; the result ends that."""
        subscription = _Subscription(handler, kinds)
        self._now((*self._subscriptions, subscription))
        return lambda: self._now(tuple(s for s in self._subscriptions if s is not subscription))

    def emit(self, event: Event) -> None:
        """Tell everybody. A handler that fails is counted, and does no harm to the others or the emitter."""
        kind = type(event)
        if (hearing := self._hearing.get(kind)) is None:
            hearing = tuple(s for s in self._subscriptions if s.kinds is None or kind in s.kinds)
            self._hearing[kind] = hearing
        for subscription in hearing:
            try:
                subscription.handler(event)
            except Exception as error:  # noqa: BLE001 - a listener's bug must not become the request's
                self.failures += 1
                subscription.failures += 1
                _tell(subscription, error)

    def _now(self, subscriptions: tuple[_Subscription, ...]) -> None:
        self._subscriptions = subscriptions
        self._hearing.clear()


def _tell(subscription: _Subscription, error: Exception) -> None:
    """Log the first failure of a handler, the tenth, the hundredth, and so on: it may fail with every event."""
    count, handler = subscription.failures, subscription.handler
    if count == 10 ** (len(str(count)) - 1):
        name = getattr(handler, "__qualname__", type(handler).__name__)
        logger.error("the event handler {} failed, {} times by now: {}", name, count, type(error).__name__)
