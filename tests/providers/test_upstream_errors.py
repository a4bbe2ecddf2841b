"""Errors of upstreams: told apart by the table of the wire, cleaned of keys and URLs, the same on both wires."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.domain.errors import UpstreamFailed
from runestone.domain.failure import Failure, FailureKind
from runestone.providers.codecs import codec_for
from runestone.providers.codecs.errors import failure_of_answer, failure_of_event

KEY = "sk-proj-ABCDEF0123456789"
URL = "https://internal.example:8443/v1/x?key=1"


def failure(status: int, error: object, **headers: str) -> Failure:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return failure_of_answer(status, named, orjson.dumps({"error": error}), now_epoch=0)


@pytest.mark.parametrize(
    ("status", "error_type", "kind", "told_status", "told_type"),
    [
        (400, "invalid_request_error", "caller_error", 400, "invalid_request_error"),
        (401, "authentication_error", "credentials", 502, "server_error"),
        (402, "billing_error", "quota_exceeded", 429, "insufficient_quota"),
        (403, "permission_error", "forbidden", 403, "permission_error"),
        (404, "not_found_error", "not_found", 404, "invalid_request_error"),
        (413, "request_too_large", "caller_error", 413, "invalid_request_error"),
        (429, "rate_limit_error", "rate_limited", 429, "rate_limit_error"),
        (500, "api_error", "server_error", 502, "server_error"),
        (504, "timeout_error", "server_error", 504, "server_error"),
        (529, "overloaded_error", "overloaded", 503, "server_error"),
    ],
)
def test_an_error_of_anthropics_is_told_to_an_openai_client_by_the_table(
    status: int, error_type: str, kind: FailureKind, told_status: int, told_type: str
) -> None:
    body = orjson.dumps({"type": "error", "error": {"type": error_type, "message": "m"}, "request_id": "req_1"})

    found = codec_for("anthropic").failure(status, {"retry-after": "7"}, body, now_epoch=0)
    told = UpstreamFailed(found, same_wire=False)

    assert found.kind == kind
    assert (told.status, told.type, told.message.endswith("m"), told.retry_after_seconds) == (
        told_status,
        told_type,
        True,
        7.0,
    )


def test_a_prompt_that_is_too_long_has_openais_code() -> None:
    error = {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}
    found = codec_for("anthropic").failure(400, {}, orjson.dumps({"error": error}), now_epoch=0)
    assert (found.kind, found.code) == ("caller_error", "context_length_exceeded")


def test_a_model_that_is_not_there_has_openais_code() -> None:
    error = {"type": "not_found_error", "message": "model: claude-9"}
    found = codec_for("anthropic").failure(404, {}, orjson.dumps({"error": error}), now_epoch=0)
    assert (found.kind, found.code) == ("not_found", "model_not_found")


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"null", b"[]", b'{"detail":"x"}', b"\xff"])
def test_a_page_that_is_no_error_of_the_wire_gets_a_message_of_our_own(kind: str, body: bytes) -> None:
    found = codec_for(kind).failure(503, {}, body, now_epoch=0)
    assert (found.kind, found.message) == ("server_error", "the provider answered with status 503")
    assert found.body is None


@pytest.mark.parametrize("words", ["Your credit balance is too low to access the API", "CREDIT BALANCE IS TOO LOW"])
def test_an_account_without_credit_is_a_spent_quota_though_it_is_a_400(words: str) -> None:
    assert failure(400, {"message": words}).kind == "quota_exceeded"


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Invalid schema for function 'billing_lookup'", "type": "invalid_request_error"},
        {"message": "messages[0]: 'insufficient_quota' is not of type object"},
        {"message": "m", "param": "billing"},
    ],
)
def test_words_of_the_callers_own_in_a_message_do_not_look_like_a_spent_quota(error: dict[str, Any]) -> None:
    assert failure(400, error).kind == "caller_error"


def test_a_billing_limit_is_a_spent_quota_whatever_the_status() -> None:
    assert failure(400, {"message": "m", "code": "billing_hard_limit_reached"}).kind == "quota_exceeded"
    assert failure(429, {"message": "m", "type": "billing_error"}).kind == "quota_exceeded"


SECRETS = [
    KEY,
    "gsk_abcdefgh12345678",
    "xai-abcdefgh12345678",
    "AIzaSyABCDEFGHIJKLMNOP",
    "Bearer abc.def-123",
    "bearer   abcdef",
    "x-api-key: abcdef123",
    URL,
    "http://10.0.0.1/",
    "HTTPS://EXAMPLE.COM/A",
    "postgres://user:pw@db/x",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_no_key_and_no_url_survives_in_any_word_of_an_error(secret: str) -> None:
    words = {"message": f"a {secret} b", "type": f"a {secret}", "code": secret, "param": [secret]}
    found = failure(500, {**words, "details": {"deep": [{"er": secret}]}})
    event = failure_of_event(words)
    secret = secret.partition(" ")[2].strip() or secret
    assert found.message.startswith("a ")
    for shown in (repr(found), repr(event), (found.body or b"").decode()):
        assert secret not in shown


def test_an_escaped_url_does_not_pass_in_the_body() -> None:
    body = b'{"error":{"message":"see https:\\/\\/internal.example\\/x and sk-\\u0070roj-12345678"}}'
    found = failure_of_answer(400, {}, body, now_epoch=0)
    assert orjson.loads(found.body or b"") == {"error": {"message": "see [url] and ***"}}


def test_what_a_later_key_of_the_same_name_hides_does_not_pass_in_the_body() -> None:
    body = b'{"error":{"message":"%s","message":"m"}}' % KEY.encode()
    assert KEY.encode() not in (failure_of_answer(400, {}, body, now_epoch=0).body or b"")


@pytest.mark.parametrize("message", ["m", "caf\u00e9 \u2028 1 < 2", "task-force is no key, nor is a:b or //x"])
def test_an_error_without_secrets_passes_byte_for_byte(message: str) -> None:
    body = b' { "error" : {"message": %s , "n": 1.50, "x":[null]} } ' % orjson.dumps(message)
    assert failure_of_answer(400, {}, body, now_epoch=0).body == body


def test_an_error_that_is_nested_too_deeply_is_told_without_its_body() -> None:
    deep = b'{"error":{"message":"m %s","x":%s}}' % (URL.encode(), b"[" * 900 + b"]" * 900)
    found = failure_of_answer(400, {}, deep, now_epoch=0)
    assert (found.message, found.body) == ("m [url]", None)


def test_a_message_is_one_line_and_of_a_bounded_length() -> None:
    found = failure(500, {"message": "a\r\n\x00\x1bb" + "x" * 10_000})
    assert found.message.startswith("a bx")
    assert len(found.message) == 2000


@pytest.mark.parametrize("text", ["a." * 30_000, "a" * 60_000, "sk-" * 20_000, "bearer " * 9_000, "://" * 20_000])
def test_cleaning_is_no_work_that_an_upstream_could_make_long(text: str) -> None:
    found = failure(500, {"message": text, "more": [text]})
    assert found.status == 500  # quadratic would be minutes, and the test's own limit ends it


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(), st.lists, max_leaves=5))
def test_whatever_an_error_is_it_becomes_a_failure(error: Any) -> None:
    assert failure_of_event(error).message
    body = orjson.dumps({"error": error}) if not isinstance(error, int) or abs(error) < 2**63 else b"{}"
    assert failure_of_answer(400, {}, body, now_epoch=0).message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after_ms": "1500", "retry_after": "7"}, 1.5),
        ({"retry_after": "Thu, 01 Jan 1970 00:00:09 GMT"}, 9.0),
        ({"retry_after": "soon"}, None),
        ({}, None),
    ],
)
def test_when_to_come_back_is_read_and_passed_on(headers: dict[str, str], seconds: float | None) -> None:
    found = failure(429, {"message": "m"}, **headers)
    assert found.retry_after_seconds == seconds
    assert dict(found.headers) == {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.mark.parametrize(
    ("value", "told"), [("true", True), ("TRUE", True), ("false", False), ("", None), ("maybe", None)]
)
def test_the_upstreams_own_word_on_repeating_is_read(value: str, told: bool | None) -> None:
    assert failure(500, {"message": "m"}, x_should_retry=value).should_retry is told


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error", "message": "m"}, "overloaded"),
        ({"type": "rate_limit_error", "message": "m"}, "rate_limited"),
        ({"type": "billing_error", "message": "m"}, "quota_exceeded"),
        ({"type": "api_error", "message": "m"}, "error_event"),
        ({"type": "timeout_error", "message": "m"}, "error_event"),
        ({"type": "server_error", "code": "engine_overloaded"}, "overloaded"),
        ({"type": "requests", "code": "too_many_requests"}, "rate_limited"),
        ({"code": 1429}, "error_event"),
        ({}, "error_event"),
        (None, "error_event"),
    ],
)
def test_errors_inside_a_200_are_told_apart(error: object, kind: FailureKind) -> None:
    assert failure_of_event(error).kind == kind
