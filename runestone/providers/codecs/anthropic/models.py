"""What the generations of Claude take, read off a model's name. A name that tells no version counts as the newest."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from attrs import frozen

_NEWEST: Final = (99, 0)
_OLD_ORDER: Final = re.compile(r"claude-(\d)(?:[-.](\d))?(?:-|$)")
_NEW_ORDER: Final = re.compile(r"claude-[a-z]+-(\d{1,2})(?:[-.](\d{1,2}))?(?:[-@:]|$)")
_NO_FORCED_TOOLS: Final = re.compile(r"claude-(?:(?:opus|sonnet)-5[-.]5|(?:fable|mythos)-5[-.]1)(?:[-@:]|$)")


@frozen(kw_only=True)
class Capabilities:
    """One row of the table."""

    sampling: bool  # temperature, top_p
    forced_tools: bool  # a tool choice that demands a call
    budgets: bool  # thinking with a budget
    adaptive: bool  # thinking by effort
    xhigh: bool  # an effort between high and max
    schemas: bool  # output_config.format
    mid_system: bool  # instructions between the turns
    prefill: bool  # an answer that the client has begun


@lru_cache(maxsize=256)
def capabilities(model: str) -> Capabilities:
    """The row for ``model``."""
    version = _version(model)
    return Capabilities(
        sampling=version <= (4, 6),
        forced_tools=not _NO_FORCED_TOOLS.search(model),
        budgets=(3, 7) <= version < (4, 6),
        adaptive=version >= (4, 6),
        xhigh=version >= (4, 7),
        schemas=version >= (4, 5),
        prefill=version <= (4, 5) or "claude" not in model,
        mid_system=version >= (4, 8) and "claude" in model,  # another server's model may take Claude's wire as it began
    )


def _version(model: str) -> tuple[int, int]:
    found = _OLD_ORDER.search(model) or _NEW_ORDER.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else _NEWEST
