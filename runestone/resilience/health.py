"""The health score, 0 to 1: how a provider has done lately.

``success² x latency x headroom x breaker``: time-decayed success (tau 30 s), first-token time against its own baseline, what the rate limit
has left, and 0.5 while half-open, 0 while open.
"""

from __future__ import annotations

import math
from typing import Literal

from attrs import evolve, frozen

from runestone.domain.outcome import Outcome

_TAU_SECONDS = 30.0
_BASELINE_TAU_SECONDS = 600.0
_TOLERANCE = 2.0  # times its baseline before latency counts against it
_MIN_WEIGHT = 1e-9


@frozen(kw_only=True)
class Health:
    """Decayed sums, as of ``at``."""

    at: float = 0.0
    good: float = 0.0
    all: float = 0.0
    first_token_seconds: float | None = None  # peak EWMA
    first_token_at: float = 0.0
    baseline_seconds: float | None = None
    headroom: float = 1.0

    def observe(self, outcome: Outcome, now: float) -> Health:
        """One call ended."""
        if outcome == "neutral":
            return self
        w = math.exp(-max(now - self.at, 0.0) / _TAU_SECONDS)
        return evolve(self, at=max(now, self.at), good=self.good * w + (outcome == "success"), all=self.all * w + 1.0)

    def observe_first_token(self, seconds: float, now: float) -> Health:
        """A first token came after ``seconds``. Up at once, down slowly (Finagle's peak EWMA)."""
        old, base = self.first_token_seconds, self.baseline_seconds
        gap = max(now - self.first_token_at, 0.0)
        w = math.exp(-gap / _TAU_SECONDS)
        peak = seconds if old is None or seconds > old else old * w + seconds * (1 - w)
        v = math.exp(-max(gap, 1.0) / _BASELINE_TAU_SECONDS)
        return evolve(
            self,
            first_token_seconds=peak,
            first_token_at=now,
            baseline_seconds=seconds if base is None else base * v + seconds * (1 - v),
        )

    def observe_headroom(self, ratio: float) -> Health:
        """What the rate limit has left, 0 to 1."""
        return evolve(self, headroom=min(max(ratio, 0.0), 1.0))

    def score(self, now: float, breaker: Literal["closed", "open", "half_open"]) -> float:
        """The score at ``now``; 1.0 with no data."""
        factor = {"closed": 1.0, "half_open": 0.5, "open": 0.0}[breaker]
        weight = self.all * math.exp(-max(now - self.at, 0.0) / _TAU_SECONDS)
        # with old evidence only, the score drifts back to 1: one pseudo-success that fades in as the evidence fades out
        success = (
            1.0
            if self.all < _MIN_WEIGHT
            else (self.good / self.all * weight + 1.0) / (weight + 1.0)
            if weight < 1
            else self.good / self.all
        )
        latency = 1.0
        if self.first_token_seconds and self.baseline_seconds:
            latency = min(1.0, _TOLERANCE * self.baseline_seconds / self.first_token_seconds)
        return min(max(success * success * latency * self.headroom * factor, 0.0), 1.0)

    def expected_load(self, in_flight: int, now: float) -> float:
        """Peak EWMA of the first-token time x (in flight + 1)."""
        return (self.first_token_seconds or 0.0) * (in_flight + 1)
