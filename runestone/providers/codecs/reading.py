"""What the readers of all wires have in common: bytes become events of the wire, events become JSON, and a stream ends once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from runestone.domain.answer import Ended, Failed, StreamEvent
from runestone.domain.chat import Usage
from runestone.domain.failure import Failure
from runestone.providers.codecs.errors import failure_of_event
from runestone.providers.sse import Event, Events

TOO_LARGE: Final = Failure(kind="too_large", message="an event of the stream is larger than a megabyte")
GARBAGE: Final = Failure(kind="invalid_answer", message="an event of the stream is not a JSON object")
TRUNCATED: Final = Failure(kind="truncated", message="the stream ended without the reason for its end")


class EventsReader:
    """The base of a stream's reader. A wire says what its objects mean."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._events = Events()
        self._finished = False  # the reason for the end has come
        self._over = False
        self._out: list[StreamEvent] = []

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Take the next bytes."""
        for event in self._events.feed(data):
            if (
                not self._over and event.data and not event.data.startswith(b":")
            ):  # a comment that was wrapped into data
                self._read(event)
        if self._events.overflow:
            self._fail(TOO_LARGE)
        return self._taken()

    def eof(self) -> list[StreamEvent]:
        """Whole if the reason for its end has come, even without the event that ends it."""
        if not self._over:
            self._end()
        return self._taken()

    def _read(self, event: Event) -> None:
        try:
            data: Any = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            data = None
        if not isinstance(data, dict):
            self._nonsense(event)
        else:
            self._object(data, event)

    def _object(self, data: Mapping[str, Any], event: Event) -> None:
        """An object of the wire."""
        raise NotImplementedError

    def _nonsense(self, event: Event) -> None:
        """Something else than an object."""
        del event
        self._fail(GARBAGE)

    def _end(self) -> None:
        """Nothing follows: the reason for the end has come, or not."""
        if self._finished:
            self._over = True
            self._out.append(Ended(self.usage))
        else:
            self._fail(TRUNCATED)

    def _fail(self, failure: Failure) -> None:
        if not self._over:
            self._over = True
            self._out.append(Failed(failure))

    def _taken(self) -> list[StreamEvent]:
        out, self._out = self._out, []
        return out


def told_error(data: Mapping[str, Any], event: Event) -> Failure | None:
    """The failure that an object stands for, in the ways of both wires; ``None`` where it is none."""
    if data.get("error") is not None:
        return failure_of_event(data["error"])
    return failure_of_event(data) if event.name == b"error" else None
