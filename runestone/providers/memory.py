"""What a provider actor leaves to its next incarnation, and what others may read of it without asking.

One :class:`ProviderMemory` per provider, kept by the ``state`` actor, the process that outlives all the others. It is this program's ETS
table: exactly one writer (the running incarnation of the provider actor; for ``transport``, ``probing`` and ``last_probe`` the actors
beside it), any number of readers in the same loop. The machines in it are frozen values, so a reader always sees a whole one.
"""

from __future__ import annotations

import math
import time
from typing import Literal

from attrs import define, evolve, field, frozen

from runestone.config.settings import ProviderSettings
from runestone.domain.failure import Failure
from runestone.domain.outcome import Outcome
from runestone.domain.routing import family
from runestone.providers.faulty import AnyTransport, Front
from runestone.providers.messages import RESTART_SECONDS, AdminState, FirstContent, RefusalReason
from runestone.providers.transport import Transport
from runestone.resilience.breaker import Breaker, BreakerRefusal, Permit
from runestone.resilience.concurrency import Concurrency
from runestone.resilience.health import Health
from runestone.resilience.history import Act, Content, Ended, History, Start, Step, joined, operated
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
    request_id: str = ""

    def content(self, message: FirstContent, now: float, chance: float | None) -> Content:
        """Its first content, as a step of the history; ``chance`` is what was drawn to judge it."""
        permit, generation, probe = self.permit, None, False
        if permit is not None:
            generation, probe = permit.generation, permit.probe
        return (
            "content", now, self.id, message.seconds, message.prompt, message.headroom, chance, generation, probe,
        )  # fmt: skip

    def ended(self, outcome: Outcome, failure: Failure | None, now: float, chance: float | None) -> Ended:
        """Its end, likewise."""
        permit, generation, probe = self.permit, None, False
        if permit is not None:
            generation, probe = permit.generation, permit.probe
        kind, retry_after = "", None
        if failure is not None:
            kind, retry_after = failure.kind, failure.retry_after_seconds
        return (
            "end", now, self.id, self.request_id, outcome, kind, retry_after, self.model, self.slow, chance, generation, probe,
        )  # fmt: skip


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
    history: History = field(factory=History)  # of breaker and score
    concurrency: Concurrency = field(init=False)
    waiting: int = 0  # requests that stand in line for a place
    leases: dict[int, LeaseRecord] = field(factory=dict)
    transport: Transport | None = None
    front: Front | None = None  # the fault that an operator has switched on in front of it, until it is switched off
    incarnation: int = 0
    next_lease: int = 0
    admin_state: AdminState = "ready"  # an operator's word, which stands until he takes it back
    leaving: bool = False  # it is being removed
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

    @property
    def draining(self) -> bool:
        """Whether it takes nothing new and what runs ends: by an operator's word, or because it is being removed."""
        return self.leaving or self.admin_state != "ready"

    def looked_at_over(self, transport: Transport) -> AnyTransport:
        """The way of a probe over ``transport``: with a fault in front that lets nobody through, it meets nobody."""
        return transport if self.front is None else self.front.at_a_look(transport)

    def score(self, now: float) -> float:
        """The health score, 0 to 1; 0 while probes find nobody there."""
        return 0.0 if self.probing.down(now, self.last_call) else self.health.score(now, self.breaker.name(now))

    @property
    def last_call(self) -> float:
        """The loop's time at which a call last showed how the provider is; minus infinity: none has."""
        return self.health.at if self.health.all else -math.inf

    def refusal(
        self, model: str | None, now: float, *, trial: bool = False
    ) -> tuple[RefusalReason, float | None] | None:
        """Why it would not be asked for ``model`` now, and for how long; ``None`` if it would, or if only its breaker is against it.

        The breaker comes last, and apart: a refused request must not eat its probe. A ``trial`` is an operator's own call, for which his
        own word is no objection.
        """
        if self.admin_state == "maintenance" and not trial:
            return "maintenance", None
        if self.transport is None:
            return "down", RESTART_SECONDS
        if self.draining and (self.leaving or not trial):
            return ("leaving" if self.leaving else "draining"), None
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

    def note(self, step: Step) -> None:
        """Keep one step of breaker and score, before they take it."""
        history = self.history
        steps = history.latest
        if not steps or len(steps) >= history.size:
            epoch = time.time() - step[1]
            steps = history.begin(Start(breaker=self.breaker, health=self.health, epoch=epoch))
        steps.append(step)

    def note_refusal(self, now: float) -> None:
        """The breaker has refused a call: such a step stands for all that come together."""
        steps = self.history.latest
        step, in_place = joined(steps[-1] if steps else None, now)
        if in_place:
            steps[-1] = step
        else:
            self.note(step)

    def operate(self, act: Act, now: float, seconds: float | None = None) -> None:
        """What an operator does to the breaker; a trip may be for ``seconds``. Everything of the kind goes through here."""
        until = None if seconds is None else now + seconds
        self.note(("operate", now, act, until))
        self.breaker = operated(self.breaker, act, now, until)

    def change(self, settings: ProviderSettings, now: float) -> None:
        """Take other settings. What was learned stays, unless it was learned of another place or with another key.

        Only for while its actor is down: that one is the writer.
        """
        elsewhere = settings.reaches_elsewhere_than(self.settings)
        self.note(("tune", now, settings.breaker))
        self.settings, self.leaving = settings, False
        self.breaker = evolve(self.breaker, policy=settings.breaker)
        self.concurrency = evolve(self.concurrency, policy=settings.concurrency)
        if elsewhere:
            self.forget(now, "another place")

    def forget(self, now: float, why: Literal["restart", "another place", "crashes"] = "restart") -> None:
        """Start fresh, as the operator's clean slate asks: all but the leases that are out, his word about it, and the history."""
        self.note(("forget", now, why))
        self.breaker = self.breaker.reset()
        self.throttle, self.quarantine, self.health, self.probing = Throttle(), Quarantine(), Health(), Probing()
        self.concurrency = Concurrency(policy=self.settings.concurrency)
        self.ended_cleanly, self.crashed_at = True, None

    def note_failure(self, failure: Failure, at: float) -> None:
        """Remember ``failure`` for the people who ask why."""
        self.failures += 1
        self.last_failure = Ending(at=at, what=f"{failure.kind}: {failure.message}")
