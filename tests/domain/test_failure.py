"""The failure table: what moves a breaker, what is tried again and where."""

from __future__ import annotations

from typing import get_args

import pytest

from runestone.domain.failure import TREATMENTS, Failure, FailureKind, UpstreamError
from runestone.providers.codecs.errors import failure_of_answer

KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


def kinds(**wanted: object) -> set[str]:
    return {k for k, t in TREATMENTS.items() if all(getattr(t, name) == value for name, value in wanted.items())}


def test_a_secret_that_an_upstream_repeats_is_masked_wherever_it_may_be_told() -> None:
    told = Failure(
        kind="credentials",
        message="no such key: abcdef0123456789",
        code="abcdef0123456789",
        headers=(("x-ratelimit-of", "abcdef0123456789"), ("retry-after", "1")),
        body=b'{"error": {"message": "no such key: abcdef0123456789"}}',
    )

    assert told.without(["abcdef0123456789", "to"]) == Failure(
        kind="credentials",
        message="no such key: ***",
        code="***",
        headers=(("x-ratelimit-of", "***"), ("retry-after", "1")),
        body=b'{"error": {"message": "no such key: ***"}}',
    )
    assert told.without(["another-key-than-that"]) is told


def test_a_body_that_says_a_secret_in_other_letters_reaches_nobody() -> None:
    told = Failure(kind="credentials", message="key: ab/cdef012", body=rb'{"error": {"message": "key: ab\/cdef012"}}')

    assert told.without(["ab/cdef012"]) == Failure(kind="credentials", message="key: ***")


def test_every_kind_has_its_treatment() -> None:
    assert set(TREATMENTS) == set(KINDS)


def test_outages_are_failures_and_limits_keys_names_and_the_callers_errors_are_not() -> None:
    assert kinds(outcome="neutral") == {
        "rate_limited",
        "quota_exceeded",
        "credentials",
        "forbidden",
        "not_found",
        "unsupported",
        "caller_error",
    }
    assert kinds(outcome="success") == set()


def test_only_what_may_heal_at_once_is_tried_again_at_the_same_provider() -> None:
    assert kinds(retry=True) == {"refused", "disconnected", "server_error", "overloaded", "error_event", "rate_limited"}


def test_only_the_callers_own_error_is_not_tried_elsewhere() -> None:
    assert kinds(failover=False) == {"caller_error"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_status_for_another_wire_is_an_error(kind: FailureKind) -> None:
    assert 400 <= TREATMENTS[kind].status < 600


def test_timeouts_are_504_and_a_wrong_key_of_ours_is_never_a_401() -> None:
    assert {TREATMENTS[k].status for k in KINDS if k.endswith("timeout")} == {504}
    assert TREATMENTS["credentials"].status == 502


@pytest.mark.parametrize(
    ("kind", "said", "may"),
    [
        ("server_error", None, True),
        ("server_error", True, True),
        ("server_error", False, False),
        ("rate_limited", False, False),
        ("caller_error", True, False),
        ("credentials", True, False),
        ("timeout", True, False),
    ],
)
def test_an_upstream_may_forbid_a_retry_and_cannot_ask_for_one_that_is_never_made(
    kind: FailureKind, said: bool | None, may: bool
) -> None:
    assert Failure(kind=kind, message="", should_retry=said).may_retry is may


@pytest.mark.parametrize(("status", "kind"), [(408, "timeout"), (409, "caller_error")])
def test_an_upstream_that_asks_for_it_is_tried_again_after_a_408_and_a_409(status: int, kind: FailureKind) -> None:
    def may(*, asked: bool | None) -> tuple[bool, bool]:
        failure = Failure(kind=kind, message="", status=status, should_retry=asked)
        return failure.may_retry, failure.may_fail_over

    assert may(asked=True) == (True, True)
    assert may(asked=None) == may(asked=False) == (False, TREATMENTS[kind].failover)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_no_word_of_an_upstream_makes_a_retry_of_what_the_contract_names_as_never_retried(status: int) -> None:
    failure = failure_of_answer(status, {"x-should-retry": "true"}, b"{}", now_epoch=0.0)

    assert (failure.may_retry, failure.may_fail_over) == (False, failure.treatment.failover)


def test_an_upstream_error_says_what_happened() -> None:
    assert str(UpstreamError(Failure(kind="tls", message="no certificate"))) == "tls: no certificate"
