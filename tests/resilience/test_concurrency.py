"""How many calls may be out at once: fixed, or found by AIMD."""

from __future__ import annotations

import math

import hypothesis.strategies as st
from attrs import evolve
from hypothesis import given

from runestone.resilience.concurrency import Concurrency, ConcurrencyPolicy

ADAPTIVE = Concurrency(policy=ConcurrencyPolicy(adaptive=True))


def test_without_a_limit_any_number_may_be_out() -> None:
    assert Concurrency().limit is None
    assert not Concurrency().full(1_000_000)


def test_a_fixed_limit_is_full_at_its_number_and_learns_nothing() -> None:
    fixed = Concurrency(policy=ConcurrencyPolicy(limit=3))

    assert [fixed.full(n) for n in (2, 3, 4)] == [False, True, True]
    assert fixed.overloaded(3, 0.0, 1.0) == fixed
    assert fixed.succeeded(3) == fixed


def test_an_answer_of_too_much_lowers_it_to_seven_tenths_of_what_was_out() -> None:
    assert ADAPTIVE.overloaded(10, 0.0, 1.0).limit == 7
    assert ADAPTIVE.overloaded(10, 0.0, 1.0).overloaded(7, 2.0, 3.0).limit == 4


def test_calls_that_were_out_together_lower_it_once() -> None:
    once = ADAPTIVE.overloaded(10, 0.0, 1.0)

    assert once.overloaded(9, 0.5, 1.1) == once


def test_a_round_of_successes_at_the_limit_raises_it_by_about_one() -> None:
    lowered = ADAPTIVE.overloaded(10, 0.0, 1.0)
    raised = lowered
    for _ in range(8):
        raised = raised.succeeded(7)

    assert (lowered.limit, raised.limit) == (7, 8)


def test_successes_of_a_provider_that_is_hardly_used_prove_nothing() -> None:
    lowered = ADAPTIVE.overloaded(10, 0.0, 1.0)

    assert lowered.succeeded(3) == lowered


def test_it_never_falls_below_one_call_and_never_exceeds_its_own_limit() -> None:
    low, high = ADAPTIVE, Concurrency(policy=ConcurrencyPolicy(adaptive=True, limit=5))
    for n in range(20):
        low = low.overloaded(1, float(n), float(n))
    high = high.overloaded(5, 0.0, 1.0)
    for _ in range(200):
        high = high.succeeded(5)

    assert low.limit == 1
    assert high.limit == 5


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 50), st.floats(0.0, 5.0)), max_size=60),
    st.one_of(st.none(), st.integers(1, 40)),
)
def test_whatever_happens_the_limit_comes_back(history: list[tuple[bool, int, float]], limit: int | None) -> None:
    """No state is absorbing: after enough good rounds, as much may be out as before."""
    concurrency, now = Concurrency(policy=ConcurrencyPolicy(limit=limit, adaptive=True)), 0.0
    for too_much, in_flight, seconds in history:
        now += seconds
        before = concurrency.found
        concurrency = concurrency.overloaded(in_flight, now, now) if too_much else concurrency.succeeded(in_flight)
        assert concurrency.limit is None or concurrency.limit >= 1
        assert not too_much or concurrency.found <= max(1.0, before)

    if concurrency.found < math.inf:
        for _ in range(5000):
            concurrency = concurrency.succeeded(concurrency.limit or 1)
        assert concurrency.limit is not None
        assert concurrency.limit >= min(limit or 50, 50)


def test_a_change_of_settings_takes_the_limit_away_or_gives_it() -> None:
    lowered = ADAPTIVE.overloaded(10, 0.0, 1.0)

    assert evolve(lowered, policy=ConcurrencyPolicy()).limit is None
    assert evolve(lowered, policy=ConcurrencyPolicy(limit=3)).limit == 3
