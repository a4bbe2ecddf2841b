"""An alert knows since when its condition lasts; the worst and the oldest come first."""

from __future__ import annotations

from functools import partial

import hypothesis.strategies as st
from hypothesis import given

from runestone.telemetry.alerts import Alerts, Condition

OPEN = Condition(kind="breaker_open", about="a", severity="error", message="a is out", command="reset a")
SLOW = Condition(kind="loop_lag", about="loop", severity="warning", message="late", command="tree")
NAMED = partial(Condition, severity="error", message="", command="")


def test_an_alert_is_as_old_as_its_condition_has_been_seen() -> None:
    alerts = Alerts().observe([OPEN], 1000.0).observe([OPEN, SLOW], 1010.0).observe([SLOW, OPEN], 1020.0)

    assert [(a.condition.kind, a.since) for a in alerts.alerts] == [("breaker_open", 1000.0), ("loop_lag", 1010.0)]


def test_a_condition_that_comes_back_is_a_new_one() -> None:
    alerts = Alerts().observe([OPEN], 1000.0).observe([], 1010.0).observe([OPEN], 1020.0)

    assert [a.since for a in alerts.alerts] == [1020.0]


def test_who_knows_better_since_when_is_believed() -> None:
    known = Condition(kind="x", about="y", severity="error", message="", command="", since=17.0)

    assert [a.since for a in Alerts().observe([known], 1000.0).alerts] == [17.0]


def test_an_alert_as_data_says_what_since_when_and_what_helps() -> None:
    (alert,) = Alerts().observe([OPEN], 86_400.0).alerts

    assert alert.as_data() == {
        "kind": "breaker_open",
        "severity": "error",
        "about": "a",
        "message": "a is out",
        "since": "1970-01-02T00:00:00Z",
        "command": "reset a",
    }


@given(st.lists(st.sets(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"))), min_size=1))
def test_since_is_the_first_look_of_the_present_run_of_looks(history: list[set[tuple[str, str]]]) -> None:
    alerts = Alerts()
    for second, there in enumerate(history):
        alerts = alerts.observe([NAMED(kind=kind, about=about) for kind, about in sorted(there)], float(second))

    def began(key: tuple[str, str]) -> float:
        second = len(history) - 1
        while second and key in history[second - 1]:
            second -= 1
        return float(second)

    found = {(a.condition.kind, a.condition.about): a.since for a in alerts.alerts}
    assert found == {key: began(key) for key in history[-1]}
    assert [a.since for a in alerts.alerts] == sorted(found.values())
