"""A provider, or one model of it, that a retry does not heal."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from runestone.resilience.quarantine import Quarantine


def test_a_model_that_is_out_leaves_the_others_in() -> None:
    quarantine = Quarantine().add(0.0, "gpt-x", "not_found", 60.0)

    assert quarantine.retry_after("gpt-x", 20.0) == 40.0
    assert quarantine.retry_after("gpt-x", 60.0) is None
    assert quarantine.retry_after("gpt-4o", 20.0) is None


def test_a_provider_that_is_out_is_out_for_every_model() -> None:
    quarantine = Quarantine().add(0.0, None, "credentials", 300.0)

    assert quarantine.retry_after("gpt-4o", 100.0) == 200.0


def test_the_later_of_both_times_counts() -> None:
    quarantine = Quarantine().add(0.0, "m", "not_found", 60.0).add(0.0, None, "credentials", 300.0)
    assert quarantine.retry_after("m", 0.0) == 300.0

    quarantine = Quarantine().add(0.0, "m", "not_found", 600.0).add(0.0, None, "credentials", 300.0)

    assert quarantine.retry_after("m", 0.0) == 600.0


def test_a_shorter_time_does_not_cut_a_longer_one_short() -> None:
    quarantine = Quarantine().add(0.0, None, "credentials", 300.0).add(10.0, None, "quota_exceeded", 1.0)

    assert quarantine.retry_after("m", 10.0) == 290.0


def test_why_it_is_out_is_kept() -> None:
    assert Quarantine().add(0.0, None, "credentials", 300.0).entries == {None: (300.0, "credentials")}


def test_clearing_it_lets_everything_in() -> None:
    assert Quarantine().add(0.0, None, "credentials", 300.0).clear() == Quarantine()


def test_names_from_clients_fill_it_only_so_far_and_never_keep_the_provider_itself_in() -> None:
    quarantine = Quarantine()
    for n in range(1000):
        quarantine = quarantine.add(0.0, f"model-{n}", "not_found", 60.0)
    assert len(quarantine.entries) == 64
    assert quarantine.retry_after("model-0", 0.0) == 60.0
    assert quarantine.retry_after("model-999", 0.0) is None

    quarantine = quarantine.add(0.0, None, "credentials", 300.0)

    assert quarantine.retry_after("any", 0.0) == 300.0
    assert (
        Quarantine().add(0.0, None, "credentials", 300.0).add(1.0, "m", "not_found", 900.0).retry_after("m", 1.0)
        == 900.0
    )


def test_what_is_over_makes_room() -> None:
    quarantine = Quarantine()
    for n in range(64):
        quarantine = quarantine.add(0.0, f"model-{n}", "not_found", 60.0)

    assert quarantine.add(60.0, "late", "not_found", 60.0).entries == {"late": (120.0, "not_found")}


SCOPES = st.none() | st.sampled_from(["a", "b", "c"])


@given(st.lists(st.tuples(SCOPES, st.floats(0.0, 50.0), st.floats(0.1, 100.0))), st.sampled_from(["a", "b", "d"]))
def test_it_agrees_with_a_list_of_all_that_was_ever_added(
    added: list[tuple[str | None, float, float]], model: str
) -> None:
    quarantine, now, ends = Quarantine(), 0.0, [0.0]
    for scope, gap, seconds in added:
        now += gap
        quarantine = quarantine.add(now, scope, "x", seconds)
        if scope in (None, model):
            ends.append(now + seconds)

    wait = quarantine.retry_after(model, now)

    assert (wait or 0.0) == pytest.approx(max(max(ends) - now, 0.0))
