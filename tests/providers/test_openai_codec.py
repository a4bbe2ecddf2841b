"""The codec of OpenAI's wire: requests and whole answers pass through, errors are told apart."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from runestone.domain.chat import ChatRequest, Usage
from runestone.domain.failure import FailureKind, UpstreamError
from runestone.domain.secret import Secret
from runestone.providers.codecs import Unsupported, UpstreamRequest, codec_for

CODEC = codec_for("openai")
RAW = b'{ "model": "gpt-4o", "messages": [{"role":"user","content":"caf\\u00e9"}], "x_unknown": 1.50 }'


def chat(*, raw: bytes = RAW, stream: bool = False, headers: dict[str, str] | None = None) -> ChatRequest:
    body: dict[str, Any] = orjson.loads(raw)
    return ChatRequest(
        request_id="r1", wire="openai", model=body["model"], stream=stream, body=body, raw=raw, headers=headers or {}
    )


def request(model: str = "gpt-4o", *, extra: dict[str, str] | None = None, **more: Any) -> UpstreamRequest:
    sent = CODEC.request(chat(**more), model=model, api_key=Secret("sk-own"), extra_headers=extra or {})
    assert isinstance(sent, UpstreamRequest)
    return sent


def test_a_request_for_the_same_model_is_forwarded_byte_for_byte() -> None:
    assert request().body == RAW
    assert request().path == "/chat/completions"


@pytest.mark.parametrize("end", ["", " ", "\r\n\t"])
def test_a_stream_is_asked_for_its_tokens_and_the_rest_stays_byte_for_byte(end: str) -> None:
    raw = RAW + end.encode()
    sent = request(raw=raw, stream=True).body

    assert sent == RAW[:-1] + b',"stream_options":{"include_usage":true}}'
    assert orjson.loads(sent) == {**orjson.loads(raw), "stream_options": {"include_usage": True}}


def test_a_client_that_asks_for_the_tokens_itself_is_forwarded_byte_for_byte() -> None:
    raw = RAW[:-1] + b', "stream_options": {"include_usage": true}}'
    assert request(raw=raw, stream=True).body == raw


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_usage": False, "include_obfuscation": False}, {"include_usage": True, "include_obfuscation": False}),
        (7, 7),
    ],
)
def test_other_options_of_a_stream_are_kept(options: object, sent: object) -> None:
    raw = orjson.dumps({**orjson.loads(RAW), "stream_options": options})
    assert orjson.loads(request(raw=raw, stream=True).body)["stream_options"] == sent


def test_providers_that_know_no_such_option_are_not_asked() -> None:
    sent = codec_for("mistral").request(chat(stream=True), model="gpt-4o", api_key=Secret("k"), extra_headers={})
    assert isinstance(sent, UpstreamRequest)
    assert "stream_options" not in orjson.loads(sent.body)


def test_another_model_changes_the_model_and_nothing_else() -> None:
    assert orjson.loads(request("gpt-4o-mini").body) == {**orjson.loads(RAW), "model": "gpt-4o-mini"}


def test_a_renamed_request_that_is_nested_too_deeply_is_refused_and_as_it_came_it_passes() -> None:
    raw = b'{"model":"gpt-4o","messages":[{"role":"user","content":' + b"[" * 300 + b"]" * 300 + b"}]}"
    renamed = CODEC.request(chat(raw=raw), model="other", api_key=Secret("k"), extra_headers={})
    assert isinstance(renamed, Unsupported)
    assert "deeply" in renamed.message
    assert request(raw=raw).body == raw


def test_the_head_carries_our_key_and_only_listed_headers_of_the_client() -> None:
    given = {"openai-organization": "o", "openai-project": "p", "idempotency-key": "i", "openai-beta": "b"}
    hostile = {"authorization": "Bearer client", "cookie": "c", "x-api-key": "k", "host": "evil"}
    headers = dict(request(headers={**given, **hostile}).headers)
    assert headers == {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": "Bearer sk-own",
        **given,
    }


def test_a_streaming_request_asks_for_events_and_settings_may_add_headers() -> None:
    headers = dict(request(stream=True, extra={"X-Own": "1"}).headers)
    assert headers["accept"] == "text/event-stream"
    assert headers["x-own"] == "1"


def test_no_secret_shows_in_the_representation_of_a_request() -> None:
    assert "sk-own" not in repr(request())
    assert "caf" not in repr(request())


COMPLETION = {
    "id": "chatcmpl-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3},
    },
}


def test_a_whole_answer_passes_untouched_and_its_usage_is_read() -> None:
    body = orjson.dumps(COMPLETION, option=orjson.OPT_INDENT_2)
    answer = CODEC.completion(chat(), body, created=1)
    assert answer.body is body
    assert answer.finish_reason == "stop"
    assert answer.usage == Usage(
        input_tokens=10, output_tokens=5, cached_tokens=4, cache_write_tokens=2, reasoning_tokens=3
    )


@pytest.mark.parametrize(
    "usage", [None, {}, [], "x", {"prompt_tokens": None}, {"prompt_tokens": "7", "completion_tokens": -1}]
)
def test_odd_usage_is_no_error(usage: object) -> None:
    answer = CODEC.completion(chat(), orjson.dumps({**COMPLETION, "usage": usage}), created=1)
    assert answer.usage in (None, Usage(input_tokens=0, output_tokens=0))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "invalid_answer"),
        (b"<html>", "invalid_answer"),
        (b"[]", "invalid_answer"),
        (b"[" * 100_000, "invalid_answer"),
        (b'{"choices":[]}', "invalid_answer"),
        (b'{"choices":{}}', "invalid_answer"),
        (b'{"choices":[1]}', "invalid_answer"),
        (b'{"error":{"message":"m"}}', "error_event"),
        (b'{"error":"m"}', "error_event"),
        (b'{"error":{"message":"m","type":"overloaded_error"}}', "overloaded"),
        (b'{"error":{"message":"m","code":529}}', "overloaded"),
        (b'{"error":{"message":"m","code":"rate_limit_exceeded"}}', "rate_limited"),
        (b'{"error":{"message":"m","code":"insufficient_quota"}}', "quota_exceeded"),
    ],
)
def test_a_200_that_is_no_answer_is_a_failure(body: bytes, kind: FailureKind) -> None:
    with pytest.raises(UpstreamError) as caught:
        CODEC.completion(chat(), body, created=1)
    assert caught.value.failure.kind == kind


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {}, "caller_error"),
        (400, {"message": "Your credit balance is too low to access the API"}, "quota_exceeded"),
        (401, {}, "credentials"),
        (402, {}, "quota_exceeded"),
        (403, {}, "forbidden"),
        (404, {}, "not_found"),
        (405, {}, "invalid_answer"),
        (408, {}, "timeout"),
        (409, {}, "caller_error"),
        (413, {}, "caller_error"),
        (422, {}, "caller_error"),
        (429, {}, "rate_limited"),
        (429, {"code": "insufficient_quota"}, "quota_exceeded"),
        (429, {"type": "insufficient_quota"}, "quota_exceeded"),
        (429, {"details": {"error_code": "enforced_spend_limit_reached"}}, "quota_exceeded"),
        (500, {}, "server_error"),
        (503, {}, "server_error"),
        (503, {"type": "overloaded_error"}, "overloaded"),
        (529, {}, "overloaded"),
        (301, {}, "invalid_answer"),
        (204, {}, "invalid_answer"),
    ],
)
def test_statuses_are_told_apart(status: int, error: dict[str, Any], kind: FailureKind) -> None:
    failure = CODEC.failure(status, {}, orjson.dumps({"error": error}), now_epoch=0)
    assert failure.kind == kind
    assert failure.status == status


@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"null", b'"x"', b"[]", b"\xff\xfe", b"{" * 10_000])
def test_an_error_page_gets_a_message_of_our_own_and_is_not_kept(body: bytes) -> None:
    failure = CODEC.failure(502, {}, body, now_epoch=0)
    assert failure.message == "the provider answered with status 502"
    assert failure.body is None


def test_the_words_of_the_upstream_are_kept_for_its_own_wire() -> None:
    error = {
        "message": "too big",
        "type": "invalid_request_error",
        "code": "context_length_exceeded",
        "param": "messages",
    }
    body = orjson.dumps({"error": error})
    failure = CODEC.failure(400, {}, body, now_epoch=0)
    assert (failure.message, failure.type, failure.code, failure.param) == tuple(error.values())
    assert failure.body == body


@pytest.mark.parametrize(
    "message",
    [
        "Incorrect API key provided: sk-proj-ABCDEF***7890. Find it at https://platform.openai.com/account/api-keys.",
        "got header Bearer abcdef123456 from http://10.0.0.1:8080/v1?key=secret",
    ],
)
def test_no_key_and_no_url_survives_in_a_message(message: str) -> None:
    failure = CODEC.failure(500, {}, orjson.dumps({"error": {"message": message}}), now_epoch=0)
    for secret in ("sk-proj", "abcdef123456", "http", "key=secret"):
        assert secret not in failure.message
    for key in (b"sk-proj", b"abcdef123456"):
        assert key not in (failure.body or b"")


def test_headers_pass_by_name_and_by_value() -> None:
    headers = {
        "retry-after": "7",
        "x-ratelimit-remaining-requests": "0",
        "anthropic-ratelimit-tokens-reset": "soon",
        "x-ratelimit-bad": "a\r\nset-cookie: b",
        "set-cookie": "a=b",
        "x-internal": "1",
        "x-should-retry": "false",
    }
    failure = CODEC.failure(429, headers, b"{}", now_epoch=0)
    assert dict(failure.headers) == {
        "retry-after": "7",
        "x-ratelimit-remaining-requests": "0",
        "anthropic-ratelimit-tokens-reset": "soon",
    }
    assert failure.retry_after_seconds == 7
    assert failure.should_retry is False


def test_there_is_no_codec_for_an_unknown_kind() -> None:
    with pytest.raises(LookupError):
        codec_for("unheard-of")


def test_an_answer_of_several_choices_passes_whole() -> None:
    choice = {"message": {"role": "assistant", "content": "a"}, "finish_reason": None}
    body = orjson.dumps({"choices": [{"index": 1, **choice}, {"index": 0, **choice}], "error": None})
    answer = CODEC.completion(chat(), body, created=1)
    assert (answer.body, answer.finish_reason, answer.usage) == (body, None, None)
