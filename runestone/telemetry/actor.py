"""The telemetry actor: connects the metrics to the bus while it lives, and looks at what nobody tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from attrs import frozen

from runestone.telemetry.bus import Bus
from runestone.telemetry.metrics import Metrics
from supervisors import Cast, GenServer, Info

_LOOK_SECONDS = 1.0


@frozen
class Look(Info):
    """Time to refresh the gauges."""


@frozen
class FleetChanged(Cast):
    """Providers have come, gone or changed."""


@frozen(kw_only=True)
class Standing:
    """How a provider stands at the moment of a look. ``limit``: calls that it may have out at once; ``None``: any number."""

    provider: str
    score: float
    up: bool
    in_flight: int = 0
    waiting: int = 0
    limit: int | None = None


class Telemetry(GenServer[FleetChanged]):
    """One for the node. Its metrics outlive it: a crash loses the events of a moment, not the counts."""

    def __init__(
        self,
        bus: Bus,
        metrics: Metrics,
        providers: Callable[[], Mapping[str, Sequence[str]]],
        groups: Callable[[], Sequence[str]],
        standings: Callable[[float], Iterable[Standing]],
    ) -> None:
        self._bus = bus
        self._metrics = metrics
        self._providers = providers
        self._groups = groups
        self._standings = standings

    def init(self) -> None:
        """Listen."""
        self._count_who_is_there()
        unsubscribe = self._bus.subscribe(self._metrics.handle)
        self.process.on_exit(lambda _process, _reason: unsubscribe())
        self._look()

    def handle_cast(self, message: FleetChanged) -> None:
        """Start the series of who is new, drop those of who is gone."""
        self._count_who_is_there()

    def handle_info(self, message: Info) -> None:
        """Refresh the gauges."""
        if isinstance(message, Look):
            self._look()

    def _count_who_is_there(self) -> None:
        there = self._providers()
        for name in self._metrics.providers() - there.keys():
            self._metrics.remove_provider(name)
        for name, models in there.items():
            self._metrics.add_provider(name, models, self._groups())

    def _look(self) -> None:
        for standing in self._standings(self.now()):
            self._metrics.score.at(provider=standing.provider).set(standing.score)
            self._metrics.up.at(provider=standing.provider).set(int(standing.up))
            self._metrics.provider_in_flight.at(provider=standing.provider).set(standing.in_flight)
            self._metrics.waiting.at(provider=standing.provider).set(standing.waiting)
            if standing.limit is None:
                self._metrics.concurrency.drop("provider", standing.provider)
            else:
                self._metrics.concurrency.at(provider=standing.provider).set(standing.limit)
        self.send_after(_LOOK_SECONDS, Look())
