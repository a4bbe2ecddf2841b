"""The last requests and the way of each, put together from the flight recorder when somebody asks: no prompt, no answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from attrs import frozen

from runestone.ledger.report import MOMENT, moment
from runestone.operations import ceilings
from runestone.operations.errors import OperationError
from runestone.operations.node import Node
from runestone.operations.operation import Operation
from runestone.telemetry.events import (
    BreakerChanged,
    ConfigChanged,
    HealthChanged,
    ProcessRestarted,
    ProviderQuarantined,
    ProviderThrottled,
    Refusal,
    RequestStarted,
)
from runestone.telemetry.journeys import Journey, Journeys, Leg
from runestone.telemetry.logs import masked
from runestone.telemetry.recorder import Recorded

Body = Mapping[str, Any]
Answer = dict[str, Any]
_SHOWN: Final = 20  # without a number
_NAMED: Final = 100  # ids to choose from
_SLICE_SECONDS: Final = 0.001  # of looking through the memory, after which everybody else has a turn
_BY: Final = ("first_content", "duration")
_ABOUT_PROVIDERS: Final = (BreakerChanged, ProviderThrottled, ProviderQuarantined, HealthChanged)


@frozen
class RequestActions:
    """What may be asked about the requests of ``node``."""

    node: Node

    def table(self) -> list[Operation]:
        """All of them."""
        return [
            Operation("GET", "/v1/requests", self.last),
            Operation("GET", "/v1/requests/{name}", self.show),
            Operation("GET", "/v1/names/requests", self.names),
        ]

    async def last(self, _: str, query: Body) -> Answer:
        """The last ``n`` requests, the newest first; with ``slow`` those that took longest, with ``failed`` those that failed."""
        count = _count(query)
        by = str(query.get("by", _BY[0]))
        if by not in _BY:
            raise OperationError("refused", f"by must be one of {', '.join(_BY)}")
        since, now = _since(query), time.time()
        kept = self.node.recorder.kept()
        wanted = _filter(query)
        found = [j for j in (await _put_together(kept)).all if j.last_at >= since and wanted(j)]
        found.sort(key=lambda j: j.began_at, reverse=True)
        if _flag(query, "slow"):
            found.sort(key=lambda j: _slowness(j, by, now), reverse=True)
        return {
            "requests": [_row(journey, now) for journey in found[:count]],
            "matching": len(found),
            "in_flight": self.node.in_flight(),
            **self._reach(kept),
        }

    async def show(self, name: str, _: Body) -> Answer:
        """The way of one request. Raises :class:`OperationError` ``not_found``."""
        kept, now = self.node.recorder.kept(), time.time()
        same = (await _put_together(kept, name)).all
        if not same:
            raise OperationError("not_found", self._gone(name, kept))
        journey = same[-1]
        standing = Standing(kept, {n: m.announced for n, m in self.node.memories.items()})
        return {
            "request": _row(journey, now),
            "attempts": [_leg(leg, standing) for leg in journey.legs],
            "passed_over": self._passed_over(journey, standing),
            "exhausted": [
                {"at": _at(recorded.at), "reason": event.reason, "refusals": _refusals(event.refusals)}
                for recorded, event in journey.exhausted
            ],
            "meanwhile": [recorded.as_data() for recorded in self._meanwhile(journey, kept, now)],
            "same_id": len(same) - 1,
            **self._reach(kept),
        }

    async def names(self, _: str, __: Body) -> Answer:
        """The ids of the last requests, the newest first: what a command may be completed with."""
        ids = dict[str, None]()
        for recorded in self.node.recorder.newest_first():
            if isinstance(recorded.event, RequestStarted):
                ids[recorded.event.request_id] = None
                if len(ids) == _NAMED:
                    break
        return {"names": list(ids)}

    # -- within --------------------------------------------------------------------------------------------------------

    def _reach(self, kept: Sequence[Recorded]) -> Answer:
        """How far back the memory goes; ``forgotten``: whether there was more."""
        reaches = _at(kept[0].at) if kept else None
        return {"reaches_back_to": reaches, "forgotten": self.node.recorder.full}

    def _gone(self, name: str, kept: Sequence[Recorded]) -> str:
        settings = self.node.settings
        since = f" which reaches back to {_at(kept[0].at)}," if kept else ""
        said = f"there is no request {masked(name[:100])!r} in the memory,{since} {len(kept)} events"
        if not self.node.recorder.full:
            return f"{said}; nothing is forgotten yet, so look at the id (`requests` shows the last)"
        if settings.events.file is not None:
            return f"{said}; look for its request_id in {settings.events.file} and {settings.events.file}.1"
        ledger = "" if settings.ledger.url is None else ", the ledger has the calls of each request by request_id"
        return f"{said}; set events.keep to remember more, events.file to have all of them{ledger}"

    def _passed_over(self, journey: Journey, standing: Standing) -> list[Answer]:
        """The members of its group that were never called for it, and what was against each when the first call was made."""
        members = next((g.providers for g in self.node.settings.groups if g.name == journey.group), ())
        called = {leg.provider for leg in journey.legs}
        moment = _decision(journey)
        if moment is None:
            return []
        model = journey.legs[0].model if journey.legs else None
        left = [name for name in members if name not in called]
        objections = {name: standing.objection(name, journey.group, model, *moment) for name in left}
        return [{"provider": name, "why": why} for name, why in objections.items() if why is not None]

    def _meanwhile(self, journey: Journey, kept: Sequence[Recorded], now: float) -> Iterator[Recorded]:
        """What happened to the providers of its group, and to the node, while it was under way."""
        members = next((g.providers for g in self.node.settings.groups if g.name == journey.group), ())
        about = {*members, *(leg.provider for leg in journey.legs)}
        began, ended = journey.began_at, journey.began_at + journey.seconds(now)
        for recorded in kept:
            if began <= recorded.at <= ended:
                event = recorded.event
                named = isinstance(event, _ABOUT_PROVIDERS) and event.provider in about
                if named or isinstance(event, ProcessRestarted | ConfigChanged):
                    yield recorded


class Standing:
    """How providers stood at an earlier moment, by the events since.

    A breaker's state is exact: what it was before its next change, or is now (``announced``) if it has not changed. The rest is what was
    told before and was not over by then, an operator's clean slate aside.
    """

    def __init__(self, kept: Sequence[Recorded], announced: Mapping[str, str]) -> None:
        self._announced = announced
        self._told = [r for r in kept if isinstance(r.event, _ABOUT_PROVIDERS)]

    def breaker(self, provider: str, seq: int) -> str | None:
        """The state of its breaker when event number ``seq`` was recorded; ``None``: the provider is gone."""
        for recorded in self._told:
            event = recorded.event
            if recorded.seq > seq and isinstance(event, BreakerChanged) and event.provider == provider:
                return event.before
        return self._announced.get(provider)

    def objection(self, provider: str, group: str | None, model: str | None, seq: int, at: float) -> str | None:
        """What was against ``provider`` then, in words."""
        state = self.breaker(provider, seq)
        if state in ("open", "half_open"):
            return f"its breaker was {state.replace('_', '-')}"
        poor = None
        for recorded in self._told:
            event = recorded.event
            if recorded.seq > seq or event.provider != provider:  # type: ignore[union-attr] # those about providers
                continue
            match event:
                case ProviderThrottled(seconds=seconds) if recorded.at + seconds > at:
                    return f"it had said 429, and was left alone for {recorded.at + seconds - at:.1f} s more"
                case ProviderQuarantined(model=of, seconds=seconds) if recorded.at + seconds > at and of in (
                    None,
                    model,
                ):
                    return f"it was quarantined: {event.reason}"
                case HealthChanged() if event.group == group:
                    poor = None if event.healthy else f"its score had fallen to {event.score:g}"
                case _:
                    pass
        return poor


async def _put_together(kept: Sequence[Recorded], request_id: str | None = None) -> Journeys:
    """All journeys, or those with that id."""
    journeys = Journeys()
    async for part in _in_turns(kept):
        for recorded in part:
            if request_id is None or getattr(recorded.event, "request_id", None) == request_id:
                journeys.take(recorded)
    return journeys


async def _in_turns(kept: Sequence[Recorded], size: int = 256) -> AsyncIterator[Sequence[Recorded]]:
    """``kept`` in pieces, with pauses in which everybody else has a turn."""
    since = time.perf_counter()
    for first in range(0, len(kept), size):
        yield kept[first : first + size]
        if time.perf_counter() - since > _SLICE_SECONDS:
            await asyncio.sleep(0)
            since = time.perf_counter()


def _filter(query: Body) -> Callable[[Journey], bool]:
    failed, key, provider = _flag(query, "failed"), query.get("key"), query.get("provider")

    def wanted(journey: Journey) -> bool:
        if (failed and journey.state != "failed") or (key is not None and _key(journey) != key):
            return False
        return provider is None or journey.touches(str(provider))

    return wanted


def _slowness(journey: Journey, by: str, now: float) -> float:
    """How long it kept its client waiting: to the first content, or, where there was none, in all."""
    content = journey.content_seconds if by == "first_content" else None
    return journey.seconds(now) if content is None else content


def _row(journey: Journey, now: float) -> Answer:
    """One request on a line: times are milliseconds, what is not known is ``None``."""
    done, first = journey.finished, journey.started
    usage = journey.legs[-1].usage if journey.legs else None
    if done is not None and done.usage is not None:
        usage = done.usage
    asked = done.asked if done is not None else first.model if first is not None else None
    last = journey.legs[-1] if journey.legs else None
    model = done.model if done is not None else last.model if last is not None else None
    return {
        "id": masked(journey.id),
        "at": _at(journey.began_at),
        "state": journey.state,
        "asked": None if asked is None else masked(asked),
        "model": None if model is None else masked(model),
        "key": _key(journey),
        "group": journey.group,
        "provider": done.provider if done is not None else last.provider if last is not None else None,
        "providers": list(dict.fromkeys(leg.provider for leg in journey.legs)),
        "attempts": done.attempts if done is not None else len(journey.legs),
        "status": (done.status or None) if done is not None else None,
        "outcome": journey.outcome,
        "first_content_ms": _ms(journey.content_seconds),
        "duration_ms": _ms(journey.seconds(now)),
        "waited_ms": _ms(journey.waited_seconds),
        "overhead_ms": None if done is None else _ms(max(0.0, done.duration_seconds - done.upstream_seconds)),
        "tokens_in": usage.input_tokens if usage else None,
        "tokens_out": usage.output_tokens if usage else None,
        "cost_usd": _usd(journey.cost_usd),
        "unknown_cost_calls": sum(leg.booked and leg.cost_usd is None for leg in journey.legs),
        "stream": done.stream if done is not None else first.stream if first is not None else None,
        "route": done.route if done is not None else first.route if first is not None else None,
    }


def _leg(leg: Leg, standing: Standing) -> Answer:
    usage = leg.usage
    return {
        "number": leg.number,
        "provider": leg.provider,
        "model": masked(leg.model),
        "at": None if leg.began_at is None else _at(leg.began_at),
        "why": leg.why,
        "gap_ms": _ms(leg.gap_seconds),
        "waited_ms": _ms(leg.waited_seconds),
        "breaker": standing.breaker(leg.provider, leg.seq) if leg.seq else None,
        "refusals": _refusals(leg.refusals),
        "first_content_ms": _ms(leg.content_seconds),
        "duration_ms": _ms(leg.duration_seconds),
        "outcome": leg.outcome or "in_flight",
        "tokens_in": usage.input_tokens if usage else None,
        "tokens_out": usage.output_tokens if usage else None,
        "cost_usd": _usd(leg.cost_usd),
        "booked": leg.booked,
    }


def _refusals(refusals: Sequence[Refusal]) -> list[Answer]:
    return [
        {
            "provider": one.provider,
            "reason": one.reason,
            "retry_after_seconds": None if one.retry_after_seconds is None else round(one.retry_after_seconds, 3),
        }
        for one in refusals
    ]


def _key(journey: Journey) -> str | None:
    return (journey.finished or journey.started).key or None if not journey.headless else None  # type: ignore[union-attr]


def _decision(journey: Journey) -> tuple[int, float] | None:
    """When it was decided who is called first, or that nobody is: the number of the event, and epoch seconds."""
    leg = journey.legs[0] if journey.legs else None
    if leg is not None:
        return None if leg.began_at is None or not leg.seq else (leg.seq, leg.began_at)
    return (journey.exhausted[-1][0].seq, journey.exhausted[-1][0].at) if journey.exhausted else None


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _usd(dollars: float | None) -> float | None:
    return None if dollars is None else round(dollars, 9)


def _flag(query: Body, key: str) -> bool:
    return str(query.get(key, "")).lower() in ("true", "1")


def _count(query: Body) -> int:
    text = str(query.get("n", _SHOWN))
    if not text.isdecimal() or len(text) > len(str(ceilings.LISTED)) or not 1 <= int(text) <= ceilings.LISTED:
        raise OperationError("refused", f"n must be a whole number from 1 to {ceilings.LISTED}")
    return int(text)


def _since(query: Body) -> float:
    if query.get("since") is None:
        return 0.0
    try:
        return moment(str(query["since"]), time.time_ns() // 1_000_000) / 1000
    except (ValueError, OverflowError):
        raise OperationError("refused", f"since must be {MOMENT}") from None
