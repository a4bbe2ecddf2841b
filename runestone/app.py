"""The composition root: settings become child specs, child specs a tree; and the order in which a node starts, drains and stops."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from functools import partial

from attrs import define
from loguru import logger
from starlette.types import ASGIApp

from runestone import configuration
from runestone.config.build import build
from runestone.config.live import Live
from runestone.config.load import Sources as ConfigSources
from runestone.config.load import with_simulated
from runestone.config.models import named_models
from runestone.config.settings import ConfigurationError, Problem, Settings
from runestone.configuration import Configuration
from runestone.console import admin
from runestone.costs.estimates import Estimator
from runestone.domain.routing import is_throw_away
from runestone.failover.router import FailoverRouter
from runestone.gateway import Gateway, Phase
from runestone.http import health
from runestone.http.apis import ROUTES
from runestone.http.front import Front
from runestone.http.server import ANY, Admission, Listener
from runestone.http.sockets import AdminSocket, bind_tcp, most_connections
from runestone.http.stacks import StacksListener
from runestone.ledger.bookkeeper import FLUSH_SECONDS, Bookkeeper
from runestone.ledger.books import Books
from runestone.ledger.row import answer_cost
from runestone.ledger.store import Store, opened
from runestone.load import Load
from runestone.operations.actions import Actions
from runestone.operations.fleet import Fleet
from runestone.operations.node import Node
from runestone.providers import names
from runestone.providers.memory import ProviderMemory
from runestone.providers.roster import Roster
from runestone.resilience.breaker import Breaker
from runestone.simulated.actor import Simulation
from runestone.state import Sockets, State
from runestone.telemetry.access import AccessLog
from runestone.telemetry.actor import Looks, Mailbox, Standing, Telemetry
from runestone.telemetry.bus import Bus
from runestone.telemetry.lag import CountedLag
from runestone.telemetry.level import Levels, LogLevel
from runestone.telemetry.logs import Sink
from runestone.telemetry.metrics import Metrics, Sources
from runestone.telemetry.recorder import EventFile, Recorder
from runestone.telemetry.traces import Exporting, Traces
from runestone.telemetry.tree import tell_of_tree
from supervisors import (
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    LogObserver,
    LoopMonitor,
    Registry,
    StartError,
    Supervisor,
    on_handled,
    start,
)

_CUT_SECONDS = 2.0  # for the streams that a drain cuts short to tell their clients
_REQUEST_STOP_SECONDS = 2.0
_SERVER_STOP_SECONDS = 3.0
_TRACES_BACKOFF = Backoff(min_seconds=1.0, max_seconds=60.0)  # without them everything else goes on
_LEDGER_STOP_SECONDS = FLUSH_SECONDS + 2.0
_LEDGER_BACKOFF = Backoff(
    min_seconds=2.0, max_seconds=60.0
)  # it may fail as often as it likes, and nobody else with it
_FOR_OPERATORS = Admission(most=lambda: admin.CONNECTIONS)
_LISTENER_BACKOFF = Backoff(min_seconds=0.1, max_seconds=1.0)  # `servers` may have to come back first


def bind(settings: Settings) -> Sockets:
    """The node's listening sockets. Raises :class:`~runestone.http.sockets.BindError`."""
    server = settings.server
    admin_socket = AdminSocket.bind(server.admin_socket, server.observe_group)
    try:
        public = bind_tcp(server.host, server.port)
    except BaseException:
        admin_socket.close()
        raise
    try:
        return Sockets(public=public, health=bind_tcp(server.host, server.health_port), admin=admin_socket)
    except BaseException:
        public.close()
        admin_socket.close()
        raise


@define(slots=True, eq=False)
class Running:
    """A started node, what may be asked of it, and how it ends."""

    node: Node
    actions: Actions
    sockets: Sockets

    async def drain(self, hurry: asyncio.Event, seconds: float | None = None) -> int:
        """Take nothing new, let what is in flight run for ``seconds`` or until ``hurry``, end the rest in-band; how many that were.

        ``None``: for the drain timeout of the settings.
        """
        node, phase = self.node, self.node.phase
        phase.ends.set()
        phase.drain()
        if seconds is None:
            seconds = node.settings.server.drain_timeout_seconds
        logger.info("draining: {} in flight, {:g} s at most", phase.in_flight, seconds)
        idle = asyncio.ensure_future(phase.idle(seconds))
        impatient = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({idle, impatient}, return_when=asyncio.FIRST_COMPLETED)
        for task in (idle, impatient):
            task.cancel()
        if cut := phase.in_flight:
            logger.warning("the drain is over: {} requests are ended", cut)
            phase.cut_short()
            await phase.idle(_CUT_SECONDS)
        return cut

    async def stop(self) -> None:
        """Stop the tree from the bottom, then :meth:`close`."""
        assert self.node.root is not None
        try:
            await self.node.root.stop()
        finally:
            self.close()

    def close(self) -> None:
        """Hand out what was told last, and close the doors: nothing runs any more."""
        self.node.bus.close()
        self.sockets.close()


@define(slots=True, eq=False)
class Composition:
    """Everything that the child specs refer to, made before the tree."""

    configuration: configuration.Memory
    sockets: Sockets
    simulation: Simulation | None
    registry: Registry
    bus: Bus
    metrics: Metrics
    memories: dict[str, ProviderMemory]
    chance: Callable[[], float]
    sink: Sink | None
    gateway: Gateway
    lag: CountedLag
    exporting: Callable[[str], Exporting] | None
    watch: bool
    node: Node

    @property
    def live(self) -> Live:
        """The settings in force."""
        return self.configuration.live

    async def start(self) -> Running:
        """Start the tree; when this returns, every listener accepts."""
        root = partial(Supervisor, self._root(), strategy="rest_for_one")
        observers = (LogObserver(), self.metrics.observe, partial(tell_of_tree, self.bus))
        spec = ChildSpec(id=names.ROOT, start=root, type="supervisor")
        actions = self.actions()
        self.metrics.expect_actions(one.route for one in actions.table() if not one.reads)
        self.node.root = await start(spec, registry=self.registry, fail_circular_calls=True, observers=observers)
        return Running(self.node, actions, self.sockets)

    # -- the tree, from the top ----------------------------------------------------------------------------------------

    def _root(self) -> tuple[ChildSpec, ...]:
        node = partial(Supervisor, self._children())
        return (
            self.registry.child_spec(),
            ChildSpec(id="state", start=partial(State, self.memories), name=names.STATE),
            ChildSpec(id="node", start=node, type="supervisor"),
        )

    def _children(self) -> tuple[ChildSpec, ...]:
        simulation = self.simulation
        return (
            ChildSpec(id="loop", start=partial(LoopMonitor, self.lag)),
            ChildSpec(
                id="telemetry",
                start=self._telemetry,
                name=names.TELEMETRY,
            ),
            ChildSpec(id="costs", start=partial(Estimator, self.gateway.estimates), name=names.COSTS),
            ChildSpec(id="log", start=partial(LogLevel, self.node.levels), name=names.LOG),
            *self._events(),
            *self._traces(),
            ChildSpec(
                id="ledger",
                start=partial(Bookkeeper, self.node.books, self._ledger, self.live, self.bus),
                name=names.LEDGER,
                shutdown=_LEDGER_STOP_SECONDS,
                backoff=_LEDGER_BACKOFF,
            ),
            ChildSpec(
                id="servers",
                start=DynamicSupervisor,
                type="supervisor",
                name=names.SERVERS,
                shutdown=_SERVER_STOP_SECONDS,
            ),
            ChildSpec(
                id="operations",
                start=partial(Supervisor, self._operations()),
                type="supervisor",
            ),
            *((ChildSpec(id="simulated", start=simulation.actor, name="simulated"),) if simulation else ()),
            ChildSpec(id="fleet", start=partial(Supervisor, self._fleet(), strategy="rest_for_one"), type="supervisor"),
            ChildSpec(
                id="failover",
                start=lambda: FailoverRouter(self.live.settings, self.memories, self.registry, self.bus, self.chance),
                name=names.FAILOVER,
            ),
            ChildSpec(
                id="configuration",
                start=partial(
                    Configuration, self.configuration, self.memories, self.registry, self.node.levels.settle, self.bus
                ),
                name=names.CONFIGURATION,
            ),
            *self._watcher(),
            ChildSpec(
                id="requests",
                start=partial(DynamicSupervisor, adopted_shutdown=_REQUEST_STOP_SECONDS),
                type="supervisor",
                name=names.REQUESTS,
                shutdown=_REQUEST_STOP_SECONDS,
            ),
            self._listener(names.PUBLIC, self.sockets.public, self._front, self._admission()),
        )

    def _events(self) -> tuple[ChildSpec, ...]:
        events = self.live.settings.events
        if events.file is None:
            return ()
        start = partial(EventFile, self.bus, self.node.recorder, events.file, events.file_bytes)
        return (ChildSpec(id="events", start=start, name=names.EVENTS),)

    def _watcher(self) -> tuple[ChildSpec, ...]:
        file = self.configuration.sources.file
        if not self.watch or file is None:
            return ()
        from runestone.watcher import Watcher  # noqa: PLC0415 - an extra

        return (ChildSpec(id="watcher", start=partial(Watcher, file, self.registry)),)

    def _telemetry(self) -> Telemetry:
        looks = Looks(
            providers=self._models,
            groups=self._groups,
            standings=self._standings,
            mailboxes=self._mailboxes,
            watch=self.node.watch,
        )
        return Telemetry(self.bus, self.metrics, looks)

    def _traces(self) -> tuple[ChildSpec, ...]:
        if self.exporting is None:
            return ()
        actor = partial(
            Traces,
            self.bus,
            partial(self.exporting, self.sockets.addresses()["public"]),
            self._base_url,
            lambda reason, count: self.metrics.traces_dropped.at(reason=reason).inc(count),
            propagate=self.live.settings.traces.propagate,
        )
        return (ChildSpec(id="traces", start=actor, backoff=_TRACES_BACKOFF),)

    def _base_url(self, provider: str) -> str | None:
        memory = self.memories.get(provider)
        return None if memory is None else memory.settings.base_url

    def _ledger(self) -> Store | None:
        url = self.live.settings.ledger.url
        return None if url is None else opened(url)

    def _models(self) -> dict[str, frozenset[str]]:
        """What is counted by name: the models that the settings name, by provider."""
        return {
            n: named_models(m.settings, self.live.settings) for n, m in self.memories.items() if m.settings.telemetry
        }

    def _groups(self) -> dict[str, tuple[str, ...]]:
        return {group.name: group.providers for group in self.live.settings.groups if not is_throw_away(group.name)}

    def _mailboxes(self) -> list[Mailbox]:
        return [
            Mailbox(
                path=process.path,
                incarnation=process.incarnation,
                depth=box.depth,
                drops=box.drops,
                taken=box.taken,
                on_handled=partial(on_handled, ref),
            )
            for ref, process in ((ref, ref.process) for ref in self.registry.names().values())
            if process.alive and (box := process.mailbox) is not None
        ]

    def _standings(self, now: float) -> list[Standing]:
        return [
            Standing(
                provider=name,
                score=m.score(now),
                breaker=m.breaker.name(now),
                admin_state=m.admin_state,
                up=m.transport is not None and m.breaker.name(now) != "open",
                in_flight=len(m.leases),
                waiting=m.waiting,
                limit=m.concurrency.limit,
                stale=m.stale,
            )
            for name, m in self.memories.items()
            if m.settings.telemetry
        ]

    def actions(self) -> Actions:
        """What may be asked of the node."""
        return Actions(self.node, Fleet(self.node, self.configuration))

    def _operations(self) -> tuple[ChildSpec, ...]:
        return (
            self._listener("health", self.sockets.health, lambda: health.app(self.node)),
            self._listener("admin", self.sockets.admin.listener, lambda: admin.app(self.actions()), _FOR_OPERATORS),
            self._listener(
                "observe",
                self.sockets.admin.observers.listener,
                lambda: admin.app(self.actions(), observes=True),
                _FOR_OPERATORS,
            ),
            ChildSpec(id="stacks", start=partial(StacksListener, self.sockets.admin.path), name=names.STACKS),
        )

    def _fleet(self) -> tuple[ChildSpec, ...]:
        return (
            ChildSpec(
                id="providers",
                start=partial(Supervisor, ()),
                type="supervisor",
                name=names.PROVIDERS,
            ),
            ChildSpec(
                id="roster",
                start=partial(Roster, self.memories, self.registry, self.bus, self.chance, self.live),
                name=names.ROSTER,
            ),
        )

    def _admission(self) -> Admission:
        return Admission(
            most=lambda: min(self.live.settings.server.max_connections, most_connections()),
            patience=lambda: self.live.settings.server.max_loop_lag_seconds,
            refused=partial(self.gateway.load.turned_away, cause="queue"),
            beyond=self.gateway.load.turned_away,
        )

    def _listener(
        self,
        name: str,
        listener: socket.socket,
        app: Callable[[], ASGIApp],
        admission: Admission = ANY,
    ) -> ChildSpec:
        graceful = self.live.settings.timeouts.request_deadline_seconds
        start = partial(Listener, listener, app, self.registry, graceful, admission)
        return ChildSpec(id=name, start=start, name=name, backoff=_LISTENER_BACKOFF)

    def _front(self) -> ASGIApp:
        return Front.over(self.gateway, self.bus)


def _no_log(level: str) -> None:
    """The log is somebody else's."""


def _set_level(bus: Bus, sink: Sink, level: str) -> None:
    """Take what is of ``level``, of what happens from now on."""
    bus.flush()
    sink.set_level(level)


def compose(
    memory: configuration.Memory,
    sockets: Sockets,
    simulation: Simulation | None = None,
    *,
    allow_faults: bool = False,
    unsafe_eval: bool = False,
    watch: bool = False,
    sink: Sink | None = None,
    exporting: Callable[[str], Exporting] | None = None,
) -> Composition:
    """Make what the tree is made of; nothing runs yet. ``memory`` holds the settings, and where they come from."""
    live, registry, phase, bus = memory.live, Registry(), Phase(), Bus()
    memories = {p.name: ProviderMemory(settings=p, breaker=Breaker.new(p.breaker)) for p in live.settings.providers}
    lag, books = CountedLag(), Books()
    bus.subscribe_later(books.handle, Books.KINDS)
    sources = Sources(
        in_flight=phase.by_route,
        lag=lambda: lag.worst,
        refused=lambda: load.refused,
        failures=lambda: bus.failures,
        log_dropped=lambda: node.lines_dropped(),  # noqa: PLW0108 - there is no node yet
        dropped=lambda: {"events": recorder.dropped, "listeners": bus.dropped},
        ledger=books.counts,
        reload=lambda: (memory.last_reload.refused is None, memory.last_reload.taken_at),
    )
    metrics = Metrics(sources, {route.path: route.streams for route in ROUTES})
    lag.told = metrics.late
    load = Load(lag, random.random)
    gateway = Gateway.over(registry, live, phase, load, bus)
    recorder = Recorder(live.settings.events.keep)
    bus.subscribe_later(recorder.handle)
    if sink is not None:
        access = AccessLog(
            sink,
            lambda: live.settings.logs.access,
            lambda done, at: answer_cost(done, live.settings.prices, at, books.answers),
        )
        bus.subscribe_later(access.handle, AccessLog.KINDS)
    node = Node(
        live=live,
        registry=registry,
        memories=memories,
        bus=bus,
        metrics=metrics,
        recorder=recorder,
        lines_dropped=lambda: 0 if sink is None else sink.dropped,
        log_tail=None if sink is None else sink.tail,
        levels=Levels(_no_log if sink is None else partial(_set_level, bus, sink), live.settings.logs.level),
        books=books,
        gateway=gateway,
        lag=lag,
        listeners=sockets.addresses(),
        last_reload=lambda: memory.last_reload,
        allow_faults=allow_faults,
        unsafe_eval=unsafe_eval,
        set_simulated_fault=simulation.set_fault if simulation else None,
        simulated_faults=simulation.faults if simulation else dict,
    )
    return Composition(
        configuration=memory,
        sockets=sockets,
        simulation=simulation,
        registry=registry,
        bus=bus,
        metrics=metrics,
        memories=memories,
        chance=random.random,
        sink=sink,
        gateway=gateway,
        lag=lag,
        exporting=exporting,
        watch=watch,
        node=node,
    )


async def launch(
    sources: ConfigSources,
    read: Callable[[], ConfigSources],
    *,
    demo: bool = False,
    allow_faults: bool = False,
    unsafe_eval: bool = False,
    watch: bool = False,
    sink: Sink | None = None,
) -> Running:
    """Start a node with the settings of ``sources``; ``read`` gives them again for a reload. ``demo``: with simulated providers;
    ``watch``: a change of the file is a reload; ``sink``: the log of the process, if it is this node's.

    Raises :class:`~runestone.config.settings.ConfigurationError`, :class:`~runestone.http.sockets.BindError` and
    :class:`~supervisors.StartError`; then nothing of it is left.
    """
    simulation = Simulation() if demo else None
    if simulation is not None:
        await simulation.bind()
        simulated = partial(with_simulated, openai_url=simulation.openai_url, anthropic_url=simulation.anthropic_url)
        sources, read = simulated(sources), lambda read=read: simulated(read())  # type: ignore[misc]
    loaded = build(sources, {})
    memory = configuration.Memory(read=read, sources=sources, live=Live(loaded.settings), loaded=loaded)
    exporting = _exporting(loaded.settings)
    sockets = bind(loaded.settings)
    composition = compose(
        memory,
        sockets,
        simulation,
        allow_faults=allow_faults or demo,
        unsafe_eval=unsafe_eval,
        watch=watch,
        sink=sink,
        exporting=exporting,
    )
    try:
        return await composition.start()
    except StartError:
        composition.bus.close()
        sockets.close()
        raise


def _exporting(settings: Settings) -> Callable[[str], Exporting] | None:
    """What sends the traces of a node with that URL, if any; made once for a try.

    Raises :class:`ConfigurationError` for variables that cannot be used.
    """
    if not settings.traces.enabled:
        return None
    try:
        from runestone.telemetry.spans import Pipeline  # noqa: PLC0415 - an extra; some variables are read when it is imported

        Pipeline.otlp().close()
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        got = f"{type(error).__name__}: {error}"[:200]
        problem = Problem(where="env:OTEL_*", what="cannot be used", got=got, allowed="what OpenTelemetry documents")
        raise ConfigurationError((problem,)) from error
    return Pipeline.otlp
