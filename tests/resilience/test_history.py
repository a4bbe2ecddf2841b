"""The history of a provider: what is kept of it, played again, is what happened; with other settings, what would have."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from attrs import define, evolve, field
from hypothesis import given, settings

from runestone.domain.outcome import Outcome
from runestone.resilience.breaker import Breaker, BreakerPolicy, Permit
from runestone.resilience.health import Health
from runestone.resilience.history import CHUNKS, Act, History, Start, Step, joined, operated
from runestone.resilience.replay import Played, Turn, difference, open_seconds, play, turns

POLICY = BreakerPolicy(failure_threshold=3, recovery_timeout_seconds=10.0, half_open_limit=2, window_calls=6)
PATIENT = BreakerPolicy(failure_threshold=10_000, window_calls=10_000)
EPOCH = 1_700_000_000.0


@define
class Provider:
    """The two machines of a provider and its history, kept as its actor keeps it."""

    breaker: Breaker = field(factory=lambda: Breaker.new(POLICY))
    health: Health = field(factory=Health)
    history: History = field(factory=History)
    counts: bool = True
    now: float = 100.0
    leases: int = 0
    out: dict[int, tuple[Permit | None, bool]] = field(factory=dict)

    def note(self, step: Step) -> None:
        steps = self.history.latest
        if not steps or len(steps) >= self.history.size:
            steps = self.history.begin(Start(breaker=self.breaker, health=self.health, epoch=EPOCH))
        steps.append(step)

    def call(self) -> int | None:
        self.leases += 1
        after, answer = self.breaker.admit(self.leases, self.now)
        permit = answer if isinstance(answer, Permit) else None
        if permit is None and self.counts:
            step, in_place = joined(self.history.latest[-1] if self.history.latest else None, self.now)
            if in_place:
                self.history.latest[-1] = step
            else:
                self.note(step)
            return None
        self.note(("admit", self.now, self.leases, f"request-{self.leases}", self.counts))
        self.breaker = after
        self.out[self.leases] = permit, False
        return self.leases

    def content(
        self, lease: int, seconds: float, headroom: float | None, chance: float, *, prompt: bool = True
    ) -> None:
        permit, _ = self.out[lease]
        probe = permit is not None and permit.probe
        drawn = chance if probe else None
        self.note(
            ("content", self.now, lease, seconds, prompt, headroom, drawn, permit.generation if permit else None, probe)
        )
        if prompt:
            self.health = self.health.observe_first_token(seconds, self.now)
        else:
            self.health = self.health.observe_whole(seconds, self.now)
        slow = prompt and self.breaker.slow(seconds)
        if headroom is not None:
            self.health = self.health.observe_headroom(headroom, self.now)
        self.out[lease] = permit, slow
        if permit is not None and permit.probe:
            self.breaker = self.breaker.settle(permit, "success", self.now, chance, slow=slow)

    def end(self, lease: int, outcome: Outcome, chance: float = 0.5) -> None:
        permit, slow = self.out.pop(lease)
        generation, probe = (permit.generation, permit.probe) if permit else (None, False)
        kind = "timeout" if outcome == "failure" else ""
        drawn = chance if permit else None
        self.note(
            ("end", self.now, lease, f"request-{lease}", outcome, kind, None, "m", slow, drawn, generation, probe)
        )
        self.health = self.health.observe(outcome, self.now)
        if permit is not None:
            self.breaker = self.breaker.settle(permit, outcome, self.now, chance, slow=slow)

    def called(self, *outcomes: Outcome, apart: float = 0.0, first_token: float | None = None) -> None:
        for outcome in outcomes:
            self.now += apart
            lease = self.call()
            if lease is not None:
                if first_token is not None:
                    self.content(lease, first_token, None, 0.5)
                self.end(lease, outcome)

    def operate(self, act: Act, until: float | None = None) -> None:
        self.note(("operate", self.now, act, until))
        self.breaker = operated(self.breaker, act, self.now, until)

    def tune(self, policy: BreakerPolicy) -> None:
        self.note(("tune", self.now, policy))
        self.breaker = evolve(self.breaker, policy=policy)

    def forget(self) -> None:
        self.note(("forget", self.now, "restart"))
        self.breaker, self.health = self.breaker.reset(), Health()

    def course(self, **changes: Any) -> list[Played]:
        return [*play(self.history.chunks(), changes)]

    def turns(self, **changes: Any) -> list[Turn]:
        return turns(self.course(**changes))


def good(calls: int) -> list[Outcome]:
    return ["success"] * calls


def stands(found: list[Turn]) -> list[str]:
    return [turn.after for turn in found]


# -- any history -----------------------------------------------------------------------------------------------------------

CHANCE = st.floats(0.0, 1.0)
OUTCOME: st.SearchStrategy[Outcome] = st.sampled_from(["success", "failure", "failure", "neutral"])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.3, 4.0, 11.0, 130.0])),
        st.tuples(st.just("call"), st.just(None)),
        st.tuples(st.just("call"), st.just(None)),
        st.tuples(
            st.just("content"), st.tuples(st.integers(0, 9), st.sampled_from([0.1, 2.0, 9.0]), CHANCE, st.booleans())
        ),
        st.tuples(st.just("end"), st.tuples(st.integers(0, 9), OUTCOME, CHANCE)),
        st.tuples(st.just("end"), st.tuples(st.integers(0, 9), OUTCOME, CHANCE)),
        st.tuples(st.just("lose"), st.integers(0, 9)),
        st.tuples(st.just("act"), st.tuples(st.sampled_from(["reset", "trip", "auto", "disable"]), st.booleans())),
        st.tuples(
            st.just("tune"), st.tuples(st.integers(1, 5), st.sampled_from([5.0, 20.0]), st.sampled_from([None, 1.0]))
        ),
        st.tuples(st.just("forget"), st.just(None)),
        st.tuples(st.just("measure"), st.booleans()),
    ),
    max_size=120,
)


def happen(provider: Provider, operations: list[tuple[str, Any]]) -> None:
    for what, value in operations:
        out = list(provider.out)
        match what:
            case "wait":
                provider.now += value
            case "call":
                provider.call()
            case "content" if out:
                provider.content(
                    out[value[0] % len(out)], value[1], 0.1 if value[2] < 0.3 else None, value[2], prompt=value[3]
                )
            case "end" if out:
                provider.end(out[value[0] % len(out)], value[1], value[2])
            case "lose" if out:
                provider.out.pop(out[value % len(out)])  # its actor has crashed, and nobody tells of its end
            case "act":
                provider.operate(value[0], provider.now + 7.0 if value[1] else None)
            case "tune":
                provider.tune(
                    evolve(
                        POLICY,
                        failure_threshold=value[0],
                        recovery_timeout_seconds=value[1],
                        slow_first_token_seconds=value[2],
                    )
                )
            case "forget":
                provider.forget()
            case "measure":
                provider.counts = not value
            case _:
                pass  # nothing is out that could end


@settings(max_examples=400, deadline=None)
@given(operations=OPERATIONS, size=st.sampled_from([1, 2, 5, 500]))
def test_any_history_played_again_ends_where_the_machines_are(operations: list[tuple[str, Any]], size: int) -> None:
    provider = Provider(history=History(size=size))
    provider.note(("begin", provider.now, 1, False))

    for operation in operations:
        happen(provider, [operation])
        last = provider.course()[-1]
        assert (last.breaker, last.health) == (provider.breaker, provider.health)

    kept, course = provider.history.chunks(), provider.course()
    places = {id(chunk): sum(len(c.steps) for c in kept[:index]) for index, chunk in enumerate(kept)}
    for chunk in kept:
        assert (course[places[id(chunk)]].breaker, course[places[id(chunk)]].health) == (
            chunk.start.breaker,
            chunk.start.health,
        )
    assert len(kept) <= CHUNKS


@settings(max_examples=200, deadline=None)
@given(operations=OPERATIONS)
def test_with_the_settings_that_were_in_force_all_along_nothing_differs(operations: list[tuple[str, Any]]) -> None:
    provider = Provider()
    provider.note(("begin", provider.now, 1, False))
    happen(provider, [o for o in operations if o[0] != "tune"])

    real = provider.course()
    same = provider.course(failure_threshold=3, recovery_timeout_seconds=10.0, half_open_limit=2)

    assert (turns(same), [p.said for p in same]) == (turns(real), [p.said for p in real])
    for course in (real, same):
        assert (sum(difference(course).refused.values()), difference(course).let_through) == (0, 0)


@settings(max_examples=200, deadline=None)
@given(operations=OPERATIONS, threshold=st.integers(1, 5), limit=st.integers(1, 3))
def test_other_settings_do_to_calls_what_they_would_have_done(
    operations: list[tuple[str, Any]], threshold: int, limit: int
) -> None:
    """Where every call was made, its end is known: then the machine with other settings, asked at the same times, is the judge."""
    changes: dict[str, Any] = {
        "failure_threshold": threshold,
        "half_open_limit": limit,
        "window_calls": 8,
        "jitter": 0.0,
    }
    provider, other = Provider(breaker=Breaker.new(PATIENT)), Breaker.new(evolve(PATIENT, **changes))
    permits: dict[int, Permit] = {}
    refused = 0
    provider.note(("begin", provider.now, 1, False))
    for what, value in operations:
        before = dict(provider.out)
        if what in ("wait", "end"):
            happen(provider, [(what, value)])
        if what == "end" and before:
            (lease,) = before.keys() - provider.out.keys()
            if lease in permits:
                other = other.settle(permits[lease], value[1], provider.now)
        elif what == "call":
            called = provider.call()
            assert called is not None
            other, answer = other.admit(called, provider.now)
            if isinstance(answer, Permit):
                permits[called] = answer
            else:
                refused += 1

    course = provider.course(**changes)

    assert course[-1].breaker == other
    assert sum(difference(course).refused.values()) == refused


# -- what is kept ----------------------------------------------------------------------------------------------------------


def test_no_more_steps_are_kept_than_ten_chunks_have() -> None:
    provider = Provider(history=History(size=50))

    provider.called(*good(1000), apart=1.0)

    assert 450 <= provider.history.kept <= 500
    assert provider.course()[-1].breaker == provider.breaker


def test_an_outage_of_a_day_is_few_steps_and_every_refusal_counts() -> None:
    provider = Provider()
    provider.called("failure", "failure", "failure")
    provider.operate("trip")
    before = provider.history.kept

    provider.called(*good(86_400), apart=1.0)

    steps = [step for chunk in provider.history.chunks() for step in chunk.steps if step[0] == "refuse"]
    assert provider.history.kept - before == len(steps) < 200
    assert sum(step[3] for step in steps) == 86_400


def test_what_was_read_does_not_change_with_what_comes() -> None:
    provider = Provider()
    provider.called("failure")
    read = provider.history.chunks()

    provider.called("failure")

    assert sum(len(chunk.steps) for chunk in read) == 2


# -- why -------------------------------------------------------------------------------------------------------------------


def test_failures_in_a_row_are_its_cause_with_each_of_them() -> None:
    provider = Provider()
    provider.called("failure", "success", "failure", "neutral", "failure", "failure", apart=1.0)

    (turn,) = provider.turns()

    assert (turn.before, turn.after, turn.cause, turn.count) == ("closed", "open", "failures_in_a_row", 3)
    assert [one.step[1] for one in turn.evidence if one.step] == [103.0, 105.0, 106.0]
    assert turn.at == EPOCH + 106.0
    assert turn.until == pytest.approx(EPOCH + 116.0, abs=1.1)


def test_failures_in_the_window_are_its_cause_with_each_of_them() -> None:
    provider = Provider()
    provider.called("failure", "success", "failure", "success", "success", "failure", apart=1.0)

    (turn,) = provider.turns()

    assert (turn.cause, turn.count, turn.calls) == ("failures_in_the_window", 3, 6)
    assert [one.step[1] for one in turn.evidence if one.step] == [101.0, 103.0, 106.0]


def test_a_failure_that_the_window_has_forgotten_is_no_part_of_the_cause() -> None:
    provider = Provider()
    provider.called("failure", "success", apart=1.0)
    provider.now += 40.0
    provider.called("failure", "success", "failure", "success", "success", "failure", apart=1.0)

    (turn,) = provider.turns()

    assert (turn.cause, turn.count, turn.calls, len(turn.evidence)) == ("failures_in_the_window", 3, 6, 3)


def test_slow_first_tokens_are_its_cause_with_each_of_them() -> None:
    provider = Provider(breaker=Breaker.new(evolve(POLICY, slow_first_token_seconds=1.0)))
    provider.called("success", apart=1.0, first_token=0.5)
    provider.called(*good(5), apart=1.0, first_token=3.0)

    (turn,) = provider.turns()

    assert (turn.cause, turn.count, turn.calls, len(turn.evidence)) == ("slow_in_the_window", 5, 6, 5)


def test_the_way_back_is_told_probe_by_probe() -> None:
    provider = Provider()
    provider.called("failure", "failure", "failure", apart=1.0)
    provider.now += 20.0
    provider.called("failure")
    provider.now += 60.0
    provider.called("success", "success", apart=1.0)

    found = provider.turns()

    assert stands(found) == ["open", "half_open", "open", "half_open", "closed"]
    assert [turn.cause for turn in found[1:]] == ["time_was_over", "probe_failed", "time_was_over", "probes_were_good"]
    assert (found[-1].count, len(found[-1].evidence)) == (2, 2)


def test_a_slow_probe_is_told_as_such() -> None:
    provider = Provider(breaker=Breaker.new(evolve(POLICY, slow_first_token_seconds=1.0)))
    provider.called("failure", "failure", "failure")
    provider.now += 20.0
    provider.called("success", first_token=3.0)

    assert provider.turns()[-1].cause == "probe_was_slow"


def test_what_an_operator_does_is_told_though_the_state_stays() -> None:
    provider = Provider()
    provider.operate("trip", 105.0)
    provider.operate("reset")
    provider.operate("reset")
    provider.forget()
    provider.operate("disable")

    assert [(turn.after, turn.cause) for turn in provider.turns()] == [
        ("forced_open", "operator"), ("closed", "operator"), ("closed", "operator"), ("closed", "forgotten"), ("disabled", "operator"),
    ]  # fmt: skip


def test_of_a_row_that_began_before_the_kept_steps_what_is_kept_is_told() -> None:
    provider = Provider(history=History(size=1))
    provider.called(*good(10), "failure", "failure")
    late = [provider.call() for _ in range(10)]
    for lease in late:
        assert lease is not None
        provider.end(lease, "failure")

    (turn,) = provider.turns()

    assert (turn.cause, turn.count, len(turn.evidence)) == ("failures_in_a_row", 3, 1)


# -- what if ---------------------------------------------------------------------------------------------------------------


def test_a_higher_threshold_would_not_have_opened_it_and_nobody_knows_what_the_refused_would_have_met() -> None:
    provider = Provider()
    provider.called("failure", "failure", "failure", apart=1.0)
    provider.called(*good(7), apart=1.0)

    real, other = provider.course(), provider.course(failure_threshold=10)

    assert stands(turns(real)) == ["open"]
    assert turns(other) == []
    found = difference(other)
    assert (sum(found.refused.values()), found.let_through) == (0, 7)
    assert other[-1].breaker.consecutive_failures == 3  # what is not known moves nothing


def test_a_lower_threshold_would_have_refused_calls_whose_ends_are_known() -> None:
    provider = Provider()
    provider.called("failure", "failure", "success", "success", "failure", apart=1.0)
    lease = provider.call()

    assert lease is not None
    provider.content(lease, 0.1, None, 0.5)

    real, other = provider.course(), provider.course(failure_threshold=2)

    assert (turns(real), stands(turns(other))) == ([], ["open"])
    found = difference(other)
    assert (dict(found.refused), found.let_through) == ({"success": 2, "failure": 1, "out": 1}, 0)
    assert other[-1].health.first_token_seconds is None  # of a call that is not made


def test_a_shorter_recovery_would_have_let_through_what_came_later() -> None:
    provider = Provider()
    provider.called("failure", "failure", "failure")
    provider.called(*good(8), apart=1.0)

    found = difference(provider.course(recovery_timeout_seconds=4.5, jitter=0.0))

    assert found.let_through == 4


def test_a_limit_for_first_tokens_judges_the_times_that_were_seen() -> None:
    provider = Provider()
    provider.called(*good(6), apart=1.0, first_token=3.0)

    assert provider.turns() == []
    assert [turn.cause for turn in provider.turns(slow_first_token_seconds=2.0)] == ["slow_in_the_window"]
    assert provider.turns(slow_first_token_seconds=4.0) == []


def test_a_breaker_that_only_measures_refuses_nobody_and_what_would_have_been_is_known() -> None:
    provider = Provider(counts=False)
    provider.called("failure", "failure", "failure", "failure", "success", apart=1.0)

    real, other = provider.course(), provider.course(failure_threshold=5)

    assert (stands(turns(real)), turns(other)) == (["open"], [])
    assert other[-1].health == real[-1].health == provider.health
    assert other[-1].breaker.consecutive_failures == 0
    for course in (provider.course(failure_threshold=1), other):
        assert (dict(difference(course).refused), difference(course).let_through) == ({}, 0)


def test_it_is_told_for_how_long_nothing_was_let_through() -> None:
    provider = Provider(breaker=Breaker.new(evolve(POLICY, jitter=0.0)))
    provider.called("failure", "failure", "failure")
    provider.now += 25.0
    course = provider.course()

    assert open_seconds(course, turns(course), EPOCH + 104.0) == 4.0
    assert open_seconds(course, turns(course), EPOCH + provider.now) == 10.0
    provider.operate("trip")
    course = provider.course()
    assert open_seconds(course, turns(course), EPOCH + provider.now + 3.0) == 13.0
