"""The chat request."""

from __future__ import annotations

from typing import Any

import pytest

from runestone.domain.chat import ChatRequest


def chat(**body: Any) -> ChatRequest:
    return ChatRequest(
        request_id="r1",
        wire="openai",
        model="gpt-4o",
        stream=True,
        body=body,
        raw=b'{"prompt": "private words"}',
        headers={"openai-organization": "private-org"},
    )


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"include_usage": True}, True),
        ({"include_usage": False}, False),
        ({"include_usage": 1}, False),
        ({}, False),
        (None, False),
        ("x", False),
    ],
)
def test_usage_is_wanted_only_where_the_client_says_so(options: object, wanted: bool) -> None:
    assert chat(stream_options=options).include_usage is wanted


def test_usage_is_not_wanted_where_the_client_says_nothing() -> None:
    assert chat().include_usage is False


def test_nothing_of_the_body_or_the_headers_is_shown() -> None:
    shown = repr(chat(messages="private words"))

    assert "private" not in shown
    assert "gpt-4o" in shown
