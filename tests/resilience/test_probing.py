"""Active probes: when one is due, what it says, for how long, and that nothing it says is for ever."""

from __future__ import annotations

from typing import get_args

import hypothesis.strategies as st
import pytest
from hypothesis import given

from runestone.resilience.probing import ProbeOutcome, Probing

OUTCOMES: tuple[ProbeOutcome, ...] = get_args(ProbeOutcome)
INTERVAL = 30.0


def noted(probing: Probing, outcome: ProbeOutcome, now: float, *, last_call: float = 0.0, **more: float) -> Probing:
    """As ``probing`` after a probe that took no time, without jitter."""
    return probing.note(outcome, now, sent=now, last_call=last_call, interval=INTERVAL, chance=more.get("chance", 0.5))


def wait(probing: Probing, now: float, *, last_call: float = 0.0, busy: bool = False, refused: bool = False) -> float:
    """Seconds until the next one, with nothing going on unless said."""
    return probing.wait(now, interval=INTERVAL, last_call=last_call, busy=busy, refused=refused)


def unreachable_twice() -> Probing:
    return noted(noted(Probing(), "unreachable", 100.0), "unreachable", 130.0)


# -- when ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 15.0), (0.5, 22.5), (1.0, 30.0)])
def test_the_first_one_is_sent_in_the_second_half_of_the_interval(chance: float, seconds: float) -> None:
    assert wait(Probing().start(0.0, INTERVAL, chance), 0.0, refused=True) == seconds


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 27.0), (0.5, 30.0), (1.0, 33.0)])
def test_the_next_one_is_due_an_interval_later_give_or_take_a_tenth(chance: float, seconds: float) -> None:
    assert wait(noted(Probing(), "ok", 100.0, chance=chance), 100.0) == pytest.approx(seconds)


def test_none_is_due_before_the_provider_has_been_idle_for_an_interval() -> None:
    probing = Probing()

    assert wait(probing, 100.0, last_call=90.0) == 20.0
    assert wait(probing, 120.0, last_call=90.0) == 0.0


def test_none_is_due_while_calls_are_out() -> None:
    assert wait(Probing(), 1000.0, busy=True) == INTERVAL


def test_one_that_lets_no_call_through_is_asked_whenever_its_last_call_was() -> None:
    assert wait(Probing(), 100.0, last_call=99.0, busy=True, refused=True) == 0.0


@pytest.mark.parametrize("outcome", ["credentials", "rate_limited", "error"])
def test_who_does_not_want_to_be_asked_is_asked_half_as_often_each_time_down_to_every_five_minutes(
    outcome: ProbeOutcome,
) -> None:
    probing, pauses = Probing(), []

    for _ in range(5):
        probing = noted(probing, outcome, 100.0)
        pauses.append(wait(probing, 100.0))

    assert pauses == [60.0, 120.0, 240.0, 300.0, 300.0]
    assert wait(noted(probing, "ok", 100.0), 100.0) == INTERVAL


def test_who_cannot_be_reached_is_looked_for_at_the_interval() -> None:
    assert wait(unreachable_twice(), 130.0) == INTERVAL


def test_a_new_start_sends_none_before_it_was_due() -> None:
    backed_off = noted(noted(Probing(), "credentials", 100.0), "credentials", 100.0)

    assert backed_off.start(110.0, INTERVAL, 0.5).due == backed_off.due == 220.0


def test_a_shorter_interval_is_in_force_at_once() -> None:
    slow = Probing().note("ok", 100.0, sent=100.0, last_call=0.0, interval=3600.0, chance=0.5)

    assert slow.start(110.0, 10.0, 0.5).due == 120.0


# -- what ------------------------------------------------------------------------------------------------------------------


def test_it_is_down_when_two_in_a_row_did_not_connect() -> None:
    once = noted(Probing(), "unreachable", 100.0)

    assert not once.down(101.0, 0.0)
    assert unreachable_twice().down(131.0, 0.0)


@pytest.mark.parametrize("outcome", sorted(set(OUTCOMES) - {"unreachable"}))
def test_any_answer_shows_that_it_is_not_down(outcome: ProbeOutcome) -> None:
    assert not noted(unreachable_twice(), outcome, 160.0).down(161.0, 0.0)
    once_more = noted(noted(unreachable_twice(), outcome, 160.0), "unreachable", 190.0)
    assert not once_more.down(191.0, 0.0)


def test_a_call_since_the_probe_knows_better() -> None:
    probing = unreachable_twice()

    assert probing.down(131.0, 129.0)
    assert not probing.down(131.0, 130.5)


def test_a_call_that_ended_while_the_probe_was_out_knows_better() -> None:
    again = unreachable_twice().note("unreachable", 170.0, sent=160.0, last_call=165.0, interval=INTERVAL, chance=0.5)

    assert not again.down(171.0, 165.0)


def test_probes_before_and_after_a_call_are_not_in_a_row() -> None:
    once = noted(Probing(), "unreachable", 100.0)

    assert not noted(once, "unreachable", 200.0, last_call=150.0).down(201.0, 150.0)


def test_what_is_not_confirmed_is_forgotten() -> None:
    probing = unreachable_twice()

    assert probing.down(219.0, 0.0)
    assert not probing.down(220.0, 0.0)


def test_somebody_should_look_at_a_key_that_is_refused_and_at_one_that_is_down() -> None:
    assert unreachable_twice().trouble(131.0, 0.0) == "unreachable"
    assert noted(Probing(), "unreachable", 100.0).trouble(101.0, 0.0) is None
    refused = noted(Probing(), "credentials", 100.0)
    assert refused.trouble(300.0, 0.0) == "credentials"
    assert refused.trouble(300.0, 299.0) is None
    assert noted(Probing(), "error", 100.0).trouble(101.0, 0.0) is None


def test_that_there_is_no_list_of_models_is_kept() -> None:
    without = Probing().note("ok", 100.0, sent=100.0, last_call=0.0, interval=INTERVAL, chance=0.5, lists_models=False)

    assert not noted(without, "ok", 130.0).lists_models


# -- always ----------------------------------------------------------------------------------------------------------------

STEPS = st.lists(st.tuples(st.sampled_from(OUTCOMES), st.floats(0.0, 20.0), st.booleans(), st.floats(0.0, 1.0)))


@given(STEPS, st.floats(0.1, 3600.0))
def test_probes_come_no_closer_than_the_interval_and_one_always_comes(
    steps: list[tuple[ProbeOutcome, float, bool, float]], interval: float
) -> None:
    probing, now, last_call = Probing().start(0.0, interval, 0.5), 0.0, 0.0
    longest = 1.1001 * max(interval, 300.0)

    for outcome, seconds, called, chance in steps:
        if called:
            last_call = now
        pause = probing.wait(now, interval=interval, last_call=last_call, busy=False, refused=False)
        assert 0.0 <= pause <= longest
        now += pause
        assert probing.wait(now, interval=interval, last_call=last_call, busy=False, refused=False) <= 1e-6 * (1 + now)
        sent, now = now, now + seconds
        probing = probing.note(outcome, now, sent=sent, last_call=last_call, interval=interval, chance=chance)
        assert probing.due >= now + 0.89 * interval


@given(STEPS, st.floats(0.1, 3600.0))
def test_nobody_is_down_without_two_in_a_row_nor_for_ever(
    steps: list[tuple[ProbeOutcome, float, bool, float]], interval: float
) -> None:
    probing, now, last_call, in_a_row = Probing(), 0.0, 0.0, 0

    for outcome, seconds, called, chance in steps:
        sent, now = now + interval, now + interval + seconds
        if called:
            last_call, in_a_row = sent, 0
        probing = probing.note(outcome, now, sent=sent, last_call=last_call, interval=interval, chance=chance)
        in_a_row = in_a_row + 1 if outcome == "unreachable" else 0
        assert probing.down(now, last_call) == (in_a_row >= 2)
        assert not probing.down(now, now + 0.001)
        assert not probing.down(now + 2 * interval + 30.001, last_call)
