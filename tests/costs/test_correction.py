"""What is learned of estimates: a bounded mean for each of few models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.costs.correction import Correction
from runestone.domain.chat import Usage

ASKED = Usage(input_tokens=1000, output_tokens=50)


def after(*ratios: float, model: str = "m") -> Correction:
    correction = Correction()
    for ratio in ratios:
        correction = correction.observed(model, 1000, round(1000 * ratio))
    return correction


def test_an_estimate_stays_as_it_is_for_a_model_that_nothing_is_known_of() -> None:
    assert after(1.5).corrected(ASKED, "another") is ASKED


def test_the_first_requests_weigh_alike_and_only_the_input_is_corrected() -> None:
    corrected = after(1.2, 1.4).corrected(ASKED, "m")

    assert (corrected.input_tokens, corrected.output_tokens) == (1300, 50)


def test_later_requests_weigh_a_tenth_so_that_a_new_tokenizer_is_followed() -> None:
    assert after(*[1.0] * 50, 2.0).corrected(ASKED, "m").input_tokens == 1100
    assert after(*[1.0] * 50, *[2.0] * 50).corrected(ASKED, "m").input_tokens == pytest.approx(2000, abs=10)


@pytest.mark.parametrize(("estimated", "real"), [(31, 100), (1000, 0), (0, 5)])
def test_what_says_nothing_of_a_tokenizer_is_not_learned(estimated: int, real: int) -> None:
    assert after(1.5).observed("m", estimated, real) == after(1.5)


def test_the_models_are_bounded_and_the_longest_unseen_goes() -> None:
    correction = Correction()
    for number in range(300):
        correction = correction.observed("first", 100, 150).observed(f"m{number}", 100, 200)

    assert len(correction.by_model) == 256
    assert "first" in correction.by_model
    assert "m44" not in correction.by_model
    assert "m299" in correction.by_model


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9))))
def test_no_observations_make_an_estimate_absurd(pairs: list[tuple[int, int]]) -> None:
    correction = Correction()
    for estimated, real in pairs:
        correction = correction.observed("m", estimated, real)

    assert 250 <= correction.corrected(ASKED, "m").input_tokens <= 4000
