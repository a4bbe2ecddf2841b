"""Back-off, and what an upstream says about when to come back."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from attrs import frozen


@frozen(kw_only=True)
class RetryPolicy:
    """Attempts at one provider; the first try counts."""

    max_attempts: int = 3
    base_delay_seconds: float = 1.0
    factor: float = 2.0
    jitter: bool = True
    cap_seconds: float = 30.0

    def delay(self, retry_number: int, chance: float) -> float:
        """Seconds before retry ``retry_number`` (from 0): full jitter, ``rand(0, min(cap, base * factor ** n))`` (gRPC A6)."""
        limit = min(self.cap_seconds, self.base_delay_seconds * self.factor ** min(retry_number, 64))
        return limit * chance if self.jitter else limit


def retry_after_seconds(headers: Mapping[str, str], now_epoch: float) -> float | None:
    """``retry-after-ms``, or ``retry-after`` in seconds or as a date; ``None`` for none, negative or garbage."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            seconds = float(text) * scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - now_epoch
            except (ValueError, TypeError):
                continue
        if 0 <= seconds < 1e9:
            return seconds
    return None
