"""The failover actor: routes each admission to the candidate of its turn, and owns cursors, the retry budget and the statistics.

It keeps nothing per request: what it must know of one travels in the message. An admission is forwarded, so the provider's answer goes
straight to the request; a provider that refuses forwards it back.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Literal

from attrs import define, evolve, field, frozen
from loguru import logger

from runestone.config.settings import GroupSettings, Settings
from runestone.domain.catalogue import KINDS
from runestone.domain.chat import stands_in
from runestone.domain.errors import RunestoneError
from runestone.domain.routing import Alias, Directory, Group, Member, Plan, is_throw_away
from runestone.failover.explain import Explanation, explain
from runestone.failover.plan import Rules, Scene, after_refusals, retry_wait, turns
from runestone.providers import names
from runestone.providers.memory import ProviderMemory
from runestone.providers.messages import (
    RESTART_SECONDS,
    WILLED,
    Acquire,
    Admission,
    Admit,
    Declined,
    Exhausted,
    Quote,
    Refused,
    Round,
    Turn,
    Unroutable,
    Wait,
)
from runestone.resilience.retry import RetryPolicy
from runestone.resilience.retry_budget import RetryBudget
from runestone.resilience.selection import Candidate
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import HealthChanged
from supervisors import NO_REPLY, Call, Caller, GenServer, Registry

_PLANS_KEPT = 1024
_DOWN_SECONDS = 1.0
_NO_RETRY = RetryPolicy(max_attempts=1)
PlanKey = tuple[str, str | None, tuple[str, ...], bool]


@frozen
class GetStats(Call["dict[str, object] | None"]):
    """The statistics of one group, by the name of the group; ``None``: there is no such group."""

    group: str


@frozen(kw_only=True)
class Explain(Call["Explanation | Quote | Unroutable"]):
    """Who would be asked for ``model``, in which order, and why. Nothing is asked, and no turn is taken.

    ``prices`` as for an admission; without them a group that goes by price answers with a :class:`Quote`.
    """

    model: str
    group: str | None = None
    prices: Mapping[str, float | None] | None = None


@frozen
class Reconfigure(Call[None]):
    """Other settings are in force from now on. What is known of groups that are still there is kept."""

    settings: Settings


@define(slots=True)
class GroupStats:
    """What has happened in one group since the actor started."""

    requests: int = 0
    attempts: int = 0
    failovers: int = 0
    retries: int = 0
    exhausted: int = 0
    panics: int = 0
    share: Counter[str] = field(factory=Counter)
    refusals: Counter[str] = field(factory=Counter)


class FailoverRouter(GenServer[object]):
    """One for the whole node."""

    def __init__(
        self,
        settings: Settings,
        memories: Mapping[str, ProviderMemory],
        registry: Registry,
        bus: Bus,
        chance: Callable[[], float],
    ) -> None:
        self._memories = memories
        self._registry = registry
        self._bus = bus
        self._chance = chance
        self._cursors: Counter[tuple[str, ...]] = Counter()  # requests so far, by those who take turns
        self._budget = RetryBudget()
        self._poor: set[str] = set()
        self._panics: set[tuple[str, ...]] = set()  # where the best serves for want of a good one, by who take turns
        self._stats: dict[str, GroupStats] = {}
        self._configure(settings)

    def _configure(self, settings: Settings) -> None:
        self._groups = {group.name: group for group in settings.groups}
        self._rules = {group.name: _rules(group, settings) for group in settings.groups}
        self._stats = {name: self._stats.get(name) or GroupStats() for name in self._groups}
        self._cursors = Counter({turn: count for turn, count in self._cursors.items() if turn[0] in self._groups})
        self._poor = {key for key in self._poor if key.partition("/")[0] in self._groups}
        self._panics = {turn for turn in self._panics if turn[0] in self._groups}
        self._plans: OrderedDict[PlanKey, Plan] = OrderedDict()
        self._directory = directory(settings)
        self._vias = {p.name: self._registry.via(names.provider(p.name)) for p in settings.providers}
        self._kinds = {p.name: p.kind for p in settings.providers}

    def status(self) -> Mapping[str, object]:
        """What the tree shows of this actor."""
        return {"groups": len(self._groups), "requests": sum(s.requests for s in self._stats.values())}

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> object:
        """Admit, or tell."""
        match message:
            case Admit():
                self._admit(message, caller)
                return NO_REPLY
            case Declined(acquire=acquire, refused=refused):
                self._count(acquire, by=-1)
                round_ = self._refused(acquire.round, refused)
                self._next(self._looked_again(round_) if acquire.patient else round_, caller)
                return NO_REPLY
            case GetStats(group):
                return self._describe(group)
            case Explain():
                return self._explain(message)
            case Reconfigure(settings):
                self._configure(settings)
                return None
            case _:
                raise TypeError(message)

    # -- routing -----------------------------------------------------------------------------------------------------

    def _route(
        self, model: str, group: str | None, key_groups: tuple[str, ...] = (), *, chat: bool = True
    ) -> Plan | RunestoneError:
        key = (model, group, key_groups, chat)
        if (plan := self._plans.get(key)) is None:
            try:
                plan = self._directory.plan(model, group, key_groups=key_groups, chat=chat)
            except RunestoneError as error:
                return error
            self._plans[key] = plan
            if len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)
        return plan

    # -- admission ---------------------------------------------------------------------------------------------------

    def _admit(self, admit: Admit, caller: Caller[Admission]) -> None:
        plan = admit.plan or self._route(admit.model, admit.group, admit.key_groups, chat=stands_in(admit.api))
        if isinstance(plan, RunestoneError):
            caller.reply(Unroutable(plan))
            return
        if plan.group not in self._groups:  # it was deleted under a request in flight
            caller.reply(Exhausted(group=plan.group, reason="refused"))
            return
        now, stats, rules = self.now(), self._stats[plan.group], self._rules[plan.group]
        if admit.prices is None and (quote := self._quote(plan)) is not None:
            caller.reply(quote)
            return
        if not admit.tried:
            stats.requests += 1
            self._cursors[plan.turn] += 1
            self._budget = self._budget.deposit(now)
        wait = retry_wait(admit, self._retry_policy(admit), rules, now=now, chance=self._chance())
        order = turns(admit, plan, rules, self._scene(plan, now, admit.prices), wait)
        if order and not admit.tried and (order[0][2] or self._panics):
            self._tell_panic(plan, order[0], now)
        beyond_the_first = sum(t.failure.kind != "unsupported" for t in admit.tried) > 1 or admit.waited
        if order and beyond_the_first and not self._withdraw(now):
            self._exhausted(admit, Exhausted(group=plan.group, reason="budget"), caller)
        else:
            self._next(Round(admit=admit, plan=plan, left=order, wait=wait), caller)

    def _quote(self, plan: Plan) -> Quote | None:
        """What must be priced before the strategy can rank: nothing, but for those who go by price and have a choice."""
        rules, choices = self._rules[plan.group], (*plan.tier1, *plan.tier2)
        if rules.strategy != "cost_optimized" or rules.legacy or len(choices) < 2:
            return None
        return Quote(
            tuple((choice, self._kinds[choice.provider]) for choice in choices if choice.provider in self._kinds)
        )

    def _next(self, round_: Round, caller: Caller[Admission]) -> None:
        while round_.left:
            choice, tier, panic = round_.left[0]
            round_ = round_.rest()
            acquire = Acquire(round=round_, choice=choice, tier=tier, panic=panic)
            via = self._vias.get(choice.provider)
            if via is not None and via.forward(caller, acquire):
                self._count(acquire, by=1)
                return
            round_ = self._refused(round_, self._down(choice.provider, tier, trial=round_.admit.trial))
        answer = after_refusals(round_.admit, round_.plan, round_.refusals, round_.wait)
        if isinstance(answer, Exhausted) and not round_.lined_up and self._line_up(round_, caller):
            return
        if isinstance(answer, Wait):
            caller.reply(answer)
        else:
            self._exhausted(round_.admit, answer, caller)

    def _line_up(self, round_: Round, caller: Caller[Admission]) -> bool:
        """Let the request wait for a place where that will take least, if only the want of places is against it somewhere."""
        waits = {
            refused.provider: self._memories[refused.provider]
            for refused in round_.refusals
            if refused.reason == "saturated" and refused.provider in self._memories
        }
        if not waits:
            return False
        name = min(waits, key=lambda n: waits[n].waiting / (waits[n].concurrency.limit or 1))
        plan = round_.plan
        tier: Literal[1, 2] = 1 if any(choice.provider == name for choice in plan.tier1) else 2
        choice = next(choice for choice in (plan.tier1 if tier == 1 else plan.tier2) if choice.provider == name)
        acquire = Acquire(round=evolve(round_, lined_up=True), choice=choice, tier=tier, panic=False, patient=True)
        if not self._vias[name].forward(caller, acquire):
            return False
        self._count(acquire, by=1)
        return True

    def _looked_again(self, round_: Round) -> Round:
        """Who gives up its place in a line has waited: those who would take it by now are asked before it is refused."""
        plan, now = round_.plan, self.now()
        if plan.group not in self._groups:
            return round_
        scene = self._scene(plan, now, round_.admit.prices)
        order = turns(round_.admit, plan, self._rules[plan.group], scene, round_.wait)
        tiers = {1} if any(r.reason == "not_found" and r.tier == 1 for r in round_.refusals) else {1, 2}
        takes = (t for t in order if t[1] in tiers and self._memories[t[0].provider].usable(t[0].model, now))
        return evolve(round_, left=tuple(takes))

    def _down(self, provider: str, tier: Literal[1, 2], *, trial: bool) -> Refused:
        """Its actor is not there. Where the supervisor of it is, it is being restarted, which takes a moment.

        One that an operator has taken out of service would refuse after that, too.
        """
        memory = self._memories.get(provider)
        if memory is not None and memory.admin_state != "ready" and not trial:
            return Refused(provider=provider, tier=tier, reason=memory.admin_state)
        restarting = self._registry.lookup(names.subtree(provider)) is not None
        seconds = RESTART_SECONDS if restarting else _DOWN_SECONDS
        return Refused(provider=provider, tier=tier, reason="down", retry_after_seconds=seconds)

    def _refused(self, round_: Round, refused: Refused) -> Round:
        self._stats_of(round_.plan.group).refusals[f"{refused.provider}:{refused.reason}"] += 1
        return round_.refused(refused)

    def _exhausted(self, admit: Admit, answer: Exhausted, caller: Caller[Admission]) -> None:
        self._stats_of(answer.group).exhausted += 1
        if not is_throw_away(answer.group):
            self._bus.emit(answer.event(admit.request_id))
        caller.reply(evolve(answer, again_seconds=self._again(admit)) if admit.tried else answer)

    def _again(self, admit: Admit) -> float | None:
        """Seconds until the first of those that failed may be asked again: when it is let in, or after the back-off that it would have."""
        now, times = self.now(), list[float]()
        for one in admit.tried:
            if one.failure.kind == "unsupported" or (memory := self._memories.get(one.choice.provider)) is None:
                continue
            refusal, shut = memory.refusal(one.choice.model, now), memory.shut(now)
            if refusal is None and shut is None:
                times.append(memory.settings.retry.delay(one.calls - 1, 1.0))
                continue
            seconds = refusal[1] if refusal is not None else shut.retry_after_seconds if shut is not None else None
            if seconds is not None:
                times.append(seconds)
        return min(times, default=None)

    def _withdraw(self, now: float) -> bool:
        self._budget, granted = self._budget.withdraw(now)
        return granted

    def _count(self, acquire: Acquire, *, by: Literal[1, -1]) -> None:
        """Count an admission when it is forwarded, and take it back when the candidate refuses."""
        provider, tried = acquire.choice.provider, acquire.round.admit.tried
        stats = self._stats_of(acquire.round.plan.group)
        stats.attempts += by
        stats.share[provider] += by
        stats.panics += by if acquire.panic else 0
        if tried and tried[-1].choice.provider == provider:
            stats.retries += by
        elif tried:
            stats.failovers += by

    def _stats_of(self, group: str) -> GroupStats:
        """Those of a group that is gone are nobody's."""
        return self._stats.get(group) or GroupStats()

    def _retry_policy(self, admit: Admit) -> RetryPolicy:
        memory = self._memories.get(admit.tried[-1].choice.provider) if admit.tried else None
        return _NO_RETRY if memory is None else memory.settings.retry

    # -- what it sees of the providers ---------------------------------------------------------------------------------

    def _explain(self, message: Explain) -> Explanation | Quote | Unroutable:
        plan = self._route(message.model, message.group)
        if isinstance(plan, RunestoneError):
            return Unroutable(plan)
        if message.prices is None and (quote := self._quote(plan)) is not None:
            return quote
        now, group, rules = self.now(), self._groups[plan.group], self._rules[plan.group]
        admit = Admit(model=message.model, group=message.group, deadline=math.inf)
        scene = evolve(self._scene(plan, now, message.prices), cursor=self._cursors[plan.turn])
        order = turns(admit, plan, rules, scene, None)

        def against(name: str, model: str) -> str | None:
            return "is down" if name not in self._vias else objection(self._memories[name], model, now)

        def doubt(name: str) -> str:
            score, limit = scene.candidates[name].score, group.health_threshold
            return f"score {score:.2f}; out below {limit:g}, back in at {min(limit + 0.1, 1.0):g}"

        return explain(message.model, plan, group.providers, rules, scene, order, against, doubt)

    def _scene(self, plan: Plan, now: float, prices: Mapping[str, float | None] | None) -> Scene:
        group = self._groups[plan.group]
        models = {choice.provider: choice.model for choice in (*plan.tier1, *plan.tier2)}
        prices = prices or {}
        candidates = {
            name: self._candidate(self._memories[name], group, now, prices.get(name))
            for name in models
            if name in self._memories
        }

        def usable(name: str) -> bool:
            good = self._good_enough(group, candidates[name])
            return plan.pinned or (good and self._memories[name].usable(models[name], now))

        return Scene(candidates=candidates, usable=usable, cursor=self._cursors[plan.turn] - 1, chance=self._chance)

    def _candidate(self, memory: ProviderMemory, group: GroupSettings, now: float, price: float | None) -> Candidate:
        in_flight = len(memory.leases)
        return Candidate(
            name=memory.name,
            weight=group.weights.get(memory.name, 1.0),
            score=memory.score(now) if memory.settings.circuit_breaker else 1.0,
            expected_load=memory.health.expected_load(in_flight, now),
            first_token_seconds=memory.health.latency(now),
            price=price,
            in_flight=in_flight,
        )

    def _good_enough(self, group: GroupSettings, candidate: Candidate) -> bool:
        """Out below the threshold, back in at 0.1 above it, so that one answer does not flip it."""
        key = f"{group.name}/{candidate.name}"
        memory = self._memories[candidate.name]
        if not memory.settings.circuit_breaker or memory.breaker.name(self.now()) == "half_open":
            return True  # a breaker that lets probes through must get some, or it would never close
        out = key in self._poor
        limit = min(group.health_threshold + 0.1, 1.0) if out else group.health_threshold
        healthy = candidate.score >= limit
        if healthy == out:
            (self._poor.discard if healthy else self._poor.add)(key)
            if memory.settings.telemetry:
                self._bus.emit(
                    HealthChanged(
                        provider=candidate.name, group=group.name, score=round(candidate.score, 3), healthy=healthy
                    )
                )
        return healthy

    def _tell_panic(self, plan: Plan, first: Turn, now: float) -> None:
        """Say it once that the best serves for want of a good one, and once that this is over."""
        choice, _, panic = first
        if panic and plan.turn not in self._panics and self._memories[choice.provider].usable(choice.model, now):
            self._panics.add(plan.turn)
            logger.warning(
                "group {}: nobody is good enough by its score; {}, the best, serves", plan.group, choice.provider
            )
        elif not panic and plan.turn in self._panics:
            self._panics.discard(plan.turn)
            logger.info("group {}: {} is good enough by its score again", plan.group, choice.provider)

    def _describe(self, name: str) -> dict[str, object] | None:
        if name not in self._groups:
            return None
        group, stats = self._groups[name], self._stats[name]
        return {
            "group": name,
            "strategy": group.strategy,
            "mode": "legacy" if self._rules[name].legacy else "enhanced",
            "members": list(group.providers),
            "max_attempts": group.max_attempts,
            "health_threshold": group.health_threshold,
            "requests": stats.requests,
            "attempts": stats.attempts,
            "failovers": stats.failovers,
            "retries": stats.retries,
            "exhausted": stats.exhausted,
            "panics": stats.panics,
            "share": dict(stats.share),
            "refusals": dict(stats.refusals),
        }


def objection(memory: ProviderMemory, model: str, now: float, *, trial: bool = False) -> str | None:
    """Why it would refuse, in words; ``trial``: a call of an operator's own."""
    if (refusal := memory.refusal(model, now, trial=trial)) is not None:
        reason, seconds = refusal
        return f"is {_WORDS.get(reason, reason)}" + ("" if seconds is None else f" for {seconds:.1f} s")
    if (refused := memory.shut(now)) is not None:
        until = refused.retry_after_seconds
        return "its breaker is open" + (" until `breaker auto` or `reset`" if until is None else f" for {until:.1f} s")
    return None


_WORDS = {
    **WILLED,
    "not_found": "without this model, it has said,",
    "saturated": "at its limit of concurrent calls,",
}


def _rules(group: GroupSettings, settings: Settings) -> Rules:
    return Rules(
        strategy=group.strategy,
        max_attempts=group.max_attempts,
        max_upstream_calls=settings.max_upstream_calls,
        legacy=(group.mode or settings.server.mode) == "legacy",
    )


def directory(settings: Settings) -> Directory:
    """The settings as routing sees them."""
    return Directory(
        members={
            p.name: Member(name=p.name, kind=p.kind, default_model=p.default_model, models=frozenset(p.models))
            for p in settings.providers
        },
        groups={g.name: Group(name=g.name, members=g.providers, models=g.models) for g in settings.groups},
        aliases={name: Alias(alias.model, alias.group) for name, alias in settings.models.items()},
        kinds=frozenset(KINDS),
    )
