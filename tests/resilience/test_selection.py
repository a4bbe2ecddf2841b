"""The six strategies within a tier."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given

from runestone.resilience.selection import STRATEGIES, Candidate, Strategy, rank

NAMES = ["a", "b", "c"]
ANY_STRATEGY: st.SearchStrategy[Strategy] = st.sampled_from(STRATEGIES)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        name=st.sampled_from("abcdefgh"),
        weight=st.floats(0.0, 10.0),
        score=st.floats(0.0, 1.0),
        expected_load=st.floats(0.0, 1e6),
        first_token_seconds=st.none() | st.floats(0.0, 100.0),
        price=st.none() | st.floats(0.0, 10.0),
        in_flight=st.integers(0, 1000),
    ),
    unique_by=lambda c: c.name,
)


def never() -> float:
    raise AssertionError("no chance is needed")


def order(strategy: Strategy, candidates: list[Candidate], cursor: int = 0, chance: Callable[[], float] = never) -> str:
    return "".join(c.name for c in rank(strategy, candidates, cursor, chance))


def plain(names: str = "abc") -> list[Candidate]:
    return [Candidate(name=name) for name in names]


@given(ANY_STRATEGY, CANDIDATES, st.integers(0, 10**9), st.integers())
def test_every_strategy_asks_each_candidate_once(
    strategy: Strategy, candidates: list[Candidate], cursor: int, seed: int
) -> None:
    ranked = rank(strategy, candidates, cursor, random.Random(seed).random)

    assert sorted(c.name for c in ranked) == sorted(c.name for c in candidates)


def test_round_robin_goes_around() -> None:
    assert [order("round_robin", plain(), n) for n in range(4)] == ["abc", "bca", "cab", "abc"]


@given(st.integers(1, 8), st.integers(0, 10**6))
def test_round_robin_is_fair_over_whichever_are_usable(usable: int, start: int) -> None:
    candidates = plain("abcdefgh"[:usable])

    first = Counter(order("round_robin", candidates, start + n)[0] for n in range(usable * 5))

    assert set(first.values()) == {5}


def test_priority_is_the_listed_order() -> None:
    assert order("priority", plain("cab"), 7) == "cab"


def test_health_aware_takes_the_highest_score_and_of_equals_the_listed_first() -> None:
    scores = {"a": 0.8, "b": 1.0, "c": 0.9, "d": 1.0}

    assert order("health_aware", [Candidate(name=n, score=s) for n, s in scores.items()]) == "bdca"


def test_cost_optimized_takes_the_cheapest_and_an_unknown_price_last() -> None:
    prices = {"a": None, "b": 0.2, "c": 0.1, "d": 0.0}

    assert order("cost_optimized", [Candidate(name=n, price=p) for n, p in prices.items()]) == "dcba"


def test_fastest_first_takes_the_lowest_first_token_time_and_tries_an_unknown_one_before() -> None:
    times = {"a": 2.0, "b": 0.5, "c": None}

    assert (
        order("fastest_first", [Candidate(name=n, first_token_seconds=t) for n, t in times.items()], 0, lambda: 0.5)
        == "cba"
    )


def test_fastest_first_explores_in_five_of_a_hundred_requests() -> None:
    candidates = [Candidate(name=n, first_token_seconds=t) for n, t in {"a": 1.0, "b": 2.0, "c": 3.0}.items()]
    chance = random.Random(1).random

    first = Counter(order("fastest_first", candidates, 0, chance)[0] for _ in range(20_000))

    assert 0.95 < first["a"] / 20_000 < 0.98  # one of three explorations meets the fastest
    assert 0.012 < first["b"] / 20_000 < 0.022
    assert 0.012 < first["c"] / 20_000 < 0.022


def test_load_balanced_of_two_takes_the_one_with_less_expected_load() -> None:
    candidates = [Candidate(name="a", expected_load=2.0), Candidate(name="b", expected_load=1.0)]
    chance = random.Random(2).random

    assert {order("load_balanced", candidates, 0, chance) for _ in range(50)} == {"ba"}


def test_load_balanced_counts_load_by_weight() -> None:
    candidates = [Candidate(name="a", expected_load=2.0, weight=3.0), Candidate(name="b", expected_load=1.0)]
    chance = random.Random(3).random

    assert {order("load_balanced", candidates, 0, chance) for _ in range(50)} == {"ab"}


def test_load_balanced_without_any_times_takes_the_one_with_fewer_in_flight() -> None:
    candidates = [Candidate(name="a", in_flight=5), Candidate(name="b", in_flight=4)]
    chance = random.Random(4).random

    assert {order("load_balanced", candidates, 0, chance) for _ in range(50)} == {"ba"}


def test_load_balanced_never_takes_the_worst_of_three_first_and_spreads_over_the_others() -> None:
    candidates = [Candidate(name=n, expected_load=load) for n, load in {"a": 1.0, "b": 2.0, "c": 3.0}.items()]
    chance = random.Random(5).random

    first = Counter(order("load_balanced", candidates, 0, chance)[0] for _ in range(9000))

    assert first["c"] == 0
    assert 0.63 < first["a"] / 9000 < 0.70  # in two of three pairs
    assert 0.30 < first["b"] / 9000 < 0.37


def test_load_balanced_spreads_equals_evenly() -> None:
    chance = random.Random(6).random

    first = Counter(order("load_balanced", plain("abcd"), 0, chance)[0] for _ in range(8000))

    assert all(0.22 < first[n] / 8000 < 0.28 for n in "abcd")


def test_a_loop_of_load_balanced_choices_keeps_calls_in_flight_close_to_the_weights() -> None:
    in_flight, weights = Counter({"a": 0, "b": 0}), {"a": 3.0, "b": 1.0}
    chance = random.Random(7).random
    for _ in range(400):
        candidates = [
            Candidate(name=n, weight=w, expected_load=1.0 * (in_flight[n] + 1), in_flight=in_flight[n])
            for n, w in weights.items()
        ]
        in_flight[order("load_balanced", candidates, 0, chance)[0]] += 1

    assert 295 <= in_flight["a"] <= 305


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nobody_and_one_are_ranked_too(strategy: Strategy) -> None:
    assert rank(strategy, [], 3, lambda: 0.0) == []
    assert order(strategy, plain("a"), 3, lambda: 0.0) == "a"


def test_candidates_without_any_weight_are_asked_all_the_same() -> None:
    candidates = [Candidate(name=n, weight=0.0) for n in "ab"]

    assert sorted(order("load_balanced", candidates, 0, lambda: 0.9)) == ["a", "b"]
