"""What a provider actor leaves to its next incarnation, and what others may read of it without asking.

One :class:`ProviderMemory` per provider, kept by the ``state`` actor, the process that outlives all the others. It is this program's ETS
table: exactly one writer (the running incarnation of the provider actor; for ``transport``, ``probing`` and ``last_probe`` the actors
beside it), any number of readers in the same loop. The machines in it are frozen values, so a reader always sees a whole one.
"""

from __future__ import annotations

import math

from attrs import define, evolve, field, frozen

from runestone.config.settings import ProviderSettings
from runestone.domain.failure import Failure
from runestone.domain.routing import family
from runestone.providers.messages import RESTART_SECONDS, RefusalReason
from runestone.providers.transport import Transport
from runestone.resilience.breaker import Breaker, BreakerRefusal, Permit
from runestone.resilience.concurrency import Concurrency
from runestone.resilience.health import Health
from runestone.resilience.probing import Probing
from runestone.resilience.quarantine import Quarantine
from runestone.resilience.throttle import Throttle
from supervisors import Process

PLACE_SECONDS = 1.0  # a guess of when one of the calls that are out will have ended


@define(slots=True, eq=False, kw_only=True)
class LeaseRecord:
    """One lease that is out. ``owner`` is the process of the request; its end gives the lease back."""

    id: int
    model: str
    permit: Permit | None  # None: granted while the breaker only measures
    owner: Process | None
    since: float
    slow: bool = False  # its first token was late


@frozen(kw_only=True)
class Ending:
    """The last success or failure of a provider: when (epoch seconds) and what."""

    at: float
    what: str


@define(slots=True)
class ProviderMemory:
    """Breaker, score, throttle, quarantine and leases of one provider, across the lives of its actor."""

    settings: ProviderSettings
    breaker: Breaker
    throttle: Throttle = field(factory=Throttle)
    quarantine: Quarantine = field(factory=Quarantine)
    health: Health = field(factory=Health)
    concurrency: Concurrency = field(init=False)
    waiting: int = 0  # requests that stand in line for a place
    leases: dict[int, LeaseRecord] = field(factory=dict)
    transport: Transport | None = None
    incarnation: int = 0
    next_lease: int = 0
    draining: bool = False
    calls: int = 0
    failures: int = 0
    stale: int = 0  # requests that were sent once more because their connection had been closed
    last_success: Ending | None = None
    last_failure: Ending | None = None
    probing: Probing = field(factory=Probing)
    last_probe: Ending | None = None
    announced: str = "closed"  # the state of the breaker that the bus was told last
    ended_cleanly: bool = True
    crashed_at: float | None = None  # loop time of the last crash; a second one soon after starts fresh

    def __attrs_post_init__(self) -> None:
        self.concurrency = Concurrency(policy=self.settings.concurrency)

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.settings.name

    def score(self, now: float) -> float:
        """The health score, 0 to 1; 0 while probes find nobody there."""
        return 0.0 if self.probing.down(now, self.last_call) else self.health.score(now, self.breaker.name(now))

    @property
    def last_call(self) -> float:
        """The loop's time at which a call last showed how the provider is; minus infinity: none has."""
        return self.health.at if self.health.all else -math.inf

    def refusal(self, model: str | None, now: float) -> tuple[RefusalReason, float | None] | None:
        """Why it would not be asked for ``model`` now, and for how long; ``None`` if it would, or if only its breaker is against it.

        The breaker comes last, and apart: a refused request must not eat its probe.
        """
        if self.transport is None:
            return "down", RESTART_SECONDS
        if self.draining:
            return "draining", None
        if self.settings.circuit_breaker:
            if (wait := self.throttle.retry_after(now)) is not None:
                return "throttled", wait
            if (wait := self.quarantine.retry_after(model, now)) is not None:
                return ("not_found" if self.quarantine.reason(model, now) == "not_found" else "quarantined"), wait
        return ("saturated", PLACE_SECONDS) if self.concurrency.full(len(self.leases)) else None

    def usable(self, model: str, now: float) -> bool:
        """Whether it would be asked for ``model`` now, the score aside."""
        return self.refusal(model, now) is None and self.shut(now) is None

    def shut(self, now: float) -> BreakerRefusal | None:
        """What its breaker has against a call, where it does more than measure. Asking takes no probe."""
        return self.breaker.refusal(now) if self.settings.circuit_breaker else None

    def serves(self, model: str) -> bool:
        """Whether ``model`` is one of its own names, not one that was only passed on."""
        return (
            model == self.settings.default_model or model in self.settings.models or family(model) == self.settings.kind
        )

    def change(self, settings: ProviderSettings) -> None:
        """Take other settings. What was learned stays, unless it was learned of another place or with another key.

        Only for while its actor is down: that one is the writer.
        """
        elsewhere = settings.reaches_elsewhere_than(self.settings)
        self.settings = settings
        self.breaker = evolve(self.breaker, policy=settings.breaker)
        self.concurrency = evolve(self.concurrency, policy=settings.concurrency)
        if elsewhere:
            self.forget()

    def forget(self) -> None:
        """Start fresh, as the operator's clean slate asks: all but the leases that are out."""
        self.breaker = self.breaker.reset()
        self.throttle, self.quarantine, self.health, self.probing = Throttle(), Quarantine(), Health(), Probing()
        self.concurrency = Concurrency(policy=self.settings.concurrency)
        self.ended_cleanly, self.crashed_at = True, None

    def note_failure(self, failure: Failure, at: float) -> None:
        """Remember ``failure`` for the people who ask why."""
        self.failures += 1
        self.last_failure = Ending(at=at, what=f"{failure.kind}: {failure.message}")
