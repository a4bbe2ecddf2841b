"""The circuit breaker, sentence by sentence of the contract."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from runestone.domain.outcome import Outcome
from runestone.resilience.breaker import (
    Breaker,
    BreakerPolicy,
    BreakerRefusal,
    Closed,
    Disabled,
    ForcedOpen,
    HalfOpen,
    Open,
    Permit,
    Window,
)

POLICY = BreakerPolicy(jitter=0.0)


def call(breaker: Breaker, outcome: Outcome, now: float, lease_id: int = 1, chance: float = 0.5) -> Breaker:
    breaker, permit = breaker.admit(lease_id, now)
    assert isinstance(permit, Permit), permit
    return breaker.settle(permit, outcome, now, chance)


def probe(breaker: Breaker, lease_id: int, now: float) -> tuple[Breaker, Permit]:
    breaker, permit = breaker.admit(lease_id, now)
    assert isinstance(permit, Permit)
    assert permit.probe
    return breaker, permit


def opened(policy: BreakerPolicy = POLICY, now: float = 0.0, chance: float = 0.5) -> Breaker:
    breaker = Breaker.new(policy)
    for _ in range(policy.failure_threshold):
        breaker = call(breaker, "failure", now, chance=chance)
    assert isinstance(breaker.state, Open)
    return breaker


def reopened(breaker: Breaker, chance: float = 0.5) -> tuple[Breaker, float]:
    """The breaker after its probe has failed, and for how long it is open."""
    assert isinstance(breaker.state, Open)
    now = breaker.state.until
    breaker = call(breaker, "failure", now, chance=chance)
    assert isinstance(breaker.state, Open)
    return breaker, breaker.state.until - now


# -- closed -> open ------------------------------------------------------------------------------------------------------


def test_it_opens_at_the_threshold_of_consecutive_failures_and_not_before() -> None:
    breaker = Breaker.new(POLICY)
    for _ in range(4):
        breaker = call(breaker, "failure", 0.0)
    assert breaker.name(0.0) == "closed"

    breaker = call(breaker, "failure", 0.0)

    assert breaker.state == Open(60.0)


def test_a_success_between_failures_starts_the_count_again() -> None:
    breaker = Breaker.new(POLICY)

    for outcome in ("failure", "failure", "failure", "failure", "success", "failure", "failure", "failure", "failure"):
        breaker = call(breaker, outcome, 0.0)

    assert (breaker.name(0.0), breaker.consecutive_failures) == ("closed", 4)


def test_a_neutral_end_counts_for_nothing_and_does_not_interrupt_a_row_of_failures() -> None:
    breaker = Breaker.new(POLICY)
    for _ in range(4):
        breaker = call(breaker, "failure", 0.0)

    assert call(breaker, "neutral", 1.0) == breaker
    assert call(call(breaker, "neutral", 1.0), "failure", 1.0).name(1.0) == "open"


def test_half_of_ten_calls_within_thirty_seconds_opens_it_though_no_row_is_long() -> None:
    breaker = Breaker.new(POLICY)
    for n in range(9):
        breaker = call(breaker, "success" if n % 2 else "failure", float(n))
    assert breaker.name(9.0) == "closed"

    breaker = call(call(breaker, "success", 9.0), "failure", 9.5)

    assert breaker.name(9.5) == "open"


def test_nine_calls_are_too_few_for_a_ratio() -> None:
    breaker = Breaker.new(evolve(POLICY, failure_threshold=100))

    for _ in range(9):
        breaker = call(breaker, "failure", 0.0)

    assert breaker.name(0.0) == "closed"
    assert call(breaker, "failure", 0.0).name(0.0) == "open"


def test_calls_older_than_the_window_do_not_count_in_the_ratio() -> None:
    breaker = Breaker.new(evolve(POLICY, failure_threshold=100))
    for _ in range(9):
        breaker = call(breaker, "failure", 0.0)

    assert call(breaker, "failure", 31.0).name(31.0) == "closed"


def test_fewer_than_half_do_not_open_it() -> None:
    breaker = Breaker.new(POLICY)

    for n in range(40):
        breaker = call(breaker, "failure" if n % 3 == 2 else "success", n * 0.5)

    assert breaker.name(20.0) == "closed"


# -- open ----------------------------------------------------------------------------------------------------------------


def test_open_it_lets_nothing_through_before_its_time_and_says_when_to_come_back() -> None:
    breaker = opened()

    assert breaker.admit(1, 20.0) == (breaker, BreakerRefusal(40.0))
    assert breaker.retry_after(20.0) == 40.0
    assert breaker.name(59.9) == "open"
    assert breaker.name(60.0) == "half_open"
    assert breaker.retry_after(60.0) is None


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 54.0), (0.5, 60.0), (1.0, 66.0)])
def test_the_recovery_time_varies_by_a_tenth(chance: float, seconds: float) -> None:
    assert opened(BreakerPolicy(), chance=chance).retry_after(0.0) == pytest.approx(seconds)


def test_each_reopening_doubles_the_recovery_time_up_to_five_minutes() -> None:
    breaker, times = opened(), []

    for _ in range(5):
        breaker, seconds = reopened(breaker)
        times.append(seconds)

    assert times == [120.0, 240.0, 300.0, 300.0, 300.0]


def test_an_outage_of_weeks_overflows_nothing() -> None:
    breaker = evolve(opened(), reopenings=5000)

    _, seconds = reopened(breaker)

    assert seconds == 300.0


def test_a_recovery_time_above_five_minutes_is_kept_and_not_doubled() -> None:
    breaker = opened(evolve(POLICY, recovery_timeout_seconds=900.0))

    _, seconds = reopened(breaker)

    assert seconds == 900.0


def test_closing_forgets_the_doubling() -> None:
    breaker, _ = reopened(opened())
    assert isinstance(breaker.state, Open)
    now = breaker.state.until
    breaker = call(call(breaker, "success", now), "success", now)

    for _ in range(5):
        breaker = call(breaker, "failure", now)

    assert breaker.state == Open(now + 60.0)


# -- half-open -----------------------------------------------------------------------------------------------------------


def test_half_open_lets_three_probes_out_at_once_and_no_more() -> None:
    breaker = opened()
    for lease_id in (1, 2, 3):
        breaker, _ = probe(breaker, lease_id, 60.0)

    after, refused = breaker.admit(4, 61.0)

    assert (after, refused, breaker.probes_out) == (breaker, BreakerRefusal(1.0), 3)


@pytest.mark.parametrize(("limit", "needed"), [(1, 1), (2, 2), (3, 2), (10, 2)])
def test_two_good_probes_close_it_or_one_where_only_one_may_be_out(limit: int, needed: int) -> None:
    breaker = opened(evolve(POLICY, half_open_limit=limit))

    for n in range(needed):
        assert breaker.name(60.0) == "half_open"
        breaker = call(breaker, "success", 60.0, lease_id=n)

    assert breaker.state == Closed()
    assert breaker.consecutive_failures == breaker.reopenings == 0


def test_one_bad_probe_opens_it_again_though_another_was_good() -> None:
    breaker = call(opened(), "success", 60.0)

    assert call(breaker, "failure", 60.0, lease_id=2).state == Open(180.0)


def test_a_neutral_end_gives_the_probe_back() -> None:
    breaker = opened(evolve(POLICY, half_open_limit=1))

    for n in range(10):
        breaker = call(breaker, "neutral", 60.0, lease_id=n)

    assert breaker.state == HalfOpen(0, {})
    assert call(breaker, "success", 61.0).state == Closed()


def test_a_probe_whose_deadline_has_passed_makes_room_for_another() -> None:
    breaker, _ = probe(opened(evolve(POLICY, half_open_limit=1)), 1, 60.0)
    assert breaker.retry_after(179.9) == pytest.approx(0.1)

    breaker, _ = probe(breaker, 2, 180.0)

    assert breaker.probes_out == 1


def test_a_lost_probe_that_fails_late_still_opens_it() -> None:
    breaker, lost = probe(opened(evolve(POLICY, half_open_limit=1)), 1, 60.0)
    breaker, _ = probe(breaker, 2, 200.0)

    assert breaker.settle(lost, "failure", 210.0).name(210.0) == "open"
    assert breaker.settle(lost, "success", 210.0) == breaker


def test_a_probe_that_was_good_at_its_commit_point_and_breaks_later_opens_it() -> None:
    breaker, first = probe(opened(), 1, 60.0)
    breaker = breaker.settle(first, "success", 60.0)

    assert breaker.settle(first, "failure", 61.0).name(61.0) == "open"


def test_a_probe_that_ends_well_after_its_commit_point_is_not_counted_twice() -> None:
    breaker, first = probe(opened(), 1, 60.0)
    breaker = breaker.settle(first, "success", 60.0)

    assert breaker.settle(first, "success", 61.0) == breaker


# -- generations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["success", "failure", "neutral"])
def test_a_straggler_from_before_the_opening_changes_nothing(outcome: Outcome) -> None:
    breaker, straggler = Breaker.new(POLICY).admit(99, 0.0)
    assert isinstance(straggler, Permit)
    for _ in range(5):
        breaker = call(breaker, "failure", 0.0)
    half_open, _ = probe(breaker, 1, 60.0)
    closed = half_open.reset()

    for state in (breaker, half_open, closed):
        assert state.settle(straggler, outcome, 70.0) == state


def test_every_change_of_state_begins_a_generation() -> None:
    closed = Breaker.new(POLICY)
    half_open, _ = probe(opened(), 1, 60.0)
    states = [closed, opened(), half_open, call(half_open, "failure", 60.0, lease_id=2), half_open.reset()]
    states += [closed.trip(0.0), closed.trip(0.0).auto(), closed.disable(), closed.disable().auto()]

    assert [state.generation for state in states] == [0, 1, 2, 3, 3, 1, 2, 1, 2]


def test_probes_of_an_earlier_half_open_time_change_nothing_in_the_next() -> None:
    breaker, old = probe(opened(), 1, 60.0)
    breaker = call(breaker, "failure", 60.0, lease_id=2)
    breaker, _ = probe(breaker, 3, 180.0)

    assert breaker.settle(old, "failure", 181.0) == breaker
    assert breaker.settle(old, "success", 181.0) == breaker


# -- the operator --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["closed", "open", "half-open", "forced", "disabled"])
def test_a_reset_closes_it_from_every_state_with_nothing_counted(before: str) -> None:
    states = {
        "closed": call(Breaker.new(POLICY), "failure", 0.0),
        "open": reopened(opened())[0],
        "half-open": probe(opened(), 1, 60.0)[0],
        "forced": opened().trip(0.0),
        "disabled": opened().disable(),
    }

    breaker = states[before].reset()

    assert breaker == Breaker(policy=POLICY, generation=states[before].generation + 1)


def test_forced_open_lets_nothing_through_until_it_is_lifted() -> None:
    breaker = Breaker.new(POLICY).trip(0.0)

    assert breaker.admit(1, 1e9) == (breaker, BreakerRefusal(None))
    assert (breaker.name(1e9), breaker.mode, breaker.retry_after(1e9)) == ("open", "forced_open", None)
    assert breaker.auto().state == Closed()


def test_forced_open_for_a_time_probes_after_it() -> None:
    breaker = Breaker.new(POLICY).trip(10.0, 20.0)

    assert breaker.admit(1, 19.0) == (breaker, BreakerRefusal(1.0))
    assert breaker.name(20.0) == "half_open"
    assert probe(breaker, 1, 20.0)[0].mode == "auto"


def test_a_time_that_has_passed_forces_nothing() -> None:
    breaker = Breaker.new(POLICY)

    assert breaker.trip(10.0, 10.0) == breaker


def test_results_of_calls_from_before_a_trip_do_not_lift_it() -> None:
    breaker, permit = Breaker.new(POLICY).admit(1, 0.0)
    assert isinstance(permit, Permit)
    breaker = breaker.trip(1.0)

    assert breaker.settle(permit, "success", 2.0).state == ForcedOpen(None)


def test_disabled_it_measures_and_never_refuses() -> None:
    breaker = opened().disable()

    for _ in range(50):
        breaker = call(breaker, "failure", 1.0)

    assert (breaker.state, breaker.mode, breaker.name(1.0)) == (Disabled(), "disabled", "closed")
    assert breaker.consecutive_failures == 55
    assert breaker.auto().state == Closed()


def test_auto_keeps_what_was_counted_so_that_one_more_failure_opens_it_and_a_success_does_not() -> None:
    breaker = Breaker.new(POLICY).disable()
    for _ in range(7):
        breaker = call(breaker, "failure", 1.0)
    lifted = breaker.auto()

    assert (lifted.consecutive_failures, lifted.window) == (7, breaker.window)
    assert call(lifted, "failure", 1.0).name(1.0) == "open"
    assert call(lifted, "success", 1.0).consecutive_failures == 0


def test_auto_leaves_a_breaker_alone_that_nobody_has_forced() -> None:
    breaker = opened()

    assert breaker.auto() == breaker
    assert breaker.mode == "auto"


def test_asking_for_a_refusal_takes_no_probe() -> None:
    breaker = opened(evolve(POLICY, half_open_limit=1))

    assert [breaker.refusal(60.0) for _ in range(5)] == [None] * 5
    assert breaker.refusal(59.0) == BreakerRefusal(1.0)


@pytest.mark.parametrize(
    "impossible",
    [
        {"failure_threshold": 0},
        {"recovery_timeout_seconds": 0.0},
        {"half_open_limit": 0},
        {"window_seconds": 0.0},
        {"window_calls": 0},
        {"window_ratio": 0.0},
        {"window_ratio": 1.1},
        {"jitter": 1.0},
        {"probe_deadline_seconds": 0.0},
    ],
)
def test_a_policy_that_never_opens_or_never_closes_cannot_exist(impossible: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        BreakerPolicy(**impossible)


# -- slow first tokens ---------------------------------------------------------------------------------------------------

SLOW = evolve(POLICY, slow_first_token_seconds=5.0)


def served(breaker: Breaker, now: float, *, slow: bool) -> Breaker:
    breaker, permit = breaker.admit(1, now)
    assert isinstance(permit, Permit)
    return breaker.settle(permit, "success", now, slow=slow)


def test_a_first_token_is_slow_above_its_limit_and_never_without_one() -> None:
    assert [Breaker.new(SLOW).slow(seconds) for seconds in (5.0, 5.1)] == [False, True]
    assert not Breaker.new(POLICY).slow(1e9)


def test_it_opens_at_eight_slow_first_tokens_of_ten_and_not_before() -> None:
    breaker = Breaker.new(SLOW)
    for n, slow in enumerate([False, False, *[True] * 7]):
        breaker = served(breaker, float(n), slow=slow)
        assert isinstance(breaker.state, Closed)

    assert isinstance(served(breaker, 9.0, slow=True).state, Open)
    assert isinstance(served(breaker, 9.0, slow=False).state, Closed)


def test_a_quick_answer_opens_nothing_however_many_were_slow() -> None:
    breaker = evolve(Breaker.new(SLOW), window=Window(buckets=((0, 50, 0, 50),)))

    assert isinstance(served(breaker, 1.0, slow=False).state, Closed)
    assert isinstance(served(breaker, 1.0, slow=True).state, Open)


def test_slow_ones_of_more_than_half_a_minute_ago_do_not_count() -> None:
    breaker = Breaker.new(SLOW)
    for n in range(9):
        breaker = served(breaker, n / 10, slow=True)

    assert isinstance(served(breaker, 40.0, slow=True).state, Closed)


def test_a_slow_probe_opens_it_again() -> None:
    breaker, permit = probe(opened(SLOW), 1, 60.0)

    assert isinstance(breaker.settle(permit, "success", 66.0, slow=True).state, Open)
    assert isinstance(breaker.settle(permit, "neutral", 66.0, slow=True).state, HalfOpen)
    assert breaker.settle(permit, "success", 66.0).state == HalfOpen(good=1)
