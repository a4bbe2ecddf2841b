"""The running node as others see it: what there is to know, and what an operator may do. Everything outside the tree goes through it.

Reading never blocks and never calls upstream. An action returns when the new state is in force.
"""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeVar

from attrs import define, evolve, field
from msgspec.structs import replace

import runestone
from runestone.config.live import Live
from runestone.config.settings import Settings
from runestone.configuration import LastReload, Unfinished
from runestone.costs.estimate import estimated
from runestone.costs.prices import cost, quotation
from runestone.costs.tokens import counted
from runestone.domain.chat import Usage
from runestone.domain.faults import UnknownFault
from runestone.domain.routing import is_throw_away
from runestone.failover.router import Explain, GetStats
from runestone.gateway import Ending, Gateway, Phase
from runestone.ledger.books import Books
from runestone.operations import measured
from runestone.operations.alerts import conditions
from runestone.operations.errors import OperationError
from runestone.providers import names
from runestone.providers.faulty import Front
from runestone.providers.memory import ProviderMemory
from runestone.providers.messages import Quote, Unroutable
from runestone.providers.probe import Probe, probe
from runestone.providers.provider import ResetBreaker, SetFault, TripBreaker
from runestone.providers.roster import RestartProvider
from runestone.telemetry import figures
from runestone.telemetry.alerts import Alerts
from runestone.telemetry.bus import Bus
from runestone.telemetry.clock import Clock
from runestone.telemetry.commit import commit
from runestone.telemetry.events import CATALOGUE
from runestone.telemetry.level import Levels
from runestone.telemetry.logs import Tail, masked
from runestone.telemetry.metrics import Metrics
from runestone.telemetry.process import resident_bytes
from runestone.telemetry.recorder import Recorder, Wanted, kinds
from runestone.telemetry.series import about_provider
from supervisors import ActorError, ActorRef, Call, CallTimeout, LoopLag, Registry, StartFailed, TreeNode, tree

R = TypeVar("R")
Health = Literal["healthy", "degraded", "unhealthy", "draining"]
SwitchFault = Callable[[str, str], Awaitable[dict[str, Any]]]
_REACH_SECONDS = 5.0
_HOUR_SECONDS = 3600.0
_NOMINAL = Usage(input_tokens=1000, output_tokens=1000)  # of a request that nobody has made


@define(slots=True, eq=False, kw_only=True)
class Node:
    """One running gateway. ``root`` is set once, when the tree is up."""

    live: Live
    registry: Registry
    memories: Mapping[str, ProviderMemory]
    bus: Bus
    _metrics: Metrics
    _recorder: Recorder
    _books: Books
    gateway: Gateway
    lag: LoopLag
    listeners: Mapping[str, str]  # where it listens, by name
    lines_dropped: Callable[[], int]  # of the log
    levels: Levels
    _log_tail: Tail | None = None  # its last lines, if the log of the process is this node's
    allow_faults: bool = False  # processes may be crashed on request, and faults put in front of providers
    unsafe_eval: bool = False  # whoever may open the admin socket may run Python here
    set_simulated_fault: SwitchFault | None = None  # with --demo
    simulated_faults: Callable[[], Mapping[str, str]] = dict  # what is switched on at simulated providers, by name
    last_reload: Callable[[], LastReload] = LastReload
    started_at: float = field(factory=time.time)  # epoch seconds
    seen: Alerts = field(factory=Alerts)  # as of the last look
    clock: Clock = field(factory=Clock)  # likewise
    root: ActorRef | None = None
    ending: Ending | None = None  # of the process, where the node has one of its own

    # -- what the bus has told, all of it: who reads it is not to miss what happened a moment ago

    @property
    def metrics(self) -> Metrics:
        """What is counted."""
        self.bus.flush()
        return self._metrics

    @property
    def recorder(self) -> Recorder:
        """The last events."""
        self.bus.flush()
        return self._recorder

    @property
    def books(self) -> Books:
        """The calls that are not in the ledger yet."""
        self.bus.flush()
        return self._books

    @property
    def log_tail(self) -> Tail | None:
        """The last lines, if the log of the process is this node's."""
        self.bus.flush()
        return self._log_tail

    @property
    def phase(self) -> Phase:
        """Whether it takes requests."""
        return self.gateway.phase

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self.live.settings

    def alive(self) -> bool:
        """Whether the root supervisor is there."""
        return self.root is not None and self.root.alive

    # -- what there is to know ---------------------------------------------------------------------------------------

    def health(self) -> Health:
        """One word: healthy with every provider usable and all of the tree there, degraded with some, unhealthy with none."""
        if self.phase.draining:
            return "draining"
        usable = [self.usable(memory) for name, memory in self.memories.items() if not is_throw_away(name)]
        if not any(usable):
            return "unhealthy"
        return "healthy" if all(usable) and not self.settings.refusals and self.root is not None else "degraded"

    def status(self) -> dict[str, Any]:
        """The node on one screen."""
        done = measured.of_node(self)
        return {
            "version": runestone.__version__,
            "commit": commit(),
            "node": platform.node(),
            "status": self.health(),
            "phase": "draining" if self.phase.draining else "ready" if self.root is not None else "starting",
            "mode": self.settings.server.mode,
            "demo": self.set_simulated_fault is not None,
            "unsafe_eval": self.unsafe_eval,
            "pid": os.getpid(),
            "listeners": dict(self.listeners),
            "uptime_seconds": round(time.time() - self.started_at, 3),
            "in_flight": self.in_flight(),
            "dropped": self.dropped(),
            "log": self.log_level(),
            "providers": {name: self.usable(memory) for name, memory in sorted(self.memories.items())},
            "out_of_service": {n: m.admin_state for n, m in sorted(self.memories.items()) if m.admin_state != "ready"},
            "breakers_open": sorted(n for n, m in self.memories.items() if m.breaker.name(self._now()) != "closed"),
            **{key: done[key] for key in measured.AT_A_GLANCE},
            "cost_unknown_calls": done["cost_unknown_calls"],
            "cost_today_usd": round(self.metrics.cost_today_usd(), 6),
            "restarts_1h": self.metrics.restarts_within(_HOUR_SECONDS),
            "ledger": {"state": "off"} if self.settings.ledger.url is None else self.books.status(),
            "missing": [{"name": r.name, "reason": r.code, "message": r.message} for r in self.settings.refusals],
            "alerts": self.alerts(),
        }

    def log_level(self) -> dict[str, Any]:
        """From which level on there are lines; and where that is only for a while, until when, and what comes then."""
        levels = self.levels
        if levels.for_now is None:
            return {"level": levels.level}
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + levels.until - self._now()))
        return {"level": levels.level, "until": ends, "then": levels.lasting}

    def dropped(self) -> dict[str, int]:
        """What was to be told and was not: log lines, events of the file, events that a handler failed to take."""
        return {
            "log_lines": self.lines_dropped(),
            "file_events": self.recorder.dropped,
            "handler_failures": self.bus.failures,
        }

    def events(self, *, name: str | None, since: int | None, limit: int, **about: str | None) -> dict[str, Any]:
        """Recorded events; ``about`` a ``provider`` or a ``request``. ``next`` is the ``since`` of those that come after."""
        types = None if name is None else kinds(name)
        if types is not None and not types:
            raise OperationError("not_found", f"no event is called {name!r}; there are {', '.join(CATALOGUE)}")
        found = self.recorder.find(Wanted(since=since, kinds=types, limit=limit, **about))
        return {"events": [e.as_data() for e in found.events], "next": found.next, "missed": found.missed}

    def in_flight(self) -> int:
        """Client requests that are being served."""
        return self.phase.in_flight

    def providers(self) -> list[dict[str, Any]]:
        """All providers by name."""
        self.watch()
        return [self._provider(self.memories[name]) for name in sorted(self.memories)]

    def provider(self, name: str) -> dict[str, Any]:
        """One provider: breaker, score, leases, last endings, what is wrong. Raises :class:`OperationError` ``not_found``."""
        memory = self._memory(name)
        self.watch()
        return self._provider(memory)

    def _provider(self, memory: ProviderMemory) -> dict[str, Any]:
        name, settings, now = memory.name, memory.settings, self._now()
        return {
            "name": name,
            "kind": settings.kind,
            "base_url": settings.base_url,
            "status": self.status_of(memory),
            "usable": self.usable(memory),
            "breaker": self.breaker(name),
            "health_score": round(memory.score(now), 4),
            "score": {
                part: round(value, 4) for part, value in memory.health.parts(now, memory.breaker.name(now)).items()
            },
            "throttled_seconds": _rounded(memory.throttle.retry_after(now)),
            "quarantined_seconds": _rounded(memory.quarantine.retry_after(settings.default_model, now)),
            "admin_state": memory.admin_state,
            "draining": memory.draining,
            "in_flight": len(memory.leases),
            "max_in_flight": memory.concurrency.limit,
            "waiting": memory.waiting,
            "calls": memory.calls,
            "failures": memory.failures,
            "first_token_seconds": _rounded(memory.health.first_token_seconds),
            "incarnation": memory.incarnation,
            "default_model": settings.default_model,
            "fault": self.fault_of(memory),
            "last_success": _ending(memory.last_success),
            "last_error": _ending(memory.last_failure),
            "last_probe": _ending(memory.last_probe),
            **figures.latencies(self.metrics, name),
            "wrong": [alert.as_data() for alert in self.seen.alerts if alert.condition.about == name],
        }

    def breaker(self, name: str) -> dict[str, Any]:
        """One provider's breaker."""
        memory, now = self._memory(name), self._now()
        breaker, policy = memory.breaker, memory.breaker.policy
        return {
            "provider": name,
            "state": breaker.name(now),
            "mode": breaker.mode if memory.settings.circuit_breaker else "measuring",
            "consecutive_failures": breaker.consecutive_failures,
            "failure_threshold": policy.failure_threshold,
            "recovery_timeout_seconds": policy.recovery_timeout_seconds,
            "half_open_limit": policy.half_open_limit,
            "probes_out": breaker.probes_out,
            "retry_in_seconds": _rounded(breaker.retry_after(now)),
            "generation": breaker.generation,
        }

    def top(self) -> ActorRef:
        """The root supervisor. Raises :class:`OperationError` ``unavailable`` until all of the tree is there."""
        if self.root is None:
            raise OperationError("unavailable", "the tree is starting")
        return self.root

    def tree(self) -> TreeNode:
        """The supervision tree as data."""
        return tree(self.top())

    def detailed(self) -> dict[str, Any]:
        """The whole system: tree, providers, groups, memory, versions, settings in force (masked)."""
        return {
            **self.status(),
            "python": platform.python_version(),
            "platform": sys.platform,
            "memory_bytes": resident_bytes(),
            "frozen_objects": gc.get_freeze_count(),
            "loop_lag_seconds": {"last": round(self.lag.last, 4), "worst_of_a_minute": round(self.lag.worst, 4)},
            "tasks": len(asyncio.all_tasks()),
            "tree": tree_as_data(self.tree()),
            "provider_health": self.providers(),
            "groups": [
                {
                    "name": g.name,
                    "strategy": g.strategy,
                    "members": list(g.providers),
                    "max_attempts": g.max_attempts,
                    "health_threshold": g.health_threshold,
                }
                for g in self.settings.groups
            ],
            "settings": {
                "request_deadline_seconds": self.settings.timeouts.request_deadline_seconds,
                "first_token_seconds": self.settings.timeouts.first_token_seconds,
                "idle_seconds": self.settings.timeouts.idle_seconds,
                "connect_seconds": self.settings.timeouts.connect_seconds,
                "drain_seconds": self.settings.server.drain_timeout_seconds,
                "max_upstream_calls": self.settings.max_upstream_calls,
                "inbound_keys": len(self.settings.auth.keys),
            },
            "warnings": list(self.settings.warnings),
        }

    def dashboard(self) -> dict[str, Any]:
        """Overall health, each provider's, and what needs somebody's attention."""
        return {
            "overall_health": self.health(),
            "provider_health": {name: self._standing(name) for name in sorted(self.memories)},
            "alerts": self.alerts(),
        }

    def alerts(self) -> list[dict[str, str]]:
        """What is wrong, since when, and the command that helps; the worst first."""
        self.watch()
        return [alert.as_data() for alert in self.seen.alerts]

    def watch(self) -> None:
        """Look what is wrong: an alert knows since when it lasts because somebody looks once a second."""
        now = time.time()
        self.clock = self.clock.observe(now, time.monotonic())
        self.seen = self.seen.observe(conditions(self, self._now()), now)

    def provider_metrics(self, name: str = "all") -> dict[str, Any]:
        """What one provider has done, or all and the node (``all``), and how they stand: counts, percentiles, tokens, dollars."""
        return measured.of_node_and_providers(self) if name == "all" else measured.of_provider(self, self._memory(name))

    async def prometheus(self, name: str = "all") -> str:
        """The same as Prometheus scrapes it: all series, or those of one provider."""
        text = (await self.metrics.rendered()).decode()
        return text if name == "all" else about_provider(text, self._memory(name).name)

    async def probe(self, name: str = "all") -> dict[str, Any]:
        """Ask a provider, really and for free, whether it answers, or all but those in maintenance. Nothing learns of it but the caller."""
        serving = sorted(n for n, memory in self.memories.items() if memory.admin_state != "maintenance")
        chosen = serving if name == "all" else [self._memory(name).name]
        answers = await asyncio.gather(*(self._probe(self.memories[n]) for n in chosen))
        return dict(zip(chosen, answers, strict=True))

    async def _probe(self, memory: ProviderMemory) -> dict[str, Any]:
        if memory.transport is None:
            found = Probe(outcome="unreachable", status=None, message="is down", seconds=0.0)
        else:
            found = await probe(memory.settings, memory.looked_at_over(memory.transport))
        return {"ok": found.ok, "status": found.status, "message": found.message, "seconds": round(found.seconds, 4)}

    async def estimate_costs(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What ``request`` (a body of OpenAI's wire) would cost at each provider, in dollars (``costs``; ``None``: no price is known), and
        of how many ``tokens``: ``exact`` where its input was counted as the model counts. The answer is always an estimate.

        Each with the model that it would use: the one asked for where it serves that, else its default model.
        """
        model = request.get("model")
        if not isinstance(model, str) or not model:
            raise OperationError("invalid_request", "the request names no model")
        alias = self.settings.models.get(model)
        bare = (alias.model if alias is not None else model).rpartition("/")[2]
        usage, own, correction = estimated(request), self.settings.prices, self.gateway.estimates.correction
        models = {
            n: (m.settings.kind, bare if m.serves(bare) else m.settings.default_model) for n, m in self.memories.items()
        }

        def priced() -> dict[str, Any]:
            costs, tokens = dict[str, str | None](), dict[str, Any]()
            for name, (kind, there) in sorted(models.items()):
                if there is None:
                    costs[name] = tokens[name] = None
                    continue
                real = counted(request, there) if kind == "openai" else None
                of_it = correction.corrected(usage, there) if real is None else replace(usage, input_tokens=real)
                dollars = cost(of_it, kind, there, own)
                costs[name] = None if dollars is None else format(dollars.normalize(), "f")
                tokens[name] = {
                    "model": there,
                    "input_tokens": of_it.input_tokens,
                    "output_tokens": of_it.output_tokens,
                    "exact": real is not None,
                }
            return {"costs": costs, "tokens": tokens}

        return await asyncio.to_thread(priced)

    async def explain(self, model: str, group: str | None = None) -> dict[str, Any]:
        """Who would be asked for ``model``, in which order, who would not, and why; prices are those of a thousand tokens in and out."""
        question = Explain(model=model, group=group)
        answer = await self.call(names.FAILOVER, question)
        if isinstance(answer, Quote):
            priced = await asyncio.to_thread(quotation, _NOMINAL, answer.choices, self.settings.prices)
            answer = await self.call(names.FAILOVER, evolve(question, prices=priced))
            assert not isinstance(answer, Quote)
        if isinstance(answer, Unroutable):
            code = "not_found" if answer.error.code == "unknown_group" else answer.error.code
            raise OperationError(code, answer.error.message)
        return answer.as_data()

    async def failover_stats(self, group: str) -> dict[str, Any]:
        """The statistics of one group, and where its members stand now. Raises :class:`OperationError` ``not_found``."""
        if group not in {g.name for g in self.settings.groups}:
            raise OperationError("not_found", f"there is no group {group!r}")
        stats: Any = await self.call(names.FAILOVER, GetStats(group))
        return {**stats, "members": [self._standing(name) for name in stats["members"] if name in self.memories]}

    # -- what an operator may do -------------------------------------------------------------------------------------

    async def restart_provider(self, name: str, *, hard: bool = False) -> dict[str, Any]:
        """A clean slate for one provider: new incarnation, breaker closed, score fresh; its streams run on.

        ``hard`` also replaces the transport; the old one closes with its last stream.
        """
        memory = self._memory(name)
        before = memory.incarnation
        outcome = await self.call(names.ROSTER, RestartProvider(name, hard), timeout=60.0)
        if isinstance(outcome, StartFailed):
            raise OperationError("failed", f"{name} did not start: {outcome.reason}")
        return {"provider": name, "incarnation_before": before, "incarnation": memory.incarnation, "hard": hard}

    async def reset_breaker(self, name: str) -> dict[str, Any]:
        """Close the breaker, clear its counters and back-off, lift what was forced."""
        self._memory(name)
        await self.call(names.provider(name), ResetBreaker())
        return self.breaker(name)

    async def trip_breaker(self, name: str, seconds: float | None = None) -> dict[str, Any]:
        """Force the breaker open for ``seconds``, or until `breaker auto` or `reset`."""
        self._memory(name)
        if seconds is not None and (
            isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0
        ):
            raise OperationError("refused", "seconds must be a number above 0")
        await self.call(names.provider(name), TripBreaker(seconds))
        return self.breaker(name)

    async def set_fault(self, name: str, spec: str) -> dict[str, Any]:
        """Switch a fault on, at a simulated provider of a demo or in front of any other one, or off (``none``)."""
        if not self.allow_faults:
            raise OperationError("not_enabled", "faults on request are off; start the node with serve --allow-faults")
        self._memory(name)
        try:
            if self.set_simulated_fault is not None and name in self.simulated_faults():
                return await self.set_simulated_fault(name, spec)
            front = Front.saying(spec)
        except UnknownFault as error:
            raise OperationError("refused", str(error)) from None
        await self.call(names.provider(name), SetFault(front))
        return {"name": name, "fault": "none" if front is None else front.spec}

    def fault_of(self, memory: ProviderMemory) -> str | None:
        """The fault that is switched on at a provider or in front of it, as it was said."""
        if memory.front is not None:
            return memory.front.spec
        simulated = self.simulated_faults().get(memory.name, "none")
        return None if simulated == "none" else simulated

    def unbound(self) -> list[str]:
        """The listeners that do not accept now."""
        return [name for name in self.listeners if self.registry.lookup(name) is None]

    # -- within ------------------------------------------------------------------------------------------------------

    async def call(self, name: str, message: Call[R], *, timeout: float = _REACH_SECONDS) -> R:
        """Ask the process registered as ``name``. Raises :class:`OperationError` ``unavailable``, or ``timeout``."""
        try:
            return await self.registry.via(name).call(message, timeout=timeout)
        except Unfinished as error:
            raise OperationError("timeout" if error.late else "unavailable", str(error)) from error
        except CallTimeout:
            raise OperationError("timeout", f"{name} did not answer within {timeout:g} s") from None
        except ActorError as error:
            raise OperationError("unavailable", f"{name} does not answer: {error}") from error

    def _memory(self, name: str) -> ProviderMemory:
        if (memory := self.memories.get(name)) is None:
            raise OperationError("not_found", f"there is no provider {name!r}")
        return memory

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def usable(self, memory: ProviderMemory) -> bool:
        """Whether it would be asked now, or could be in a moment."""
        return self.status_of(memory) in ("up", "recovering", "saturated")

    def status_of(self, memory: ProviderMemory) -> str:
        """One word: ``up``, or what is against it."""
        now = self._now()
        if memory.admin_state == "maintenance":
            return "maintenance"
        there = self.registry.lookup(names.provider(memory.name)) is not None
        if not memory.incarnation and (there or self.root is None):
            return "starting"
        if not there:
            return "down"
        if (refusal := memory.refusal(memory.settings.default_model, now)) is not None:
            return refusal[0]
        if not memory.settings.circuit_breaker:
            return "up"
        return {"closed": "up", "open": "open", "half_open": "recovering"}[memory.breaker.name(now)]

    def _standing(self, name: str) -> dict[str, Any]:
        memory = self.memories[name]
        return {
            "name": name,
            "status": self.status_of(memory),
            "health_score": round(memory.score(self._now()), 4),
            **figures.latencies(self.metrics, name),
        }


def tree_as_data(node: TreeNode) -> dict[str, Any]:
    """A tree node as plain data, children included."""
    return {
        "id": node.id,
        "path": node.path,
        "kind": node.kind,
        "name": node.name,
        "state": node.state,
        "incarnation": node.incarnation,
        "restarts": node.restarts,
        "strategy": node.strategy,
        "mailbox": node.mailbox,
        "last_exit": node.last_exit,
        "children": [tree_as_data(child) for child in node.children],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _ending(ending: Any) -> dict[str, Any] | None:
    at = None if ending is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ending.at))
    return None if ending is None else {"at": at, "what": masked(ending.what)}
