"""A provider that said 429: taken out until it said it may come back. Not a breaker failure."""

from __future__ import annotations

from attrs import frozen


@frozen
class Throttle:
    """Until when, and how often in a row without a word of when."""

    until: float | None = None
    hits: int = 0

    def hit(self, now: float, retry_after: float | None) -> Throttle:
        """One more 429; without a time it is 1 s, doubling to 60 s."""
        seconds = retry_after if retry_after is not None else min(60.0, 2.0**self.hits)
        return Throttle(max(self.until or 0.0, now + seconds), min(self.hits + 1, 10))

    def succeed(self) -> Throttle:
        """It answered."""
        return self if self.until is None else Throttle()

    def retry_after(self, now: float) -> float | None:
        """Seconds until it may be asked again; ``None`` when it may be now."""
        return self.until - now if self.until is not None and self.until > now else None
