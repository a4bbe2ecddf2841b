"""Why a request would go where it would go: the decision of :func:`~runestone.failover.plan.turns`, told. It decides nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs
from attrs import frozen

from runestone.domain.routing import Plan
from runestone.failover.plan import Rules, Scene
from runestone.providers.messages import Turn

Verdict = Literal["first", "next", "last resort", "skipped", "not asked"]


@frozen(kw_only=True)
class Candidacy:
    """One provider of the group: its place in the order (from 1), what would become of it, and why. Times are seconds."""

    provider: str
    model: str | None
    tier: int | None
    place: int | None
    verdict: Verdict
    why: str
    score: float | None = None
    first_token_seconds: float | None = None
    in_flight: int | None = None
    weight: float | None = None
    price: float | None = None


@frozen(kw_only=True)
class Explanation:
    """The candidates of one request at this moment. ``panic``: none is good enough by its score, so the best one serves."""

    group: str
    model: str
    strategy: str
    mode: str
    pinned: bool
    panic: bool
    candidates: tuple[Candidacy, ...]

    def as_data(self) -> dict[str, Any]:
        """The same as plain data."""
        return attrs.asdict(self) | {"candidates": [attrs.asdict(one) for one in self.candidates]}


def explain(  # noqa: PLR0917 - what the decision was made of
    model: str,
    plan: Plan,
    members: Sequence[str],
    rules: Rules,
    scene: Scene,
    order: Sequence[Turn],
    objection: Callable[[str, str], str | None],
    doubt: Callable[[str], str],
) -> Explanation:
    """The order of ``order``, with reasons.

    ``objection`` tells why a provider would refuse a model now (``None``: it would not), ``doubt`` why one that would not refuse is only
    asked for want of a better one.
    """
    told: list[Candidacy] = []
    asked = 0
    for place, (choice, tier, last_resort) in enumerate(order, 1):
        why_not = objection(choice.provider, choice.model)
        if why_not is not None:
            verdict, why = "skipped", why_not
        elif asked >= rules.max_attempts:
            verdict, why = "not asked", f"{rules.max_attempts} providers are tried at most"
        else:
            verdict = "first" if not asked else "last resort" if last_resort else "next"
            why = doubt(choice.provider) if last_resort else _ground(rules.strategy, tier)
            why += "; first for want of a better one" if last_resort and not asked else ""
            asked += 1
        told.append(_candidacy(scene, choice.provider, choice.model, tier, place, verdict, why))
    seen = {one.provider for one in told}
    for tier, choices in ((1, plan.tier1), (2, plan.tier2)):
        for choice in choices:
            if choice.provider not in seen:
                why = "legacy mode asks the first one alone" if rules.legacy else "it is not there"
                told.append(_candidacy(scene, choice.provider, choice.model, tier, None, "not asked", why))
                seen.add(choice.provider)
    left = () if plan.pinned else [name for name in members if name not in seen]
    why = "it does not serve this model, and no other model may stand in"
    told += [_candidacy(scene, name, None, None, None, "not asked", why) for name in left]
    return Explanation(
        group=plan.group,
        model=model,
        strategy=rules.strategy,
        mode="legacy" if rules.legacy else "enhanced",
        pinned=plan.pinned,
        panic=bool(order) and all(last_resort for _, _, last_resort in order),
        candidates=tuple(told),
    )


def _ground(strategy: str, tier: int) -> str:
    stands_in = " with its default model, once tier 1 has failed" if tier == 2 else ""
    return f"{strategy}{stands_in}"


def _candidacy(  # noqa: PLR0917 - a row of a table
    scene: Scene, provider: str, model: str | None, tier: int | None, place: int | None, verdict: str, why: str
) -> Candidacy:
    candidate = scene.candidates.get(provider)
    return Candidacy(
        provider=provider,
        model=model,
        tier=tier,
        place=place,
        verdict=verdict,  # type: ignore[arg-type] # one of them
        why=why,
        score=None if candidate is None else round(candidate.score, 4),
        first_token_seconds=None
        if candidate is None or candidate.first_token_seconds is None
        else round(candidate.first_token_seconds, 4),
        in_flight=None if candidate is None else candidate.in_flight,
        weight=None if candidate is None else candidate.weight,
        price=None if candidate is None else candidate.price,
    )
