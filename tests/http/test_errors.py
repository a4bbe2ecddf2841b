"""Errors on both wires: status, shape, and what SDKs are told about coming back."""

from __future__ import annotations

import orjson
import pytest

from runestone.domain.errors import (
    DeadlineExceeded,
    Draining,
    InvalidRequest,
    NoProviderAvailable,
    RunestoneError,
    Unauthenticated,
    UpstreamFailed,
)
from runestone.domain.failure import Failure
from runestone.http import errors

THEIRS = b'{"error":{"message":"theirs","type":"odd","param":null,"code":"odd"},"extra":1}'


def head(error: RunestoneError) -> dict[bytes, bytes]:
    pairs = errors.headers(error, 5)
    assert len(dict(pairs)) == len(pairs), "a header is there twice"
    return dict(pairs)


def failed(*, same_wire: bool, **options: object) -> UpstreamFailed:
    failure = Failure(**({"kind": "server_error", "message": "it broke", "status": 500} | options))  # type: ignore[arg-type]  # fields of it
    return UpstreamFailed(failure, same_wire=same_wire)


def test_the_shape_is_openais() -> None:
    error = InvalidRequest('say "it" so\n', code="bad", param="n")

    assert orjson.loads(errors.body(error, "openai", "r")) == {
        "error": {"message": 'say "it" so\n', "type": "invalid_request_error", "param": "n", "code": "bad"}
    }


def test_in_a_stream_it_is_one_event_of_one_line() -> None:
    event = errors.event(InvalidRequest("two\nlines"), "openai", "r")

    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 2
    assert b"[DONE]" not in event


def test_an_upstream_of_the_same_wire_keeps_its_words() -> None:
    assert errors.body(failed(same_wire=True, body=THEIRS), "openai", "r") == THEIRS


@pytest.mark.parametrize(
    ("same_wire", "kind", "body"),
    [
        (False, "server_error", THEIRS),
        (True, "credentials", THEIRS),
        (True, "server_error", None),
        (True, "server_error", b""),
    ],
)
def test_another_wire_our_own_key_and_no_words_are_told_in_ours(same_wire: bool, kind: str, body: bytes | None) -> None:
    shown = orjson.loads(errors.body(failed(same_wire=same_wire, kind=kind, body=body), "openai", "r"))

    assert "it broke" in shown["error"]["message"]


@pytest.mark.parametrize(
    ("seconds", "retry_after", "retry_after_ms"),
    [
        (0.0, b"1", b"0"),
        (0.2, b"1", b"200"),
        (1.0, b"1", b"1000"),
        (1.0001, b"2", b"1001"),
        (90.0, b"90", b"90000"),
        (-3.0, b"1", b"0"),
    ],
)
def test_the_time_to_come_back_is_told_in_both_units_rounded_up(
    seconds: float, retry_after: bytes, retry_after_ms: bytes
) -> None:
    told = head(Draining("later", retry_after_seconds=seconds))

    assert (told[b"retry-after"], told[b"retry-after-ms"]) == (retry_after, retry_after_ms)


def test_without_a_time_none_is_told() -> None:
    assert head(Draining("later")) == {b"content-type": b"application/json", b"content-length": b"5"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NoProviderAvailable("no"), b"false"),
        (DeadlineExceeded("no"), b"false"),
        (failed(same_wire=False), b"false"),
        (Draining("no"), None),
        (InvalidRequest("no"), None),
    ],
)
def test_sdks_are_told_not_to_repeat_what_was_repeated_already(error: RunestoneError, told: bytes | None) -> None:
    assert head(error).get(b"x-should-retry") == told


def test_the_headers_of_an_upstream_of_the_same_wire_come_along_but_never_for_ours() -> None:
    theirs = (("retry-after", "7"), ("x-ratelimit-remaining", "0"), ("content-type", "text/html"), ("x-odd", "\xe9"))
    failure = {"headers": theirs, "retry_after_seconds": 7.0}

    same, other = head(failed(same_wire=True, **failure)), head(failed(same_wire=False, **failure))

    assert same[b"x-ratelimit-remaining"] == b"0"
    assert same[b"x-odd"] == b"\xe9"
    assert same[b"content-type"] == b"application/json"
    assert same[b"retry-after"] == b"7"
    assert b"x-ratelimit-remaining" not in other


def test_a_401_of_ours_says_how_to_authenticate_and_a_502_does_not() -> None:
    assert head(Unauthenticated("who?"))[b"www-authenticate"] == b"Bearer"
    assert b"www-authenticate" not in head(failed(same_wire=True, kind="credentials", status=401))


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequest("m"), 400, "invalid_request_error"),
        (InvalidRequest("m", status=404), 404, "not_found_error"),
        (InvalidRequest("m", status=405), 405, "invalid_request_error"),
        (InvalidRequest("m", status=413), 413, "request_too_large"),
        (Unauthenticated("m"), 401, "authentication_error"),
        (NoProviderAvailable("m"), 503, "api_error"),
        (NoProviderAvailable("m", status=429), 429, "rate_limit_error"),
        (DeadlineExceeded("m"), 504, "timeout_error"),
        (RunestoneError("m"), 500, "api_error"),
        (failed(same_wire=False), 500, "api_error"),
        (failed(same_wire=False, kind="overloaded", status=500), 529, "overloaded_error"),
        (failed(same_wire=False, status=503), 529, "overloaded_error"),
        (failed(same_wire=False, kind="rate_limited", status=429), 429, "rate_limit_error"),
        (failed(same_wire=False, kind="quota_exceeded", status=429), 429, "rate_limit_error"),
        (failed(same_wire=False, kind="credentials", status=401), 502, "api_error"),
        (failed(same_wire=False, kind="forbidden", status=403), 403, "permission_error"),
        (failed(same_wire=False, kind="not_found", status=404), 404, "not_found_error"),
        (failed(same_wire=False, kind="caller_error", status=422), 400, "invalid_request_error"),
        (failed(same_wire=False, kind="invalid_answer", status=200), 502, "api_error"),
        (failed(same_wire=True, kind="overloaded", status=529), 529, "overloaded_error"),
    ],
)
def test_a_client_of_anthropics_wire_reads_its_own_shape_and_statuses(
    error: RunestoneError, status: int, kind: str
) -> None:
    assert errors.status(error, "anthropic") == status
    shown = orjson.loads(errors.body(error, "anthropic", "req_1"))
    assert shown == {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": "req_1"}


def test_in_a_stream_of_anthropics_wire_it_is_an_event_by_name() -> None:
    event = errors.event(Draining("wait"), "anthropic", "req_1")

    name, data = event.removesuffix(b"\n\n").split(b"\ndata: ")
    assert name == b"event: error"
    assert orjson.loads(data)["error"] == {"type": "api_error", "message": "wait"}


def test_in_a_stream_of_responses_it_is_that_wire_s_event() -> None:
    name, data = errors.event(Draining("wait"), "responses", "r").removesuffix(b"\n\n").split(b"\ndata: ")

    assert name == b"event: error"
    assert orjson.loads(data) == {
        "type": "error", "code": "draining", "message": "wait", "param": None, "sequence_number": 0
    }  # fmt: skip
