"""What a report adds up, and how times and dollars are written."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.costs.rates import PICODOLLARS
from runestone.ledger.report import OTHERS, Line, Query, costs, dollars, moment, name_of, told

NOW = 1_793_000_000_000
QUERY = Query(since_ms=0, until_ms=NOW, by="model")


def line(name: str, calls: int = 1, cost: int | None = 0, unknown: int = 0, tokens: int = 0) -> Line:
    return Line(
        name=name, calls=calls, requests=calls, input_tokens=tokens, output_tokens=tokens, cached_tokens=0,
        cache_write_tokens=0, reasoning_tokens=0, cost_picodollars=cost, unknown_cost_calls=unknown,
    )  # fmt: skip


def test_lines_that_are_all_of_it_stand_alone() -> None:
    lines = (line("a", 2, 5), line("b", 1, None, 1))

    assert costs(QUERY, lines, line("total", 3, 5, 1)).lines == lines


def test_what_the_lines_leave_of_the_total_is_one_more_line() -> None:
    found = costs(QUERY, [line("a", 2, 5, tokens=7)], line("total", 9, 25, 3, tokens=10))

    assert found.lines[-1] == line(OTHERS, 7, 20, 3, tokens=3)


def test_others_of_whom_no_cost_is_known_have_none() -> None:
    found = costs(QUERY, [line("a", 2, 5)], line("total", 4, 5, 2))

    assert found.lines[-1] == line(OTHERS, 2, None, 2)


@pytest.mark.parametrize(
    ("pico", "text"),
    [
        (None, None),
        (0, "0"),
        (1, "0.000000000001"),
        (150_000, "0.00000015"),
        (10**12, "1"),
        (12_345 * 10**11, "1234.5"),
    ],
)
def test_dollars_are_written_exactly_and_without_an_exponent(pico: int | None, text: str | None) -> None:
    assert dollars(pico) == text


@given(st.integers(0, 2**70))
def test_dollars_that_are_read_again_are_the_same(pico: int) -> None:
    assert Decimal(dollars(pico) or "") * PICODOLLARS == pico


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("90m", NOW - 5_400_000), ("24h", NOW - 86_400_000), ("2w", NOW - 14 * 86_400_000), ("999999999w", 0),
        ("2026-11-01", 1_793_491_200_000), ("2026-11-01T08:30", 1_793_521_800_000),
        ("2026-11-01T08:30:00+02:00", 1_793_514_600_000), ("2026-11-01T00:00:00Z", 1_793_491_200_000),
    ],
)  # fmt: skip
def test_a_moment_is_a_time_ago_or_a_date_in_utc(text: str, ms: int) -> None:
    assert moment(text, NOW) == ms


@pytest.mark.parametrize("text", ["", "yesterday", "5y", "-1h", "2026-13-01", "1.5h", "24 h"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        moment(text, NOW)


def test_periods_are_called_by_their_beginning() -> None:
    day = 1_793_491_200_000 // 86_400_000

    assert (name_of("day", day), name_of("hour", day * 24 + 9), name_of("model", "m")) == (
        "2026-11-01",
        "2026-11-01T09:00Z",
        "m",
    )
    assert told(1_793_491_200_000) == "2026-11-01T00:00:00Z"
