"""The provider actor: decides who may call its provider, and learns from how the calls end.

It never touches the bytes of an answer and never waits for the outside world. Its state lives in a :class:`ProviderMemory`, so that a
crash loses nothing; the operator's restart forgets on purpose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, assert_never

from attrs import define, frozen
from loguru import logger

from runestone.domain.chat import tells_of_models
from runestone.domain.failure import Failure
from runestone.domain.outcome import Outcome
from runestone.providers import names
from runestone.providers.faulty import Front
from runestone.providers.memory import PLACE_SECONDS, Ending, LeaseRecord, ProviderMemory
from runestone.providers.messages import (
    Acquire,
    AdminState,
    Declined,
    FirstContent,
    Lease,
    RefusalReason,
    Refused,
    Release,
)
from runestone.providers.waiting import WaitingLine
from runestone.resilience.breaker import Permit
from runestone.resilience.throttle import Throttle
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import AdminStateChanged, BreakerChanged, ProviderQuarantined, ProviderThrottled
from supervisors import (
    NO_REPLY,
    Call,
    Caller,
    Down,
    ExitReason,
    GenServer,
    Info,
    Monitor,
    NoProcess,
    Normal,
    Registry,
    Shutdown,
    Timer,
)

_LEAST_SECONDS: Final = 1e-3  # of a timer: one that fires a hair early would be set again for no time at all
_CRASH_WINDOW_SECONDS = 5.0  # of the provider's own supervisor: a second crash within it starts fresh
_QUARANTINE_SECONDS = 300.0
_MODEL_QUARANTINE_SECONDS = 60.0


@frozen
class ResetBreaker(Call[None]):
    """Close the breaker, clear its counters and its back-off, lift what an operator forced."""


@frozen
class TripBreaker(Call[None]):
    """Force the breaker open, for ``seconds`` or until it is reset or left to itself again."""

    seconds: float | None = None


@frozen
class SetFault(Call[None]):
    """Put a fault in front of the provider, from the next call on, or take it away."""

    front: Front | None


@frozen
class DisableBreaker(Call[None]):
    """Let the breaker measure and refuse nothing."""


@frozen
class AutoBreaker(Call[None]):
    """Let the breaker decide again: it is no longer forced open or disabled, and what was counted stays."""


@frozen
class SetAdminState(Call[None]):
    """Take nothing new by an operator's word, or take it again. What runs ends whole."""

    state: AdminState


@frozen
class Leave(Call[None]):
    """Take nothing new because it is being removed, and answer when no lease is out."""


@frozen
class Drained(Call[bool]):
    """Answer when no lease is out: true. False: it takes calls, now or again, so that they need not end."""


@frozen
class _Impatient(Info):
    """One who waits for a place has waited long enough."""

    who: _Waiting


@define(eq=False)
class _Waiting:
    """A request that stands in line. ``timer`` ends its patience, ``monitor`` tells that it is gone."""

    acquire: Acquire
    caller: Caller[Any]
    timer: Timer | None = None
    monitor: Monitor | None = None

    @property
    def key(self) -> str:
        """Whose request it is."""
        return self.acquire.round.admit.key


@frozen
class _Recovered(Info):
    """The breaker's time is over: it lets probes through from now on, whether anybody asks or not."""


class Provider(GenServer[FirstContent | Release]):
    """One provider: breaker, throttle, quarantine, score and leases."""

    def __init__(self, memory: ProviderMemory, registry: Registry, bus: Bus, chance: Callable[[], float]) -> None:
        self._memory = memory
        self._bus = bus
        self._chance = chance
        self._failover = registry.via(names.FAILOVER)
        self._via = registry.via(names.provider(memory.name))
        self._owners: dict[Monitor, int] = {}
        self._monitors: dict[int, Monitor] = {}
        self._leaving: list[Caller[None]] = []
        self._drained: list[Caller[bool]] = []
        self._line: WaitingLine[_Waiting] = WaitingLine()
        self._left: dict[Monitor, _Waiting] = {}  # those in line, by what tells that they are gone
        self._recovery: Timer | None = None

    def init(self) -> None:
        """Take over from the incarnation before: its leases are watched again."""
        memory, now = self._memory, self.now()
        if memory.incarnation and not memory.ended_cleanly:
            if memory.crashed_at is not None and now - memory.crashed_at < _CRASH_WINDOW_SECONDS:
                memory.forget(now, "crashes")
            memory.crashed_at = now
        memory.incarnation += 1
        memory.note(("begin", now, memory.incarnation, not memory.ended_cleanly))
        memory.ended_cleanly = False
        memory.waiting = 0  # who stood in line asks again
        self._announce()
        for record in memory.leases.values():
            self._watch(record)

    def terminate(self, reason: ExitReason) -> None:
        """Tell the next incarnation that this one did not crash."""
        self._memory.ended_cleanly = isinstance(reason, Normal | Shutdown)

    def status(self) -> Mapping[str, object]:
        """What the tree shows of this actor."""
        memory, now = self._memory, self.now()
        return {
            "breaker": memory.breaker.name(now),
            "score": round(memory.score(now), 3),
            "leases": len(memory.leases),
            "waiting": len(self._line),
            "drains": sum(each.alive for each in self._drained),  # who waits for its last call to end
        }

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> object:
        """Decide an admission at once, or do what the operator asks."""
        match message:
            case Acquire():
                self._admit(message, caller)
                return NO_REPLY
            case ResetBreaker() | TripBreaker() | AutoBreaker() | DisableBreaker():
                self._operate_breaker(message)
                self._announce()
            case SetFault(front):
                self._memory.front = front
            case SetAdminState(state):
                self._set_admin_state(state)
            case Leave():
                self._memory.leaving = True
                self._leaving.append(caller)
                self._serve_the_line()
                self._tell_drained()
                return NO_REPLY
            case Drained():
                self._drained = [*(each for each in self._drained if each.alive), caller]
                self._tell_drained()
                return NO_REPLY
            case _:
                raise TypeError(message)
        self._serve_the_line()
        return None

    def _set_admin_state(self, state: AdminState) -> None:
        memory, before = self._memory, self._memory.admin_state
        memory.admin_state = state
        if state != before and memory.settings.telemetry:
            self._bus.emit(AdminStateChanged(provider=memory.name, before=before, after=state))
        self._tell_drained()

    def _operate_breaker(self, message: ResetBreaker | TripBreaker | AutoBreaker | DisableBreaker) -> None:
        memory, now = self._memory, self.now()
        match message:
            case ResetBreaker():
                memory.operate("reset", now)
                memory.throttle, memory.quarantine = Throttle(), memory.quarantine.clear()
            case TripBreaker(seconds):
                memory.operate("trip", now, seconds)
            case AutoBreaker():
                memory.operate("auto", now)
            case DisableBreaker():
                memory.operate("disable", now)
            case _:
                assert_never(message)

    def handle_cast(self, message: FirstContent | Release) -> None:
        """Learn from a call."""
        match message:
            case FirstContent():
                self._first_content(message)
            case Release():
                self._released(message)
            case _:
                assert_never(message)

    def handle_info(self, message: Info) -> None:
        """Time has passed, or a request has ended without giving its lease back, which says nothing about the provider."""
        match message:
            case _Recovered():
                self._announce()
            case _Impatient(who):
                self._leave_the_line(who)
            case Down(monitor=monitor) if (waiting := self._left.get(monitor)) is not None:
                self._leave_the_line(waiting)
            case Down(monitor=monitor) if (lease_id := self._owners.pop(monitor, None)) is not None:
                self._monitors.pop(lease_id, None)
                self._released(Release(lease_id, "neutral", None, ""))

    # -- admission ---------------------------------------------------------------------------------------------------

    def _admit(self, acquire: Acquire, caller: Caller[Any], *, waited: bool = False) -> None:
        memory, now = self._memory, self.now()
        lease_id = memory.next_lease
        memory.next_lease += 1
        refusal = memory.refusal(acquire.choice.model, now, trial=acquire.round.admit.trial)
        permit: Permit | None = None
        if refusal is None:
            before, counts = memory.breaker, memory.settings.circuit_breaker
            after, answer = before.admit(lease_id, now)
            if isinstance(answer, Permit):
                permit = answer
            elif counts:  # else it only measures
                refusal = "breaker_open", answer.retry_after_seconds
            if refusal is None:
                memory.note(("admit", now, lease_id, acquire.round.admit.request_id, counts))
            memory.breaker = after
            if after is not before:
                self._announce()
        elif refusal[0] == "saturated" and (shut := memory.shut(now)) is not None:
            refusal = "breaker_open", shut.retry_after_seconds  # to wait for a place would be of no use
        if refusal is None:
            self._grant(acquire, caller, lease_id, permit, now)
        elif refusal[0] != "saturated" or not acquire.patient or waited or not self._wait(acquire, caller):
            self._refuse(acquire, caller, *refusal)

    def _refuse(self, acquire: Acquire, caller: Caller[Any], reason: RefusalReason, retry_after: float | None) -> None:
        name = self._memory.name
        if reason == "breaker_open":
            self._memory.note_refusal(self.now())
        refused = Refused(provider=name, tier=acquire.tier, reason=reason, retry_after_seconds=retry_after)
        if not self._failover.forward(caller, Declined(acquire=acquire, refused=refused)):
            caller.fail(NoProcess())  # failover is being restarted: the request asks again

    # -- those who wait for a place ------------------------------------------------------------------------------------

    def _wait(self, acquire: Acquire, caller: Caller[Any]) -> bool:
        """Let a request stand in line, if there is room and time."""
        policy = self._memory.settings.concurrency
        seconds = min(policy.queue_seconds, acquire.round.admit.deadline - self.now())
        if len(self._line) >= policy.queue or seconds <= 0:
            return False
        who = _Waiting(acquire, caller)
        who.timer = self.send_after(seconds, _Impatient(who))
        if caller.process is not None:
            who.monitor = self.monitor(caller.process)
            self._left[who.monitor] = who
        self._line.add(who.key, who)
        self._memory.waiting = len(self._line)
        return True

    def _serve_the_line(self) -> None:
        """Give the places that are free to those who wait, or tell them why there will be none."""
        memory = self._memory
        while self._line:
            now = self.now()
            refusal = memory.refusal(None, now)
            if refusal is not None and refusal[0] == "saturated" and memory.shut(now) is None:
                return
            who = self._line.next()
            self._stepped_out(who)
            if who.caller.alive:
                self._admit(who.acquire, who.caller, waited=True)

    def _leave_the_line(self, who: _Waiting) -> None:
        if self._line.leave(who.key, who):
            self._stepped_out(who)
            if who.caller.alive:
                self._refuse(who.acquire, who.caller, "saturated", PLACE_SECONDS)

    def _stepped_out(self, who: _Waiting) -> None:
        self._memory.waiting = len(self._line)
        if who.timer is not None:
            who.timer.cancel()
        if who.monitor is not None:
            del self._left[who.monitor]
            self.demonitor(who.monitor)

    def _grant(self, acquire: Acquire, caller: Caller[Any], lease_id: int, permit: Permit | None, now: float) -> None:
        memory = self._memory
        assert memory.transport is not None
        model, request_id = acquire.choice.model, acquire.round.admit.request_id
        record = LeaseRecord(
            id=lease_id, model=model, permit=permit, owner=caller.process, since=now, request_id=request_id
        )
        memory.leases[lease_id] = record
        memory.calls += 1
        self._watch(record)
        caller.reply(
            Lease(
                id=lease_id,
                incarnation=memory.incarnation,
                choice=acquire.choice,
                plan=acquire.round.plan,
                settings=memory.settings,
                transport=memory.transport if memory.front is None else memory.front.over(memory.transport),
                provider=self._via,
                api=acquire.round.admit.api,
                tier=acquire.tier,
                panic=acquire.panic,
                refusals=acquire.round.refusals,
            )
        )

    def _watch(self, record: LeaseRecord) -> None:
        if record.owner is not None:
            monitor = self.monitor(record.owner)
            self._owners[monitor] = record.id
            self._monitors[record.id] = monitor

    # -- learning ----------------------------------------------------------------------------------------------------

    def _first_content(self, message: FirstContent) -> None:
        record = self._memory.leases.get(message.lease_id)
        if record is None:
            return
        memory, now = self._memory, self.now()
        probe = record.permit is not None and record.permit.probe  # one is judged now, other calls by their end
        chance = self._chance() if probe else None
        memory.note(record.content(message, now, chance))
        if message.prompt:
            memory.health = memory.health.observe_first_token(message.seconds, now)
            record.slow = memory.breaker.slow(message.seconds)
        else:
            memory.health = memory.health.observe_whole(message.seconds, now)
        if message.headroom is not None:
            memory.health = memory.health.observe_headroom(message.headroom, now)
        if probe:
            self._settle(record, "success", now, chance)

    def _released(self, message: Release) -> None:
        memory, now, outcome, failure = self._memory, self.now(), message.outcome, message.failure
        in_flight = len(memory.leases)
        record = memory.leases.pop(message.lease_id, None)
        if (monitor := self._monitors.pop(message.lease_id, None)) is not None:
            self._owners.pop(monitor, None)
            self.demonitor(monitor)
        if record is None:
            return
        chance = None if record.permit is None else self._chance()
        memory.note(record.ended(outcome, failure, now, chance))
        if failure is not None:
            memory.note_failure(failure, time.time())
            self._exclude(failure, message, now)
            if failure.kind in ("rate_limited", "overloaded"):
                memory.concurrency = memory.concurrency.overloaded(in_flight, record.since, now)
        if outcome == "success":
            memory.last_success = Ending(at=time.time(), what=message.model)
            memory.throttle = memory.throttle.succeed()
            memory.concurrency = memory.concurrency.succeeded(in_flight)
        if outcome != "neutral":
            memory.health = memory.health.observe(outcome, now)
        self._settle(record, outcome, now, chance)  # a probe that was judged well by then can only get worse
        if self._line:
            self._serve_the_line()
        self._tell_drained()

    def _tell_drained(self) -> None:
        if self._drained and not (self._memory.draining and self._memory.leases):
            for asker in self._drained:
                if asker.alive:
                    asker.reply(self._memory.draining)
            self._drained.clear()
        if self._leaving and not self._memory.leases:
            for caller in self._leaving:
                caller.reply(None)
            self._leaving.clear()

    def _settle(self, record: LeaseRecord, outcome: Outcome, now: float, chance: float | None) -> None:
        if record.permit is None or chance is None:
            return
        before = self._memory.breaker
        self._memory.breaker = before.settle(record.permit, outcome, now, chance, slow=record.slow)
        if self._memory.breaker is not before:
            self._announce()

    def _exclude(self, failure: Failure, release: Release, now: float) -> None:
        """Throttle or quarantine: states of their own, so that a limit or a wrong key does not look like an outage."""
        memory = self._memory
        match failure.kind:
            case "rate_limited":
                memory.throttle = memory.throttle.hit(now, failure.retry_after_seconds)
                if memory.settings.telemetry:
                    seconds = memory.throttle.retry_after(now) or 0.0
                    self._bus.emit(ProviderThrottled(provider=memory.name, seconds=seconds))
            case "credentials" | "quota_exceeded":
                memory.quarantine = memory.quarantine.add(now, None, failure.kind, _QUARANTINE_SECONDS)
                self._tell_quarantine(None, failure.kind, _QUARANTINE_SECONDS)
                logger.bind(provider=memory.name).error(
                    "alert: {} is quarantined for {:g} s: {}", memory.name, _QUARANTINE_SECONDS, failure.message
                )
            case "forbidden" | "not_found" if memory.serves(release.model) and tells_of_models(release.api):
                memory.quarantine = memory.quarantine.add(now, release.model, failure.kind, _MODEL_QUARANTINE_SECONDS)
                self._tell_quarantine(release.model, failure.kind, _MODEL_QUARANTINE_SECONDS)

    def _tell_quarantine(self, model: str | None, reason: str, seconds: float) -> None:
        if self._memory.settings.telemetry:
            name = self._memory.name
            self._bus.emit(ProviderQuarantined(provider=name, model=model, reason=reason, seconds=seconds))

    def _announce(self) -> None:
        memory = self._memory
        before, after = memory.announced, memory.breaker.name(self.now())
        if before != after:
            memory.announced = after
            if memory.settings.telemetry:
                self._bus.emit(BreakerChanged(provider=memory.name, before=before, after=after))
        if self._recovery is not None:
            self._recovery.cancel()
        refused = memory.breaker.refusal(self.now()) if after == "open" else None
        if refused is not None and refused.retry_after_seconds is not None:
            self._recovery = self.send_after(max(refused.retry_after_seconds, _LEAST_SECONDS), _Recovered())
