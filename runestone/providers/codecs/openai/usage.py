"""OpenAI's usage object, where and as a provider of the wire gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runestone.domain.catalogue import Path, Row
from runestone.domain.chat import Usage


def usage_of(answer: Mapping[str, Any], row: Row) -> Usage | None:
    """The usage in ``answer``, or in a chunk; counts that are missing or null are 0, anything else than an object is ``None``."""
    for path in row.usage:
        if path[0] in answer and isinstance(found := _at(answer, path), Mapping):
            return _read(found, row)
    return None


def _read(usage: Mapping[str, Any], row: Row) -> Usage:
    return Usage(
        input_tokens=_count(usage, ("prompt_tokens",)),
        output_tokens=_count(usage, ("completion_tokens",)),
        cached_tokens=next((n for path in row.cached if (n := _count(usage, path))), 0),
        cache_write_tokens=_count(usage, ("prompt_tokens_details", "cache_write_tokens")),
        reasoning_tokens=_count(usage, ("completion_tokens_details", "reasoning_tokens")),
    )


def _at(value: object, path: Path) -> object:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _count(usage: Mapping[str, Any], path: Path) -> int:
    value = _at(usage, path)
    return value if isinstance(value, int) and value > 0 else 0
