"""The access line: one for each client request, and lines for what happens on its way. Made of events, written by the log's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from runestone.telemetry.events import (
    AttemptFinished,
    BreakerChanged,
    Event,
    Failover,
    HealthChanged,
    ProviderThrottled,
    RequestFinished,
    Retry,
)
from runestone.telemetry.logs import Sink, flat, masked, masked_once, moment
from runestone.telemetry.shown import as_data

_DEBUG, _INFO, _WARNING = 10, 20, 30
_NAMES: Final = {_DEBUG: "DEBUG", _INFO: "INFO", _WARNING: "WARNING"}
_LEVELS: Final[Mapping[type, int]] = {
    RequestFinished: _INFO,
    Retry: _DEBUG,
    Failover: _DEBUG,
    AttemptFinished: _DEBUG,
    ProviderThrottled: _INFO,
    HealthChanged: _INFO,
    BreakerChanged: _WARNING,
}


class _Told(Struct, frozen=True, gc=False):
    """What an access line says. A struct, for a dict takes twice as long, and there is one for each request."""

    ts: str
    level: str
    logger: str
    event: str
    request_id: str
    route: str
    key: str | None
    asked: str | None
    group: str | None
    provider: str | None
    model: str | None
    status: int | None
    outcome: str
    attempts: int
    stream: bool
    ttft_ms: float | None
    duration_ms: float | None
    overhead_ms: float | None
    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None
    cost_usd: float | None


Pricing = Callable[[RequestFinished, float], float | None]


def _unknown(_done: RequestFinished, _at: float) -> float | None:
    return None


class Access(Struct, gc=False):
    """The access line of one request.

    ``price`` says in US dollars what the call that answered has cost at a time in epoch seconds. It is asked once, by whoever makes the
    line first: the log's thread, or who looks at the last lines before that has come to it.
    """

    at: float
    done: RequestFinished
    price: Pricing = _unknown
    level: str = "INFO"
    logger: str = "runestone.access"
    known: float | UnsetType | None = UNSET

    @property
    def request_id(self) -> str | None:
        """Which one."""
        return self.done.request_id

    @property
    def cost_usd(self) -> float | None:
        """Of the call that answered; ``None``: not known."""
        if self.known is UNSET:
            self.known = self.price(self.done, self.at)
        return self.known

    def told(self) -> _Told:
        """All that there is to know of it. Times are milliseconds; what is not known is ``None``."""
        done, usage = self.done, self.done.usage
        route, outcome, key, asked, group, provider, model = _words(
            done.route, done.outcome, done.key or None, done.asked, done.group, done.provider, done.model
        )
        return _Told(  # by place: names take half as long again
            moment(self.at),
            self.level,
            self.logger,
            "request",
            masked_once(done.request_id),
            route,
            key,
            asked,
            group,
            provider,
            model,
            done.status or None,
            outcome,
            done.attempts,
            done.stream,
            _ms(done.first_content_seconds),
            _ms(done.duration_seconds),
            _ms(max(0.0, done.duration_seconds - done.upstream_seconds)),
            usage.input_tokens if usage else None,
            usage.output_tokens if usage else None,
            usage.cached_tokens if usage else None,
            self.cost_usd,
        )

    def text(self) -> str:
        """The short of it."""
        done, usage = self.done, self.done.usage
        parts = [str(done.status or "-"), done.route, masked(done.asked or "-")]
        if done.provider is not None:
            parts.append(f"-> {done.provider}/{masked(done.model or '-')}")
        if done.outcome != "ok":
            parts.append(done.outcome)
        if done.attempts > 1:
            parts.append(f"{done.attempts} attempts")
        parts.append(f"{_ms(done.duration_seconds):g} ms")
        if usage is not None:
            parts.append(f"{usage.input_tokens}+{usage.output_tokens} tokens")
        if (cost := self.cost_usd) is not None:
            parts.append(f"${cost:.6f}")
        return " ".join((*parts, done.request_id))


class Happened(Struct, frozen=True, gc=False):
    """A line for another event."""

    at: float
    event: Event
    level: str
    logger: str = "runestone.events"

    @property
    def request_id(self) -> str | None:
        """That of the event, if it has one."""
        return getattr(self.event, "request_id", None)

    def told(self) -> dict[str, Any]:
        """Its name and its fields."""
        return flat(self, {"event": self.event.name, **as_data(self.event)})

    def text(self) -> str:
        """The same in a row."""
        return " ".join((self.event.name, *(f"{k}={v}" for k, v in as_data(self.event).items() if v not in (None, ""))))


class AccessLog:
    """A handler of the bus. On the event loop it only queues; ``wanted`` says whether there shall be a line for each request."""

    KINDS: Final = _LEVELS.keys()  # of events that it is for

    def __init__(self, sink: Sink, wanted: Callable[[], bool], price: Pricing = _unknown) -> None:
        self._sink = sink
        self._wanted = wanted
        self._price = price

    def handle(self, event: Event, at: float) -> None:
        """Have a line written of what was at ``at`` (epoch seconds), if it is worth one at the log's level."""
        level = _LEVELS.get(type(event))
        if level is None or not self._sink.takes(level):
            return
        if not isinstance(event, RequestFinished):
            self._sink.put(Happened(at, event, _NAMES[level]))
        elif self._wanted():
            self._sink.put(Access(at, event, self._price))


@lru_cache(maxsize=1024)
def _words(route: str, outcome: str, *names: str | None) -> Sequence[Any]:
    """Masked. The same come again with each request."""
    return masked(route), masked(outcome), *(None if name is None else masked(name) for name in names)


def _ms(seconds: float | None) -> float | None:
    """To a tenth. Half of what :func:`round` takes, which looks for the nearest decimal."""
    return None if seconds is None else int(seconds * 10_000 + 0.5) / 10
