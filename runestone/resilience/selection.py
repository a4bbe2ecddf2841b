"""The six strategies: who goes first within a tier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from attrs import frozen

Strategy = Literal["round_robin", "priority", "load_balanced", "fastest_first", "health_aware", "cost_optimized"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
_EXPLORATION = 0.05


@frozen(kw_only=True)
class Candidate:
    """A provider at the moment of a decision."""

    name: str
    weight: float = 1.0
    score: float = 1.0
    expected_load: float = 0.0
    first_token_seconds: float | None = None
    price: float | None = None
    in_flight: int = 0


def rank(
    strategy: Strategy, candidates: Sequence[Candidate], cursor: int, chance: Callable[[], float]
) -> list[Candidate]:
    """``candidates`` in the order in which they are asked."""
    order = list(candidates)
    if len(order) < 2:
        return order
    match strategy:
        case "round_robin":
            turn = cursor % len(order)
            return order[turn:] + order[:turn]
        case "priority":
            return order
        case "load_balanced":
            return _two_choices(order, chance)
        case "fastest_first":
            order.sort(key=lambda c: c.first_token_seconds if c.first_token_seconds is not None else 0.0)
            if chance() < _EXPLORATION:
                order.insert(0, order.pop(_pick(len(order), chance)))
            return order
        case "health_aware":
            return sorted(order, key=lambda c: -c.score)
        case "cost_optimized":
            return sorted(order, key=lambda c: (c.price is None, c.price or 0.0))


def _two_choices(order: list[Candidate], chance: Callable[[], float]) -> list[Candidate]:
    """The better of two random ones first, again for the rest."""
    left, ranked = list(order), []
    while left:
        first = left.pop(_weighted(left, chance))
        if left:
            second = left.pop(_weighted(left, chance))
            better, worse = sorted(
                (first, second), key=lambda c: (c.expected_load + 1e-9 * (c.in_flight + 1)) / max(c.weight, 1e-9)
            )
            left.append(worse)
            ranked.append(better)
        else:
            ranked.append(first)
    return ranked


def _weighted(candidates: Sequence[Candidate], chance: Callable[[], float]) -> int:
    at = chance() * sum(c.weight for c in candidates)
    for index, candidate in enumerate(candidates):
        at -= candidate.weight
        if at < 0:
            return index
    return len(candidates) - 1


def _pick(count: int, chance: Callable[[], float]) -> int:
    return min(int(chance() * count), count - 1)
