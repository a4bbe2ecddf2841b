"""Marks behind which a provider may cache a prompt, in either wire's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runestone.domain.conversation import Cache

_TTLS: Final = {"30m": "1h", "12h": "1h", "24h": "1h"}  # the longest one that Anthropic has


def cache_of(part: Mapping[str, Any]) -> Cache | None:
    """The mark on ``part``, if it has one."""
    mark = part.get("cache_control") or part.get("prompt_cache_breakpoint")
    if not mark:
        return None
    ttl = mark.get("ttl") if isinstance(mark, Mapping) else None
    return Cache(ttl=_TTLS.get(ttl, ttl) if isinstance(ttl, str) else None)


def marked(block: dict[str, Any], cache: Cache | None) -> dict[str, Any]:
    """``block`` with the mark, as Anthropic writes it."""
    if cache is not None:
        block["cache_control"] = {"type": "ephemeral"} | ({"ttl": cache.ttl} if cache.ttl is not None else {})
    return block
