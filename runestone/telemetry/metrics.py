"""The node's metrics: events into series. Label values come from configuration only; what clients, upstreams or bugs say is ``other``."""

from __future__ import annotations

import asyncio
import platform
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import field, frozen

import runestone
from runestone.telemetry import process
from runestone.telemetry.bound import AttemptSeries, Booked, RequestSeries
from runestone.telemetry.commit import commit
from runestone.telemetry.events import (
    AdminActed,
    AttemptFinished,
    BreakerChanged,
    CallBooked,
    Event,
    Failover,
    FailoverExhausted,
    ProbeFinished,
    ProviderQuarantined,
    ProviderThrottled,
    RequestFinished,
    Retry,
)
from runestone.telemetry.expected import STATES, Expected
from runestone.telemetry.outcomes import (
    CANCELLED,
    CLASSES,
    KNOWN_OUTCOMES,
    OK,
    OTHER,
    QUARANTINE_REASONS,
    REQUEST_CLASSES,
    Names,
    RequestClass,
    attempt_class,
    class_of,
    status_class,
)
from runestone.telemetry.series import EscapingFormatter
from runestone.telemetry.windows import LONGEST_SECONDS, Window
from supervisors import Event as TreeEvent
from supervisors.events import GaveUp, Restarting

_SLICE_SECONDS: Final = 0.001  # of rendering, after which everybody else has a turn
_RESTARTS_KEPT: Final = 1000
_DAY_SECONDS: Final = 86_400


@frozen(kw_only=True)
class Sources:
    """What nobody tells, and is asked for at each scrape.

    ``in_flight`` by route; ``lag`` how late the loop was at most within the last minute, in seconds; ``refused`` how many requests the
    node would not add to its load; ``failures`` of event handlers; ``log_dropped`` lines; ``dropped`` events by the queue that was full;
    ``reload`` whether the last one was taken, and when one was; ``ledger`` calls that wait for it, are written and are lost, and tries that
    failed.
    """

    in_flight: Callable[[], Mapping[str, int]] = dict
    lag: Callable[[], float] = float
    refused: Callable[[], int] = int
    failures: Callable[[], int] = int
    log_dropped: Callable[[], int] = int
    dropped: Callable[[], Mapping[str, int]] = dict
    ledger: Callable[[], tuple[int, int, int, int]] = lambda: (0, 0, 0, 0)
    reload: Callable[[], tuple[bool, float]] = field(default=lambda: (True, process.started_at()))


class Metrics(Expected):
    """All metrics of one node.

    ``routes`` are the templates of the public port's routes, with whether one may ask for a stream there; ``clock`` tells seconds for
    what is of late.
    """

    def __init__(
        self,
        sources: Sources | None = None,
        routes: Mapping[str, bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(routes or {})
        self._sources = sources or Sources()
        self.clock = clock
        self._formatter = EscapingFormatter()
        self._outcomes = Names(KNOWN_OUTCOMES)
        self._refusals = Names()
        self._of_requests: dict[tuple[str, bool, int, str], RequestSeries] = {}
        self._of_attempts: dict[tuple[str, str, bool, str], AttemptSeries] = {}
        self._of_booked: dict[tuple[str, str], Booked] = {}
        self._boxes: dict[
            str, tuple[int, int, int]
        ] = {}  # by path: in which incarnation, how many were dropped and how many taken
        self.request_windows: dict[RequestClass, Window] = {kind: Window() for kind in REQUEST_CLASSES}
        self.content_window = Window()
        self._restarted_at: deque[float] = deque(maxlen=_RESTARTS_KEPT)
        self._midnight = 0.0  # when the day ends, in epoch seconds
        self._cost_today = 0.0
        self.restart_window, self.gave_up_window, self.lag_window = Window(), Window(), Window()
        self._lost: dict[str, tuple[int, Window]] = {}  # by what loses something: how much in all, and when it did
        self._counting: dict[type, Callable[[Any], None]] = {
            RequestFinished: self._request,
            AttemptFinished: self._attempt,
            CallBooked: self._booked,
            Retry: self._retry,
            Failover: self._failover,
            FailoverExhausted: self._exhaustion,
            ProviderThrottled: self._throttle,
            ProviderQuarantined: self._quarantine,
            ProbeFinished: self._probe,
            BreakerChanged: self._transition,
            AdminActed: self._action,
        }
        self.kinds = self._counting.keys()  # of events that are counted
        self.build.at(version=runestone.__version__, python=platform.python_version(), commit=commit()).set(1)
        self.started.at().set(process.started_at())
        for family in (self.shed, self.log_dropped, self.handler_failures, self.loop_lag, self.cpu):
            family.at()
        for reason in ("queue", "export"):
            self.traces_dropped.expect(reason=reason)

    def know(self, providers: Mapping[str, Iterable[str]], groups: Mapping[str, Sequence[str]]) -> None:
        """Start the series of providers (with the models that are counted by name) and groups at zero, drop those of who is gone."""
        if self.changes(providers, groups):
            self._of_attempts.clear()  # they hold on to series that may be gone
            self._of_booked.clear()
            self._boxes = {path: counts for path, counts in self._boxes.items() if self._place(path) == path}

    # -- events --------------------------------------------------------------------------------------------------------

    def handle(self, event: Event, _at: float = 0.0) -> None:
        """Count one event. What is of late counts from now: it is of a moment ago."""
        if (count := self._counting.get(type(event))) is not None:
            count(event)

    def observe(self, event: TreeEvent) -> None:
        """Count what happens in the tree. It is told here at first hand: the telemetry actor may be what is restarted."""
        match event:
            case Restarting():
                path = self._place(f"{event.supervisor.path}/{event.id}")
                self.restarts.at(actor=path, reason=type(event.reason).__name__.lower()).inc()
                self.restart_window.observe(self.clock(), event.delay_seconds)
                self._restarted_at.append(self.clock())
            case GaveUp():
                self.intensity.at(supervisor=self._place(event.supervisor.path)).inc()
                self.gave_up_window.observe(self.clock(), 0.0)
            case _:
                pass  # starts and ends are the tree's business

    def _request(self, event: RequestFinished) -> None:
        key = (event.route, event.stream, event.status, event.outcome)
        series = self._of_requests.get(key)
        if series is None:
            series = self._bind_request(*key)
        series.count(event, self.clock())

    def _bind_request(self, route: str, stream: bool, status: int, outcome: str) -> RequestSeries:  # noqa: FBT001 - a key
        key = (route if route in self.routes else OTHER, stream, status, self._outcomes.of(outcome))
        if (series := self._of_requests.get(key)) is None:
            route, _, _, outcome = key
            streamed, answered = "true" if stream else "false", status_class(status)
            kind = class_of(answered, outcome)
            series = self._of_requests[key] = RequestSeries(
                count=self.requests.at(route=route, stream=streamed, status_class=answered, outcome=outcome),
                seconds=self.request_seconds.at(route=route, stream=streamed, outcome=kind),
                overhead=self.overhead_seconds.at(route=route),
                window=self.request_windows[kind],
                content=self.content_window,
            )
        return series

    def _attempt(self, event: AttemptFinished) -> None:
        key = (event.provider, event.model, event.stream, event.outcome)
        series = self._of_attempts.get(key)
        if series is None:
            series = self._bind_attempt(*key)
        series.count(event, self.clock())

    def _bind_attempt(self, provider: str, model: str, stream: bool, outcome: str) -> AttemptSeries:  # noqa: FBT001 - a key
        provider, model = self._names(provider, model)
        key = (provider, model, stream, outcome if outcome in CLASSES or outcome in (OK, CANCELLED) else OTHER)
        if (series := self._of_attempts.get(key)) is None:
            series = self._of_attempts[key] = AttemptSeries(self, key, self.windows.get(provider))
        return series

    def _booked(self, event: CallBooked) -> None:
        if (series := self._of_booked.get((event.provider, event.model))) is None:
            key = provider, model = self._names(event.provider, event.model)
            if (series := self._of_booked.get(key)) is None:
                series = self._of_booked[key] = Booked(
                    self.cost.at(provider=provider, model=model), self.cost_unknown.at(provider=provider, model=model)
                )
        if event.cost_usd is None:
            series.unknown.inc()
        else:
            cost = max(event.cost_usd, 0.0)
            series.cost.inc(cost)
            if time.time() >= self._midnight:
                self._midnight, self._cost_today = (_day() + 1) * _DAY_SECONDS, 0.0
            self._cost_today += cost

    def _retry(self, event: Retry) -> None:
        name, reason = self._provider(event.provider), attempt_class(event.reason)
        self.retries.at(provider=name, reason=reason).inc()
        self.retry_seconds.at(provider=name, reason=reason).observe(event.waited_seconds)

    def _failover(self, event: Failover) -> None:
        origin, target = self._provider(event.origin), self._provider(event.target)
        reason = attempt_class(event.reason)
        self.failovers.at(group=self._group(event.group), **{"from": origin}, to=target, reason=reason).inc()

    def _exhaustion(self, event: FailoverExhausted) -> None:
        self.exhausted.at(group=self._group(event.group)).inc()

    def _throttle(self, event: ProviderThrottled) -> None:
        self.throttles.at(provider=self._provider(event.provider)).inc()

    def _quarantine(self, event: ProviderQuarantined) -> None:
        reason = event.reason if event.reason in QUARANTINE_REASONS else OTHER
        self.quarantines.at(provider=self._provider(event.provider), reason=reason).inc()

    def _probe(self, event: ProbeFinished) -> None:
        self.probes.at(provider=self._provider(event.provider), outcome=event.outcome).inc()

    def _transition(self, event: BreakerChanged) -> None:
        name = self._provider(event.provider)
        self.transitions.at(provider=name, to=event.after).inc()
        self.breaker_is(name, event.after)

    def breaker_is(self, provider: str, state: str) -> None:
        """Set the gauge of a breaker."""
        for each in STATES:
            self.breaker.at(provider=provider, state=each).set(each == state)

    def _action(self, event: AdminActed) -> None:
        self.admin.at(action=event.route or OTHER, outcome=self._refusals.of(event.outcome)).inc()

    # -- looks ---------------------------------------------------------------------------------------------------------

    def mailbox(self, path: str, incarnation: int, depth: int, drops: int, taken: int) -> None:
        """How the mailbox of the process at ``path`` is. Its counts are those of one incarnation: here they go on being counted."""
        if self._place(path) != path:
            return
        if path not in self._boxes:
            self.restarts.expect(actor=path, reason="crashed")
            self.intensity.expect(supervisor=path.rpartition("/")[0])
        lived, dropped_before, taken_before = self._boxes.get(path, (incarnation, 0, 0))
        self._boxes[path] = incarnation, drops, taken
        if lived != incarnation:
            dropped_before = taken_before = 0
        self.mailbox_depth.at(actor=path).set(depth)
        self.mailbox_dropped.at(actor=path).inc(max(drops - dropped_before, 0))
        self.mailbox_taken.at(actor=path).inc(max(taken - taken_before, 0))

    def handling(self, path: str) -> Callable[[float], object] | None:
        """What is to be told how many seconds each message of the process at ``path`` took, if it is counted by name."""
        if self._place(path) != path:
            return None
        observe: Callable[[float], object] = self.handle_seconds.at(actor=path).observe
        return observe

    def late(self, seconds: float) -> None:
        """How late the event loop was at one look."""
        self.loop_lag.at().observe(seconds)
        self.lag_window.observe(self.clock(), seconds)

    def watch(self) -> None:
        """Note what has been lost since the last look."""
        sources = self._sources
        totals = {"log": sources.log_dropped(), "handlers": sources.failures(), **sources.dropped()}
        for what, total in totals.items():
            before, window = self._lost.get(what) or (0, Window())
            if total > before:
                window.observe(self.clock(), 0.0)
            self._lost[what] = total, window

    def restarts_within(self, seconds: float) -> int:
        """How many processes were restarted of late; of more than a thousand, a thousand."""
        since = self.clock() - seconds
        return sum(at >= since for at in self._restarted_at)

    def cost_today_usd(self) -> float:
        """What calls have cost that were booked since midnight (UTC), or since the start of the process if that was later."""
        return self._cost_today if time.time() < self._midnight else 0.0

    def lost_of_late(self, what: str) -> bool:
        """Whether ``what`` (``log``, ``handlers`` or a queue) has lost something within the last five minutes."""
        return what in self._lost and self._lost[what][1].count(self.clock(), LONGEST_SECONDS) > 0

    def queues(self) -> list[str]:
        """Those that drop events when they are full."""
        return sorted(self._sources.dropped())

    def render(self) -> bytes:
        """Prometheus' text format."""
        self._look()
        return self._formatter.marshall(self.registry)

    async def rendered(self) -> bytes:
        """The same, with pauses in which everybody else has a turn."""
        self._look()
        parts: list[str] = []
        since = time.perf_counter()
        for part in self._formatter.parts(self.registry):
            parts.append(part)
            if time.perf_counter() - since > _SLICE_SECONDS:
                await asyncio.sleep(0)
                since = time.perf_counter()
        return "".join(parts).encode()

    def _look(self) -> None:
        sources = self._sources
        in_flight = sources.in_flight()
        for route in self.routes:
            self.in_flight.at(route=route).set(in_flight.get(route, 0))
        self.loop_lag_worst.at().set(sources.lag())
        self.shed.at().set(sources.refused())
        self.handler_failures.at().set(sources.failures())
        self.log_dropped.at().set(sources.log_dropped())
        for queue, count in sources.dropped().items():
            self.events_dropped.at(queue=queue).set(count)
        of_ledger = (self.ledger_waiting, self.ledger_written, self.ledger_dropped, self.ledger_failures)
        for family, number in zip(of_ledger, sources.ledger(), strict=True):
            family.at().set(number)
        taken, at = sources.reload()
        self.reload_success.at().set(taken)
        self.reload_at.at().set(at)
        for family in self.families():
            self.series_dropped.at(metric=family.name).set(family.turned_away)
        self.cpu.at().set(process.cpu_seconds())
        virtual, resident = process.memory_bytes()
        self.memory.at().set(resident)
        self.virtual_memory.at().set(virtual)
        self.most_descriptors.at().set(process.most_descriptors())
        if (there := process.open_descriptors()) is not None:
            self.descriptors.at().set(there)


def _day() -> int:
    return int(time.time()) // _DAY_SECONDS
