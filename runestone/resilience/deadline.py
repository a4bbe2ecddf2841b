"""A point in time that bounds a request."""

from __future__ import annotations

from attrs import frozen


@frozen
class Deadline:
    """``at`` in the clock of whoever made it."""

    at: float

    def remaining(self, now: float) -> float:
        """Seconds left, at least 0."""
        return max(self.at - now, 0.0)

    def expired(self, now: float) -> bool:
        """Whether it has passed."""
        return now >= self.at
