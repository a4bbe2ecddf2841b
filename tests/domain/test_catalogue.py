"""What is known of models by their names."""

from __future__ import annotations

import pytest

from runestone.domain.catalogue import thinks_first


@pytest.mark.parametrize(
    ("model", "thinks"),
    [
        ("o1", True),
        ("o3-mini", True),
        ("ft:o4-mini:team", True),
        ("gpt-5", True),
        ("openai/gpt-5-mini", True),
        ("deepseek-reasoner", True),
        ("deepseek-ai/DeepSeek-R1", True),
        ("sonar-reasoning-pro", True),
        ("gemini-2.5-pro", True),
        ("gpt-4o-mini", False),
        ("claude-sonnet-4-5", False),
        ("gemini-2.5-flash", False),
        ("deepseek-chat", False),
        ("open-mistral-7b", False),
    ],
)
def test_models_that_may_think_for_minutes_before_their_first_word_are_known_by_name(
    model: str, *, thinks: bool
) -> None:
    assert thinks_first(model) is thinks
