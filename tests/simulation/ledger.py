"""The books of one run: every upstream call and every client's end, and the laws that can be judged as soon as something happens.

Nothing here asks the code under test what it thinks of itself where the upstreams and the clients can tell by themselves.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Final

from attrs import define, field

from runestone.domain.failure import TREATMENTS
from runestone.providers.memory import ProviderMemory
from runestone.resilience.breaker import Closed, Disabled, ForcedOpen, HalfOpen, Open
from runestone.telemetry.events import (
    AttemptFinished,
    BreakerChanged,
    Event,
    Failover,
    FailoverExhausted,
    RequestFinished,
    Retry,
)
from tests.simulation.script import Question
from tests.simulation.upstream import Behaviour, UpstreamCallRecord

_SOON: Final = 5.0  # a second crash within it starts fresh
_QUARANTINE: Final = 300.0
_MODEL_QUARANTINE: Final = 60.0


@define(eq=False)
class Standing:
    """What must be true of a provider by what its upstream and the operator have done. Times are loop time."""

    changed: float = -1.0  # when its breaker changed its state last, or was made to
    failures: list[float] = field(factory=list)  # ends of calls begun since then, all bad
    bad: int = 0  # calls begun since then, or at that moment, that have failed
    judged: int = 0  # calls that have ended since then
    out: dict[str | None, tuple[float, float, str]] = field(factory=dict)  # model or all: from when, until when, why
    forced: tuple[float, float] | None = None
    drained: float | None = None
    crashed: float = -math.inf
    disturbed: bool = False  # it was crashed, restarted or reset: what was learnt may be lost
    touched: float = -1.0  # when anything happened here last
    ends: list[tuple[float, bool]] = field(factory=list)  # judged good or bad, and when

    def forget(self, now: float) -> None:
        """Everything may be forgotten."""
        self.failures.clear()
        self.out.clear()
        self.forced = None
        self.changed = now
        self.disturbed = True


@define(eq=False, repr=False)
class Ledger:
    """One writer: the run. ``violations`` are laws that were broken, ``history`` everything that happened, in order."""

    memories: Mapping[str, ProviderMemory]
    deadline: float
    max_upstream_calls: int
    calls: list[UpstreamCallRecord] = field(factory=list)
    standings: dict[str, Standing] = field(init=False)
    history: list[str] = field(factory=list)
    violations: list[str] = field(factory=list)
    questions: dict[asyncio.Task[None], Question] = field(factory=dict)
    finished: dict[str, list[RequestFinished]] = field(factory=dict)
    late: set[str] = field(factory=set)  # requests that their deadline has ended
    retries: int = 0
    failovers: int = 0
    spent: bool = False  # the budget of retries was empty once

    def __attrs_post_init__(self) -> None:
        self.standings = {name: Standing() for name in self.memories}

    @property
    def now(self) -> float:
        """Loop time."""
        return asyncio.get_running_loop().time()

    def note(self, text: str) -> None:
        """One line of the history."""
        self.history.append(f"{self.now:9.3f}  {text}")

    def wrong(self, text: str) -> None:
        """A law is broken."""
        self.note(f"BROKEN LAW: {text}")
        self.violations.append(text)

    def of(self, question: int) -> list[UpstreamCallRecord]:
        """The upstream calls for one question, in order."""
        return [call for call in self.calls if call.question == question]

    def expired(self, question: Question) -> bool:
        """Whether its deadline has ended it."""
        return f"question-{question.number}" in self.late

    # -- upstream calls ----------------------------------------------------------------------------------------------

    def began(self, provider: str, number: int, model: str, behaviour: Behaviour) -> UpstreamCallRecord:
        """An upstream is called."""
        memory, now = self.memories[provider], self.now
        breaker = memory.breaker
        call = UpstreamCallRecord(
            number=len(self.calls) + 1,
            provider=provider,
            question=number,
            model=model,
            behaviour=behaviour,
            began=now,
            generation=breaker.generation,
            probe=isinstance(breaker.state, HalfOpen),
        )
        self.note(f"question {number}: call {call.number} at {provider} ({model}): {behaviour}")
        asker = self.questions.get(asyncio.current_task())  # type: ignore[arg-type]  # a call is made in a task
        if asker is None or asker.number != number:
            self.wrong(f"call {call.number} is not made by the task of question {number}")
        elif now >= asker.at + self.deadline and asker.number < 1000:
            self.wrong(f"call {call.number} begins after the deadline of question {number}")
        self._check_place(call, memory)
        self._check_open(call, memory)
        self._check_standing(call)
        self._check_before(call)
        self.calls.append(call)
        self.standings[provider].touched = now
        return call

    def _check_place(self, call: UpstreamCallRecord, memory: ProviderMemory) -> None:
        out = [c for c in self.calls if c.provider == call.provider and c.ended is None]
        limit = memory.settings.concurrency.limit
        if limit is not None and len(out) >= limit:
            self.wrong(f"call {call.number} is one too many at {call.provider}, whose limit is {limit}")
        if not any(record.since == call.began for record in memory.leases.values()):
            self.wrong(f"call {call.number} is made without a lease")
        if memory.settings.circuit_breaker and call.probe:
            probes = [c for c in out if c.probe and c.generation == call.generation and c.content_at is None]
            if len(probes) >= memory.settings.breaker.half_open_limit:
                self.wrong(f"call {call.number} is one probe too many at {call.provider}")

    def _check_open(self, call: UpstreamCallRecord, memory: ProviderMemory) -> None:
        standing, now = self.standings[call.provider], call.began
        if not memory.settings.circuit_breaker:
            return
        match memory.breaker.state:
            case Open(until) if standing.changed < now < until:
                self.wrong(f"call {call.number}: the breaker of {call.provider} is open until {until:.3f}")
            case ForcedOpen(until) if standing.changed < now and (until is None or now < until):
                self.wrong(f"call {call.number}: the breaker of {call.provider} is forced open")
            case Closed() | Disabled():
                threshold = memory.settings.breaker.failure_threshold
                if len(standing.failures) >= threshold and standing.failures[threshold - 1] < now:
                    self.wrong(f"call {call.number}: {threshold} failures in a row have not opened {call.provider}")
            case _:
                pass

    def _check_standing(self, call: UpstreamCallRecord) -> None:
        standing, now = self.standings[call.provider], call.began
        if standing.drained is not None and standing.drained < now:
            self.wrong(f"call {call.number}: {call.provider} is drained")
        if not self.memories[call.provider].settings.circuit_breaker:
            return
        if standing.forced is not None and standing.forced[0] < now < standing.forced[1]:
            self.wrong(f"call {call.number}: an operator has forced {call.provider} open")
        for scope in (None, call.model):
            since, until, why = standing.out.get(scope, (0.0, 0.0, ""))
            if since < now < until:
                self.wrong(f"call {call.number}: {call.provider} has said {why}, and is out until {until:.3f}")

    def _check_before(self, call: UpstreamCallRecord) -> None:
        before = self.of(call.question)
        if len(before) >= self.max_upstream_calls:
            self.wrong(f"question {call.question} makes more than {self.max_upstream_calls} calls")
        if not before:
            return
        last = before[-1]
        if last.ended is None:
            self.wrong(f"question {call.question} has two calls open at once: {last.number} and {call.number}")
        if last.content_at is not None and last.behaviour.ending != "whole" and last.tokens and self.committed(last):
            self.wrong(f"call {call.number} is made after the commit point of call {last.number}")
        if last.judged not in TREATMENTS:
            self.wrong(f"call {call.number} follows call {last.number}, which was judged {last.judged}")
            return
        treatment = TREATMENTS[last.judged]
        if not treatment.failover:
            self.wrong(f"call {call.number} is made though call {last.number} was the caller's error")
        if last.provider == call.provider:
            if not treatment.retry:
                self.wrong(f"call {call.number} repeats call {last.number}, which may not be repeated")
            hint = last.behaviour.retry_after
            if hint is not None and last.ended is not None and call.began < last.ended + hint:
                self.wrong(f"call {call.number} comes before the time that call {last.number} was told")
            repeats = [c for c in before if c.provider == call.provider]
            if len(repeats) >= self.memories[call.provider].settings.retry.max_attempts:
                self.wrong(f"call {call.number} is one retry too many at {call.provider}")
        elif any(c.provider == call.provider for c in before):
            self.wrong(f"call {call.number} returns to {call.provider}, which had failed question {call.question}")

    def committed(self, call: UpstreamCallRecord) -> bool:
        """Whether the client of that call may have got some of it."""
        question = next(q for q in self.questions.values() if q.number == call.question)
        return question.stream and call.judged not in ("first_token_timeout", "timeout")

    def ended(self, call: UpstreamCallRecord) -> None:
        """An upstream call is over, for its upstream."""
        if call.ended is None:
            call.ended = self.now
            self.standings[call.provider].touched = self.now
            self.note(f"question {call.question}: call {call.number} ends")

    # -- what the tree tells -----------------------------------------------------------------------------------------

    def told(self, event: Event) -> None:
        """An event of the bus."""
        match event:
            case AttemptFinished():
                self._judged(event)
            case RequestFinished():
                self._finished(event)
            case BreakerChanged(provider=provider, before=before, after=after):
                self.note(f"{provider}: breaker {before} -> {after}")
                standing = self.standings[provider]
                self._check_change(provider, standing, before, after)
                standing.changed = standing.touched = self.now
                standing.failures.clear()
                standing.bad = standing.judged = 0
            case Retry():
                self.retries += 1
            case Failover():
                self.failovers += 1
            case FailoverExhausted(reason="budget"):
                self.spent = True
                self.note("the budget of retries is spent")
            case _:
                pass

    def _finished(self, event: RequestFinished) -> None:
        self.finished.setdefault(event.request_id, []).append(event)
        question = self.questions.get(asyncio.current_task())  # type: ignore[arg-type]  # told by a task
        over = question is not None and self.now >= question.at + self.deadline - 1e-6
        if over and event.outcome in ("timeout", "deadline_exceeded"):  # the first may be a provider's too
            self.late.add(event.request_id)

    def _check_change(self, provider: str, standing: Standing, before: str, after: str) -> None:
        """Whether what has happened at the provider is a reason for its breaker to open."""
        memory = self.memories[provider]
        policy = memory.settings.breaker
        if after != "open" or standing.disturbed or isinstance(memory.breaker.state, ForcedOpen):
            return
        if before == "closed" and standing.bad < policy.failure_threshold and standing.judged < policy.window_calls:
            self.wrong(f"{provider} opens at {standing.bad} failures, its threshold is {policy.failure_threshold}")
        if before == "half_open" and policy.slow_first_token_seconds is None:
            now, here = self.now, [call for call in self.calls if call.provider == provider]
            if not any(call.probe and call.judged_at == now and call.judged != "ok" for call in here):
                self.wrong(f"{provider} opens again though no probe has failed")

    def _judged(self, event: AttemptFinished) -> None:
        question = self.questions.get(asyncio.current_task())  # type: ignore[arg-type]  # told by a task
        calls = [] if question is None else self.of(question.number)
        if question is None or not calls or calls[-1].judged is not None or calls[-1].provider != event.provider:
            if event.outcome not in ("unsupported", "cancelled"):
                self.wrong(f"a call at {event.provider} that nobody made was {event.outcome}")
            return
        call, now = calls[-1], self.now
        call.judged, call.judged_at = event.outcome, now
        self.note(f"question {question.number}: call {call.number} was {event.outcome}")
        standing, memory = self.standings[call.provider], self.memories[call.provider]
        standing.touched = now
        standing.judged += 1
        if event.outcome == "ok":
            standing.failures.clear()
            standing.ends.append((now, True))
        elif event.outcome in TREATMENTS:
            outcome = TREATMENTS[event.outcome].outcome
            if outcome == "failure":
                standing.ends.append((now, False))
                standing.bad += call.began >= standing.changed
                if call.began > standing.changed:
                    standing.failures.append(now)
            self._learn(call, standing, memory, now)

    def _learn(self, call: UpstreamCallRecord, standing: Standing, memory: ProviderMemory, now: float) -> None:
        def put(scope: str | None, until: float) -> None:
            if standing.crashed == now:
                return  # what is cast while the next incarnation starts meets nobody
            if until > standing.out.get(scope, (0.0, 0.0, ""))[1]:
                standing.out[scope] = (now, until, str(call.judged))

        match call.judged:
            case "rate_limited":
                hint = call.behaviour.retry_after
                _, until, _ = standing.out.get(None, (0.0, 0.0, ""))
                if hint is not None:
                    put(None, now + hint)
                elif until <= now:
                    put(None, now + 1.0)
            case "credentials" | "quota_exceeded":
                put(None, now + _QUARANTINE)
            case "forbidden" | "not_found" if memory.serves(call.model):
                put(call.model, now + _MODEL_QUARANTINE)
            case _:
                pass

    # -- what was done to the tree -----------------------------------------------------------------------------------

    def crashed(self, provider: str) -> None:
        """Its actor crashes. What it had not read yet is lost; a second crash soon after starts fresh."""
        standing, now = self.standings[provider], self.now
        standing.disturbed = True
        if now - standing.crashed < _SOON + 0.1:
            standing.forget(now)
        standing.crashed = standing.changed = standing.touched = now
        standing.failures.clear()
        standing.out = {scope: entry for scope, entry in standing.out.items() if entry[0] < now}
