"""Bound series, histograms that do not scan, and the cap."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import pytest
from aioprometheus.collectors import Registry
from hypothesis import given
from prometheus_client.parser import text_string_to_metric_families

from runestone.telemetry.series import SERIES_CAP, Buckets, EscapingFormatter, Family

BOUNDS = (0.1, 1.0, 10.0)


def read(registry: Registry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = EscapingFormatter().marshall(registry).decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples}


@pytest.mark.parametrize(
    ("observed", "bucket"),
    [(0.0, 0.1), (0.1, 0.1), (0.100001, 1.0), (1.0, 1.0), (10.0, 10.0), (11.0, float("inf")), (-1.0, 0.1)],
)
def test_a_value_falls_into_the_first_bucket_whose_bound_it_does_not_exceed(observed: float, bucket: float) -> None:
    buckets = Buckets(BOUNDS)

    buckets.observe(observed)

    assert buckets.buckets == {bound: int(bound >= bucket) for bound in (*BOUNDS, float("inf"))}
    assert (buckets.sum, buckets.observations, buckets.value) == (observed, 1, 1)


@given(st.lists(st.floats(0, 100)))
def test_buckets_are_cumulative_and_the_last_holds_all(observed: list[float]) -> None:
    buckets = Buckets(BOUNDS)

    for one in observed:
        buckets.observe(one)

    counts = list(buckets.buckets.values())
    assert all(low <= high for low, high in pairwise(counts))
    assert counts[-1] == len(observed) == buckets.observations
    assert counts[:-1] == [bisect.bisect_right(sorted(observed), bound) for bound in BOUNDS]
    assert buckets.sum == pytest.approx(sum(observed))


def test_a_histogram_is_read_by_prometheus() -> None:
    registry = Registry()
    family = Family.histogram(registry, "h_seconds", "Some.", BOUNDS)

    for observed in (0.05, 0.5, 0.5, 50.0):
        family.at(route="x").observe(observed)

    series = read(registry)
    assert [series["h_seconds_bucket", (("le", le), ("route", "x"))] for le in ("0.1", "1.0", "10.0", "+Inf")] == [
        1.0,
        3.0,
        3.0,
        4.0,
    ]
    assert series["h_seconds_count", (("route", "x"),)] == 4.0
    assert series["h_seconds_sum", (("route", "x"),)] == 51.05


def test_a_series_is_one_object_however_often_it_is_asked_for() -> None:
    family = Family.counter(Registry(), "c_total", "Some.")

    series = family.at(a="1", b="2")

    assert family.at(a="1", b="2") is series
    assert family.at(a="2", b="1") is not series


def test_a_series_is_rendered_at_zero_once_it_was_asked_for() -> None:
    registry = Registry()
    family = Family.counter(registry, "c_total", "Some.")

    family.at(a="1")

    assert read(registry) == {("c_total", (("a", "1"),)): 0.0}
    family.at(a="1").inc()
    family.at(a="1").inc(2.5)
    assert read(registry) == {("c_total", (("a", "1"),)): 3.5}
    assert family.at(a="1").value == 3.5


def test_a_gauge_may_be_set_to_a_truth() -> None:
    registry = Registry()
    family = Family.gauge(registry, "g", "Some.")

    family.at().set(value=True)

    assert read(registry) == {("g", ()): 1.0}


MAKE: dict[str, Callable[[Registry], Family]] = {
    "counter": lambda registry: Family.counter(registry, "x", "Some."),
    "gauge": lambda registry: Family.gauge(registry, "x", "Some."),
    "histogram": lambda registry: Family.histogram(registry, "x", "Some.", (1.0,)),
}
COUNT: dict[str, Callable[[Any], None]] = {
    "counter": lambda series: series.inc(),
    "gauge": lambda series: series.set(1),
    "histogram": lambda series: series.observe(0.5),
}


@pytest.mark.parametrize("kind", MAKE)
def test_beyond_the_cap_what_is_new_goes_uncounted_and_what_is_there_goes_on(kind: str) -> None:
    registry = Registry()
    family = MAKE[kind](registry)

    def count(number: int) -> None:
        COUNT[kind](family.at(n=str(number)))

    for number in range(SERIES_CAP + 100):
        count(number)
    count(0)

    values = family.values()
    assert len(values) == SERIES_CAP
    assert values["0"] == {"counter": 2.0, "gauge": 1.0, "histogram": 2.0}[kind]
    assert values[str(SERIES_CAP - 1)] == 1.0
    rendered = {labels for name, labels in read(registry) if name in {"x", "x_total", "x_count"}}
    assert len(rendered) == SERIES_CAP


@given(st.text(max_size=30))
def test_any_text_is_read_back_from_a_label(text: str) -> None:
    registry = Registry()

    Family.counter(registry, "c_total", "Some.").at(a=text).inc()

    assert read(registry) == {("c_total", (("a", text),)): 1.0}
