"""A provider that said 429: taken out until it said it may come back. Not a breaker failure."""

from __future__ import annotations

from typing import Final

from attrs import frozen

_LONGEST_SECONDS: Final = 60.0


@frozen
class Throttle:
    """Until when (in the clock of ``now``), and how often in a row without a word of when."""

    until: float | None = None
    hits: int = 0

    def hit(self, now: float, retry_after: float | None) -> Throttle:
        """One more 429: out for ``retry_after`` seconds; without one for 1 s, doubling to 60 s.

        Calls in flight together meet one limit together: a 429 without a time changes nothing while the provider is out already.
        """
        if retry_after is not None:
            return Throttle(self._at_least(now + retry_after), self.hits)
        if self.retry_after(now) is not None:
            return self
        return Throttle(now + pause_seconds(self.hits), min(self.hits + 1, 10))

    def succeed(self) -> Throttle:
        """It answered, so the doubling starts again. Its time stands: the answer may be to a call from before the 429."""
        return self if not self.hits else Throttle(self.until)

    def retry_after(self, now: float) -> float | None:
        """Seconds until it may be asked again; ``None`` when it may be now."""
        return self.until - now if self.until is not None and self.until > now else None

    def _at_least(self, until: float) -> float:
        return until if self.until is None else max(self.until, until)


def pause_seconds(hits: int) -> float:
    """How long a provider is out that has said 429 without a time, after ``hits`` such answers before: 1 s, doubling to 60 s."""
    return min(_LONGEST_SECONDS, 2.0 ** min(hits, 10))
