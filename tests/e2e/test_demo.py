"""``serve --demo``: what a newcomer sees, with no key and no network, whatever the environment holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.e2e.node import Gateway, gateway
from tests.e2e.streams import HELLO

REAL = {"OPENAI_API_KEY": "sk-real-key-0123456789", "OPENAI_BASE_URL": "http://192.0.2.1/v1"}


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Gateway]:
    with gateway(tmp_path, REAL, "--demo") as node:
        yield node


def test_a_newcomer_gets_a_streamed_answer_from_simulated_providers(demo: Gateway) -> None:
    client = openai.OpenAI(base_url=demo.base_url, api_key="your-api-key")

    with client.chat.completions.create(**HELLO) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    assert text
    assert demo.health().json() == {"status": "healthy"}
    urls = [provider["base_url"] for provider in demo.ctl("providers")["providers"]]
    assert [url for url in urls if not url.startswith("http://127.0.0.1:")] == []


def test_the_console_kills_a_provider_and_the_client_does_not_notice(demo: Gateway) -> None:
    demo.ctl("fault", "openai-default", "refused")

    answer = demo.post({**HELLO, "stream": False})

    assert (answer.status_code, answer.headers["x-runestone-provider"]) == (200, "anthropic-default")
    demo.ctl("fault", "openai-default", "none")
    demo.ctl("provider", "restart", "openai-default")
    answers = [demo.post({**HELLO, "stream": False}).headers["x-runestone-provider"] for _ in range(4)]
    assert "openai-default" in answers


def test_a_word_that_is_no_fault_is_refused_with_the_words_that_are(demo: Gateway) -> None:
    done = demo.ctl_raw("fault", "openai-default", "explode")

    assert done.returncode == 1
    assert "stall" in done.stderr
