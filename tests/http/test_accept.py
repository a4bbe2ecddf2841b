"""Text for Prometheus, curl and browsers, JSON for programs that name it."""

from __future__ import annotations

import pytest

from runestone.http.accept import prefers_json


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/json, text/plain, */*",
        "application/json, */*;q=0.5",
        "text/plain;q=0.5, application/json",
        "text/html, application/json;q=0.9, */*;q=0.1",
    ],
)
def test_who_names_json_first_gets_json(accept: str) -> None:
    assert prefers_json(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain",
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "text/plain, application/json",
        "text/plain, application/json;q=0.9",
        "application/json;q=0",
        "application/json;q=nonsense",
        "application/problem+json",
        ";;,,=",
    ],
)
def test_everybody_else_gets_text(accept: str) -> None:
    assert not prefers_json(accept)
