"""OpenAI's usage object, where and as a provider of the wire gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runestone.domain.catalogue import Path, Row
from runestone.domain.chat import Usage
from runestone.providers.codecs.counts import charge_at, count_at, tier_of


def usage_of(answer: Mapping[str, Any], row: Row, tier: object = None) -> Usage | None:
    """The usage in ``answer``, or in a chunk; counts that are missing or null are 0, anything else than an object is ``None``.

    The tier stands beside it. ``tier`` is what an earlier chunk has told.
    """
    for path in row.usage:
        if path[0] in answer and isinstance(found := _at(answer, path), Mapping):
            return _read(found, row, answer.get("service_tier") or found.get("service_tier") or tier)
    return None


def _read(usage: Mapping[str, Any], row: Row, tier: object) -> Usage:
    inputs, outputs = count_at(usage, "prompt_tokens"), count_at(usage, "completion_tokens")
    if row.thinks_apart:
        outputs = max(outputs, count_at(usage, "total_tokens") - inputs)
    return Usage(
        input_tokens=inputs,
        output_tokens=outputs,
        cached_tokens=next((n for path in row.cached if (n := count_at(usage, *path))), 0),
        cache_write_tokens=count_at(usage, "prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens=count_at(usage, "completion_tokens_details", "reasoning_tokens"),
        audio_input_tokens=count_at(usage, "prompt_tokens_details", "audio_tokens"),
        audio_output_tokens=count_at(usage, "completion_tokens_details", "audio_tokens"),
        service_tier=tier_of(tier),
        charged_picodollars=None if row.charge is None else charge_at(usage, row.charge),
    )


def _at(value: object, path: Path) -> object:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
