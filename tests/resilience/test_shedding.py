"""What an overloaded node refuses, and from whom."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from runestone.resilience.shedding import CALM, Shedding, has_place

TARGET = 0.1


def looks(*lags: float, shedding: Shedding = CALM) -> Shedding:
    for lag in lags:
        shedding = shedding.observe(lag, TARGET)
    return shedding


def test_a_loop_in_time_refuses_nothing() -> None:
    assert looks(*[0.09] * 100).share == 0.0


def test_one_long_hold_up_is_no_overload() -> None:
    assert looks(5.0).share == 0.0
    assert looks(5.0, 5.0).share == 0.0
    assert looks(5.0, 0.0, 5.0, 0.0, 5.0, 5.0).share == 0.0


def test_a_loop_that_stays_late_refuses_more_and_more_but_never_all() -> None:
    shares = [looks(*[0.3] * n).share for n in range(1, 60)]

    assert shares[:2] == [0.0, 0.0]
    assert shares == sorted(shares)
    assert 0.9 < shares[-1] < 1.0


def test_a_loop_that_has_caught_up_soon_refuses_nothing() -> None:
    overloaded = looks(*[0.5] * 60)
    shares = []
    while overloaded.share:
        overloaded = looks(0.0, shedding=overloaded)
        shares.append(overloaded.share)

    assert shares == sorted(shares, reverse=True)
    assert len(shares) < 40  # looks; eight seconds


def test_no_target_means_that_nothing_is_ever_refused() -> None:
    assert Shedding(share=0.9, error=1.0, late=9).observe(10.0, 0.0) == CALM


def test_the_load_of_others_is_not_refused_to_who_has_less_than_a_share() -> None:
    half = Shedding(share=0.5)

    assert half.refuses(0.4, held=90, taken=100, sharing=2)
    assert not half.refuses(0.6, held=90, taken=100, sharing=2)
    assert not half.refuses(0.4, held=10, taken=100, sharing=2)
    assert half.refuses(0.4, held=100, taken=100, sharing=1)


def test_one_key_may_take_every_place_where_there_is_no_other() -> None:
    assert has_place(limit=10, taken=9, held=9, sharing=1, several=False)
    assert not has_place(limit=10, taken=10, held=10, sharing=1, several=False)


def test_one_key_among_several_leaves_a_tenth_to_the_others() -> None:
    assert has_place(limit=10, taken=8, held=8, sharing=1, several=True)
    assert not has_place(limit=10, taken=9, held=9, sharing=1, several=True)
    assert has_place(limit=10, taken=9, held=0, sharing=2, several=True)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=300), st.integers(1, 30))
def test_places_are_never_exceeded_and_a_newcomer_finds_one_beside_a_hog(
    steps: list[tuple[str, bool]], limit: int
) -> None:
    held: dict[str, int] = {}
    for key, enters in steps:
        taken, mine = sum(held.values()), held.get(key, 0)
        if not enters:
            held[key] = max(mine - 1, 0)
            continue
        sharing = sum(n > 0 for k, n in held.items() if k != key) + 1
        if has_place(limit=limit, taken=taken, held=mine, sharing=sharing, several=True):
            held[key] = mine + 1
        assert sum(held.values()) <= limit
        if sharing == 1 and limit > 1:
            assert has_place(limit=limit, taken=sum(held.values()), held=0, sharing=2, several=True)
