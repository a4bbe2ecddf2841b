"""The telemetry actor: connects the metrics to the bus while it lives, and looks at what nobody tells."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

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
    """How a provider stands at the moment of a look.

    ``limit``: calls that it may have out at once; ``None``: any number. ``stale``: requests sent once more, ever, because their
    connection had been closed.
    """

    provider: str
    score: float
    up: bool
    breaker: str = "closed"
    admin_state: str = "ready"
    in_flight: int = 0
    waiting: int = 0
    limit: int | None = None
    stale: int = 0


@frozen(kw_only=True)
class Mailbox:
    """The mailbox of one process at the moment of a look: ``drops`` and what was ``taken`` are those of its present incarnation.

    ``on_handled`` is given what is to be told how many seconds each message takes from now on.
    """

    path: str
    incarnation: int
    depth: int
    drops: int
    taken: int = 0
    on_handled: Callable[[Callable[[float], object] | None], None] = lambda _: None


@frozen(kw_only=True)
class Looks:
    """What is looked at, because nobody tells.

    ``providers`` are those that are counted by name, with their models, ``groups`` all of them, with their members; ``watch`` is called at
    each look, for who remembers since when something is so.
    """

    providers: Callable[[], Mapping[str, Collection[str]]] = dict
    groups: Callable[[], Mapping[str, Sequence[str]]] = dict
    standings: Callable[[float], Iterable[Standing]] = lambda _: ()
    mailboxes: Callable[[], Iterable[Mailbox]] = tuple
    watch: Callable[[], object] = lambda: None


class Telemetry(GenServer[FleetChanged]):
    """One for the node. Its metrics outlive it: a crash loses the events until it is back, not the counts."""

    def __init__(self, bus: Bus, metrics: Metrics, looks: Looks) -> None:
        self._bus = bus
        self._metrics = metrics
        self._looks = looks

    def init(self) -> None:
        """Listen."""
        self._count_who_is_there()
        unsubscribe = self._bus.subscribe_later(self._metrics.handle, self._metrics.kinds)
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
        self._bus.flush()  # who goes is still counted by name
        self._metrics.know(self._looks.providers(), self._looks.groups())

    def _look(self) -> None:
        self._bus.flush()  # or a change that waits would take the place of what is seen here
        there = self._metrics.providers()
        for standing in self._looks.standings(self.now()):
            if standing.provider not in there:
                continue  # it has just come, or its last calls are ending
            self._metrics.breaker_is(standing.provider, standing.breaker)
            self._metrics.admin_state_is(standing.provider, standing.admin_state)
            self._metrics.score.at(provider=standing.provider).set(standing.score)
            self._metrics.up.at(provider=standing.provider).set(int(standing.up))
            self._metrics.provider_in_flight.at(provider=standing.provider).set(standing.in_flight)
            self._metrics.waiting.at(provider=standing.provider).set(standing.waiting)
            self._metrics.stale.at(provider=standing.provider).set(standing.stale)
            if standing.limit is None:
                self._metrics.concurrency.drop("provider", standing.provider)
            else:
                self._metrics.concurrency.at(provider=standing.provider).set(standing.limit)
        boxes = list(self._looks.mailboxes())
        for box in boxes:
            self._metrics.mailbox(box.path, box.incarnation, box.depth, box.drops, box.taken)
            box.on_handled(self._metrics.handling(box.path))
        present = {box.path for box in boxes}
        self._metrics.mailbox_depth.prune(lambda labels: labels["actor"] in present)
        self._metrics.watch()
        self._looks.watch()
        self.send_after(_LOOK_SECONDS, Look())
