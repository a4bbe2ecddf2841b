"""The usage of responses."""

from __future__ import annotations

from collections.abc import Mapping

from runestone.domain.chat import Usage
from runestone.providers.codecs.counts import count_at, tier_of


def usage_of(response: object) -> Usage | None:
    """Read the usage object of a response; counts that are missing or null are 0, anything else than an object is ``None``.

    The tier stands beside it.
    """
    usage = response.get("usage") if isinstance(response, Mapping) else None
    if not isinstance(usage, Mapping) or not isinstance(response, Mapping):
        return None
    return Usage(
        input_tokens=count_at(usage, "input_tokens"),
        output_tokens=count_at(usage, "output_tokens"),
        cached_tokens=count_at(usage, "input_tokens_details", "cached_tokens"),
        cache_write_tokens=count_at(usage, "input_tokens_details", "cache_write_tokens"),
        reasoning_tokens=count_at(usage, "output_tokens_details", "reasoning_tokens"),
        audio_input_tokens=count_at(usage, "input_tokens_details", "audio_tokens"),
        audio_output_tokens=count_at(usage, "output_tokens_details", "audio_tokens"),
        web_searches=_searches(response.get("output")),
        service_tier=tier_of(response.get("service_tier")),
    )


def _searches(output: object) -> int:
    """The searches of the web that are billed: not to open a page or to look for something in it, which older answers do not tell apart."""
    count = 0
    for item in output if isinstance(output, list) else ():
        if isinstance(item, Mapping) and item.get("type") == "web_search_call":
            action = item.get("action")
            count += not isinstance(action, Mapping) or action.get("type") in (None, "search")
    return count
