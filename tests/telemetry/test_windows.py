"""Percentiles of the last minutes, held against sorted lists."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from runestone.telemetry.windows import (
    ERROR,
    LARGEST_SECONDS,
    LONGEST_SECONDS,
    MINUTE_SECONDS,
    QUANTILES,
    SLOT_SECONDS,
    SMALLEST_SECONDS,
    Window,
)

DURATIONS = st.floats(SMALLEST_SECONDS, LARGEST_SECONDS)
STEPS = st.lists(st.tuples(st.floats(0, 40), DURATIONS), max_size=60)  # seconds since the one before, how long it took


def nearest_rank(ordered: list[float], q: float) -> float:
    return ordered[max(1, math.ceil(q * len(ordered))) - 1]


@given(STEPS, st.floats(0, 400), st.sampled_from([MINUTE_SECONDS, LONGEST_SECONDS]), st.floats(0, 1e6))
def test_quantiles_are_those_of_a_sorted_list_within_the_buckets_error(
    steps: list[tuple[float, float]], pause: float, over: float, start: float
) -> None:
    window, now = Window(), start
    seen: list[tuple[float, float]] = []
    for gap, seconds in steps:
        now += gap
        window.observe(now, seconds)
        seen.append((now, seconds))
    now += pause

    oldest = now // SLOT_SECONDS - over // SLOT_SECONDS
    recent = sorted(seconds for at, seconds in seen if at // SLOT_SECONDS > oldest)
    found = window.quantiles(now, over)

    assert window.count(now, over) == len(recent)
    for estimate, q in zip(found, QUANTILES.values(), strict=True):
        if not recent:
            assert estimate is None
        else:
            assert estimate == pytest.approx(nearest_rank(recent, q), rel=ERROR * 1.001)


@given(st.lists(DURATIONS, min_size=1), st.floats(0, 1e6))
def test_quantiles_rise_with_what_is_asked_for(observed: list[float], now: float) -> None:
    window = Window()
    for seconds in observed:
        window.observe(now, seconds)

    p50, p95, p99 = window.quantiles(now)

    assert p50 is not None
    assert p95 is not None
    assert p99 is not None
    assert p50 <= p95 <= p99


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.0, SMALLEST_SECONDS), (-1.0, SMALLEST_SECONDS), (1e9, LARGEST_SECONDS)]
)
def test_what_is_beyond_the_buckets_counts_in_the_last_of_them(seconds: float, told: float) -> None:
    window = Window()
    window.observe(0.0, seconds)

    assert window.quantiles(0.0, wanted=[0.5]) == [pytest.approx(told, rel=2 * ERROR)]


def test_what_is_older_than_is_asked_for_counts_no_more() -> None:
    window = Window()
    window.observe(5.0, 1.0)

    assert window.count(5.0) == 1
    assert window.count(59.9) == 1
    assert window.count(60.0) == 0
    assert window.count(299.9, LONGEST_SECONDS) == 1
    assert window.count(300.0, LONGEST_SECONDS) == 0
    assert window.milliseconds(60.0) == {"p50": None, "p95": None, "p99": None}


def test_a_window_holds_no_more_however_long_it_lives() -> None:
    window = Window()
    for number in range(10_000):
        window.observe(number * SLOT_SECONDS, 0.001 * (number % 1000))

    assert window.count(1e5, 1e9) <= LONGEST_SECONDS / SLOT_SECONDS


def test_milliseconds_are_told_by_their_names() -> None:
    window = Window()
    for number in range(1, 101):
        window.observe(0.0, number / 1000)

    told = window.milliseconds(0.0)

    assert told == {
        "p50": pytest.approx(50.0, rel=ERROR * 1.01),
        "p95": pytest.approx(95.0, rel=ERROR * 1.01),
        "p99": pytest.approx(99.0, rel=ERROR * 1.01),
    }
