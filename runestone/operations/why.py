"""Why a provider is as it is: what has moved its breaker and its score, and what else keeps calls from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from attrs import frozen

from runestone.operations.steps import call_as_data, probes, rfc3339, turn_as_data
from runestone.providers.memory import ProviderMemory
from runestone.resilience.breaker import Breaker
from runestone.resilience.health import Health
from runestone.resilience.history import Chunk
from runestone.resilience.quarantine import Quarantine
from runestone.resilience.replay import Played, Turn, play, stand, turns
from runestone.resilience.throttle import Throttle
from runestone.telemetry.events import AdminActed
from runestone.telemetry.logs import masked
from runestone.telemetry.recorder import Recorded

_MOVERS: Final = 5
_LEAST: Final = 0.005  # of a score, that is told
_FADING_SECONDS: Final = 30.0  # as evidence fades in a score
_WHOLE: Final = 0.9995  # of a part that holds nothing down
_ACT_SECONDS: Final = 120.0  # between what an operator has changed and the word that it is done
_SLACK_SECONDS: Final = 0.05  # between two clocks


@frozen(kw_only=True)
class Standing:
    """One provider at one moment. ``now`` is the loop's time, ``epoch`` what makes it one in seconds since 1970."""

    name: str
    now: float
    epoch: float
    breaker: Breaker
    health: Health
    throttle: Throttle
    quarantine: Quarantine
    score: float
    measures: bool
    draining: bool
    unreachable: bool
    chunks: tuple[Chunk, ...]
    acted: tuple[Recorded, ...] = ()  # what operators have done

    @classmethod
    def of(cls, memory: ProviderMemory, *, now: float, wall: float, acted: Sequence[Recorded] = ()) -> Standing:
        """As it is now; ``wall`` is now in epoch seconds."""
        return cls(
            name=memory.name,
            now=now,
            epoch=wall - now,
            breaker=memory.breaker,
            health=memory.health,
            throttle=memory.throttle,
            quarantine=memory.quarantine,
            score=memory.score(now),
            measures=not memory.settings.circuit_breaker,
            draining=memory.draining,
            unreachable=memory.probing.down(now, memory.last_call),
            chunks=memory.history.chunks(),
            acted=tuple(acted),
        )

    def until(self, seconds: float | None) -> dict[str, Any] | None:
        """A time that many seconds from now."""
        if seconds is None:
            return None
        return {"seconds": round(seconds, 3), "until": rfc3339(self.now + self.epoch + seconds)}


def explained(standing: Standing, last: int) -> dict[str, Any]:
    """All of it, with the ``last`` changes of the breaker. It plays the whole history: some tens of milliseconds of work."""
    course = [*play(standing.chunks)]
    changes = turns(course)
    return {
        "provider": standing.name,
        "at": rfc3339(standing.now + standing.epoch),
        "breaker": _breaker(standing, course, changes, last),
        "score": _score(standing, course),
        "throttled": _throttled(standing, course),
        "quarantined": _quarantined(standing, course),
        "draining": standing.draining,
        "unreachable": standing.unreachable,
        "history": about(standing, course),
    }


def about(standing: Standing, course: Sequence[Played]) -> dict[str, Any]:
    """What the history holds. ``exact``: played again, it ends where breaker and score are."""
    exact = bool(course) and (course[-1].breaker, course[-1].health) == (standing.breaker, standing.health)
    return {
        "since": rfc3339(course[0].at) if course else None,
        "steps": max(0, len(course) - 1),
        "exact": exact,
    }


def _breaker(standing: Standing, course: Sequence[Played], changes: Sequence[Turn], last: int) -> dict[str, Any]:
    breaker, now = standing.breaker, standing.now
    outage = _outage(changes) if stand(breaker) != "closed" else []
    return {
        "state": breaker.name(now),
        "mode": "measuring" if standing.measures else breaker.mode,
        "since": _since(standing, changes),
        "tried_again": standing.until(breaker.retry_after(now)) if breaker.name(now) == "open" else None,
        "because": _told(standing, outage[0]) if outage else None,
        "consecutive_failures": breaker.consecutive_failures,
        "failure_threshold": breaker.policy.failure_threshold,
        "turns": [_told(standing, turn) for turn in changes[-last:]],
        "probes": probes(course)[-last:],
    }


def _outage(changes: Sequence[Turn]) -> Sequence[Turn]:
    """The changes since it was closed last; what an operator has forced is a cause of its own."""
    for index in range(len(changes) - 1, -1, -1):
        if changes[index].before == "closed" or changes[index].cause in ("operator", "forgotten"):
            return changes[index:]
    return changes


def _since(standing: Standing, changes: Sequence[Turn]) -> str | None:
    """Since when it is what it is; ``None``: since before the history."""
    breaker, now = standing.breaker, standing.now
    real = [turn for turn in changes if turn.before != turn.after]
    if not real:
        return None
    turn = real[-1]
    if breaker.name(now) == "half_open" and turn.after in ("open", "forced_open") and turn.until is not None:
        return rfc3339(turn.until)
    return rfc3339(turn.at)


def _told(standing: Standing, turn: Turn) -> dict[str, Any]:
    """One change, and who has made it, if somebody has."""
    told = turn_as_data(turn)
    if routes := _routes(turn):
        told["who"] = _who(standing, turn, routes)
    return told


def _routes(turn: Turn) -> tuple[str, ...]:
    """What an operator may have asked for, that has made it."""
    match turn.by.step:
        case ("operate", _, act, _):
            return ("/v1/breakers/{name}/" + act,)
        case ("forget", _, "restart"):
            return ("/v1/providers/{name}/restart",)
        case ("forget", _, "another place"):
            return ("/v1/providers/{name}", "/v1/config/reload")
        case _:
            return ()


def _who(standing: Standing, turn: Turn, routes: Sequence[str]) -> str | None:
    """Who says to have done it: the first word of such an act about this provider, from then on."""
    wanted = {f"POST {route.replace('{name}', standing.name)}" for route in routes}
    for recorded in standing.acted:
        event, near = recorded.event, -_SLACK_SECONDS <= recorded.at - turn.at <= _ACT_SECONDS
        if near and isinstance(event, AdminActed) and event.outcome == "ok" and event.action in wanted:
            return masked(event.who)
    return None


# -- the score -------------------------------------------------------------------------------------------------------------


def _score(standing: Standing, course: Sequence[Played]) -> dict[str, Any]:
    parts = standing.health.parts(standing.now, standing.breaker.name(standing.now))
    lowest = min(parts, key=parts.__getitem__)
    return {
        "score": round(standing.score, 4),
        "parts": {name: round(value, 4) for name, value in parts.items()},
        "held_down_by": [name for name in sorted(parts, key=parts.__getitem__) if parts[name] < _WHOLE],
        "most_by": lowest if parts[lowest] < _WHOLE else None,
        "moved_by": _movers(standing, course),
    }


def _movers(standing: Standing, course: Sequence[Played]) -> list[dict[str, Any]]:
    """The steps that have moved it most; what was long ago counts for less, as it does in the score."""
    moved: list[tuple[float, int, float, float]] = []
    for index, (before, after) in enumerate(pairwise(course), 1):
        if after.step is None or (after.health is before.health and after.breaker is before.breaker):
            continue
        at = after.step[1]
        one, two = _scored(before, at), _scored(after, at)
        if abs(two - one) >= _LEAST:
            weight = math.exp(-max(0.0, standing.now - at) / _FADING_SECONDS)
            moved.append((abs(two - one) * weight, index, one, two))
    most = sorted(sorted(moved, reverse=True)[:_MOVERS], key=lambda each: each[1])
    return [
        {**call_as_data(course[index]), "score_before": round(one, 4), "score_after": round(two, 4)}
        for weight, index, one, two in most
        if weight >= _LEAST / 10
    ]


def _scored(played: Played, at: float) -> float:
    return played.health.score(at, played.breaker.name(at))


# -- what else keeps calls away --------------------------------------------------------------------------------------------


def _throttled(standing: Standing, course: Sequence[Played]) -> dict[str, Any] | None:
    told = standing.until(standing.throttle.retry_after(standing.now))
    return None if told is None else {**told, "because": _ended_by(course, "rate_limited", None)}


def _quarantined(standing: Standing, course: Sequence[Played]) -> list[dict[str, Any]]:
    entries: Mapping[str | None, tuple[float, str]] = standing.quarantine.entries
    return [
        {
            "model": None if model is None else masked(model),
            "reason": reason,
            **(standing.until(until - standing.now) or {}),
            "because": _ended_by(course, reason, model),
        }
        for model, (until, reason) in entries.items()
        if until > standing.now
    ]


def _ended_by(course: Sequence[Played], kind: str, model: str | None) -> dict[str, Any] | None:
    """The last call that has ended so."""
    for played in reversed(course):
        match played.step:
            case ("end", _, _, _, _, how, retry_after, which, *_) if how == kind and model in (None, which):
                return {**call_as_data(played), "retry_after_seconds": retry_after}
    return None
