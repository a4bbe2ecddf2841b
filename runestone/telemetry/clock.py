"""Whether the system's clock jumps: times in the log, in events and in the ledger jump with it. Nothing here reads a clock."""

from __future__ import annotations

from typing import Final

from attrs import frozen

_LEAST_SECONDS: Final = 1.0  # what is less is a clock that is being kept right


@frozen(kw_only=True)
class Jump:
    """By how many seconds the clock was ahead of itself at once (below 0: behind), and when, in its own new time."""

    seconds: float
    at: float


@frozen(kw_only=True)
class Clock:
    """The system's clock beside one that never jumps, looked at again and again; ``last`` is the last jump."""

    ahead: float | None = None  # of the one that never jumps, at the last look
    last: Jump | None = None

    def observe(self, wall: float, steady: float) -> Clock:
        """One look: seconds since the epoch, and seconds of a clock that never jumps."""
        ahead = wall - steady
        if self.ahead is not None and abs(ahead - self.ahead) >= _LEAST_SECONDS:
            return Clock(ahead=ahead, last=Jump(seconds=ahead - self.ahead, at=wall))
        return Clock(ahead=ahead, last=self.last)
