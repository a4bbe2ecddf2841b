"""The errors that the gateway answers with."""

from __future__ import annotations

import pytest

from runestone.domain.errors import (
    DeadlineExceeded,
    Draining,
    InvalidRequest,
    NoProviderAvailable,
    NotAllowed,
    RunestoneError,
    Unauthenticated,
    UpstreamFailed,
)
from runestone.domain.failure import Failure, FailureKind


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest, 400),
        (Unauthenticated, 401),
        (NotAllowed, 403),
        (NoProviderAvailable, 503),
        (Draining, 503),
        (DeadlineExceeded, 504),
        (RunestoneError, 500),
    ],
)
def test_each_error_has_its_status_and_keeps_its_message(error: type[RunestoneError], status: int) -> None:
    raised = error("What to do.")

    assert (raised.status, raised.message, str(raised)) == (status, "What to do.", "What to do.")


def test_one_error_may_be_told_more_precisely_without_changing_the_others() -> None:
    raised = InvalidRequest("m", status=404, code="model_not_found", param="model", retry_after_seconds=2.0)

    assert (raised.status, raised.code, raised.param, raised.retry_after_seconds) == (
        404,
        "model_not_found",
        "model",
        2.0,
    )
    assert (InvalidRequest("m").status, InvalidRequest("m").code) == (400, "invalid_request")


def test_clients_are_told_not_to_repeat_what_was_tried_everywhere() -> None:
    assert NoProviderAvailable.should_retry is UpstreamFailed.should_retry is DeadlineExceeded.should_retry is False
    assert Draining.should_retry is None


@pytest.mark.parametrize(
    ("kind", "upstream", "same_wire", "status", "kind_of_error", "code"),
    [
        # the same wire: the upstream's own words
        ("caller_error", 422, True, 422, "their_type", "their_code"),
        ("server_error", 503, True, 503, "their_type", "their_code"),
        ("quota_exceeded", 402, True, 402, "their_type", "their_code"),
        # another wire: those of the kind (wire.md, chapter 5)
        ("caller_error", 400, False, 400, "invalid_request_error", "invalid_request"),
        ("caller_error", 422, False, 400, "invalid_request_error", "invalid_request"),
        ("caller_error", 413, False, 413, "invalid_request_error", "invalid_request"),
        ("quota_exceeded", 402, False, 429, "insufficient_quota", "insufficient_quota"),
        ("forbidden", 403, False, 403, "permission_error", "upstream_forbidden"),
        ("not_found", 404, False, 404, "invalid_request_error", "model_not_found"),
        ("rate_limited", 429, False, 429, "rate_limit_error", "rate_limit_exceeded"),
        ("server_error", 500, False, 502, "server_error", "upstream_error"),
        ("server_error", 504, False, 504, "server_error", "upstream_error"),
        ("overloaded", 529, False, 503, "server_error", "overloaded"),
        # our own key is never told like the client's
        ("credentials", 401, True, 502, "server_error", "upstream_credentials"),
        ("credentials", 401, False, 502, "server_error", "upstream_credentials"),
        # an error inside a 200, or no answer at all, has no status of its own
        ("error_event", 200, True, 502, "server_error", "upstream_error"),
        ("refused", None, True, 502, "server_error", "upstream_unreachable"),
        ("disconnected", None, True, 502, "server_error", "upstream_unreachable"),
        ("timeout", None, False, 504, "server_error", "upstream_timeout"),
    ],
)
def test_the_last_failure_is_told_in_the_clients_words(
    kind: FailureKind, upstream: int | None, same_wire: bool, status: int, kind_of_error: str, code: str
) -> None:
    failure = Failure(kind=kind, message="their words", status=upstream, type="their_type", code="their_code")

    error = UpstreamFailed(failure, same_wire=same_wire)

    assert (error.status, error.type, error.code) == (status, kind_of_error, code)
    assert error.message.endswith("their words")
    assert error.failure is failure


def test_a_wrong_key_of_ours_is_told_as_ours() -> None:
    error = UpstreamFailed(
        Failure(kind="credentials", message="Incorrect API key provided", status=401), same_wire=True
    )

    assert error.message == "The provider refused the gateway's own key: Incorrect API key provided"


def test_words_that_the_upstream_did_not_give_are_the_kinds() -> None:
    error = UpstreamFailed(Failure(kind="server_error", message="m", status=500), same_wire=True)

    assert (error.status, error.type, error.code) == (500, "server_error", "upstream_error")


def test_the_time_and_the_field_that_an_upstream_named_reach_the_client() -> None:
    failure = Failure(kind="rate_limited", message="m", status=429, retry_after_seconds=7.0, param="n")

    error = UpstreamFailed(failure, same_wire=False)

    assert (error.retry_after_seconds, error.param) == (7.0, "n")


def test_a_code_that_the_codec_has_found_reaches_a_client_of_another_wire() -> None:
    failure = Failure(kind="caller_error", message="prompt is too long", status=400, code="context_length_exceeded")

    error = UpstreamFailed(failure, same_wire=False)

    assert (error.status, error.code) == (400, "context_length_exceeded")
