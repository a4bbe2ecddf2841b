"""The health score, 0 to 1: how a provider has done lately.

``success² x latency x headroom x breaker``. Evidence fades: whatever has made a score bad, the score comes back by itself while nothing
new is learnt, or a provider that is left alone for its score would never be asked again.
"""

from __future__ import annotations

import math
from typing import Final, Literal

from attrs import evolve, frozen

from runestone.domain.outcome import Outcome

_TAU_SECONDS: Final = 30.0
_BASELINE_TAU_SECONDS: Final = 600.0
_TOLERANCE: Final = 2.0  # times its baseline before latency counts against it
_QUICK_SECONDS: Final = (
    0.1  # nobody waits for a first token that comes sooner: below it, differences are the machine's noise
)
_AMPLE: Final = 0.2  # with this much left of its rate limit a provider is not held back
_UNKNOWN_SECONDS: Final = 600.0  # the load of a call whose provider has not shown yet how fast it is
_BREAKER: Final = {"closed": 1.0, "half_open": 0.5, "open": 0.0}


@frozen(kw_only=True)
class Health:
    """Decayed sums of calls, first-token times and rate-limit headroom, each as of a time (seconds of a clock that never goes back).

    First-token times are those of streams. What an answer takes that comes in one piece depends on its length: it is known apart, moves
    no score, and stands in for a first-token time where there is none.
    """

    at: float = 0.0
    good: float = 0.0
    all: float = 0.0
    first_token_seconds: float | None = None  # peak EWMA, as of ``first_token_at``
    first_token_at: float = 0.0
    baseline_seconds: float | None = None  # slow EWMA of the same
    headroom: float = 1.0
    headroom_at: float = 0.0
    whole_seconds: float | None = None  # EWMA of whole answers, as of ``whole_at``
    whole_at: float = 0.0

    def observe(self, outcome: Outcome, now: float) -> Health:
        """One call ended. What happened ``t`` seconds ago weighs ``exp(-t / 30 s)``; a neutral end weighs nothing."""
        if outcome == "neutral":
            return self
        w = _fading(now - self.at)
        return Health(  # every field by name: twice as quick as evolve, on the way of each request
            at=max(now, self.at),
            good=self.good * w + (outcome == "success"),
            all=self.all * w + 1.0,
            first_token_seconds=self.first_token_seconds,
            first_token_at=self.first_token_at,
            baseline_seconds=self.baseline_seconds,
            headroom=self.headroom,
            headroom_at=self.headroom_at,
            whole_seconds=self.whole_seconds,
            whole_at=self.whole_at,
        )

    def observe_first_token(self, seconds: float, now: float) -> Health:
        """A first token came after ``seconds``. Up at once, down slowly (Finagle's ``PeakEwma``); the baseline follows over ten minutes."""
        old, base = self.first_token_seconds, self.baseline_seconds
        gap = max(now - self.first_token_at, 0.0)
        w = _fading(gap)
        peak = seconds if old is None or seconds > old else old * w + seconds * (1 - w)
        v = math.exp(-max(gap, 1.0) / _BASELINE_TAU_SECONDS)
        return Health(
            at=self.at,
            good=self.good,
            all=self.all,
            first_token_seconds=peak,
            first_token_at=now,
            baseline_seconds=seconds if base is None else base * v + seconds * (1 - v),
            headroom=self.headroom,
            headroom_at=self.headroom_at,
            whole_seconds=self.whole_seconds,
            whole_at=self.whole_at,
        )

    def observe_whole(self, seconds: float, now: float) -> Health:
        """An answer in one piece came after ``seconds``."""
        old, w = self.whole_seconds, _fading(max(now - self.whole_at, 1.0))
        return evolve(self, whole_seconds=seconds if old is None else old * w + seconds * (1 - w), whole_at=now)

    def observe_headroom(self, ratio: float, now: float) -> Health:
        """What an answer's headers say is left of the rate limit: ``remaining / limit``, 0 to 1."""
        return evolve(self, headroom=min(max(ratio, 0.0), 1.0), headroom_at=now)

    def score(self, now: float, breaker: Literal["closed", "open", "half_open"]) -> float:
        """The score at ``now``, 0 to 1; 1.0 with no data.

        * success: the decayed share of good calls, blended with 1 as the evidence fades below the weight of one call; squared
        * latency: ``min(1, max(2 x baseline, 0.1 s) / first-token EWMA)``
        * headroom: ``min(1, remaining share / 0.2)``
        * breaker: 1 closed, 0.5 half-open, 0 open
        """
        success, latency, headroom = self._factors(now)
        return min(max(success * latency * headroom * _BREAKER[breaker], 0.0), 1.0)

    def parts(self, now: float, breaker: Literal["closed", "open", "half_open"]) -> dict[str, float]:
        """What the score is made of, by name: the score is their product."""
        success, latency, headroom = self._factors(now)
        return {"success": success, "latency": latency, "headroom": headroom, "breaker": _BREAKER[breaker]}

    def _factors(self, now: float) -> tuple[float, float, float]:
        """Success, squared; latency; headroom."""
        success = 1.0
        if self.all:
            weight = min(self.all * _fading(now - self.at), 1.0)
            success = 1.0 - weight * (1.0 - self.good / self.all)
        latency = 1.0
        if self.baseline_seconds and (seconds := self._first_token(now)):
            latency = min(1.0, max(_TOLERANCE * self.baseline_seconds, _QUICK_SECONDS) / seconds)
        spent = (1.0 - self.headroom) * _fading(now - self.headroom_at)
        return success * success, latency, min(1.0, (1.0 - spent) / _AMPLE)

    def expected_load(self, in_flight: int, now: float) -> float:
        """Seconds: :meth:`latency` at ``now`` x (``in_flight`` + 1), as in Finagle's ``PeakEwma``.

        As there, one call may try a provider of which nothing is known yet; the next ones stay away until it has answered.
        """
        seconds = self.latency(now)
        return _UNKNOWN_SECONDS * in_flight if seconds is None else seconds * (in_flight + 1)

    def latency(self, now: float) -> float | None:
        """Seconds: the first-token EWMA at ``now``; where no stream was seen, that of whole answers; ``None``: nothing is known."""
        seconds = self._first_token(now)
        return self.whole_seconds if seconds is None else seconds

    def _first_token(self, now: float) -> float | None:
        """The first-token EWMA; what is above the baseline fades, or a provider that was slow once would stay slow."""
        peak, base = self.first_token_seconds, self.baseline_seconds
        if peak is None or base is None or peak <= base:
            return peak
        return base + (peak - base) * _fading(now - self.first_token_at)


def _fading(seconds: float) -> float:
    return math.exp(-max(seconds, 0.0) / _TAU_SECONDS)
