"""Who is asked first, and what happens when all have refused: the failover actor's decisions as pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from attrs import frozen

from runestone.domain.routing import Choice, Plan
from runestone.providers.messages import Admit, Exhausted, Refused, Tried, Turn, Wait
from runestone.resilience.retry import RetryPolicy
from runestone.resilience.selection import Candidate, Strategy, rank
from runestone.resilience.throttle import pause_seconds

_SHORT_WAIT_SECONDS: Final = 1.0  # a longer one is worse than the second tier
_SETTLE_SECONDS: Final = (
    0.01  # added to what an upstream or its throttle prescribes, so that the retry does not come a moment too early
)


@frozen(kw_only=True)
class Rules:
    """What a group and the settings prescribe for one request.

    ``max_attempts`` counts providers that were called, ``max_upstream_calls`` calls. ``legacy`` is the guide's rollback: the first listed
    member of tier 1 alone, whatever its score, with its retries.
    """

    strategy: Strategy
    max_attempts: int
    max_upstream_calls: int
    legacy: bool = False


@frozen(kw_only=True)
class Scene:
    """What failover sees of the providers at the moment of a decision.

    ``usable`` tells whether the strategy ranks a candidate: its breaker admits, its score is good enough, and it is neither draining nor
    throttled nor quarantined. The others are asked after those, best score first, and may still refuse. ``cursor`` is the number of the
    request, for the rotation; ``chance`` gives random numbers in 0 to 1.
    """

    candidates: Mapping[str, Candidate]
    usable: Callable[[str], bool]
    cursor: int
    chance: Callable[[], float]


def retry_wait(admit: Admit, retry: RetryPolicy, rules: Rules, *, now: float, chance: float) -> float | None:
    """Seconds after which the provider that failed last may be called again; ``None`` where it may not, or not before the deadline.

    An upstream's Retry-After goes before our own back-off (full jitter, ``RetryPolicy.delay``); after a 429 without one, the provider is
    throttled, and asking it sooner would only be refused.
    """
    if not admit.tried or admit.calls >= rules.max_upstream_calls:
        return None
    last = admit.tried[-1]
    if not last.failure.may_retry or last.calls >= retry.max_attempts:
        return None
    seconds = retry.delay(last.calls - 1, chance)
    if last.failure.retry_after_seconds is not None:
        seconds = last.failure.retry_after_seconds + _SETTLE_SECONDS
    elif last.failure.kind == "rate_limited":
        seconds = max(seconds, pause_seconds(last.calls - 1) + _SETTLE_SECONDS)
    return seconds if now + seconds < admit.deadline else None


def turns(admit: Admit, plan: Plan, rules: Rules, scene: Scene, wait: float | None) -> tuple[Turn, ...]:
    """The candidates in the order in which they are asked.

    Tier 1 goes before tier 2; in each, the usable go first, ranked by the strategy, then the others, best first (panic). A provider that
    failed is not asked again, but for the last one after its wait. A short wait for a tier-1 provider goes before tier 2. Where one of
    tier 1 does not know the model (404), tier 2 is out: it would answer another question.
    """
    if admit.calls >= rules.max_upstream_calls:
        return ()
    last = admit.tried[-1] if admit.tried else None
    again: tuple[Turn, ...] = ((last.choice, last.tier, False),) if last is not None and admit.waited else ()
    if rules.legacy:
        return again if last is not None else tuple((choice, 1, False) for choice in plan.tier1[:1])
    if sum(t.failure.kind != "unsupported" for t in admit.tried) >= rules.max_attempts:
        return again
    tier1 = _tier(1, plan.tier1, admit.tried, rules, scene)
    if any(t.failure.kind == "not_found" and t.tier == 1 for t in admit.tried):
        return (*tier1, *again)
    if last is not None and last.tier == 1 and not admit.waited and _waits_gladly(last, wait):
        return tier1
    tier2 = _tier(2, plan.tier2, admit.tried, rules, scene)
    return (*tier1, *again, *tier2) if last is None or last.tier == 1 else (*tier1, *tier2, *again)


def after_refusals(admit: Admit, plan: Plan, refusals: tuple[Refused, ...], wait: float | None) -> Wait | Exhausted:
    """Nobody took the request: wait for the provider that failed last, if it may be tried again, or give up.

    Who has waited already gives up, so that the loop ends.
    """
    if wait is not None and not admit.waited:
        return Wait(seconds=wait, provider=admit.tried[-1].choice.provider)
    return Exhausted(group=plan.group, reason="attempts" if admit.tried else "refused", refusals=refusals)


def _waits_gladly(last: Tried, wait: float | None) -> bool:
    """Whether to wait for it rather than go to tier 2; a 429 is not retried while another candidate is usable."""
    return wait is not None and wait <= _SHORT_WAIT_SECONDS and last.failure.kind != "rate_limited"


def _tier(
    tier: Literal[1, 2], choices: Sequence[Choice], tried: Sequence[Tried], rules: Rules, scene: Scene
) -> tuple[Turn, ...]:
    if not choices:
        return ()
    if len(choices) == 1 and not tried:  # the one there is, as good as it is
        choice = choices[0]
        there = choice.provider in scene.candidates
        return ((choice, tier, not scene.usable(choice.provider)),) if there else ()
    failed = {t.choice.provider for t in tried}
    left = {c.provider: c for c in choices if c.provider not in failed and c.provider in scene.candidates}
    good = {name for name in left if scene.usable(name)}
    ranked = rank(rules.strategy, [scene.candidates[n] for n in left if n in good], scene.cursor, scene.chance)
    poor = sorted((scene.candidates[n] for n in left if n not in good), key=lambda c: -c.score)
    return (*((left[c.name], tier, False) for c in ranked), *((left[c.name], tier, True) for c in poor))
