"""The steps of a provider's history as plain data: for people, for programs, and back again from a file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, Literal

from runestone.resilience.history import Act
from runestone.resilience.replay import Played, Turn
from runestone.telemetry.logs import masked

_CAUSES: Final = {
    "failures_in_a_row": "{count} failures in a row",
    "failures_in_the_window": "{count} of {calls} calls within {window:g} s failed",
    "slow_in_the_window": "{count} of {calls} calls within {window:g} s had a first token after more than {slow:g} s",
    "probe_failed": "a probe failed",
    "probe_was_slow": "a probe's first token came after more than {slow:g} s",
    "probes_were_good": "{count} good probes",
    "time_was_over": "its time was over, and a call was let through as a probe",
}
_ACTS: Final[dict[Act, str]] = {
    "reset": "an operator has reset it",
    "trip": "an operator has forced it open",
    "auto": "an operator has lifted what was forced",
    "disable": "an operator has disabled it",
}
_OF_CALLS: Final = ("admit", "content", "end")
_FORGOTTEN: Final[dict[Literal["restart", "another place", "crashes"], str]] = {
    "restart": "the provider was restarted with a clean slate",
    "another place": "the provider was given another address or key",
    "crashes": "its actor has crashed twice within seconds and begun afresh",
}


def rfc3339(seconds: float) -> str:
    """A time in UTC, to the millisecond."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{thousandths:03}Z"


def call_as_data(played: Played) -> dict[str, Any]:
    """One step that a call has made: when, for which request, and how it went."""
    told: dict[str, Any]
    match played.step:
        case ("admit", _, lease, request, _):
            told = {"what": "admitted", "lease": lease, "request": masked(request)}
        case ("refuse", _, _, count, _):
            told = {"what": "refused", "calls": count}
        case ("content", _, lease, seconds, _, headroom, *_):
            told = {"what": "first content", "lease": lease, "seconds": round(seconds, 4), "headroom": headroom}
        case ("end", _, lease, request, outcome, kind, *_):
            told = {"what": kind or outcome, "lease": lease, "request": masked(request), "slow": played.slow}
        case ("operate", _, act, _):
            told = {"what": f"operator: {act}"}
        case None:
            told = {"what": "start"}
        case (other, *_):
            told = {"what": other}
    return {"at": rfc3339(played.at), **told}


def cause_in_words(turn: Turn) -> str:
    """Why the breaker has changed."""
    match turn.by.step:
        case ("operate", _, act, _):
            return _ACTS[act]
        case ("forget", _, why):
            return _FORGOTTEN[why]
        case _:
            policy = turn.by.breaker.policy
            slow = policy.slow_first_token_seconds or 0.0
            words = _CAUSES[turn.cause]
            return words.format(count=turn.count, calls=turn.calls, window=policy.window_seconds, slow=slow)


def turn_as_data(turn: Turn) -> dict[str, Any]:
    """One change of a breaker, with the steps that led to it."""
    return {
        "at": rfc3339(turn.at),
        "before": turn.before,
        "after": turn.after,
        "cause": turn.cause,
        "words": cause_in_words(turn),
        "count": turn.count,
        "calls": turn.calls,
        "until": None if turn.until is None else rfc3339(turn.until),
        "steps": [call_as_data(one) for one in turn.evidence if one.step is not None and one.step[0] in _OF_CALLS],
    }


def probes(course: Sequence[Played]) -> list[dict[str, Any]]:
    """The probes of a half-open breaker, and how they went: ``out`` is not judged yet, ``given back`` says nothing about the provider."""
    found: dict[int, dict[str, Any]] = {}
    told: list[dict[str, Any]] = []
    for played in course:
        match played.step:
            case ("admit", _, lease, request, _) if played.said and played.breaker.probes_out:
                found[lease] = {
                    "at": rfc3339(played.at),
                    "request": masked(request),
                    "outcome": "out",
                    "judged_at": None,
                }
                told.append(found[lease])
            case ("content", _, lease, *_) if lease in found:
                late = played.breaker.name(played.step[1]) == "open"
                found[lease] |= {"outcome": "slow" if late else "good", "judged_at": rfc3339(played.at)}
            case ("end", _, lease, _, outcome, kind, *_) if (probe := found.pop(lease, None)) is not None:
                if outcome == "failure" or probe["outcome"] == "out":
                    how = {"failure": kind, "success": "good", "neutral": "given back"}[outcome]
                    probe |= {"outcome": how, "judged_at": rfc3339(played.at)}
    return told
