"""429: out until the upstream's time; without one 1 s, doubling to 60 s."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from runestone.resilience.throttle import Throttle, pause_seconds

SECONDS = st.floats(0.0, 1000.0)


def test_it_is_out_until_the_time_that_the_upstream_said() -> None:
    throttle = Throttle().hit(100.0, 30.0)

    assert throttle.retry_after(100.0) == 30.0
    assert throttle.retry_after(129.0) == 1.0
    assert throttle.retry_after(130.0) is None


def test_without_a_time_it_is_out_for_a_second_then_twice_as_long_each_time_up_to_a_minute() -> None:
    throttle, now, times = Throttle(), 0.0, []

    for _ in range(9):
        throttle = throttle.hit(now, None)
        times.append(throttle.retry_after(now))
        now = throttle.until or 0.0

    assert times == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_calls_that_were_in_flight_together_double_nothing() -> None:
    throttle = Throttle().hit(0.0, None)

    for n in range(20):
        throttle = throttle.hit(n / 100, None)

    assert throttle == Throttle(1.0, 1)


def test_a_success_starts_the_doubling_again() -> None:
    throttle = Throttle().hit(0.0, None).hit(2.0, None).succeed()

    assert throttle.hit(10.0, None).retry_after(10.0) == 1.0


def test_a_success_from_before_the_429_does_not_end_its_time() -> None:
    assert Throttle().hit(0.0, 30.0).succeed().retry_after(1.0) == 29.0
    assert Throttle().hit(0.0, None).succeed().retry_after(0.5) == 0.5


def test_a_success_without_a_429_changes_nothing() -> None:
    assert Throttle().succeed() == Throttle()
    assert Throttle().retry_after(0.0) is None


def test_times_that_the_upstream_said_do_not_count_in_the_doubling() -> None:
    throttle = Throttle().hit(0.0, 1.0).hit(2.0, 1.0).hit(4.0, 1.0)

    assert throttle.hit(10.0, None).retry_after(10.0) == 1.0


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.none() | SECONDS)))
def test_a_429_never_brings_the_end_nearer_and_always_takes_it_out(hits: list[tuple[float, float | None]]) -> None:
    throttle, now = Throttle(), 0.0
    for gap, told in hits:
        now += gap
        before = throttle.retry_after(now) or 0.0

        throttle = throttle.hit(now, told)

        wait = throttle.retry_after(now) or 0.0
        assert wait >= before
        assert wait == pytest.approx(max(before, told)) if told is not None else wait > 0.0


@given(st.integers(0, 10_000))
def test_a_pause_is_between_a_second_and_a_minute(hits: int) -> None:
    assert 1.0 <= pause_seconds(hits) <= 60.0
