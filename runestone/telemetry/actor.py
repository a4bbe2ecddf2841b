"""The telemetry actor: connects the metrics to the bus while it lives, and looks at what nobody tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from attrs import frozen

from runestone.telemetry.bus import Bus
from runestone.telemetry.metrics import Metrics
from supervisors import GenServer, Info

_LOOK_SECONDS = 1.0


@frozen
class Look(Info):
    """Time to refresh the gauges."""


@frozen
class Standing:
    """How a provider stands at the moment of a look."""

    provider: str
    score: float
    up: bool


class Telemetry(GenServer[object]):
    """One for the node. Its metrics outlive it: a crash loses the events of a moment, not the counts."""

    def __init__(
        self,
        bus: Bus,
        metrics: Metrics,
        providers: Mapping[str, Sequence[str]],
        groups: Sequence[str],
        standings: Callable[[float], Iterable[Standing]],
    ) -> None:
        self._bus = bus
        self._metrics = metrics
        self._providers = providers
        self._groups = groups
        self._standings = standings

    def init(self) -> None:
        """Listen."""
        for name, models in self._providers.items():
            self._metrics.add_provider(name, models, self._groups)
        unsubscribe = self._bus.subscribe(self._metrics.handle)
        self.process.on_exit(lambda _process, _reason: unsubscribe())
        self._look()

    def handle_info(self, message: Info) -> None:
        """Refresh the gauges."""
        if isinstance(message, Look):
            self._look()

    def _look(self) -> None:
        for standing in self._standings(self.now()):
            self._metrics.score.at(provider=standing.provider).set(standing.score)
            self._metrics.up.at(provider=standing.provider).set(int(standing.up))
        self.send_after(_LOOK_SECONDS, Look())
