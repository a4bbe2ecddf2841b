"""Headers of a provider's answer: its own id and its limits are passed on, everything that is its or ours stays here."""

from __future__ import annotations

import pytest

from runestone.providers.codecs.headers import passed_on

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
