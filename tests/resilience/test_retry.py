"""Back-off, and every form of Retry-After."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from runestone.resilience.retry import RetryPolicy, retry_after_seconds

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC).timestamp()


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1e5), st.floats(1, 100))
def test_full_jitter_is_between_nought_and_the_bound_of_its_number(
    number: int, chance: float, base: float, factor: float
) -> None:
    policy = RetryPolicy(base_delay_seconds=base, factor=factor)

    delay = policy.delay(number, chance)

    assert 0.0 <= delay <= 30.0
    assert delay <= base * factor ** min(number, 64) * (1 + 1e-9)


def test_the_bound_grows_by_the_factor_up_to_thirty_seconds() -> None:
    policy = RetryPolicy()

    assert [policy.delay(n, 1.0) for n in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert [policy.delay(n, 0.5) for n in range(3)] == [0.5, 1.0, 2.0]
    assert policy.delay(3, 0.0) == 0.0


def test_without_jitter_chance_has_no_say() -> None:
    policy = RetryPolicy(jitter=False)

    assert [policy.delay(n, 0.1) for n in range(3)] == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    "impossible",
    [{"max_attempts": 0}, {"base_delay_seconds": -1.0}, {"factor": 0.5}, {"factor": 1e9}, {"cap_seconds": -1.0}],
)
def test_a_policy_that_no_back_off_has_cannot_exist(impossible: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        RetryPolicy(**impossible)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "250.5"}, 0.2505),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after-ms": "-1", "retry-after": "2"}, 2.0),
        ({"retry-after": "Wed, 25 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 25 Nov 2026 12:00:30 +0000"}, 30.0),
        ({"retry-after": "Wed, 25 Nov 2026 13:00:30 +0100"}, 30.0),
        ({"retry-after": "Wed, 25 Nov 2026 12:00:30"}, 30.0),
        ({"retry-after": "Wed, 25 Nov 2026 12:00:30 -0000"}, 30.0),
        ({"retry-after": "Wednesday, 25-Nov-26 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Wed Nov 25 12:00:30 2026"}, 30.0),
        ({"retry-after": "Wed, 25 Nov 2026 11:59:59 GMT"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "1_000"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "99999999999"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 99 Nov 2026 12:00:30 GMT"}, None),
        ({"retry-after": "Wed, 25 Nov 99999999999 12:00:30 GMT"}, None),
    ],
)
def test_what_an_upstream_says_about_when_to_come_back(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, NOW) == (None if seconds is None else pytest.approx(seconds))


def test_a_date_without_a_zone_is_gmt_wherever_the_gateway_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert retry_after_seconds({"retry-after": "Wed, 25 Nov 2026 12:00:30"}, NOW) == 30.0
    time.tzset()


@given(st.text(), st.text())
def test_no_header_whatever_makes_it_fail_or_go_back_in_time(milliseconds: str, date: str) -> None:
    found = retry_after_seconds({"retry-after-ms": milliseconds, "retry-after": date}, NOW)

    assert found is None or 0.0 <= found < 1e9


@given(st.integers(0, 1_000_000))
def test_every_date_to_come_is_understood(seconds: int) -> None:
    date = format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)

    assert retry_after_seconds({"retry-after": date}, NOW) == seconds
