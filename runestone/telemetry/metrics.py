"""The node's metrics, under the names that Prometheus users expect. Label values come from configuration only."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from aioprometheus.collectors import Registry

import runestone
from runestone.domain.failure import TREATMENTS
from runestone.telemetry.events import (
    AttemptFinished,
    BreakerChanged,
    Event,
    Failover,
    FailoverExhausted,
    ProviderThrottled,
    RequestFinished,
    Retry,
)
from runestone.telemetry.process import cpu_seconds, open_descriptors, resident_bytes
from runestone.telemetry.series import Buckets, EscapingFormatter, Family
from supervisors import Event as TreeEvent
from supervisors.events import Restarting as RestartingEvent

_SECONDS: Final = tuple(0.01 * 2**n for n in range(14))  # OpenTelemetry's: 0.01 to 81.92
_STATES: Final = ("closed", "open", "half_open")
_OUTCOMES: Final = frozenset({"ok", "client_gone", "timeout", "restarting", "internal_error", *TREATMENTS}) | {
    treatment.code for treatment in TREATMENTS.values()
}
_OTHER_OUTCOMES: Final = 64  # codes of errors beside these; an upstream's own are among them, and may be anything


class Metrics:
    """All metrics of one node, in a registry of their own.

    ``in_flight`` tells how many requests are, ``lag`` how late the loop was at most within the last minute, in seconds, ``refused`` how
    many requests the node would not add to its load.
    """

    def __init__(
        self,
        in_flight: Callable[[], int] = int,
        lag: Callable[[], float] = float,
        refused: Callable[[], int] = int,
    ) -> None:
        self._in_flight = in_flight
        self._lag = lag
        self._refused = refused
        registry = self._registry = Registry()
        counter, gauge, histogram = Family.counter, Family.gauge, Family.histogram
        self.build = gauge(registry, "runestone_build_info", "The version that runs.")
        self.requests = counter(registry, "runestone_requests_total", "Client requests.")
        self.request_seconds = histogram(registry, "runestone_request_duration_seconds", "Client requests.", _SECONDS)
        self.in_flight = gauge(registry, "runestone_request_in_flight", "Client requests in flight.")
        self.attempts = counter(registry, "runestone_provider_attempts_total", "Upstream calls.")
        self.attempt_seconds = histogram(registry, "runestone_provider_duration_seconds", "Upstream calls.", _SECONDS)
        self.first_chunk_seconds = histogram(
            registry, "runestone_provider_time_to_first_chunk_seconds", "From the call to the first content.", _SECONDS
        )
        self.tokens = counter(registry, "runestone_tokens_total", "Tokens that providers reported.")
        self.score = gauge(registry, "runestone_provider_health_score", "Health score, 0 to 1.")
        self.up = gauge(registry, "runestone_provider_up", "Whether the provider may be asked.")
        self.provider_in_flight = gauge(registry, "runestone_provider_in_flight", "Upstream calls in flight.")
        self.waiting = gauge(registry, "runestone_provider_waiting", "Requests that wait for a call to end.")
        self.concurrency = gauge(
            registry, "runestone_provider_concurrency_limit", "Upstream calls that may be in flight at once."
        )
        self.shed = counter(registry, "runestone_requests_shed_total", "Requests refused for the node's own load.")
        self.breaker = gauge(registry, "runestone_circuit_breaker_state", "1 for the state that it is in.")
        self.transitions = counter(registry, "runestone_circuit_breaker_transitions_total", "Changes of state.")
        self.throttles = counter(registry, "runestone_provider_throttled_total", "429 answers of providers.")
        self.retries = counter(registry, "runestone_retries_total", "Calls of the same provider again.")
        self.failovers = counter(registry, "runestone_failovers_total", "Calls of another provider.")
        self.exhausted = counter(registry, "runestone_failover_exhausted_total", "Requests that nobody would take.")
        self.restarts = counter(registry, "runestone_actor_restarts_total", "Restarts of processes of the tree.")
        self.loop_lag = gauge(
            registry, "runestone_event_loop_lag_seconds", "How late the event loop was, at most within the last minute."
        )
        self.ledger_written = counter(registry, "runestone_ledger_calls_total", "Upstream calls written to the ledger.")
        self.ledger_dropped = counter(
            registry, "runestone_ledger_dropped_total", "Upstream calls that the ledger will never hold."
        )
        self.ledger_failures = counter(registry, "runestone_ledger_failures_total", "Tries to write it that failed.")
        self.ledger_waiting = gauge(registry, "runestone_ledger_waiting", "Upstream calls that wait for the ledger.")
        self.process = gauge(registry, "process_resident_memory_bytes", "Resident memory.")
        self.cpu = gauge(registry, "process_cpu_seconds_total", "User and system time.")
        self.descriptors = gauge(registry, "process_open_fds", "Open file descriptors.")
        self._models: dict[str, frozenset[str]] = {}
        self._outcomes: set[str] = set()
        self.build.at(version=runestone.__version__, python=platform.python_version()).set(1)

    def add_provider(self, name: str, models: Iterable[str], groups: Iterable[str]) -> None:
        """Start the series of a provider at zero, unless they are there: they outlive the actor that counts."""
        known, self._models[name] = self._models.get(name), frozenset(models)
        if known is not None:
            return
        for state in _STATES:
            self.breaker.at(provider=name, state=state).set(state == "closed")
            self.transitions.at(provider=name, to=state)
        for model in self._models[name]:
            self.attempts.at(provider=name, model=model, outcome="ok")
        self.score.at(provider=name).set(1.0)
        self.up.at(provider=name).set(1)
        self.throttles.at(provider=name)
        for group in groups:
            self.exhausted.at(group=group)

    def remove_provider(self, name: str) -> None:
        """Drop the series of a provider that is gone."""
        if self._models.pop(name, None) is not None:
            for family in self._families().values():
                family.drop("provider", name)

    def providers(self) -> set[str]:
        """Those whose series are there."""
        return set(self._models)

    def handle(self, event: Event) -> None:
        """Count one event."""
        match event:
            case RequestFinished():
                self._request(event)
            case AttemptFinished():
                self._attempt(event)
            case Retry(provider=provider, reason=reason):
                self.retries.at(provider=provider, reason=reason).inc()
            case Failover(group=group, origin=origin, target=target, reason=reason):
                self.failovers.at(group=group, **{"from": origin}, to=target, reason=reason).inc()
            case FailoverExhausted(group=group):
                self.exhausted.at(group=group).inc()
            case ProviderThrottled(provider=provider):
                self.throttles.at(provider=provider).inc()
            case BreakerChanged(provider=provider, after=after):
                self.transitions.at(provider=provider, to=after).inc()
                for state in _STATES:
                    self.breaker.at(provider=provider, state=state).set(state == after)
            case _:
                pass  # not counted

    def observe(self, event: TreeEvent) -> None:
        """Count what happens in the tree."""
        if isinstance(event, RestartingEvent):
            self.restarts.at(actor=f"{event.supervisor.path}/{event.id}").inc()

    def _request(self, event: RequestFinished) -> None:
        stream = "true" if event.stream else "false"
        status = f"{event.status // 100}xx" if event.status else "none"
        outcome = event.outcome if self._knows(event.outcome) else "other"
        self.requests.at(route=event.route, stream=stream, status_class=status, outcome=outcome).inc()
        self.request_seconds.at(route=event.route, stream=stream).observe(event.duration_seconds)

    def _knows(self, outcome: str) -> bool:
        if outcome in _OUTCOMES or outcome in self._outcomes:
            return True
        if len(self._outcomes) < _OTHER_OUTCOMES:
            self._outcomes.add(outcome)
            return True
        return False

    def _attempt(self, event: AttemptFinished) -> None:
        # one that was removed may still have streams: its series do not come back
        name = event.provider if event.provider in self._models else "other"
        model = event.model if event.model in self._models.get(name, ()) else "other"
        stream = "true" if event.stream else "false"
        self.attempts.at(provider=name, model=model, outcome=event.outcome).inc()
        self.attempt_seconds.at(provider=name, stream=stream).observe(event.duration_seconds)
        if event.stream and event.first_content_seconds is not None:
            self.first_chunk_seconds.at(provider=name).observe(event.first_content_seconds)
        if (usage := event.usage) is not None:
            for kind, count in (
                ("input", usage.input_tokens),
                ("output", usage.output_tokens),
                ("cached_input", usage.cached_tokens),
                ("reasoning", usage.reasoning_tokens),
            ):
                self.tokens.at(provider=name, model=model, type=kind).inc(count)

    def render(self) -> bytes:
        """Prometheus' text format."""
        self._look_at_the_process()
        return bytes(EscapingFormatter().marshall(self._registry))

    def snapshot(self) -> dict[str, Any]:
        """The same as plain numbers, by metric and label values."""
        self._look_at_the_process()
        return {name: family.values() for name, family in self._families().items()}

    def of_node(self) -> dict[str, Any]:
        """The node's own counts as plain numbers."""
        requests = self.requests.select()
        failed = sum(v.value for labels, v in requests if labels["outcome"] not in ("ok", "client_gone"))
        return {
            "requests": int(sum(v.value for _, v in requests)),
            "failed": int(failed),
            "in_flight": self._in_flight(),
            "retries": int(sum(v.value for _, v in self.retries.select())),
            "failovers": int(sum(v.value for _, v in self.failovers.select())),
        }

    def of_provider(self, name: str) -> dict[str, Any]:
        """One provider's counts as plain numbers; times are means in seconds."""
        outcomes: Counter[str] = Counter()
        for labels, series in self.attempts.select(provider=name):
            outcomes[labels["outcome"]] += int(series.value)
        tokens: Counter[str] = Counter()
        for labels, series in self.tokens.select(provider=name):
            tokens[labels["type"]] += int(series.value)
        return {
            "attempts": outcomes.total(),
            "outcomes": {outcome: count for outcome, count in outcomes.items() if count},
            "throttled": int(sum(v.value for _, v in self.throttles.select(provider=name))),
            "mean_seconds": _mean([v for _, v in self.attempt_seconds.select(provider=name)]),
            "mean_first_content_seconds": _mean([v for _, v in self.first_chunk_seconds.select(provider=name)]),
            "tokens": dict(tokens),
        }

    def _families(self) -> dict[str, Family]:
        return {name: family for name, family in vars(self).items() if isinstance(family, Family)}

    def _look_at_the_process(self) -> None:
        self.in_flight.at().set(self._in_flight())
        self.loop_lag.at().set(self._lag())
        self.shed.at().set(self._refused())
        self.cpu.at().set(cpu_seconds())
        self.process.at().set(resident_bytes())
        if (count := open_descriptors()) is not None:
            self.descriptors.at().set(count)


def _mean(histograms: Sequence[Buckets]) -> float | None:
    count = sum(h.observations for h in histograms)
    return round(sum(h.sum for h in histograms) / count, 4) if count else None
