"""The process-wide budget of retries: 20 % of the requests plus 3 a second, so that retries cannot make a storm.

After Finagle's ``RetryBudget``, whose time to live of ten seconds is kept and bounds what may be saved up.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

_RATIO: Final = 0.2
_FLOOR_PER_SECOND: Final = 3.0
_TTL_SECONDS: Final = 10.0


@frozen
class RetryBudget:
    """A bucket of retries that fills by requests and by time, and holds ten seconds' worth of each. It starts full.

    ``balance`` and ``earned`` (what requests have brought, fading) are retries as of ``at``, seconds of a clock that never goes back.
    """

    balance: float = _FLOOR_PER_SECOND * _TTL_SECONDS
    at: float | None = None
    earned: float = 0.0

    def deposit(self, now: float) -> RetryBudget:
        """One request brings a fifth of a retry."""
        balance, earned = self._as_of(now)
        return RetryBudget(balance + _RATIO, now, earned + _RATIO)

    def withdraw(self, now: float) -> tuple[RetryBudget, bool]:
        """Take one retry, and say whether there was one."""
        balance, earned = self._as_of(now)
        granted = balance >= 1.0
        return RetryBudget(balance - granted, now, earned), granted

    def _as_of(self, now: float) -> tuple[float, float]:
        gap = 0.0 if self.at is None else max(now - self.at, 0.0)
        earned = self.earned * max(0.0, 1 - gap / _TTL_SECONDS)
        return min(self.balance + gap * _FLOOR_PER_SECOND, _FLOOR_PER_SECOND * _TTL_SECONDS + earned), earned
