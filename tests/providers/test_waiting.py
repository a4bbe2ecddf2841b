"""The line for a provider's places is fair to clients' keys, and loses nobody."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given

from runestone.providers.waiting import WaitingLine

KEYS = st.sampled_from("abc")


def test_keys_take_turns_and_each_key_keeps_its_order() -> None:
    line: WaitingLine[str] = WaitingLine()
    for who in ("a1", "a2", "a3", "b1", "b2", "c1"):
        line.add(who[0], who)

    assert [line.next() for _ in range(6)] == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_an_empty_line_has_no_next_one() -> None:
    with pytest.raises(KeyError):
        WaitingLine[str]().next()


def test_who_leaves_is_not_called_and_can_leave_once() -> None:
    line: WaitingLine[str] = WaitingLine()
    for who in ("a1", "a2", "b1"):
        line.add(who[0], who)

    assert [line.leave("a", "a1"), line.leave("a", "a1"), line.leave("z", "a2")] == [True, False, False]
    assert (len(line), line.next(), line.next(), len(line)) == (2, "a2", "b1", 0)


@given(st.lists(st.one_of(st.tuples(st.just("add"), KEYS), st.tuples(st.sampled_from(["next", "leave"]), KEYS))))
def test_nobody_is_lost_and_nobody_waits_while_another_key_is_served_twice(steps: list[tuple[str, str]]) -> None:
    line: WaitingLine[tuple[str, int]] = WaitingLine()
    waiting: list[tuple[str, int]] = []
    passed_by: Counter[tuple[str, int]] = Counter()  # how often the first of a key has seen others go
    for number, (step, key) in enumerate(steps):
        if step == "add":
            line.add(key, (key, number))
            waiting.append((key, number))
        elif step == "leave" and (mine := [w for w in waiting if w[0] == key]):
            assert line.leave(key, mine[-1])
            waiting.remove(mine[-1])
        elif step == "next" and waiting:
            who = line.next()
            assert who == next(w for w in waiting if w[0] == who[0])
            waiting.remove(who)
            firsts = {next(w for w in waiting if w[0] == k) for k in {w[0] for w in waiting}}
            for first in firsts:
                passed_by[first] += first[0] != who[0]
                assert passed_by[first] <= 2  # as many as there are other keys
        assert len(line) == len(waiting)
