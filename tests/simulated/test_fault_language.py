"""The words in which faults are told."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import asdict, evolve, fields_dict
from hypothesis import given
from hypothesis import strategies as st

from runestone.domain.faults import NONE, Fault, UnknownFault, parse


@pytest.mark.parametrize("spec", ["", "none", "  none  ", "none none"])
def test_none_is_no_fault(spec: str) -> None:
    assert parse(spec) == NONE == Fault()


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("stall", {"stall": True}),
        ("status=503 times=5", {"status": 503, "times": 5}),
        (" status=429   retry_after=1.5 ", {"status": 429, "retry_after": 1.5}),
        ("refused=1", {"refused": True}),
        ("refused=no reset=yes", {"reset": True}),
        ("rate=0.25 error_event", {"rate": 0.25, "error_event": True}),
        ("pace=0.1 tokens=0 cut_after=0", {"pace": 0.1, "tokens": 0, "cut_after": 0}),
        ("none stall", {"stall": True}),
        ("tokens=3 tokens=4", {"tokens": 4}),
        ("503", {"status": 503}),
        ("503 30% seed=7", {"status": 503, "rate": 0.3, "seed": 7}),
        ("12.5% stall", {"rate": 0.125, "stall": True}),
        ("cut", {"cut": True}),
        ("stall after=3", {"stall_after": 3}),
        ("stall_after=3", {"stall_after": 3}),
        ("cut at=1234", {"cut_at": 1234}),
        ("reset at=0 stall at=9", {"reset_at": 0, "stall_at": 9}),
        ("error_event after=2 50%", {"error_event_after": 2, "rate": 0.5}),
        ("invalid_json after=2", {"invalid_json_after": 2}),
        ("wrong_length=-5", {"wrong_length": -5}),
        (
            "html redirect many_headers wrong_length slow",
            {
                "html": 200,
                "redirect": 307,
                "many_headers": 1000,
                "wrong_length": 10,
                "slow": 0.01,
            },
        ),
    ],
)
def test_words_and_pairs(spec: str, told: dict[str, Any]) -> None:
    assert parse(spec) == evolve(NONE, **told)


@pytest.mark.parametrize(
    "spec",
    [
        *("unheard", "status", "status=", "status=x", "status=99", "status=600", "status=5__0", "html=1"),
        *("times=-1", "tokens=1.5", "pace=nan", "pace=inf", "slow_first_token=-1", "rate=1e999"),
        *("stall=maybe", "stall=", "none=1", "=", "after=3", "at=3", "99", "600", "x%", "%", "-1%", "nan%"),
        *("redirect=99", "wrong_length=x", "cut_at=-1", "seed"),
    ],
)
def test_what_is_no_fault_is_said_with_the_word_that_is_wrong(spec: str) -> None:
    with pytest.raises(UnknownFault) as caught:
        parse(spec)
    assert spec.partition("=")[0] in str(caught.value)


@pytest.mark.parametrize("spec", ["503 after=3", "stall none after", "tokens=3 at=4", "30% after=1"])
def test_a_place_stands_behind_what_happens_there(spec: str) -> None:
    with pytest.raises(UnknownFault):
        parse(spec)


def test_what_is_unknown_is_answered_with_what_is_known() -> None:
    with pytest.raises(UnknownFault) as caught:
        parse("unheard")
    assert all(name in str(caught.value) for name in fields_dict(Fault))


FAULTS = st.builds(
    Fault,
    stall=st.booleans(),
    no_done=st.booleans(),
    status=st.none() | st.integers(200, 599),
    retry_after=st.none() | st.floats(0, 1e6),
    cut_after=st.none() | st.integers(0, 9),
    pace=st.floats(0, 9),
    seed=st.none() | st.integers(0, 9),
    cut_at=st.none() | st.integers(0, 9),
    wrong_length=st.none() | st.integers(-9, 9),
    tokens=st.integers(0, 99),
)


@given(FAULTS)
def test_every_fault_can_be_said(fault: Fault) -> None:
    told = {name: value for name, value in asdict(fault).items() if value is not None}
    assert parse(" ".join(f"{name}={str(value).lower()}" for name, value in told.items())) == fault
