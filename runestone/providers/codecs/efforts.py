"""Budgets of thinking as efforts, for models that take the one and not the other."""

from __future__ import annotations

from runestone.domain.conversation import Effort

_LOW, _MEDIUM = 2048, 8192  # tokens, below which an effort is low, or medium


def effort_of(budget: int | None) -> Effort:
    """The effort that ``budget`` tokens stand for; ``medium`` without any."""
    if budget is None:
        return "medium"
    return "low" if budget < _LOW else "medium" if budget < _MEDIUM else "high"
