"""Back-off, and what an upstream says about when to come back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from attrs import field, frozen, validators

_NUMBER: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]*)?")
_LONGEST_SECONDS: Final = 1e9  # what is longer is no time but a mistake


@frozen(kw_only=True)
class RetryPolicy:
    """Attempts at one provider (the first try counts) and the delays between them, in seconds.

    Raises:
        ValueError: for values that no back-off has.
    """

    max_attempts: int = field(default=3, validator=validators.ge(1))
    base_delay_seconds: float = field(default=1.0, validator=validators.ge(0.0))
    factor: float = field(default=2.0, validator=[validators.ge(1.0), validators.le(100.0)])
    jitter: bool = True
    cap_seconds: float = field(default=30.0, validator=validators.ge(0.0))

    def delay(self, retry_number: int, chance: float) -> float:
        """Seconds before retry ``retry_number`` (from 0), where ``chance`` is a random number in 0 to 1.

        Full jitter, ``rand(0, min(cap, base x factor ** n))``: gRPC's A6, and AWS's "Exponential Backoff And Jitter".
        Without jitter the upper bound.
        """
        limit = min(self.cap_seconds, self.base_delay_seconds * self.factor ** min(retry_number, 64))
        return limit * chance if self.jitter else limit


def retry_after_seconds(headers: Mapping[str, str], now_epoch: float) -> float | None:
    """``retry-after-ms`` (Azure: ``x-ms-retry-after-ms``), else ``retry-after`` in seconds or as an HTTP date.

    ``None`` for none, a time that has passed, or garbage.

    ``headers`` by lower-case name; ``now_epoch`` in seconds since 1970.
    """
    for name, unit in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        seconds = float(text) * unit if _NUMBER.fullmatch(text) else _seconds_until(text, now_epoch)
        if seconds is not None and 0 <= seconds < _LONGEST_SECONDS:
            return seconds
    return None


def _seconds_until(date: str, now_epoch: float) -> float | None:
    try:
        at = parsedate_to_datetime(date)
        # an HTTP date is GMT, whether it says so or not (RFC 9110 §5.6.7)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() - now_epoch
    except (ValueError, TypeError, OverflowError):
        return None
