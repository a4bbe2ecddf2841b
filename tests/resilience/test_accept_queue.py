"""Who is turned away at the door: nobody in a burst, and of a lasting queue as many as would wait for too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.resilience.accept_queue import AcceptQueue

LOOK = 0.05
PATIENCE = 0.2
MOST = 2048


def run(
    queue: AcceptQueue,
    *,
    looks: int,
    arriving: float,
    serving: float,
    patience: float = PATIENCE,
    most: int = MOST,
) -> list[int]:
    """How many were turned away at each look of a node that serves ``serving`` of ``arriving`` a second."""
    now, waiting, accepted, away = 0.0, 0.0, 0.0, []
    for _ in range(looks):
        now += LOOK
        waiting += arriving * LOOK
        served = min(waiting, serving * LOOK)
        waiting, accepted = waiting - served, accepted + served
        queue, many = queue.observe(now, waiting=int(waiting), most=most, accepted=int(accepted), patience=patience)
        waiting -= many
        away.append(many)
    return away


def test_a_lasting_queue_is_kept_as_short_as_patience_and_what_can_be_served_is() -> None:
    away = run(AcceptQueue(), looks=200, arriving=1000, serving=200, most=1_000_000)

    assert sum(away[:19]) == 0
    assert abs(sum(away[100:]) - 100 * (1000 - 200) * LOOK) <= 2


def test_a_node_that_keeps_up_turns_nobody_away() -> None:
    assert sum(run(AcceptQueue(), looks=200, arriving=190, serving=200)) == 0


def test_a_burst_that_is_served_within_a_second_is_let_in() -> None:
    queue, now = AcceptQueue(), 0.0
    for waiting in range(500, 0, -30):
        now += LOOK
        queue, many = queue.observe(now, waiting=waiting, most=MOST, accepted=500 - waiting, patience=PATIENCE)
        assert many == 0


def test_those_who_waited_while_the_loop_stood_still_are_let_in() -> None:
    queue, _ = AcceptQueue().observe(1.0, waiting=0, most=MOST, accepted=10, patience=PATIENCE)

    assert queue.observe(4.0, waiting=300, most=MOST, accepted=10, patience=PATIENCE)[1] == 0


def test_an_empty_queue_forgets_the_overload() -> None:
    queue = AcceptQueue(looked_at=1.0, accepted=100, rate=10.0, looks=40)
    queue, _ = queue.observe(1.05, waiting=0, most=MOST, accepted=101, patience=PATIENCE)

    assert queue.observe(1.1, waiting=300, most=MOST, accepted=102, patience=PATIENCE)[1] == 0


def test_without_patience_set_all_may_wait_that_the_system_can_keep() -> None:
    away = run(AcceptQueue(), looks=200, arriving=1000, serving=200, patience=0.0)

    assert sum(away[:50]) == 0  # it takes 2.5 s and more to fill
    assert abs(sum(away[100:]) - 100 * (1000 - 200) * LOOK) <= 2


@pytest.mark.parametrize("patience", [0.0, PATIENCE])
def test_what_the_system_cannot_keep_is_turned_away_in_the_first_moment_of_a_burst_too(patience: float) -> None:
    queue, many = AcceptQueue().observe(1.0, waiting=3000, most=MOST, accepted=0, patience=patience)

    assert many == 3000 - MOST
    assert queue.observe(1.05, waiting=MOST, most=MOST, accepted=10, patience=patience)[1] == 0


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(0, 5000), st.integers(0, 500)), max_size=60))
def test_never_more_are_turned_away_than_wait_and_a_few_always_may(looks: list[tuple[float, int, int]]) -> None:
    queue, now, accepted = AcceptQueue(), 0.0, 0
    for seconds, waiting, more in looks:
        now, accepted = now + seconds, accepted + more
        queue, many = queue.observe(now, waiting=waiting, most=MOST, accepted=accepted, patience=PATIENCE)
        assert 0 <= many <= max(waiting - 4, 0)
