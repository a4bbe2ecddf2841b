"""The process-wide budget of retries: 20 % of the requests plus 3 a second (Finagle's RetryBudget), so that retries cannot make a storm."""

from __future__ import annotations

from attrs import frozen

_RATIO = 0.2
_FLOOR_PER_SECOND = 3.0
_TTL_SECONDS = 10.0


@frozen
class RetryBudget:
    """A bucket that fills by requests and by time, and holds ten seconds' worth."""

    balance: float = _FLOOR_PER_SECOND * _TTL_SECONDS
    at: float | None = None
    earned: float = 0.0

    def _advance(self, now: float) -> tuple[float, float]:
        gap = 0.0 if self.at is None else max(now - self.at, 0.0)
        earned = self.earned * max(0.0, 1 - gap / _TTL_SECONDS)
        return min(self.balance + gap * _FLOOR_PER_SECOND, _FLOOR_PER_SECOND * _TTL_SECONDS + earned), earned

    def deposit(self, now: float) -> RetryBudget:
        """One request."""
        balance, earned = self._advance(now)
        return RetryBudget(balance + _RATIO, now, earned + _RATIO)

    def withdraw(self, now: float) -> tuple[RetryBudget, bool]:
        """One retry, if there is something left."""
        balance, earned = self._advance(now)
        if balance < 1.0:
            return RetryBudget(balance, now, earned), False
        return RetryBudget(balance - 1.0, now, earned), True
