"""Whether a child is restarted, when a supervisor gives up, how long a restart waits. Pure: no clock, no loop."""

from __future__ import annotations

from collections import deque
from typing import Literal

from attrs import Attribute, field, frozen

from supervisors.exit import ExitReason, is_abnormal

Restart = Literal["permanent", "transient", "temporary"]


def restarts(restart: Restart, reason: ExitReason) -> bool:
    """OTP's table: permanent always, transient after an abnormal end, temporary never."""
    return restart == "permanent" or (restart == "transient" and is_abnormal(reason))


class Intensity:
    """The sliding window of restarts: one more than ``max_restarts`` within ``max_seconds`` is too many.

    >>> window = Intensity(max_restarts=1, max_seconds=5.0)
    >>> window.add(0.0), window.add(5.0)
    (True, False)
    >>> window.add(11.0)
    True
    """

    __slots__ = ("_at", "max_restarts", "max_seconds")

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        if max_restarts < 0:
            raise ValueError(f"max_restarts must be at least 0, not {max_restarts}")
        if max_seconds <= 0:
            raise ValueError(f"max_seconds must be above 0, not {max_seconds}")
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self._at: deque[float] = deque(maxlen=max_restarts + 1)

    def add(self, now: float) -> bool:
        """Count one at ``now``; False when it is one too many."""
        while self._at and self._at[0] < now - self.max_seconds:
            self._at.popleft()
        self._at.append(now)
        return len(self._at) <= self.max_restarts


def _positive(_: object, attribute: Attribute[float], value: float) -> None:
    if value <= 0:
        raise ValueError(f"{attribute.name} must be above 0, not {value}")


@frozen(kw_only=True)
class Backoff:
    """How long a restart waits, growing with each failure in a row.

    Without one, a child that fails as soon as it is started is started again at once, as often as ``max_restarts`` allows; so where that is
    a large number, give the child a backoff.

    * ``min_seconds`` - the wait before the first restart.
    * ``max_seconds`` - no wait is longer.
    * ``factor`` - each wait is so many times the one before.
    * ``jitter`` - up to this share is added by chance, so that many children do not return at once; with 0 a wait is exact.
    * ``reset_after_seconds`` - a child that ran for so long starts over at ``min_seconds``; by default that is ``min_seconds`` itself.

    >>> backoff = Backoff(min_seconds=1.0, max_seconds=5.0)
    >>> [backoff.delay(failures, chance=0.5) for failures in (1, 2, 3, 4)]
    [1.0, 2.0, 4.0, 5.0]
    """

    min_seconds: float = field(validator=_positive)
    max_seconds: float = field()
    factor: float = field(default=2.0)
    jitter: float = field(default=0.0)
    reset_after_seconds: float = field()

    @reset_after_seconds.default
    def _reset_default(self) -> float:
        return self.min_seconds

    @max_seconds.validator
    def _at_least_min(self, _: object, value: float) -> None:
        if value < self.min_seconds:
            raise ValueError(f"max_seconds must be at least min_seconds {self.min_seconds}, not {value}")

    @factor.validator
    def _at_least_one(self, _: object, value: float) -> None:
        if value < 1:
            raise ValueError(f"factor must be at least 1, not {value}")

    @jitter.validator
    def _share(self, _: object, value: float) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"jitter must be from 0 to 1, not {value}")

    @reset_after_seconds.validator
    def _not_negative(self, _: object, value: float) -> None:
        if value < 0:
            raise ValueError(f"reset_after_seconds must be at least 0, not {value}")

    def delay(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many ``failures`` in a row, from 1; ``chance`` is from 0 to 1."""
        # The exponent is bounded, for a float overflows after some thousand failures.
        seconds = self.min_seconds * self.factor ** min(failures - 1, 64)
        return min(self.max_seconds, seconds * (1 + self.jitter * chance))
