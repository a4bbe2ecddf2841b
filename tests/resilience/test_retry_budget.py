"""20 % of the requests plus 3 a second, over the whole process."""

from __future__ import annotations

import math

import hypothesis.strategies as st
from hypothesis import given

from runestone.resilience.retry_budget import RetryBudget


def spend(budget: RetryBudget, now: float) -> tuple[RetryBudget, int]:
    """All that there is at ``now``."""
    spent = 0
    while True:
        budget, granted = budget.withdraw(now)
        if not granted:
            return budget, spent
        spent += 1


def test_it_starts_with_ten_seconds_worth() -> None:
    assert spend(RetryBudget(), 0.0)[1] == 30


def test_it_fills_by_three_a_second() -> None:
    budget, _ = spend(RetryBudget(), 0.0)

    assert spend(budget, 2.0)[1] == 6


def test_it_fills_by_a_fifth_of_the_requests() -> None:
    budget, _ = spend(RetryBudget(), 0.0)

    for _ in range(1000):
        budget = budget.deposit(0.0)

    assert spend(budget, 0.0)[1] in (199, 200)  # a fifth is no binary number


def test_what_requests_have_brought_is_gone_after_ten_seconds_without_any() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        budget = budget.deposit(0.0)

    assert spend(budget, 10.0)[1] == 30


def test_an_idle_process_saves_up_no_more_than_ten_seconds_worth() -> None:
    budget, _ = spend(RetryBudget(), 0.0)

    assert spend(budget, 1e6)[1] == 30


def test_under_steady_load_a_storm_gets_a_fifth_and_three_a_second() -> None:
    budget, granted = RetryBudget(), 0
    for n in range(6000):  # a hundred a second for a minute, each of them wants to retry
        budget = budget.deposit(n / 100)
        budget, one = budget.withdraw(n / 100)
        granted += one

    assert 0.2 * 6000 + 3 * 59 <= granted <= 0.2 * 6000 + 3 * 60 + 30


def test_a_refusal_takes_nothing() -> None:
    budget, _ = spend(RetryBudget(), 0.0)

    assert budget.withdraw(0.0) == (budget, False)


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 40), st.integers(0, 60)), max_size=30))
def test_over_any_window_it_grants_no_more_than_a_fifth_plus_three_a_second_plus_what_was_saved(
    history: list[tuple[float, int, int]],
) -> None:
    budget, now = RetryBudget(), 0.0
    deposits: list[float] = []
    grants: list[float] = []
    starts: list[float] = []
    for gap, requests, retries in history:
        now += gap
        starts.append(now)
        for _ in range(requests):
            budget = budget.deposit(now)
            deposits.append(now)
        for _ in range(retries):
            budget, granted = budget.withdraw(now)
            grants += [now] * granted

    for start in starts:
        carried = sum(0.2 * math.exp(-(start - at) / 10) for at in deposits if at < start)
        for end in starts:
            granted_here = sum(start <= at <= end for at in grants)
            fresh = 0.2 * sum(start <= at <= end for at in deposits)
            assert granted_here <= 30 + carried + fresh + 3 * max(end - start, 0.0) + 1e-6
