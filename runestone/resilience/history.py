"""What the machines of one provider were told of late, step by step: enough to play all of it again.

A step is a plain tuple, its kind first, then when it was (seconds of the clock of the machines); :mod:`runestone.resilience.replay` is its
reader. Tuples of numbers and words cost next to nothing to make, and the garbage collector does not look at them again. Steps stand in
chunks; each chunk knows the machines as they were before its first step, so that the oldest one may go and what is left is still exact.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal, assert_never

from attrs import define, field, frozen

from runestone.domain.outcome import Outcome
from runestone.resilience.breaker import Breaker, BreakerPolicy
from runestone.resilience.health import Health

STEPS_OF_A_CHUNK: Final = 500
CHUNKS: Final = 10
_REFUSALS_SECONDS: Final = 1.0  # that one step may stand for, or
_REFUSALS_SHARE: Final = 0.1  # of how long they have lasted: an outage of a day is a hundred steps

Act = Literal["reset", "trip", "auto", "disable"]

# a call is made: lease, request, whether the breaker's word counts (else it only measures)
Admitted = tuple[Literal["admit"], float, int, str, bool]
# calls in a row were refused by the breaker: from, to, how many, since when nothing else has come between
Refused = tuple[Literal["refuse"], float, float, int, float]
# a call has its first content: lease, seconds, whether they are a first token's, headroom, chance, and its permit: generation, probe
Content = tuple[Literal["content"], float, int, float, bool, float | None, float | None, int | None, bool]
# a call is over: lease, request, outcome, kind of the failure ("": none), seconds until it may be asked again, model, whether its first
# token was late, chance, and its permit: generation (None: it had no permit), probe
Ended = tuple[Literal["end"], float, int, str, Outcome, str, float | None, str, bool, float | None, int | None, bool]
# an operator has acted: what, until when
Operated = tuple[Literal["operate"], float, Act, float | None]
# other settings are in force
Tuned = tuple[Literal["tune"], float, BreakerPolicy]
# all is forgotten: why
Forgot = tuple[Literal["forget"], float, Literal["restart", "another place", "crashes"]]
# an actor has begun: which incarnation, whether the one before has crashed
Began = tuple[Literal["begin"], float, int, bool]
Step = Admitted | Refused | Content | Ended | Operated | Tuned | Forgot | Began


@frozen(kw_only=True)
class Start:
    """The machines before a step. ``epoch`` is what makes a time of theirs one in seconds since 1970."""

    breaker: Breaker
    health: Health
    epoch: float


@frozen
class Chunk:
    """A stretch of steps."""

    start: Start
    steps: list[Step] = field(factory=list)


@define(slots=True, eq=False)
class History:
    """The last steps of one provider, between 4,500 and 5,000 once there were so many. One writer; it is read in the same loop."""

    size: int = STEPS_OF_A_CHUNK
    _chunks: deque[Chunk] = field(factory=lambda: deque(maxlen=CHUNKS))
    latest: list[Step] = field(factory=list)  # of the last chunk; empty or full: the next step begins another one

    def begin(self, start: Start) -> list[Step]:
        """A new chunk; the oldest one goes, if there are too many."""
        chunk = Chunk(start)
        self._chunks.append(chunk)
        self.latest = chunk.steps
        return chunk.steps

    @property
    def kept(self) -> int:
        """How many steps are kept."""
        return sum(len(chunk.steps) for chunk in self._chunks)

    def chunks(self) -> tuple[Chunk, ...]:
        """What is kept, the oldest first; later steps do not come into it."""
        return tuple(Chunk(chunk.start, chunk.steps.copy()) for chunk in self._chunks)


def joined(last: Step | None, now: float) -> tuple[Refused, bool]:
    """One more refusal at ``now``, and whether it is in place of ``last``, the step before, or a step of its own."""
    if last is None or last[0] != "refuse":
        return ("refuse", now, now, 1, now), False
    _, first, _, count, since = last
    if now - first <= max(_REFUSALS_SECONDS, _REFUSALS_SHARE * (first - since)):
        return ("refuse", first, now, count + 1, since), True
    return ("refuse", now, now, 1, since), False


def operated(breaker: Breaker, act: Act, now: float, until: float | None = None) -> Breaker:
    """``breaker`` after an operator's ``act`` at ``now``; ``until`` is for a trip."""
    match act:
        case "reset":
            return breaker.reset()
        case "trip":
            return breaker.trip(now, until)
        case "auto":
            return breaker.auto()
        case "disable":
            return breaker.disable()
        case _:
            assert_never(act)
