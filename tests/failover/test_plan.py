"""Who is asked first, whether to wait, and what happens when all have refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import hypothesis.strategies as st
import pytest
from attrs import evolve
from hypothesis import given

from runestone.domain.failure import Failure, FailureKind
from runestone.domain.routing import Choice, Plan
from runestone.failover.plan import Rules, Scene, after_refusals, retry_wait, turns
from runestone.providers.messages import Admit, Exhausted, Refused, Tried, Turn, Wait
from runestone.resilience.retry import RetryPolicy
from runestone.resilience.selection import STRATEGIES, Candidate
from runestone.resilience.throttle import Throttle

RULES = Rules(strategy="priority", max_attempts=3, max_upstream_calls=4)
RETRY = RetryPolicy()
FRESH = Admit(model="m", deadline=1000.0)
PLAN = Plan(
    group="g",
    tier1=(Choice("a", "m"), Choice("b", "m"), Choice("c", "m")),
    tier2=(Choice("x", "other"), Choice("y", "other")),
)
TIERS: dict[str, Literal[1, 2]] = {"a": 1, "b": 1, "c": 1, "x": 2, "y": 2}


def scene(scores: Mapping[str, float] | None = None, *, cursor: int = 0, names: str = "abcxy") -> Scene:
    candidates = {n: Candidate(name=n, score=(scores or {}).get(n, 1.0)) for n in names}
    return Scene(
        candidates=candidates, usable=lambda name: candidates[name].score >= 0.7, cursor=cursor, chance=lambda: 0.5
    )


def failed(name: str, kind: FailureKind = "server_error", calls: int = 1, **failure: Any) -> Tried:
    choice = next(c for c in (*PLAN.tier1, *PLAN.tier2) if c.provider == name)
    words = Failure(kind=kind, message="", **failure)
    return Tried(choice=choice, tier=TIERS[name], kind="openai", calls=calls, failure=words)


def admit(*tried: Tried, waited: bool = False) -> Admit:
    calls = sum(t.calls for t in tried if t.failure.kind != "unsupported")
    return evolve(FRESH, tried=tried, calls=calls, waited=waited)


def asked(order: tuple[Turn, ...]) -> str:
    """The providers in their order; one that serves only for want of a better one with a question mark."""
    return " ".join(choice.provider + "?" * panic for choice, _, panic in order)


# -- tiers and panic -----------------------------------------------------------------------------------------------------


def test_a_request_goes_to_tier_1_and_then_to_tier_2() -> None:
    order = turns(FRESH, PLAN, RULES, scene(), None)

    assert asked(order) == "a b c x y"
    assert [tier for _, tier, _ in order] == [1, 1, 1, 2, 2]


def test_each_is_asked_for_the_model_of_its_tier() -> None:
    assert [choice for choice, _, _ in turns(FRESH, PLAN, RULES, scene(), None)] == [*PLAN.tier1, *PLAN.tier2]


def test_the_strategy_ranks_within_a_tier() -> None:
    rules = evolve(RULES, strategy="round_robin")

    assert asked(turns(FRESH, PLAN, rules, scene(cursor=1), None)) == "b c a y x"


def test_those_below_the_threshold_come_last_in_their_tier_best_first_and_it_is_said() -> None:
    order = turns(FRESH, PLAN, RULES, scene({"a": 0.1, "b": 0.5, "x": 0.3}), None)

    assert asked(order) == "c b? a? y x?"


def test_where_none_is_good_enough_the_best_serves() -> None:
    assert asked(turns(FRESH, PLAN, RULES, scene({"a": 0.1, "b": 0.5, "c": 0.3}), None)) == "b? c? a? x y"


def test_the_rotation_is_over_the_usable_only() -> None:
    rules = evolve(RULES, strategy="round_robin")
    plan = evolve(PLAN, tier2=())

    first = [asked(turns(FRESH, plan, rules, scene({"b": 0.2}, cursor=n), None))[0] for n in range(4)]

    assert first == ["a", "c", "a", "c"]


def test_a_provider_that_is_not_there_any_more_is_left_out() -> None:
    assert asked(turns(FRESH, PLAN, RULES, scene(names="bx"), None)) == "b x"


# -- after a failure -----------------------------------------------------------------------------------------------------


def test_one_that_failed_is_not_asked_again() -> None:
    assert asked(turns(admit(failed("a", "timeout")), PLAN, RULES, scene(), None)) == "b c x y"


def test_after_a_tier_2_failure_tier_1_goes_first_still() -> None:
    plan = evolve(PLAN, tier1=PLAN.tier1[:1])

    assert asked(turns(admit(failed("x", "timeout")), plan, RULES, scene(), None)) == "a y"


@pytest.mark.parametrize(("wait", "order"), [(0.0, "b c"), (1.0, "b c"), (1.1, "b c x y"), (None, "b c x y")])
def test_a_wait_of_a_second_for_tier_1_goes_before_tier_2_and_a_longer_one_after(
    wait: float | None, order: str
) -> None:
    assert asked(turns(admit(failed("a")), PLAN, RULES, scene(), wait)) == order


def test_a_throttled_provider_is_not_waited_for_while_tier_2_may_serve() -> None:
    assert asked(turns(admit(failed("a", "rate_limited")), PLAN, RULES, scene(), 0.5)) == "b c x y"


def test_after_its_wait_the_last_one_is_asked_again_behind_its_tier() -> None:
    assert asked(turns(admit(failed("a"), waited=True), PLAN, RULES, scene(), 0.5)) == "b c a x y"
    assert asked(turns(admit(failed("a"), failed("x"), waited=True), PLAN, RULES, scene(), 0.5)) == "b c y x"


def test_a_model_that_tier_1_does_not_know_is_never_answered_by_tier_2() -> None:
    assert asked(turns(admit(failed("a", "not_found")), PLAN, RULES, scene(), None)) == "b c"
    assert asked(turns(admit(failed("a", "not_found"), failed("b", "timeout")), PLAN, RULES, scene(), None)) == "c"
    assert asked(turns(admit(failed("a", "not_found"), failed("b"), waited=True), PLAN, RULES, scene(), 0.1)) == "c b"


def test_a_default_model_that_tier_2_does_not_know_leaves_the_rest_of_tier_2() -> None:
    assert asked(turns(admit(failed("a", "timeout"), failed("x", "not_found")), PLAN, RULES, scene(), None)) == "b c y"


# -- limits --------------------------------------------------------------------------------------------------------------


def test_no_more_providers_are_tried_than_allowed_but_the_last_may_be_retried() -> None:
    tried = (failed("a"), failed("b"), failed("c"))
    rules = evolve(RULES, max_upstream_calls=10)

    assert turns(admit(*tried), PLAN, rules, scene(), 0.1) == ()
    assert asked(turns(admit(*tried, waited=True), PLAN, rules, scene(), 0.1)) == "c"


def test_one_that_could_not_serve_a_field_was_not_tried() -> None:
    rules = evolve(RULES, max_attempts=1)

    assert asked(turns(admit(failed("a", "unsupported")), PLAN, rules, scene(), None)) == "b c x y"
    assert asked(turns(admit(failed("a", "unsupported"), failed("b")), PLAN, rules, scene(), None)) == ""


def test_at_the_limit_of_upstream_calls_nobody_is_asked_and_nothing_is_waited_for() -> None:
    spent = admit(failed("a", calls=4), waited=True)

    assert turns(spent, PLAN, RULES, scene(), None) == ()
    assert retry_wait(spent, evolve(RETRY, max_attempts=10), RULES, now=0.0, chance=0.5) is None


# -- the guide's rollback ------------------------------------------------------------------------------------------------


def test_in_legacy_mode_only_the_first_listed_of_tier_1_is_asked_whatever_its_score() -> None:
    rules = evolve(RULES, legacy=True, strategy="round_robin")

    assert asked(turns(FRESH, PLAN, rules, scene({"a": 0.0}, cursor=1), None)) == "a"
    assert turns(FRESH, evolve(PLAN, tier1=()), rules, scene(), None) == ()


def test_in_legacy_mode_it_is_retried_and_never_replaced() -> None:
    rules = evolve(RULES, legacy=True)

    assert turns(admit(failed("a")), PLAN, rules, scene(), 30.0) == ()
    assert asked(turns(admit(failed("a"), waited=True), PLAN, rules, scene(), 30.0)) == "a"


# -- the wait ------------------------------------------------------------------------------------------------------------


def wait_for(tried: Tried, *, now: float = 0.0, chance: float = 0.5, retry: RetryPolicy = RETRY) -> float | None:
    return retry_wait(admit(tried), retry, RULES, now=now, chance=chance)


def test_nothing_is_waited_for_before_the_first_failure() -> None:
    assert retry_wait(FRESH, RETRY, RULES, now=0.0, chance=0.5) is None


def test_the_back_off_is_full_jitter_by_the_number_of_calls_so_far() -> None:
    assert wait_for(failed("a", calls=1), chance=0.5) == 0.5
    assert wait_for(failed("a", calls=2), chance=0.25) == 0.5
    assert wait_for(failed("a", calls=1), chance=0.0) == 0.0


def test_the_attempts_at_one_provider_are_bounded_and_the_first_try_counts() -> None:
    assert wait_for(failed("a", calls=3)) is None
    assert wait_for(failed("a", calls=1), retry=evolve(RETRY, max_attempts=1)) is None


def test_only_the_calls_at_the_last_provider_count_as_its_attempts() -> None:
    tried = admit(failed("a", calls=2), failed("b", calls=1))

    assert retry_wait(tried, evolve(RETRY, max_attempts=2), RULES, now=0.0, chance=1.0) == 1.0


@pytest.mark.parametrize("kind", get_args(FailureKind))
def test_what_is_not_healed_by_waiting_is_not_waited_for(kind: FailureKind) -> None:
    heals = kind in {"refused", "disconnected", "server_error", "overloaded", "error_event", "rate_limited"}

    assert (wait_for(failed("a", kind)) is not None) is heals


def test_an_upstream_that_says_no_is_not_asked_again() -> None:
    assert wait_for(failed("a", should_retry=False)) is None


def test_the_upstreams_time_goes_before_the_back_off_and_is_not_cut_short() -> None:
    wait = wait_for(failed("a", "rate_limited", retry_after_seconds=7.0))

    assert wait is not None
    assert 7.0 < wait < 7.1


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    told = failed("a", "overloaded", retry_after_seconds=30.0)

    assert wait_for(told, now=960.0) is not None
    assert wait_for(told, now=980.0) is None
    assert wait_for(failed("a"), now=999.6, chance=0.5) is None


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_after_a_429_without_a_time_the_wait_outlasts_the_throttle(chance: float) -> None:
    throttle, now = Throttle(), 0.0
    for calls in (1, 2, 3):
        throttle = throttle.hit(now, None)

        wait = wait_for(failed("a", "rate_limited", calls=calls), chance=chance, retry=evolve(RETRY, max_attempts=9))

        assert wait is not None
        now += wait
        assert throttle.retry_after(now) is None


# -- when all have refused -------------------------------------------------------------------------------------------------

REFUSED = (
    Refused(tier=1, provider="a", reason="throttled", retry_after_seconds=3.0),
    Refused(provider="b", tier=1, reason="draining"),
)


def test_when_all_refuse_a_request_that_nobody_has_tried_it_is_over_with_their_reasons() -> None:
    answer = after_refusals(FRESH, PLAN, REFUSED, None)

    assert answer == Exhausted(group="g", reason="refused", refusals=REFUSED)
    assert answer.retry_after_seconds == 3.0


def test_when_all_others_refuse_the_last_one_is_waited_for() -> None:
    assert after_refusals(admit(failed("a")), PLAN, REFUSED, 0.3) == Wait(seconds=0.3, provider="a")


def test_who_has_waited_already_does_not_wait_again() -> None:
    assert after_refusals(admit(failed("a"), waited=True), PLAN, (), 0.3) == Exhausted(group="g", reason="attempts")


def test_without_a_wait_it_is_over() -> None:
    assert after_refusals(admit(failed("a")), PLAN, (), None) == Exhausted(group="g", reason="attempts")


# -- whole requests --------------------------------------------------------------------------------------------------------


# what a provider does when it is asked: refuses (None), or fails in some way
ANSWERS: st.SearchStrategy[FailureKind | None] = st.sampled_from(
    [None, None, "server_error", "timeout", "rate_limited", "not_found"]
)


@given(
    st.data(),
    st.builds(
        Rules,
        strategy=st.sampled_from(STRATEGIES),
        max_attempts=st.integers(1, 5),
        max_upstream_calls=st.integers(1, 8),
        legacy=st.booleans(),
    ),
    st.integers(1, 4),
    st.fixed_dictionaries({name: st.floats(0, 1) for name in "abcxy"}),
    st.sets(st.sampled_from("abcxy")),
)
def test_a_request_whatever_happens_ends_within_its_limits_and_never_returns_to_one_that_failed(
    data: st.DataObject, rules: Rules, attempts: int, scores: dict[str, float], unable: set[str]
) -> None:
    retry = RetryPolicy(max_attempts=attempts)
    now, request = 0.0, FRESH
    called: list[str] = []
    while True:
        chance = data.draw(st.floats(0, 1))
        wait = retry_wait(request, retry, rules, now=now, chance=chance)
        order = turns(request, PLAN, rules, scene(scores), wait)
        names = [choice.provider for choice, _, _ in order]
        before = {t.choice.provider for t in request.tried}
        again = {request.tried[-1].choice.provider} if request.waited else set()

        assert len(names) == len(set(names))
        assert not set(names) & (before - again)
        ranks = [(tier, panic) for choice, tier, panic in order if choice.provider not in again]
        assert ranks == sorted(ranks)

        taken = next(((turn, how) for turn in order if (how := data.draw(ANSWERS)) is not None), None)
        if taken is None:
            answer = after_refusals(request, PLAN, (), wait)
            if isinstance(answer, Exhausted):
                break
            assert not request.waited
            now += answer.seconds
            assert now < request.deadline
            request = evolve(request, waited=True)
            continue
        (choice, tier, _), how = taken
        how = "unsupported" if choice.provider in unable else how
        tried = request.tried
        calls = tried[-1].calls + 1 if tried and tried[-1].choice == choice else 1
        tried = tried[:-1] if calls > 1 else tried
        one = Tried(choice=choice, tier=tier, kind="openai", calls=calls, failure=Failure(kind=how, message=""))
        called += [choice.provider] * (how != "unsupported")
        request = evolve(request, tried=(*tried, one), calls=len(called), waited=False)

    runs = [name for n, name in enumerate(called) if n == 0 or called[n - 1] != name]
    assert len(runs) == len(set(runs))
    assert len(called) <= rules.max_upstream_calls
    assert len(runs) <= rules.max_attempts
    assert max((called.count(name) for name in called), default=0) <= attempts
    assert not rules.legacy or set(called) <= {"a"}
