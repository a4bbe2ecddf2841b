"""The six strategies: who goes first within a tier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, assert_never, get_args

from attrs import frozen

Strategy = Literal["round_robin", "priority", "load_balanced", "fastest_first", "health_aware", "cost_optimized"]
STRATEGIES: Final[tuple[str, ...]] = get_args(Strategy)
_EXPLORATION: Final = 0.05


@frozen(kw_only=True)
class Candidate:
    """A provider at the moment of a decision.

    ``weight`` is a share relative to the others', ``score`` the health score (0 to 1), ``expected_load`` and ``first_token_seconds`` are
    seconds (``None``: not known yet), ``price`` is the estimate for this very request (``None``: not known).
    """

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
    """``candidates`` in the order in which they are asked; each occurs once. What is equal keeps its listed order.

    * ``round_robin``: rotated by ``cursor``, the number of the request among those with the same candidates
    * ``priority``: as listed
    * ``load_balanced``: of two drawn by weight the one with less expected load by weight ("the power of two choices", Mitzenmacher)
    * ``fastest_first``: lowest first-token time, one that is not known yet before all; any of them first in 5 % of the requests
    * ``health_aware``: highest score
    * ``cost_optimized``: cheapest, a price that is not known after all

    ``chance`` gives random numbers in 0 to 1, without 1.
    """
    order = list(candidates)
    match strategy:
        case "round_robin":
            turn = cursor % max(len(order), 1)
            order = order[turn:] + order[:turn]
        case "priority":
            pass
        case "load_balanced":
            order = _two_choices(order, chance)
        case "fastest_first":
            order.sort(key=lambda c: c.first_token_seconds or 0.0)
            if order and chance() < _EXPLORATION:
                order.insert(0, order.pop(int(chance() * len(order))))
        case "health_aware":
            order.sort(key=lambda c: -c.score)
        case "cost_optimized":
            order.sort(key=lambda c: (c.price is None, c.price or 0.0))
        case _:
            assert_never(strategy)
    return order


def _two_choices(left: list[Candidate], chance: Callable[[], float]) -> list[Candidate]:
    """The better of two random ones first, then again among the rest."""
    ranked: list[Candidate] = []
    while len(left) > 1:
        first = left.pop(_weighted(left, chance))
        second = left.pop(_weighted(left, chance))
        better, worse = sorted((first, second), key=_load)
        left.append(worse)
        ranked.append(better)
    return ranked + left


def _load(candidate: Candidate) -> float:
    """Load for its weight; where no load is known yet, calls in flight decide."""
    return (candidate.expected_load + 1e-9 * (candidate.in_flight + 1)) / max(candidate.weight, 1e-9)


def _weighted(candidates: Sequence[Candidate], chance: Callable[[], float]) -> int:
    at = chance() * sum(c.weight for c in candidates)
    for index, candidate in enumerate(candidates):
        at -= candidate.weight
        if at < 0:
            return index
    return len(candidates) - 1
