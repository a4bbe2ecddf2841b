"""Headers of a provider's answer: its own id and its limits are passed on, everything that is its or ours stays here."""

from __future__ import annotations

import pytest

from runestone.providers.codecs.headers import headroom, passed_on

THEIRS = [
    (b"X-Request-Id", b"req_1"),
    (b"x-ratelimit-remaining-requests", b"9"),
    (b"Anthropic-RateLimit-Tokens-Limit", b"7"),
    (b"Set-Cookie", b"a=b"),
    (b"openai-organization", b"org-ours"),
    (b"content-length", b"3"),
    (b"connection", b"close"),
]


def test_a_client_of_the_same_wire_sees_the_limits() -> None:
    assert passed_on(THEIRS, same_wire=True) == (
        (b"x-upstream-request-id", b"req_1"),
        (b"x-ratelimit-remaining-requests", b"9"),
        (b"anthropic-ratelimit-tokens-limit", b"7"),
    )


def test_a_client_of_another_wire_sees_the_id_alone() -> None:
    assert passed_on(THEIRS, same_wire=False) == ((b"x-upstream-request-id", b"req_1"),)


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\x00", b"\xff"])
def test_a_value_that_is_no_plain_text_is_left_out(value: bytes) -> None:
    assert passed_on([(b"request-id", value)], same_wire=True) == ()


@pytest.mark.parametrize(
    ("headers", "left"),
    [
        ({}, None),
        ({"x-ratelimit-remaining-requests": "5"}, None),
        ({"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "5"}, 0.5),
        ({"X-RateLimit-Limit-Requests": "10", "X-RateLimit-Remaining-Requests": "5"}, 0.5),
        (
            {
                "x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "9",
                "x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "100",
            },
            0.1,
        ),
        ({"anthropic-ratelimit-input-tokens-limit": "200", "anthropic-ratelimit-input-tokens-remaining": "0"}, 0.0),
        ({"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "12"}, 1.0),
        ({"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0"}, None),
        ({"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-requests": "-1"}, None),
        ({"x-ratelimit-reset-requests": "6m0s", "anthropic-ratelimit-requests-reset": "2026-11-25T00:00:00Z"}, None),
    ],
)  # fmt: skip
def test_what_is_left_of_the_rate_limit_is_the_least_that_is_told(headers: dict[str, str], left: float | None) -> None:
    assert headroom([(name.encode(), value.encode()) for name, value in headers.items()]) == left
