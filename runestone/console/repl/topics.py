"""``explain``: what the words in answers mean, what a setting is, what an event tells."""

from __future__ import annotations

from typing import Final

from runestone.config import reference
from runestone.console import render
from runestone.telemetry.events import CATALOGUE

TOPICS: Final = {
    "breaker": "closed: calls go through. open: none does, until it is tried again. half_open: a few probes do, and decide.\n"
    "forced_open, disabled: an operator has said so, until `breaker auto` or `breaker reset`. See `why NAME`, `breaker show NAME`.",
    "half_open": "Its time is over: a few probes may go out, and decide. The event breaker.changed tells it as soon as the time is over,\n"
    "`why NAME` has the change where the first probe goes out.",
    "score": "1 is best: success x latency x headroom x breaker. Below a group's health_threshold a provider is asked last.\n"
    "See `why NAME`, `failover explain GROUP --model M`.",
    "starting": "Its actor has not begun yet: the node, or it, is just starting.",
    "throttled": "It has said 429, and is left alone for as long as it has asked for. See `why NAME`.",
    "quarantined": "It refuses our key, has no quota left, or will not serve a model. Then `provider set` or `restart`.",
    "draining": "An operator has taken it out: nothing new goes there, what runs ends whole. `provider ready NAME`, or `undrain`.",
    "maintenance": "As draining; and it is not probed, and nothing that is wrong with it is an alert. `provider ready NAME` ends it.",
    "leaving": "It is being removed, and goes when its last call has ended.",
    "saturated": "It has as many calls out as it may have: `provider set NAME --max-concurrency N`.",
    "panic": "Nobody in the group is good enough by score, so the best of them serves. See `failover explain`.",
    "tier": "1: who serves the model itself. 2: who stands in with the default model, once all of tier 1 have failed.",
    "legacy": "The rollback: the first provider of the model's family, with retries and no failover. `mode enhanced` takes it back.",
}


def known() -> tuple[str, ...]:
    """All that can be explained."""
    return (*TOPICS, *reference.keys(), *CATALOGUE)


def explained(topic: str) -> str:
    """All about ``topic``: a word of answers, a setting's key, or an event's name. Raises ``LookupError`` with what there is."""
    if topic in TOPICS:
        return TOPICS[topic]
    if (event := CATALOGUE.get(topic)) is not None:
        return (event.__doc__ or "").strip()
    try:
        return render.facts(reference.explained(topic))
    except LookupError as error:
        known = f"there are {', '.join(TOPICS)}; the keys of settings, such as retry.max_attempts; the names of events"
        raise LookupError(
            f"{error.args[0]}; {known}" if "." in topic else f"{topic!r} is not known here; {known}"
        ) from None
