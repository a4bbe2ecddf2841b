"""Any history of a breaker, against a naive model that keeps every event in a list and decides by reading it again."""

from __future__ import annotations

from typing import Literal

import hypothesis.strategies as st
from attrs import define, field
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runestone.domain.outcome import Outcome
from runestone.resilience.breaker import Breaker, BreakerPolicy, Closed, HalfOpen, Open, Permit

POLICY = BreakerPolicy(
    failure_threshold=3,
    recovery_timeout_seconds=10.0,
    half_open_limit=2,
    window_calls=6,
    max_recovery_seconds=40.0,
    probe_deadline_seconds=25.0,
)
OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(["success", "failure", "neutral"])


@define
class Naive:
    """closed, open or half-open since an event; everything else is looked up in the list."""

    state: Literal["closed", "open", "half_open"] = "closed"
    until: float = 0.0
    openings: int = 0  # in a row
    epoch: int = 0
    ends: list[tuple[int, float, Outcome]] = field(factory=list)  # of calls: epoch, when, how
    out: dict[int, tuple[int, float]] = field(factory=dict)  # probes not judged yet: lease -> epoch, since

    def admits(self, now: float) -> bool:
        if self.state == "open":
            return now >= self.until
        return self.state == "closed" or len(self.alive(now)) < POLICY.half_open_limit

    def alive(self, now: float) -> list[int]:
        return [
            lease
            for lease, (epoch, since) in self.out.items()
            if epoch == self.epoch and now < since + POLICY.probe_deadline_seconds
        ]

    def admit(self, lease: int, now: float) -> None:
        if self.state == "open":
            self.state, self.epoch = "half_open", self.epoch + 1
        if self.state == "half_open":
            self.out = {k: v for k, v in self.out.items() if k in self.alive(now)}
            self.out[lease] = (self.epoch, now)

    def settle(self, lease: int, epoch: int, outcome: Outcome, now: float) -> None:
        if epoch != self.epoch or self.state == "open":
            return
        known = self.out.pop(lease, None) is not None
        if outcome == "neutral" or (self.state == "half_open" and outcome == "success" and not known):
            return
        self.ends.append((epoch, now, outcome))
        mine = [(at, how) for e, at, how in self.ends if e == self.epoch]
        if self.state == "half_open":
            if outcome == "failure":
                self.open(now)
            elif sum(how == "success" for _, how in mine) == 2:
                self.state, self.epoch, self.openings = "closed", self.epoch + 1, 0
            return
        row = [how for _, how in mine][-POLICY.failure_threshold :]
        bucket = POLICY.window_seconds / 10
        window = [how for at, how in mine if int(at / bucket) > int(now / bucket) - 10]
        share = window.count("failure") / len(window)
        ratio = len(window) >= POLICY.window_calls and share >= POLICY.window_ratio
        if outcome == "failure" and (row == ["failure"] * POLICY.failure_threshold or ratio):
            self.open(now)

    def open(self, now: float) -> None:
        seconds = min(POLICY.recovery_timeout_seconds * 2**self.openings, POLICY.max_recovery_seconds)
        self.state, self.until = "open", now + seconds
        self.epoch, self.openings = self.epoch + 1, self.openings + 1


class BreakerHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.leases = 0
        self.breaker = Breaker.new(POLICY)
        self.naive = Naive()
        self.permits: list[tuple[Permit, int]] = []  # with the model's epoch; ended ones stay, to end once more

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 10.0, 25.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_call_asks(self) -> None:
        self.leases += 1
        expected = self.naive.admits(self.now)
        asked = self.breaker.refusal(self.now) is None

        self.breaker, answer = self.breaker.admit(self.leases, self.now)

        assert isinstance(answer, Permit) == asked == expected
        if isinstance(answer, Permit):
            self.naive.admit(self.leases, self.now)
            assert answer.probe == (self.naive.state == "half_open")
            self.permits.append((answer, self.naive.epoch))

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), outcome=OUTCOMES, again=st.booleans())
    def a_call_ends(self, data: st.DataObject, outcome: Outcome, again: bool) -> None:
        index = data.draw(st.integers(0, len(self.permits) - 1))
        permit, epoch = self.permits[index] if again else self.permits.pop(index)
        if again and self.naive.state == "closed":
            return  # outside half-open a call is settled once, at its end
        before = self.breaker

        self.breaker = before.settle(permit, outcome, self.now)

        if permit.generation != before.generation:
            assert self.breaker == before
        if outcome == "neutral":
            counts = (before.consecutive_failures, before.reopenings, before.window, before.generation)
            after = self.breaker
            assert counts == (after.consecutive_failures, after.reopenings, after.window, after.generation)
        self.naive.settle(permit.id, epoch, outcome, self.now)

    @rule()
    def an_operator_resets(self) -> None:
        self.breaker = self.breaker.reset()
        self.naive.state, self.naive.epoch, self.naive.openings = "closed", self.naive.epoch + 1, 0

    @invariant()
    def both_are_in_the_same_state(self) -> None:
        states = {"closed": Closed, "open": Open, "half_open": HalfOpen}
        assert isinstance(self.breaker.state, states[self.naive.state])
        if isinstance(self.breaker.state, Open):
            assert abs(self.breaker.state.until - self.naive.until) < 1e-6

    @invariant()
    def no_more_probes_are_out_than_may_be(self) -> None:
        assert self.breaker.probes_out <= POLICY.half_open_limit

    @invariant()
    def no_state_is_for_ever(self) -> None:
        """From wherever it is, time and good calls close it."""
        breaker, now = self.breaker, self.now
        if isinstance(breaker.state, Open):
            now = breaker.state.until
        now += POLICY.probe_deadline_seconds
        for lease in (-1, -2):
            breaker, answer = breaker.admit(lease, now)
            assert isinstance(answer, Permit)
            breaker = breaker.settle(answer, "success", now)
        assert breaker.name(now) == "closed"


TestBreakerHistory = BreakerHistory.TestCase
TestBreakerHistory.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
