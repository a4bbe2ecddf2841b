"""The table of errors: what an OpenAI client is told for each answer of either kind of upstream, and what never reaches it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.domain.chat import ChatRequest
from runestone.domain.errors import UpstreamFailed
from runestone.domain.failure import Failure, FailureKind, UpstreamError
from runestone.http import errors
from runestone.providers.codecs import codec_for

KINDS = ["openai", "anthropic"]
RESET = {"retry-after": "7", "retry-after-ms": "6500"}


def told(kind: str, status: int, body: bytes, headers: dict[str, str] | None = None) -> UpstreamFailed:
    """What becomes of an upstream's answer on its way to an OpenAI client."""
    failure = codec_for(kind).failure(status, headers or {}, body, now_epoch=0)
    return UpstreamFailed(failure, same_wire=kind == "openai")


def anthropic(error_type: str, message: str = "m") -> bytes:
    return orjson.dumps({"type": "error", "error": {"type": error_type, "message": message}, "request_id": "req_1"})


def openai(**error: Any) -> bytes:
    return orjson.dumps({"error": {"message": "m", "type": None, "param": None, "code": None, **error}})


def in_a_200(kind: str, error: object) -> Failure:
    chat = ChatRequest(request_id="r", wire="openai", model="m", stream=False, body={}, raw=b"{}")
    with pytest.raises(UpstreamError) as caught:
        codec_for(kind).completion(chat, orjson.dumps({"type": "error", "error": error}), created=1)
    return caught.value.failure


def in_a_stream(kind: str, data: bytes) -> Failure:
    chat = ChatRequest(request_id="r", wire="openai", model="m", stream=True, body={}, raw=b"{}")
    stream = codec_for(kind).stream(chat, created=1)
    failure = stream.feed(data).failure or stream.eof().failure
    assert failure is not None
    return failure


# -- the rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error_type", "seen"),
    [
        (400, "invalid_request_error", (400, "invalid_request_error", "invalid_request")),
        (401, "authentication_error", (502, "server_error", "upstream_credentials")),
        (402, "billing_error", (429, "insufficient_quota", "insufficient_quota")),
        (403, "permission_error", (403, "permission_error", "upstream_forbidden")),
        (404, "not_found_error", (404, "invalid_request_error", "model_not_found")),
        (408, "timeout_error", (504, "server_error", "upstream_timeout")),
        (413, "request_too_large", (413, "invalid_request_error", "invalid_request")),
        (429, "rate_limit_error", (429, "rate_limit_error", "rate_limit_exceeded")),
        (429, "billing_error", (429, "insufficient_quota", "insufficient_quota")),
        (500, "api_error", (502, "server_error", "upstream_error")),
        (504, "timeout_error", (504, "server_error", "upstream_error")),
        (529, "overloaded_error", (503, "server_error", "overloaded")),
    ],
)
def test_each_row_of_anthropics_errors(status: int, error_type: str, seen: tuple[int, str, str]) -> None:
    error = told("anthropic", status, anthropic(error_type))
    assert (error.status, error.type, error.code) == seen
    assert error.message.endswith("m")
    shown = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    assert orjson.loads(errors.body(error, "openai", "r")) == {"error": shown}


@pytest.mark.parametrize(
    ("status", "error", "seen"),
    [
        (
            400,
            {"type": "invalid_request_error", "code": "context_length_exceeded", "param": "messages"},
            (400, "invalid_request_error", "context_length_exceeded"),
        ),
        (400, {}, (400, "invalid_request_error", "invalid_request")),
        (403, {"code": "unsupported_country"}, (403, "permission_error", "unsupported_country")),
        (
            404,
            {"type": "invalid_request_error", "code": "model_not_found"},
            (404, "invalid_request_error", "model_not_found"),
        ),
        (409, {"type": "conflict"}, (409, "conflict", "invalid_request")),
        (413, {}, (413, "invalid_request_error", "invalid_request")),
        (422, {"code": "bad"}, (422, "invalid_request_error", "bad")),
        (
            429,
            {"type": "insufficient_quota", "code": "insufficient_quota"},
            (429, "insufficient_quota", "insufficient_quota"),
        ),
        (429, {"type": "requests", "code": "rate_limit_exceeded"}, (429, "requests", "rate_limit_exceeded")),
        (500, {"type": "server_error"}, (500, "server_error", "upstream_error")),
        (502, {}, (502, "server_error", "upstream_error")),
        (503, {"type": "engine_overloaded"}, (503, "engine_overloaded", "overloaded")),
        (504, {}, (504, "server_error", "upstream_error")),
    ],
)
def test_each_row_of_openais_errors_keeps_its_status_and_its_own_bytes(
    status: int, error: dict[str, Any], seen: tuple[int, str, str]
) -> None:
    body = openai(**error)
    answer = told("openai", status, body)
    assert (answer.status, answer.type, answer.code) == seen
    assert answer.param == error.get("param")
    assert errors.body(answer, "openai", "r") == body


@pytest.mark.parametrize("kind", KINDS)
def test_the_gateways_own_wrong_key_never_looks_like_the_clients(kind: str) -> None:
    body = openai(message="Incorrect API key provided: sk-proj-abc***xyz9", code="invalid_api_key")
    error = told(kind, 401, body)
    shown = errors.body(error, "openai", "r")
    assert (error.status, error.code) == (502, "upstream_credentials")
    assert b"invalid_api_key" not in shown
    assert b"sk-proj" not in shown
    assert b"www-authenticate" not in dict(errors.headers(error, len(shown)))


# -- quota, rate, load -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("error", "failure_kind"),
    [
        ({"type": "rate_limit_error"}, "rate_limited"),
        ({"type": "requests", "code": "rate_limit_exceeded"}, "rate_limited"),
        ({"type": "tokens"}, "rate_limited"),
        ({"type": "insufficient_quota"}, "quota_exceeded"),
        ({"code": "insufficient_quota"}, "quota_exceeded"),
        ({"code": "billing_hard_limit_reached"}, "quota_exceeded"),
        ({"type": "rate_limit_error", "details": {"error_code": "spend_limit_reached"}}, "quota_exceeded"),
        ({"message": "You exceeded your current insufficient_quota"}, "rate_limited"),
    ],
)
def test_a_spent_quota_is_told_from_a_limit_of_the_rate(
    kind: str, error: dict[str, Any], failure_kind: FailureKind
) -> None:
    assert told(kind, 429, openai(**error)).failure.kind == failure_kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("error", "failure_kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "overloaded"),
        ({"message": "m", "code": 529}, "overloaded"),
        ({"type": "rate_limit_error", "message": "m"}, "rate_limited"),
        ({"type": "billing_error", "message": "m"}, "quota_exceeded"),
        ({"type": "insufficient_quota", "code": "rate_limit_exceeded"}, "quota_exceeded"),
        ({"type": "api_error", "message": "overloaded_error"}, "error_event"),
        ("overloaded", "error_event"),
        ({}, "error_event"),
    ],
)
def test_an_error_in_a_200_is_the_same_whole_and_in_a_stream(kind: str, error: object, failure_kind: str) -> None:
    data = b"event: error\ndata: %s\n\n" % orjson.dumps({"type": "error", "error": error})
    assert in_a_200(kind, error) == in_a_stream(kind, data)
    assert in_a_200(kind, error).kind == failure_kind


def test_anthropics_overload_is_told_as_503_with_a_code_and_when_to_come_back() -> None:
    error = told("anthropic", 529, anthropic("overloaded_error"), RESET)
    shown = dict(errors.headers(error, 0))
    assert (error.status, error.code) == (503, "overloaded")
    assert (shown[b"retry-after"], shown[b"retry-after-ms"]) == (b"7", b"6500")


@pytest.mark.parametrize("kind", KINDS)
def test_when_to_come_back_reaches_the_client(kind: str) -> None:
    for headers, seconds in ((RESET, 6.5), ({"retry-after": "7"}, 7.0)):
        assert told(kind, 429, openai(), headers).retry_after_seconds == seconds


# -- pages, words, headers ---------------------------------------------------------------------------------------------

PAGE = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n\n<body>https://edge.example</body></html>\n\n"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 502, 503, 504, 520, 529])
@pytest.mark.parametrize("body", [PAGE, b"", b"\x1f\x8b\x08", b"null", b'{"error":null}', b'"error"', b"[" * 9999])
def test_a_page_or_nothing_at_all_is_told_in_the_clients_shape(kind: str, status: int, body: bytes) -> None:
    error = told(kind, status, body)
    assert error.status >= 400
    assert orjson.loads(errors.body(error, "openai", "r")) == {
        "error": {
            "message": f"the provider answered with status {status}",
            "type": error.type,
            "param": None,
            "code": error.code,
        }
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_in_a_200_is_no_answer(kind: str) -> None:
    chat = ChatRequest(request_id="r", wire="openai", model="m", stream=False, body={}, raw=b"{}")
    with pytest.raises(UpstreamError) as caught:
        codec_for(kind).completion(chat, PAGE, created=1)
    assert caught.value.failure.kind == "invalid_answer"
    assert in_a_stream(kind, PAGE).kind == "truncated"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
@pytest.mark.parametrize(
    "secret", ["sk-ant-api03-AbCdEf_123-xyz", "sk-proj-****wxyz", "https://api.internal.example/v1?key=abc"]
)
def test_neither_a_key_nor_a_url_reaches_the_client(kind: str, status: int, secret: str) -> None:
    body = openai(message=f"see {secret} please", code=secret, details=[{secret: {"at": secret}}])
    error = told(kind, status, body)
    assert error.message.endswith(" please")
    assert secret.encode() not in errors.body(error, "openai", "r") + repr(error.failure).encode()


NAMES = st.sampled_from(
    [
        *("set-cookie", "set-cookie2", "server", "location", "x-request-id", "content-length", "authorization"),
        *("retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "anthropic-ratelimit-requests-limit"),
        *("x-ratelimit-", "x-ratelimit-a b", "x-ratelimit-a\n", "xretry-after", "retry-after-ms-x"),
    ]
)


@given(st.dictionaries(NAMES, st.text(max_size=8) | st.sampled_from(["1", "7ms", "a\r\nset-cookie: b", "a\x00"])))
def test_of_the_upstreams_headers_only_limits_pass_and_none_can_write_another(headers: dict[str, str]) -> None:
    failure = told("openai", 429, openai(), headers).failure
    for name, value in failure.headers:
        assert headers[name] == value
        assert name.startswith(("retry-after", "x-ratelimit-", "anthropic-ratelimit-"))
        assert (name + value).replace("\t", "").isprintable()
        assert (name + value).isascii()
    kept = {
        name
        for name in ("retry-after", "retry-after-ms", "x-ratelimit-reset-tokens")
        if headers.get(name, "é").isascii() and headers[name].replace("\t", "").isprintable()
    }
    assert kept <= dict(failure.headers).keys()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("character", ["\x00", "\n", "\r", "\x1b", "\x7f", "\r\n\r\n"])
def test_no_control_character_passes_in_a_word(kind: str, character: str) -> None:
    failure = told(kind, 400, openai(message=f"a{character}b", type=f"c{character}d", param=f"e{character}f")).failure
    assert (failure.message, failure.type, failure.param) == ("a b", "c d", "e f")
