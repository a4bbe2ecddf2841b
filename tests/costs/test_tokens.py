"""Counts of tokens: those of the tokenizer that a model has, and none where anything is not known."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from runestone.costs import tokens
from runestone.costs.tokens import counted

HELLO = {"role": "user", "content": "Hello, world!"}  # o200k and cl100k alike: Hello | , | world | !


@pytest.fixture
def library() -> None:
    pytest.importorskip("bpe_openai")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("model", "request_", "count"),
    [
        # 3 around it, 1 for its role, 4 words, 3 for the answer
        ("gpt-4o-mini", {"messages": [HELLO]}, 11),
        ("gpt-4o-2024-08-06", {"messages": [HELLO], "max_tokens": 9, "stream": True}, 11),
        ("ft:gpt-4o-mini:us::1", {"messages": [HELLO]}, 11),
        ("gpt-4", {"messages": [HELLO]}, 11),
        # and 3 + 1 + 4, and a name of one word: 1 + 1
        ("gpt-4.1", {"messages": [HELLO, {**HELLO, "name": "Bob"}]}, 21),
        ("gpt-4o", {"messages": []}, 3),
        # what looks like a special token is text
        ("gpt-4o", {"messages": [{"role": "user", "content": "<|endoftext|>"}]}, 14),
        ("text-embedding-3-small", {"input": "Hello, world!"}, 4),
        ("text-embedding-3-small", {"input": ["Hello, world!", "Hello"]}, 5),
    ],
)
def test_text_is_counted_as_its_model_counts(model: str, request_: dict[str, Any], count: int) -> None:
    assert counted({"model": model, **request_}, model) == count


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("model", "request_"),
    [
        ("claude-sonnet-4-5", {"messages": [HELLO]}),
        ("gpt-5", {"messages": [HELLO]}),
        ("o3", {"messages": [HELLO]}),
        ("gpt-4o", {"messages": [HELLO], "tools": []}),
        ("gpt-4o", {"messages": [HELLO], "response_format": {"type": "json_object"}}),
        ("gpt-4o", {"messages": [HELLO], "something": "new"}),
        ("gpt-4o", {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}),
        ("gpt-4o", {"messages": [{**HELLO, "tool_calls": []}]}),
        ("gpt-4o", {"messages": "Hello"}),
        ("gpt-4o", {"messages": [HELLO], "input": "Hello"}),
        ("gpt-4o", {}),
        ("text-embedding-3-small", {"input": [[1, 2, 3]]}),
        ("gpt-4o", {"messages": [{"role": "user", "content": "x" * 1_000_001}]}),
        ("gpt-4o", {"messages": [{"role": "user", "content": "half a \ud800 character"}]}),
    ],
)
def test_what_is_not_all_known_is_not_counted(model: str, request_: dict[str, Any]) -> None:
    assert counted({"model": model, **request_}, model) is None


def test_without_the_extra_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens._tokenizer.cache_clear()
    monkeypatch.setitem(sys.modules, "bpe_openai", None)

    assert counted({"model": "gpt-4o", "messages": [HELLO]}, "gpt-4o") is None
    tokens._tokenizer.cache_clear()
