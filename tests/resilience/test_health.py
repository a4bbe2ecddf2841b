"""The health score, 0 to 1, and the expected load."""

from __future__ import annotations

import itertools
import math
from functools import reduce
from typing import Literal

import hypothesis.strategies as st
import pytest
from hypothesis import given

from runestone.domain.outcome import Outcome
from runestone.resilience.health import Health

Standing = Literal["closed", "open", "half_open"]
STANDINGS: list[Standing] = ["closed", "open", "half_open"]


GOOD: list[Outcome] = ["success"]
BAD: list[Outcome] = ["failure"]


def after(*outcomes: Outcome, at: float = 0.0) -> Health:
    return reduce(lambda health, outcome: health.observe(outcome, at), outcomes, Health())


def test_it_is_one_with_no_data() -> None:
    assert Health().score(1000.0, "closed") == 1.0


def test_success_is_squared() -> None:
    health = after("success", "success", "success", "failure")

    assert health.score(0.0, "closed") == pytest.approx(0.75**2)


def test_one_failure_in_ten_is_above_the_default_threshold_and_two_are_below() -> None:
    assert after(*GOOD * 9, *BAD).score(0.0, "closed") > 0.7
    assert after(*GOOD * 8, *BAD * 2).score(0.0, "closed") < 0.7


def test_a_neutral_end_changes_nothing() -> None:
    health = after("success", "failure")

    assert health.observe("neutral", 5.0) == health


def test_what_happened_thirty_seconds_ago_weighs_a_third() -> None:
    health = after(*BAD * 10).observe("success", 30.0)
    old = 10 * math.exp(-1)

    assert health.score(30.0, "closed") == pytest.approx((1 / (old + 1)) ** 2)


def test_old_evidence_fades_without_a_jump_until_the_score_is_one_again() -> None:
    health = after(*BAD * 5)

    scores = [health.score(t / 10, "closed") for t in range(6000)]

    assert scores[0] == 0.0
    assert scores == sorted(scores)
    assert max(b - a for a, b in itertools.pairwise(scores)) < 0.01
    assert scores[-1] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("breaker", "factor"), [("closed", 1.0), ("half_open", 0.5), ("open", 0.0)])
def test_the_breaker_counts_in_full_half_or_not_at_all(breaker: Standing, factor: float) -> None:
    assert Health().score(0.0, breaker) == factor


def test_twice_its_own_baseline_is_not_slow_and_beyond_it_the_score_falls_in_proportion() -> None:
    usual = Health().observe_first_token(1.0, 0.0)
    for t in range(1, 100):
        usual = usual.observe_first_token(1.0, float(t))

    assert usual.observe_first_token(1.9, 100.0).score(100.0, "closed") == 1.0
    assert usual.observe_first_token(4.0, 100.0).score(100.0, "closed") == pytest.approx(0.5, rel=0.02)


def test_a_first_token_within_a_tenth_of_a_second_is_never_slow() -> None:
    health = Health().observe_first_token(0.001, 0.0)
    for number in range(20):
        health = health.observe_first_token(0.09, float(number))
        assert health.score(float(number), "closed") == 1.0

    assert health.observe_first_token(0.4, 20.0).score(20.0, "closed") < 0.7


def test_a_slow_provider_with_a_slow_baseline_is_as_healthy_as_a_fast_one() -> None:
    slow = Health()
    for t in range(10):
        slow = slow.observe_first_token(20.0, float(t))

    assert slow.score(10.0, "closed") == 1.0


def test_a_provider_that_was_slow_once_is_not_slow_for_ever() -> None:
    health = Health().observe_first_token(1.0, 0.0).observe_first_token(60.0, 1.0)

    assert health.score(1.0, "closed") < 0.1
    assert health.score(300.0, "closed") == 1.0


@pytest.mark.parametrize(("left", "factor"), [(1.0, 1.0), (0.2, 1.0), (0.1, 0.5), (0.0, 0.0), (-1.0, 0.0), (7.0, 1.0)])
def test_the_last_fifth_of_the_rate_limit_lowers_the_score(left: float, factor: float) -> None:
    assert Health().observe_headroom(left, 0.0).score(0.0, "closed") == pytest.approx(factor)


def test_a_spent_rate_limit_is_not_held_against_it_for_ever() -> None:
    assert Health().observe_headroom(0.0, 0.0).score(60.0, "closed") > 0.6


def test_the_first_token_time_goes_up_at_once_and_down_slowly() -> None:
    health = Health().observe_first_token(1.0, 0.0).observe_first_token(5.0, 1.0)
    assert health.first_token_seconds == 5.0

    health = health.observe_first_token(1.0, 31.0)

    assert health.first_token_seconds == pytest.approx(5 * math.exp(-1) + (1 - math.exp(-1)))


def test_the_expected_load_grows_with_the_calls_in_flight() -> None:
    health = Health().observe_first_token(2.0, 0.0)

    assert [health.expected_load(n, 0.0) for n in (0, 1, 4)] == [2.0, 4.0, 10.0]


def test_one_call_may_try_an_unknown_provider_and_the_next_stay_away_until_it_has_answered() -> None:
    slow = Health().observe_first_token(30.0, 0.0)

    assert Health().expected_load(0, 0.0) < slow.expected_load(0, 0.0)
    assert Health().expected_load(1, 0.0) > slow.expected_load(5, 0.0)


Event = tuple[Literal["success", "failure", "neutral", "first", "headroom"], float, float]
EVENTS: st.SearchStrategy[list[Event]] = st.lists(
    st.tuples(
        st.sampled_from(["success", "failure", "neutral", "first", "headroom"]), st.floats(0, 1e4), st.floats(0, 1e3)
    )
)


@given(EVENTS, st.floats(0, 1e7), st.sampled_from(STANDINGS))
def test_in_any_history_the_score_is_between_nought_and_one_and_comes_back(
    events: list[Event], later: float, breaker: Standing
) -> None:
    health, now = Health(), 0.0
    for what, value, gap in events:
        now += gap
        match what:
            case "first":
                health = health.observe_first_token(value, now)
            case "headroom":
                health = health.observe_headroom(value, now)
            case "success" | "failure" | "neutral":
                health = health.observe(what, now)

    assert 0.0 <= health.score(now + later, breaker) <= 1.0
    assert health.expected_load(3, now + later) >= 0.0
    assert health.score(now + 3600.0, "closed") == pytest.approx(1.0)


@given(st.lists(st.sampled_from(["success", "failure"]), min_size=1), st.floats(0, 100))
def test_a_success_never_lowers_the_score_and_a_failure_never_raises_it(outcomes: list[Outcome], gap: float) -> None:
    health = after(*outcomes)

    score = health.score(gap, "closed")

    assert health.observe("success", gap).score(gap, "closed") >= score - 1e-9
    assert health.observe("failure", gap).score(gap, "closed") <= score + 1e-9


def test_what_whole_answers_take_moves_no_score() -> None:
    health = Health().observe_first_token(0.5, 0.0)
    for n in range(10):
        health = health.observe_whole(30.0 * (n % 2), float(n))

    assert health.score(10.0, "closed") == 1.0
    assert health.latency(10.0) == pytest.approx(0.5)


def test_where_no_stream_was_seen_whole_answers_tell_who_is_quick() -> None:
    health = Health().observe_whole(4.0, 0.0).observe_whole(2.0, 30.0)

    assert health.latency(30.0) == pytest.approx(4.0 * 0.3679 + 2.0 * 0.6321, rel=1e-3)
    assert health.expected_load(1, 30.0) == pytest.approx(2 * (health.latency(30.0) or 0.0))
    assert Health().latency(0.0) is None
