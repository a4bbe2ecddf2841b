"""How many calls a provider may have out at once: fixed, or found by additive increase and multiplicative decrease (AIMD).

AIMD is what TCP does (Chiu and Jain, 1989): each full round of successes at the limit raises it by one, an answer that says "too much"
(429, 529) lowers it to 0.7 of the calls that were out. Calls that began before the last decrease have met the old limit: they lower it
no further.
"""

from __future__ import annotations

import math
from typing import Final

from attrs import evolve, field, frozen, validators

_DECREASE: Final = 0.7


@frozen(kw_only=True)
class ConcurrencyPolicy:
    """``limit`` is the most that is ever allowed (``None``: any number); ``adaptive``: less, where the provider says so.

    Who finds all places taken waits in a line of at most ``queue``, for at most ``queue_seconds``.
    """

    limit: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    adaptive: bool = False
    queue: int = field(default=100, validator=validators.ge(0))
    queue_seconds: float = field(default=5.0, validator=validators.ge(0.0))


@frozen(kw_only=True)
class Concurrency:
    """The limit at a moment. An adaptive one without a limit of its own begins with the first answer that says "too much"."""

    policy: ConcurrencyPolicy = ConcurrencyPolicy()
    found: float = math.inf  # what AIMD has come to
    lowered_at: float = -math.inf

    @property
    def limit(self) -> int | None:
        """Calls that may be out at once, at least 1; ``None``: any number."""
        most = math.inf if self.policy.limit is None else float(self.policy.limit)
        allowed = min(most, self.found) if self.policy.adaptive else most
        return None if allowed == math.inf else max(1, int(allowed))

    def full(self, in_flight: int) -> bool:
        """Whether no further call may start beside ``in_flight`` ones."""
        limit = self.limit
        return limit is not None and in_flight >= limit

    def overloaded(self, in_flight: int, began: float, now: float) -> Concurrency:
        """One of ``in_flight`` calls, itself among them, has been told that it was too much; it had started at ``began``."""
        if not self.policy.adaptive or began < self.lowered_at:
            return self
        return evolve(self, found=max(1.0, min(self.found, float(in_flight)) * _DECREASE), lowered_at=now)

    def succeeded(self, in_flight: int) -> Concurrency:
        """One of ``in_flight`` calls, itself among them, went well. A limit that is not used at least by half proves nothing."""
        if self.found == math.inf or in_flight * 2 < self.found:
            return self
        return evolve(self, found=self.found + 1.0 / self.found)
