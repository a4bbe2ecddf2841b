"""Messages that reached nobody, counted by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

_counts: Counter[str] = Counter()


def count(cause: str) -> None:
    """One more."""
    _counts[cause] += 1


def counts() -> Mapping[str, int]:
    """All so far: ``noproc``, ``late_reply``, ``mailbox_full``."""
    return MappingProxyType(_counts)
