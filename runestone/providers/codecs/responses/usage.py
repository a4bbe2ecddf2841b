"""The usage object of responses."""

from __future__ import annotations

from collections.abc import Mapping

from runestone.domain.chat import Usage


def usage_of(usage: object) -> Usage | None:
    """Read a usage object; counts that are missing or null are 0, anything else than an object is ``None``."""
    if not isinstance(usage, Mapping):
        return None
    inputs, outputs = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    return Usage(
        input_tokens=_count(usage, "input_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        cached_tokens=_count(inputs, "cached_tokens"),
        cache_write_tokens=_count(inputs, "cache_write_tokens"),
        reasoning_tokens=_count(outputs, "reasoning_tokens"),
    )


def _count(counts: object, name: str) -> int:
    value = counts.get(name) if isinstance(counts, Mapping) else None
    return value if isinstance(value, int) and value > 0 else 0
