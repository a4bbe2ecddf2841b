"""The event bus: who emits is never slowed down or broken by who listens."""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

from runestone.telemetry.events import Event

Handler = Callable[[Event], None]
_FAILURES_TOLD = 10


class Bus:
    """Hands each event to its handlers, at once and in the emitter's task: a handler only counts, or queues for somebody else."""

    def __init__(self) -> None:
        self._handlers: tuple[Handler, ...] = ()
        self.failures = 0

    def subscribe(self, handler: Handler) -> Callable[[], None]:
        """Call ``handler`` with every event; the result ends that."""
        self._handlers = (*self._handlers, handler)

        def unsubscribe() -> None:
            self._handlers = tuple(h for h in self._handlers if h is not handler)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Tell everybody. A handler that fails is counted, and does no harm to the others or the emitter."""
        for handler in self._handlers:
            try:
                handler(event)
            except Exception as error:  # noqa: BLE001 - a listener's bug must not become the request's
                self.failures += 1
                if self.failures <= _FAILURES_TOLD:
                    logger.error("an event handler failed: {}", type(error).__name__)
