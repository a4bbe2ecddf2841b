"""What OpenAI's models take, read off a model's name. A name of another vendor counts as a plain one."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_REASONING: Final = re.compile(r"(?:.*/)?(?:ft:)?(?:o\d|gpt-(?:[5-9]|\d\d))(?!.*-chat)")


@lru_cache(maxsize=256)
def reasons(model: str) -> bool:
    """Whether ``model`` thinks before it answers: it takes an effort and ``max_completion_tokens``, and neither sampling nor stops."""
    return _REASONING.match(model) is not None
