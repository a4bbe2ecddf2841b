"""The ways of requests, put together from recorded events when somebody asks. Nothing here has a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

from attrs import define, field

from runestone.domain.chat import Usage
from runestone.telemetry.events import (
    AttemptFinished,
    AttemptStarted,
    CallBooked,
    ContentBegan,
    Failover,
    FailoverExhausted,
    Refusal,
    RequestFinished,
    RequestStarted,
    Retry,
)
from runestone.telemetry.outcomes import RequestClass, class_of, status_class
from runestone.telemetry.recorder import Recorded

State = Literal["in_flight", "ok", "client_gone", "failed"]
_STATES: Final[dict[RequestClass, State]] = {
    "ok": "ok", "client_gone": "client_gone", "client_error": "failed", "server_error": "failed",
}  # fmt: skip


@define(slots=True, eq=False, kw_only=True)
class Leg:
    """One upstream call. Times are epoch seconds; ``None``: not yet, or not recorded any more.

    ``why`` says why there was a call: ``first``, or why the one before it was not enough. ``waited_seconds`` is what was waited on
    purpose before it, ``gap_seconds`` all that passed since the end of the call before, or since the request came.
    """

    number: int
    provider: str
    model: str
    seq: int = 0
    began_at: float | None = None
    ended_at: float | None = None
    why: str = "first"
    waited_seconds: float = 0.0
    gap_seconds: float | None = None
    refusals: tuple[Refusal, ...] = ()
    content_seconds: float | None = None
    outcome: str | None = None
    duration_seconds: float | None = None
    usage: Usage | None = None
    booked: bool = False
    cost_usd: float | None = None  # once it is booked; None then: not known


@define(slots=True, eq=False)
class Journey:
    """One request, as far as its events are remembered."""

    id: str
    legs: list[Leg] = field(factory=list)
    started: RequestStarted | None = None
    started_at: float | None = None
    finished: RequestFinished | None = None
    finished_at: float | None = None
    exhausted: list[tuple[Recorded, FailoverExhausted]] = field(factory=list)
    group: str | None = None
    first_seq: int = 0
    last_at: float = 0.0
    before: Journey | None = None  # another one, earlier, with the same id

    @property
    def began_at(self) -> float:
        """When it came, as exactly as is known."""
        if self.finished is not None and self.finished_at is not None:
            return self.finished_at - self.finished.duration_seconds
        if self.started_at is not None:
            return self.started_at
        return next((leg.began_at for leg in self.legs if leg.began_at is not None), self.last_at)

    @property
    def headless(self) -> bool:
        """Whether neither its beginning nor its end is known, but some of its calls."""
        return self.started is None and self.finished is None

    @property
    def state(self) -> State:
        """Where it is."""
        if self.finished is not None:
            return _STATES[class_of(status_class(self.finished.status), self.finished.outcome)]
        if self.started is not None or not self.legs or self.legs[-1].outcome is None:
            return "in_flight"
        return {"ok": "ok", "cancelled": "client_gone"}.get(self.legs[-1].outcome, "failed")  # type: ignore[return-value] # states

    @property
    def outcome(self) -> str | None:
        """How it ended."""
        if self.finished is not None:
            return self.finished.outcome
        return None if self.state == "in_flight" else self.legs[-1].outcome

    @property
    def content_seconds(self) -> float | None:
        """From its coming to its first content."""
        if self.finished is not None:
            return self.finished.first_content_seconds
        leg = next((leg for leg in self.legs if leg.content_seconds is not None), None)
        if leg is None or leg.began_at is None or leg.content_seconds is None:
            return None
        return leg.began_at - self.began_at + leg.content_seconds

    def seconds(self, now: float) -> float:
        """How long it took, or has taken at ``now`` (epoch seconds)."""
        if self.finished is not None:
            return self.finished.duration_seconds
        ended = now if self.state == "in_flight" else self.legs[-1].ended_at or self.last_at
        return max(0.0, ended - self.began_at)

    @property
    def waited_seconds(self) -> float:
        """What was waited on purpose, between calls."""
        return sum(leg.waited_seconds for leg in self.legs)

    @property
    def cost_usd(self) -> float | None:
        """Of its calls whose cost is known; ``None``: of none of them, or some are not booked yet."""
        known = [leg.cost_usd for leg in self.legs if leg.cost_usd is not None]
        return sum(known) if known and all(leg.booked or leg.outcome == "unsupported" for leg in self.legs) else None

    def touches(self, provider: str) -> bool:
        """Whether ``provider`` was called for it, or refused it."""
        refused = [r.provider for leg in self.legs for r in leg.refusals]
        refused += [r.provider for _, exhausted in self.exhausted for r in exhausted.refusals]
        return provider in refused or any(leg.provider == provider for leg in self.legs)


class Journeys:
    """Puts events together, in the order in which they were recorded.

    A client may give several requests one id: each is a journey of its own, as long as they come one after the other.
    """

    def __init__(self) -> None:
        self._open: dict[str, Journey] = {}  # the latest of each id
        self._causes: dict[str, tuple[str, float]] = {}  # of the call that comes next
        self.all: list[Journey] = []
        self._takes: dict[type, Callable[[Recorded, Any], None]] = {
            RequestStarted: self._started,
            RequestFinished: self._finished,
            AttemptStarted: self._called,
            ContentBegan: self._content,
            AttemptFinished: self._ended,
            Retry: self._retried,
            Failover: self._failed_over,
            FailoverExhausted: self._exhausted,
            CallBooked: self._booked,
        }

    def take(self, recorded: Recorded) -> None:
        """One more event."""
        take = self._takes.get(type(recorded.event))
        if take is not None:
            take(recorded, recorded.event)

    def _of(self, recorded: Recorded, request_id: str, *, new: bool = False) -> Journey:
        journey = before = self._open.get(request_id)
        if journey is None or new:
            journey = self._open[request_id] = Journey(request_id, first_seq=recorded.seq, before=before)
            self.all.append(journey)
        journey.last_at = recorded.at
        return journey

    def _started(self, recorded: Recorded, event: RequestStarted) -> None:
        journey = self._of(recorded, event.request_id, new=True)
        journey.started, journey.started_at = event, recorded.at

    def _finished(self, recorded: Recorded, event: RequestFinished) -> None:
        before = self._open.get(event.request_id)
        journey = self._of(recorded, event.request_id, new=before is not None and before.finished is not None)
        journey.finished, journey.finished_at, journey.group = event, recorded.at, event.group

    def _called(self, recorded: Recorded, event: AttemptStarted) -> None:
        before = self._open.get(event.request_id)
        over = before is not None and before.finished is not None
        journey = self._of(recorded, event.request_id, new=over)
        why, waited = self._causes.pop(event.request_id, ("first", 0.0))
        ends = [leg.ended_at for leg in journey.legs if leg.ended_at is not None]
        since = ends[-1] if ends else journey.started_at
        journey.group = event.group
        journey.legs.append(
            Leg(
                number=event.number,
                provider=event.provider,
                model=event.model,
                seq=recorded.seq,
                began_at=recorded.at,
                why=why,
                waited_seconds=waited,
                gap_seconds=None if since is None else max(0.0, recorded.at - since),
                refusals=event.refusals,
            )
        )

    def _content(self, recorded: Recorded, event: ContentBegan) -> None:
        leg = self._leg(self._of(recorded, event.request_id), event.number, event.provider, event.model)
        leg.content_seconds = event.seconds

    def _ended(self, recorded: Recorded, event: AttemptFinished) -> None:
        """Its end may be told after that of the request, whose id may have come again by then."""
        journey = self._of(recorded, event.request_id)
        leg = self._leg(journey, event.number, event.provider, event.model)
        leg.ended_at, leg.outcome, leg.usage = recorded.at, event.outcome, event.usage
        leg.duration_seconds = event.duration_seconds
        if leg.content_seconds is None:
            leg.content_seconds = event.first_content_seconds
        if leg.began_at is None:
            leg.began_at = recorded.at - event.duration_seconds
        journey.group = journey.group or event.group

    def _leg(self, journey: Journey, number: int, provider: str, model: str) -> Leg:
        for one in _line(journey):
            for leg in reversed(one.legs):
                if leg.number == number and leg.provider == provider and leg.outcome is None:
                    return leg
        leg = Leg(number=number, provider=provider, model=model)
        journey.legs.append(leg)
        return leg

    def _retried(self, recorded: Recorded, event: Retry) -> None:
        self._causes[event.request_id] = f"retry after {event.reason}", event.waited_seconds

    def _failed_over(self, recorded: Recorded, event: Failover) -> None:
        self._causes[event.request_id] = f"failover from {event.origin} after {event.reason}", 0.0

    def _exhausted(self, recorded: Recorded, event: FailoverExhausted) -> None:
        if event.request_id:
            journey = self._of(recorded, event.request_id)
            journey.exhausted.append((recorded, event))
            journey.group = journey.group or event.group

    def _booked(self, recorded: Recorded, event: CallBooked) -> None:
        line = [*_line(self._open.get(event.request_id))]
        for leg in (leg for journey in reversed(line) for leg in journey.legs):
            if (leg.provider, leg.model) == (event.provider, event.model) and leg.outcome and not leg.booked:
                leg.booked, leg.cost_usd = True, event.cost_usd
                return


def _line(journey: Journey | None) -> Iterator[Journey]:
    """``journey``, and those before it that have its id."""
    while journey is not None:
        yield journey
        journey = journey.before
