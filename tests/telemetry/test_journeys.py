"""The ways of requests from recorded events: whole, cut off at either end, mixed, and with ids that come again."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from runestone.domain.chat import Usage
from runestone.telemetry.events import (
    CallBooked,
    ContentBegan,
    Event,
    Failover,
    FailoverExhausted,
    LoopHeldUp,
    Refusal,
    Retry,
)
from runestone.telemetry.journeys import Journey, Journeys
from runestone.telemetry.recorder import Recorded
from tests.telemetry.happenings import called, ended, finished, started

USAGE = Usage(input_tokens=3, output_tokens=4)


def put_together(*events: Event) -> Journeys:
    """Each a second after the one before."""
    journeys = Journeys()
    for number, event in enumerate(events, 1):
        journeys.take(Recorded(number, 1000.0 + number, event))
    return journeys


def only(*events: Event) -> Journey:
    (journey,) = put_together(*events).all
    return journey


def way(request_id: str) -> list[Event]:
    """A request that is answered by the second provider, at its third call."""
    return [
        started(request_id, key="k"),
        called(request_id, number=1),
        ended(request_id, number=1, outcome="server_error", first_content_seconds=None, duration_seconds=1.0),
        Retry(provider="a", reason="server_error", request_id=request_id, waited_seconds=0.5),
        called(request_id, number=2),
        ended(request_id, number=2, outcome="timeout", first_content_seconds=None, duration_seconds=1.0),
        Failover(group="g", origin="a", target="b", reason="timeout", request_id=request_id),
        called(request_id, number=3, provider="b", refusals=(Refusal(provider="c", reason="down"),)),
        ContentBegan(request_id=request_id, number=3, provider="b", model="m", seconds=0.25),
        finished(request_id, provider="b", attempts=3, duration_seconds=9.0, first_content_seconds=8.25, usage=USAGE),
        ended(request_id, number=3, provider="b", usage=USAGE, duration_seconds=2.0),
        CallBooked(request_id=request_id, provider="a", model="m", usage=None, cost_usd=0.0),
        CallBooked(request_id=request_id, provider="a", model="m", usage=None, cost_usd=None),
        CallBooked(request_id=request_id, provider="b", model="m", usage=USAGE, cost_usd=0.5),
    ]


def test_each_call_has_its_reason_its_waits_and_its_cost() -> None:
    journey = only(*way("r"))

    assert [(leg.number, leg.provider, leg.why, leg.outcome) for leg in journey.legs] == [
        (1, "a", "first", "server_error"),
        (2, "a", "retry after server_error", "timeout"),
        (3, "b", "failover from a after timeout", "ok"),
    ]
    assert [leg.waited_seconds for leg in journey.legs] == [0.0, 0.5, 0.0]
    assert [leg.gap_seconds for leg in journey.legs] == [1.0, 2.0, 2.0]
    assert [(leg.booked, leg.cost_usd) for leg in journey.legs] == [(True, 0.0), (True, None), (True, 0.5)]
    assert journey.legs[2].refusals == (Refusal(provider="c", reason="down"),)
    assert (journey.legs[2].content_seconds, journey.legs[2].usage) == (0.25, USAGE)


def test_the_whole_is_told_as_its_end_tells_it() -> None:
    journey = only(*way("r"))

    assert (journey.state, journey.outcome, journey.group, journey.headless) == ("ok", "ok", "g", False)
    assert (journey.seconds(0.0), journey.content_seconds, journey.began_at) == (9.0, 8.25, 1001.0)
    assert (journey.waited_seconds, journey.cost_usd) == (0.5, 0.5)
    assert [journey.touches(name) for name in "abcd"] == [True, True, True, False]


def test_a_cost_that_is_not_booked_yet_is_not_known() -> None:
    assert only(*way("r")[:-1]).cost_usd is None


def test_one_under_way_says_for_how_long() -> None:
    journey = only(*way("r")[:5])

    assert (journey.state, journey.outcome) == ("in_flight", None)
    assert journey.seconds(1011.0) == 10.0
    assert journey.content_seconds is None
    assert only(*way("r")[:9]).content_seconds == 7.25  # its call began after seven seconds


def test_one_of_which_only_calls_are_remembered_is_told_by_those() -> None:
    going, gone = only(called("r")), only(called("r"), ended("r", duration_seconds=1.0))

    assert (going.state, gone.state, gone.outcome, gone.headless) == ("in_flight", "ok", "ok", True)
    assert (going.seconds(1004.0), gone.seconds(2000.0)) == (3.0, 1.0)
    assert only(called("r"), ended("r", outcome="cancelled")).state == "client_gone"
    assert only(called("r"), ended("r", outcome="timeout")).state == "failed"


def test_who_was_refused_at_once_has_no_calls_and_says_why() -> None:
    exhausted = FailoverExhausted(
        group="g", reason="refused", request_id="r", refusals=(Refusal(provider="a", reason="breaker_open"),)
    )
    none: dict[str, Any] = {"provider": None, "model": None, "attempts": 0}

    journey = only(started("r"), exhausted, finished("r", status=503, outcome="no_provider_available", **none))

    assert (journey.state, journey.legs, journey.touches("a")) == ("failed", [], True)
    assert [event for _, event in journey.exhausted] == [exhausted]
    assert only(finished("r", status=401, outcome="invalid_api_key", **none)).state == "failed"
    assert only(started("r"), finished("r", status=0, outcome="client_gone", **none)).state == "client_gone"


def test_an_id_that_comes_again_is_another_request_and_a_late_end_belongs_to_the_first() -> None:
    first: list[Event] = [started("r"), called("r"), finished("r")]
    second: list[Event] = [started("r"), called("r", provider="b")]

    one, two = put_together(*first, *second, ended("r", outcome="ok"), ended("r", provider="b", outcome="timeout")).all

    assert [(leg.provider, leg.outcome) for leg in one.legs] == [("a", "ok")]
    assert [(leg.provider, leg.outcome) for leg in two.legs] == [("b", "timeout")]


def test_what_is_no_request_s_is_passed_by() -> None:
    assert put_together(LoopHeldUp(seconds=1.0, task="t"), FailoverExhausted(group="g", reason="refused")).all == []


@given(st.data())
def test_a_memory_that_begins_and_ends_anywhere_tells_each_request_once(data: st.DataObject) -> None:
    ways = {name: way(name) for name in ("x", "y", "z")}
    order = data.draw(st.permutations([name for name, events in ways.items() for _ in events]))
    events = [ways[name].pop(0) for name in order]
    first = data.draw(st.integers(0, len(events)))
    kept = events[first : data.draw(st.integers(first, len(events)))]

    found = put_together(*kept).all

    told = [event for event in kept if not isinstance(event, CallBooked)]  # alone it is no request
    causes = (Retry, Failover)
    assert {j.id for j in found} == {e.request_id for e in told if not isinstance(e, causes)}  # type: ignore[union-attr] # all have one
    assert len({j.id for j in found}) == len(found)
    for journey in found:
        assert journey.seconds(5000.0) >= 0
        assert journey.began_at <= 5000.0
        assert journey.state in ("in_flight", "ok", "failed")
        numbers = [leg.number for leg in journey.legs]
        assert numbers == sorted(set(numbers))
