"""Tokens before the call: an estimate for a body of either wire."""

from __future__ import annotations

from typing import Any

import pytest

from runestone.costs.estimate import estimated

WORDS = "word " * 80  # 400 bytes: 100 tokens


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"messages": [{"role": "user", "content": WORDS}]}, 107),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": WORDS}]}]}, 107),
        ({"messages": [{"role": "user", "content": WORDS}] * 2}, 211),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"data": "A" * 9999}}]}]}, 772),
        ({"system": WORDS, "messages": [{"role": "user", "content": ""}]}, 107),
        ({"system": [{"type": "text", "text": WORDS}], "messages": [{"role": "user", "content": ""}]}, 107),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": WORDS}]}]}, 107),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": WORDS}]}]}, 107),
        ({"input": WORDS}, 107),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": WORDS}]}]}, 107),
        ({"input": [{"type": "function_call_output", "output": WORDS}]}, 107),
        ({"prompt": WORDS}, 107),
        ({"instructions": WORDS, "input": ""}, 107),
        ({}, 7),
    ],
)
def test_the_question_by_its_bytes(body: dict[str, Any], tokens: int) -> None:
    assert estimated(body).input_tokens == tokens


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_the_answer_by_its_limit(name: str) -> None:
    assert estimated({name: 1000}).output_tokens == 1000
    assert estimated({name: None}).output_tokens == 256
    assert estimated({name: True}).output_tokens == 256
    assert estimated({name: 10, "n": 3}).output_tokens == 30
