"""How long things took of late: counts in buckets that grow by a factor, in slots of ten seconds that fall out after five minutes.

A percentile since the start says nothing of now, and one of a Prometheus histogram is as coarse as its bounds. Nothing here has a clock:
who observes says when.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import Final

from attrs import define, field

SLOT_SECONDS: Final = 10.0
MINUTE_SECONDS: Final = 60.0
LONGEST_SECONDS: Final = 300.0  # that is looked back
QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
SMALLEST_SECONDS: Final = 1e-4  # what is below it counts as it
LARGEST_SECONDS: Final = 3600.0
_STEPS: Final = 8  # buckets to a doubling
ERROR: Final = 2 ** (1 / (2 * _STEPS)) - 1  # 4.4 %: by how much an answer may differ from the true one
_SLOTS: Final = int(LONGEST_SECONDS / SLOT_SECONDS)
_PER_LOG: Final = _STEPS / math.log(2)
_log = math.log


@define(slots=True, eq=False)
class Window:
    """Durations of the last five minutes. ``now`` is seconds of a clock that never goes back."""

    _slots: deque[tuple[int, dict[int, int]]] = field(factory=lambda: deque(maxlen=_SLOTS))
    _counts: dict[int, int] = field(factory=lambda: defaultdict(int))  # of the newest slot
    _until: float = -math.inf  # when that is full

    def observe(self, now: float, seconds: float) -> None:
        """Something has taken ``seconds``."""
        if now >= self._until:
            number = int(now // SLOT_SECONDS)
            self._until, self._counts = (number + 1) * SLOT_SECONDS, defaultdict(int)
            self._slots.append((number, self._counts))
        if not SMALLEST_SECONDS <= seconds <= LARGEST_SECONDS:
            seconds = SMALLEST_SECONDS if seconds < SMALLEST_SECONDS else LARGEST_SECONDS
        self._counts[int(_log(seconds / SMALLEST_SECONDS) * _PER_LOG)] += 1

    def count(self, now: float, over: float = MINUTE_SECONDS) -> int:
        """How many there were in the last ``over`` seconds, to the slot."""
        return sum(sum(counts.values()) for counts in self._within(now, over))

    def quantiles(
        self, now: float, over: float = MINUTE_SECONDS, wanted: Sequence[float] = tuple(QUANTILES.values())
    ) -> list[float | None]:
        """The ``wanted`` quantiles of the last ``over`` seconds, within :data:`ERROR` of the nearest rank; ``None``: there was nothing."""
        merged: Counter[int] = Counter()
        for counts in self._within(now, over):
            merged.update(counts)
        total, ordered = merged.total(), sorted(merged.items())
        return [_at(ordered, max(1, math.ceil(q * total))) if total else None for q in wanted]

    def milliseconds(self, now: float, over: float = MINUTE_SECONDS) -> dict[str, float | None]:
        """p50, p95 and p99 of the last ``over`` seconds, in milliseconds."""
        found = self.quantiles(now, over)
        return {
            name: None if v is None else round(v * 1000, 1 if v > 1e-2 else 3)
            for name, v in zip(QUANTILES, found, strict=True)
        }

    def _within(self, now: float, over: float) -> list[dict[int, int]]:
        """The slots that the last ``over`` seconds reach into; the oldest of them is left out, or more would be counted."""
        oldest = int(now // SLOT_SECONDS) - int(over / SLOT_SECONDS)
        return [counts for number, counts in self._slots if number > oldest]


def _at(ordered: list[tuple[int, int]], rank: int) -> float:
    """The middle of the bucket in which the one of that rank lies."""
    for bucket, count in ordered:
        rank -= count
        if rank <= 0:
            return SMALLEST_SECONDS * float(2 ** ((bucket + 0.5) / _STEPS))
    raise AssertionError(rank)
