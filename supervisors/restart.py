"""Whether a child is restarted, and when a supervisor gives up. Pure."""

from __future__ import annotations

from collections import deque

from supervisors.child_spec import Restart
from supervisors.exit import ExitReason, is_abnormal


def restarts(restart: Restart, reason: ExitReason) -> bool:
    """OTP's table: permanent always, transient after an abnormal end, temporary never."""
    return restart == "permanent" or (restart == "transient" and is_abnormal(reason))


class Intensity:
    """The sliding window of restarts: one more than ``max_restarts`` within ``max_seconds`` is too many."""

    __slots__ = ("_at", "max_restarts", "max_seconds")

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        if max_restarts < 0 or max_seconds <= 0:
            raise ValueError(f"max_restarts {max_restarts} must be >= 0 and max_seconds {max_seconds} > 0")
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self._at: deque[float] = deque(maxlen=max_restarts + 1)

    def add(self, now: float) -> bool:
        """Count one at ``now``; False when it is one too many."""
        while self._at and self._at[0] < now - self.max_seconds:
            self._at.popleft()
        self._at.append(now)
        return len(self._at) <= self.max_restarts
