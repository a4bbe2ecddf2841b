"""Who is asked first, and what happens when all have refused: the failover actor's decisions as pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from attrs import frozen

from runestone.domain.routing import Choice, Plan
from runestone.providers.messages import Admit, Exhausted, Refused, Tried, Turn, Wait
from runestone.resilience.retry import RetryPolicy
from runestone.resilience.selection import Candidate, Strategy, rank

_SHORT_WAIT_SECONDS = 1.0  # a longer one is worse than the second tier
_SETTLE_SECONDS = 0.01  # added to an upstream's Retry-After, so that the retry does not come a moment too early


@frozen(kw_only=True)
class Rules:
    """What a group and the settings prescribe for one request."""

    strategy: Strategy
    max_attempts: int  # providers
    max_upstream_calls: int


@frozen(kw_only=True)
class Scene:
    """What failover sees of the providers at the moment of a decision."""

    candidates: Mapping[str, Candidate]
    usable: Callable[[str], bool]  # good enough by score
    cursor: int
    chance: Callable[[], float]


def retry_wait(admit: Admit, retry: RetryPolicy, rules: Rules, *, now: float, chance: float) -> float | None:
    """Seconds after which the provider that failed last may be called again; ``None`` where it may not.

    An upstream's Retry-After goes before our own back-off (full jitter, ``RetryPolicy.delay``).
    """
    if not admit.tried or admit.calls >= rules.max_upstream_calls:
        return None
    last = admit.tried[-1]
    if not last.failure.may_retry or last.calls >= retry.max_attempts:
        return None
    told = last.failure.retry_after_seconds
    seconds = retry.delay(last.calls - 1, chance) if told is None else told + _SETTLE_SECONDS
    return seconds if now + seconds < admit.deadline else None


def turns(admit: Admit, plan: Plan, rules: Rules, scene: Scene, wait: float | None) -> tuple[Turn, ...]:
    """The candidates in the order in which they are asked.

    Tier 1 goes before tier 2; in each, those good enough by score go first, ranked by the strategy, then the others, best first (panic).
    A provider that failed is not asked again, but for the last one after its wait. A short wait for a tier-1 provider goes before tier 2.
    """
    if admit.calls >= rules.max_upstream_calls:
        return ()
    last = admit.tried[-1] if admit.tried else None
    again: tuple[Turn, ...] = ((last.choice, last.tier, False),) if last is not None and admit.waited else ()
    if len(admit.tried) >= rules.max_attempts:
        return again
    tier1 = _tier(1, plan.tier1, admit.tried, rules, scene)
    if last is not None and last.failure.kind == "not_found":
        return tier1  # another model's provider would only answer another question
    if last is not None and last.tier == 1 and not admit.waited and _waits_gladly(last, wait):
        return tier1
    tier2 = _tier(2, plan.tier2, admit.tried, rules, scene)
    return (*tier1, *again, *tier2) if last is None or last.tier == 1 else (*tier1, *tier2, *again)


def after_refusals(admit: Admit, plan: Plan, refusals: tuple[Refused, ...], wait: float | None) -> Wait | Exhausted:
    """Nobody took the request: wait for the provider that failed last, if it may be tried again, or give up."""
    if wait is not None and not admit.waited:
        return Wait(seconds=wait, provider=admit.tried[-1].choice.provider)
    return Exhausted(group=plan.group, reason="attempts" if admit.tried else "refused", refusals=refusals)


def _waits_gladly(last: Tried, wait: float | None) -> bool:
    return wait is not None and wait <= _SHORT_WAIT_SECONDS and last.failure.kind != "rate_limited"


def _tier(
    tier: Literal[1, 2], choices: Sequence[Choice], tried: Sequence[Tried], rules: Rules, scene: Scene
) -> tuple[Turn, ...]:
    failed = {t.choice.provider for t in tried}
    left = {c.provider: c for c in choices if c.provider not in failed and c.provider in scene.candidates}
    good = [scene.candidates[name] for name in left if scene.usable(name)]
    poor = sorted((scene.candidates[name] for name in left if not scene.usable(name)), key=lambda c: -c.score)
    ranked = rank(rules.strategy, good, scene.cursor, scene.chance) if len(good) > 1 else good
    return (*((left[c.name], tier, False) for c in ranked), *((left[c.name], tier, True) for c in poor))
