"""The circuit breaker as a frozen value: no clock, no lock, no loop.

closed -> open at ``failure_threshold`` consecutive failures, or at ``window_ratio`` of at least ``window_calls`` calls within
``window_seconds``; open -> half-open after the recovery time, which doubles with each re-opening; half-open lets at most
``half_open_limit`` probes out at once, ``min(2, half_open_limit)`` good ones close it, a bad one opens it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import evolve, field, frozen

from runestone.domain.outcome import Outcome

_BUCKETS = 10


@frozen(kw_only=True)
class BreakerPolicy:
    """What opens and closes a breaker. Times are seconds."""

    failure_threshold: int = 5
    recovery_timeout_seconds: float = 60.0
    half_open_limit: int = 3
    window_seconds: float = 30.0
    window_calls: int = 10
    window_ratio: float = 0.5
    max_recovery_seconds: float = 300.0
    jitter: float = 0.1
    probe_deadline_seconds: float = 120.0


@frozen
class Permit:
    """A call that was let through: in which generation, and whether as a probe."""

    id: int
    generation: int
    probe: bool


@frozen
class BreakerRefusal:
    """A call that was not."""

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


@frozen
class ForcedOpen:
    """An operator has opened it, until ``until`` or until it is reset."""

    until: float | None


@frozen
class Disabled:
    """It measures and never refuses."""


State = Closed | Open | HalfOpen | ForcedOpen | Disabled


@frozen(kw_only=True)
class Window:
    """Calls and failures by time bucket; bounded."""

    buckets: tuple[tuple[int, int, int], ...] = ()  # (bucket number, calls, failures)

    def add(self, now: float, policy: BreakerPolicy, *, failed: bool) -> Window:
        """One more call at ``now``."""
        number = int(now * _BUCKETS / policy.window_seconds)
        kept = tuple(b for b in self.buckets if b[0] > number - _BUCKETS)
        if kept and kept[-1][0] == number:
            _, calls, failures = kept[-1]
            return Window(buckets=(*kept[:-1], (number, calls + 1, failures + failed)))
        return Window(buckets=(*kept, (number, 1, int(failed))))

    def bad(self, policy: BreakerPolicy) -> bool:
        """Whether the ratio of failures is too high."""
        calls = sum(b[1] for b in self.buckets)
        return calls >= policy.window_calls and sum(b[2] for b in self.buckets) >= policy.window_ratio * calls


@frozen(kw_only=True)
class Breaker:
    """One breaker. Every method returns the breaker after it."""

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

    def admit(self, lease_id: int, now: float) -> tuple[Breaker, Permit | BreakerRefusal]:
        """Let one call through, or say when to come back."""
        match self.state:
            case Closed() | Disabled():
                return self, Permit(lease_id, self.generation, False)
            case ForcedOpen(until) if until is None or now < until:
                return self, BreakerRefusal(None if until is None else until - now)
            case Open(until) if now < until:
                return self, BreakerRefusal(until - now)
            case HalfOpen():
                breaker = self.refresh(now)
            case _:
                breaker = evolve(self, state=HalfOpen(), generation=self.generation + 1)
        return breaker._probe(lease_id, now)

    def _probe(self, lease_id: int, now: float) -> tuple[Breaker, Permit | BreakerRefusal]:
        assert isinstance(self.state, HalfOpen)
        probes = self.state.probes
        if len(probes) >= self.policy.half_open_limit:
            return self, BreakerRefusal(max(min(probes.values()) - now, 0.0) and 1.0)
        state = evolve(self.state, probes={**probes, lease_id: now + self.policy.probe_deadline_seconds})
        return evolve(self, state=state), Permit(lease_id, self.generation, True)

    def settle(self, permit: Permit, outcome: Outcome, now: float, chance: float = 0.5) -> Breaker:
        """Learn how a call went. Results of an older generation change nothing; a neutral one only gives its probe back."""
        if permit.generation != self.generation:
            return self
        match self.state:
            case Closed() | Disabled():
                return self._settle_closed(outcome, now, chance)
            case HalfOpen() if permit.id in self.state.probes:
                return self._settle_probe(permit, outcome, now, chance)
            case HalfOpen() if outcome == "failure":  # a probe that was good at its first content and broke later
                return self._open(now, chance)
            case _:
                return self

    def _settle_closed(self, outcome: Outcome, now: float, chance: float) -> Breaker:
        if outcome == "neutral":
            return self
        if outcome == "success":
            window = self.window.add(now, self.policy, failed=False)
            return evolve(self, consecutive_failures=0, window=window)
        window = self.window.add(now, self.policy, failed=True)
        after = evolve(self, consecutive_failures=self.consecutive_failures + 1, window=window)
        if isinstance(self.state, Disabled):
            return after
        if after.consecutive_failures >= self.policy.failure_threshold or window.bad(self.policy):
            return after._open(now, chance)
        return after

    def _settle_probe(self, permit: Permit, outcome: Outcome, now: float, chance: float) -> Breaker:
        assert isinstance(self.state, HalfOpen)
        if outcome == "failure":
            return self._open(now, chance)
        probes = {k: v for k, v in self.state.probes.items() if k != permit.id}
        good = self.state.good + (outcome == "success")
        if good >= min(2, self.policy.half_open_limit):
            return self.reset()
        return evolve(self, state=HalfOpen(good, probes))

    def _open(self, now: float, chance: float) -> Breaker:
        policy = self.policy
        base = min(
            policy.recovery_timeout_seconds * 2**self.reopenings,
            max(policy.max_recovery_seconds, policy.recovery_timeout_seconds),
        )
        seconds = base * (1 + policy.jitter * (2 * chance - 1))
        return evolve(
            self,
            state=Open(now + seconds),
            generation=self.generation + 1,
            reopenings=self.reopenings + 1,
            window=Window(),
        )

    def refresh(self, now: float) -> Breaker:
        """Take back probes whose deadline has passed."""
        if isinstance(self.state, HalfOpen) and any(at <= now for at in self.state.probes.values()):
            return evolve(
                self, state=HalfOpen(self.state.good, {k: v for k, v in self.state.probes.items() if v > now})
            )
        return self

    def reset(self) -> Breaker:
        """Closed, with nothing counted."""
        return Breaker(policy=self.policy, generation=self.generation + 1)

    def trip(self, now: float, until: float | None = None) -> Breaker:
        """Forced open by an operator."""
        return evolve(self, state=ForcedOpen(until), generation=self.generation + 1)

    def auto(self) -> Breaker:
        """No longer forced or disabled."""
        return self.reset() if isinstance(self.state, ForcedOpen | Disabled) else self

    def disable(self) -> Breaker:
        """Measure only."""
        return evolve(self, state=Disabled(), generation=self.generation + 1)

    def name(self, now: float) -> Literal["closed", "open", "half_open"]:
        """The state in the guide's three words."""
        match self.state:
            case Closed() | Disabled():
                return "closed"
            case HalfOpen():
                return "half_open"
            case Open(until):
                return "open" if now < until else "half_open"
            case ForcedOpen(until):
                return "open" if until is None or now < until else "half_open"

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
        """Seconds until it may let something through, if it is open."""
        match self.state:
            case Open(until) | ForcedOpen(float() as until) if until > now:
                return until - now
            case _:
                return None

    @property
    def probes_out(self) -> int:
        """Probes whose result is not known yet."""
        return len(self.state.probes) if isinstance(self.state, HalfOpen) else 0
