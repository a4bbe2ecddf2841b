"""The circuit breaker as a frozen value: no clock, no lock, no loop.

closed -> open at ``failure_threshold`` consecutive failures, or at a failure by which ``window_ratio`` of at least ``window_calls``
calls within ``window_seconds`` have failed, or at a slow one by which ``slow_ratio`` of them were slow (``slow_first_token_seconds``);
open -> half-open after the recovery time, which doubles with each re-opening; half-open
lets at most ``half_open_limit`` probes out at once, ``min(2, half_open_limit)`` good ones close it, a bad one opens it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import evolve, field, frozen, validators

from runestone.domain.outcome import Outcome

_BUCKETS = 10
_DOUBLINGS = 64  # more are never needed to reach the limit; without a bound an outage of days would overflow a float
_PROBES_JUDGED_SECONDS = 1.0  # a guess of when one of the probes that are out will be judged


@frozen(kw_only=True)
class BreakerPolicy:
    """What opens and closes a breaker. Times are seconds; ``jitter`` is the share by which a recovery time is varied, up or down.

    ``probe_deadline_seconds`` is how long a probe may stay unjudged; it must be longer than a call may take up to its commit point.

    Raises:
        ValueError: for values with which a breaker could never open, or never close again.
    """

    failure_threshold: int = field(default=5, validator=validators.ge(1))
    recovery_timeout_seconds: float = field(default=60.0, validator=validators.gt(0.0))
    half_open_limit: int = field(default=3, validator=validators.ge(1))
    window_seconds: float = field(default=30.0, validator=validators.gt(0.0))
    window_calls: int = field(default=10, validator=validators.ge(1))
    window_ratio: float = field(default=0.5, validator=[validators.gt(0.0), validators.le(1.0)])
    slow_first_token_seconds: float | None = field(default=None, validator=validators.optional(validators.gt(0.0)))
    slow_ratio: float = field(default=0.8, validator=[validators.gt(0.0), validators.le(1.0)])
    max_recovery_seconds: float = field(default=300.0, validator=validators.gt(0.0))
    jitter: float = field(default=0.1, validator=[validators.ge(0.0), validators.lt(1.0)])
    probe_deadline_seconds: float = field(default=120.0, validator=validators.gt(0.0))


@frozen
class Permit:
    """A call that was let through: in which generation, and whether as a probe.

    A probe is settled at its commit point (and again if it breaks later), any other call at its end.
    """

    id: int
    generation: int
    probe: bool


@frozen
class BreakerRefusal:
    """A call that was not let through; ``None`` where only an operator can change that."""

    retry_after_seconds: float | None


@frozen
class Closed:
    """Everything passes."""


@frozen
class Open:
    """Nothing passes before ``until``."""

    until: float


@frozen
class HalfOpen:
    """Probes are out, each with its deadline; ``good`` of them have succeeded."""

    good: int = 0
    probes: Mapping[int, float] = field(factory=dict)

    def unjudged(self, now: float) -> dict[int, float]:
        """The probes that are out, without those whose deadline has passed: a lost one must not block the others for ever."""
        return {lease_id: deadline for lease_id, deadline in self.probes.items() if deadline > now}


@frozen
class ForcedOpen:
    """An operator has opened it, until ``until``, or until it is reset or left to itself again."""

    until: float | None


@frozen
class Disabled:
    """It measures and never refuses."""


State = Closed | Open | HalfOpen | ForcedOpen | Disabled


@frozen(kw_only=True)
class Window:
    """Calls, failures and slow ones by time bucket, no older than ``window_seconds``; bounded."""

    buckets: tuple[tuple[int, int, int, int], ...] = ()  # (bucket number, calls, failures, slow)

    def add(self, now: float, policy: BreakerPolicy, *, failed: bool, slow: bool = False) -> Window:
        """One more call at ``now``."""
        number = int(now * _BUCKETS / policy.window_seconds)
        kept = tuple(b for b in self.buckets if b[0] > number - _BUCKETS)
        if kept and kept[-1][0] == number:
            _, calls, failures, late = kept[-1]
            return Window(buckets=(*kept[:-1], (number, calls + 1, failures + failed, late + slow)))
        return Window(buckets=(*kept, (number, 1, int(failed), int(slow))))

    def bad(self, policy: BreakerPolicy) -> bool:
        """Whether too many of the calls have failed, or were slow, as of the last one added."""
        calls = sum(b[1] for b in self.buckets)
        if calls < policy.window_calls:
            return False
        failed, slow = sum(b[2] for b in self.buckets), sum(b[3] for b in self.buckets)
        return failed >= policy.window_ratio * calls or slow >= policy.slow_ratio * calls


@frozen(kw_only=True)
class Breaker:
    """One breaker. ``now`` is seconds of any clock that never goes back; ``chance`` a random number in 0 to 1.

    The generation changes with every change of state, so that what was let through before it has no say after it.
    """

    policy: BreakerPolicy
    state: State = Closed()
    generation: int = 0
    consecutive_failures: int = 0
    reopenings: int = 0
    window: Window = Window()

    @classmethod
    def new(cls, policy: BreakerPolicy) -> Breaker:
        """A closed one."""
        return cls(policy=policy)

    def refusal(self, now: float) -> BreakerRefusal | None:
        """Why a call at ``now`` would not be let through, or ``None``. Asking takes no probe."""
        match self.state:
            case Open(until) if now < until:
                return BreakerRefusal(until - now)
            case ForcedOpen(until) if until is None or now < until:
                return BreakerRefusal(None if until is None else until - now)
            case HalfOpen() as half_open:
                out = half_open.unjudged(now)
                if len(out) < self.policy.half_open_limit:
                    return None
                return BreakerRefusal(min(_PROBES_JUDGED_SECONDS, min(out.values()) - now))
            case _:
                return None

    def admit(self, lease_id: int, now: float) -> tuple[Breaker, Permit | BreakerRefusal]:
        """Let one call through, as a probe where it is not closed, or say when to come back."""
        if (refused := self.refusal(now)) is not None:
            return self, refused
        match self.state:
            case Closed() | Disabled():
                return self, Permit(lease_id, self.generation, probe=False)
            case HalfOpen(good) as half_open:
                out, generation = half_open.unjudged(now), self.generation
            case _:
                good, out, generation = 0, {}, self.generation + 1
        state = HalfOpen(good, {**out, lease_id: now + self.policy.probe_deadline_seconds})
        return evolve(self, state=state, generation=generation), Permit(lease_id, generation, probe=True)

    def settle(
        self, permit: Permit, outcome: Outcome, now: float, chance: float = 0.5, *, slow: bool = False
    ) -> Breaker:
        """Learn how a call went; ``slow``: its first token was late. Results of an older generation change nothing.

        A neutral one only gives its probe back; a slow probe is a bad one, or the breaker would close upon what has opened it.
        """
        if permit.generation != self.generation:
            return self
        match self.state:
            case Closed() | Disabled():
                return self._settle_closed(outcome, now, chance, slow=slow)
            case HalfOpen() if outcome == "failure" or (slow and outcome == "success"):
                return self._open(now, chance)  # also after a good commit point, and after its deadline
            case HalfOpen(good, probes) if permit.id in probes:
                return self._settle_probe(HalfOpen(good + (outcome == "success"), probes), permit)
            case _:
                return self

    def _settle_closed(self, outcome: Outcome, now: float, chance: float, *, slow: bool) -> Breaker:
        if outcome == "neutral":
            return self
        failed = outcome == "failure"
        window = self.window.add(now, self.policy, failed=failed, slow=slow)
        failures = self.consecutive_failures + 1 if failed else 0
        too_bad = failures >= self.policy.failure_threshold or ((failed or slow) and window.bad(self.policy))
        if too_bad and isinstance(self.state, Closed):
            return evolve(self, consecutive_failures=failures)._open(now, chance)  # noqa: SLF001 - its own class
        return Breaker(  # every field by name: twice as quick as evolve, on the way of each request
            policy=self.policy,
            state=self.state,
            generation=self.generation,
            consecutive_failures=failures,
            reopenings=self.reopenings,
            window=window,
        )

    def _settle_probe(self, state: HalfOpen, permit: Permit) -> Breaker:
        if state.good >= min(2, self.policy.half_open_limit):
            return self.reset()
        return evolve(self, state=HalfOpen(state.good, {k: v for k, v in state.probes.items() if k != permit.id}))

    def _open(self, now: float, chance: float) -> Breaker:
        policy = self.policy
        longest = max(policy.max_recovery_seconds, policy.recovery_timeout_seconds)
        seconds = min(policy.recovery_timeout_seconds * 2.0 ** min(self.reopenings, _DOUBLINGS), longest)
        return evolve(
            self,
            state=Open(now + seconds * (1 + policy.jitter * (2 * chance - 1))),
            generation=self.generation + 1,
            reopenings=self.reopenings + 1,
            window=Window(),
        )

    def reset(self) -> Breaker:
        """Closed, with nothing counted."""
        return Breaker(policy=self.policy, generation=self.generation + 1)

    def trip(self, now: float, until: float | None = None) -> Breaker:
        """Forced open by an operator, until ``until`` or for good; a time that has passed already forces nothing."""
        if until is not None and until <= now:
            return self
        return evolve(self, state=ForcedOpen(until), generation=self.generation + 1)

    def auto(self) -> Breaker:
        """No longer forced or disabled: closed. What was counted stays: of a provider that goes on failing, the next failure opens it."""
        if not isinstance(self.state, ForcedOpen | Disabled):
            return self
        return evolve(self, state=Closed(), generation=self.generation + 1, reopenings=0)

    def disable(self) -> Breaker:
        """Measure only."""
        return evolve(self, state=Disabled(), generation=self.generation + 1)

    def name(self, now: float) -> Literal["closed", "open", "half_open"]:
        """The state in the guide's three words; half-open as soon as a probe would be let through."""
        match self.state:
            case Closed() | Disabled():
                return "closed"
            case Open(until) if now < until:
                return "open"
            case ForcedOpen(until) if until is None or now < until:
                return "open"
            case _:
                return "half_open"

    @property
    def mode(self) -> Literal["auto", "forced_open", "disabled"]:
        """Whether an operator has taken over."""
        match self.state:
            case ForcedOpen():
                return "forced_open"
            case Disabled():
                return "disabled"
            case _:
                return "auto"

    def retry_after(self, now: float) -> float | None:
        """Seconds until it may let something through; ``None`` if it may now, or only an operator can say."""
        refused = self.refusal(now)
        return None if refused is None else refused.retry_after_seconds

    def slow(self, first_token_seconds: float) -> bool:
        """Whether a stream whose first token came after so long counts as slow."""
        limit = self.policy.slow_first_token_seconds
        return limit is not None and first_token_seconds > limit

    @property
    def probes_out(self) -> int:
        """Probes whose result is not known yet."""
        return len(self.state.probes) if isinstance(self.state, HalfOpen) else 0
