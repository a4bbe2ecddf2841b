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
from runestone.config.load import Sources, with_simulated
from runestone.config.settings import Settings
from runestone.configuration import Configuration
from runestone.console import admin
from runestone.failover.router import FailoverRouter
from runestone.gateway import Gateway, Phase
from runestone.http import health
from runestone.http.front import Front
from runestone.http.server import ANY, Admission, Listener
from runestone.http.sockets import AdminSocket, bind_tcp, most_connections
from runestone.http.stacks import StacksListener
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
from runestone.telemetry.actor import Standing, Telemetry
from runestone.telemetry.bus import Bus
from runestone.telemetry.metrics import Metrics
from runestone.telemetry.tree import tell_of_tree
from supervisors import (
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    LogObserver,
    LoopLag,
    LoopMonitor,
    Registry,
    StartError,
    Supervisor,
    start,
)

_CUT_SECONDS = 2.0  # for the streams that a drain cuts short to tell their clients
_REQUEST_STOP_SECONDS = 2.0
_SERVER_STOP_SECONDS = 3.0
_LISTENER_BACKOFF = Backoff(min_seconds=0.1, max_seconds=1.0)  # `servers` may have to come back first


def bind(settings: Settings) -> Sockets:
    """The node's listening sockets. Raises :class:`~runestone.http.sockets.BindError`."""
    server = settings.server
    admin_socket = AdminSocket.bind(server.admin_socket)
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

    async def drain(self, hurry: asyncio.Event) -> None:
        """Take nothing new, let what is in flight run to the drain timeout or until ``hurry``, end the rest in-band."""
        node, phase = self.node, self.node.phase
        phase.draining = True
        seconds = node.settings.server.drain_timeout_seconds
        logger.info("draining: {} in flight, {:g} s at most", phase.in_flight, seconds)
        idle = asyncio.ensure_future(phase.idle(seconds))
        impatient = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({idle, impatient}, return_when=asyncio.FIRST_COMPLETED)
        for task in (idle, impatient):
            task.cancel()
        if phase.in_flight:
            logger.warning("the drain is over: {} requests are ended", phase.in_flight)
            phase.cut_short()
            await phase.idle(_CUT_SECONDS)

    async def stop(self) -> None:
        """Stop the tree from the bottom."""
        assert self.node.root is not None
        await self.node.root.stop()


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
    set_log_level: Callable[[str], None]
    gateway: Gateway
    lag: LoopLag
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
        self.node.root = await start(spec, registry=self.registry, fail_circular_calls=True, observers=observers)
        return Running(self.node, self.actions(), self.sockets)

    # -- the tree, from the top ----------------------------------------------------------------------------------------

    def _root(self) -> tuple[ChildSpec, ...]:
        node = partial(Supervisor, self._children())
        return (
            self.registry.child_spec(),
            ChildSpec(id="state", start=partial(State, self.memories, self.sockets), name=names.STATE),
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
                    Configuration, self.configuration, self.memories, self.registry, self.set_log_level, self.bus
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
            self._listener("public", self.sockets.public, self._front, self._admission()),
        )

    def _watcher(self) -> tuple[ChildSpec, ...]:
        file = self.configuration.sources.file
        if not self.watch or file is None:
            return ()
        from runestone.watcher import Watcher  # noqa: PLC0415 - an extra

        return (ChildSpec(id="watcher", start=partial(Watcher, file, self.registry)),)

    def _telemetry(self) -> Telemetry:
        return Telemetry(self.bus, self.metrics, self._models, self._groups, self._standings)

    def _models(self) -> dict[str, tuple[str, ...]]:
        """What is counted by name: the models that the settings name, by provider."""
        return {
            n: tuple(filter(None, (m.settings.default_model, *m.settings.models)))
            for n, m in self.memories.items()
            if m.settings.telemetry
        }

    def _groups(self) -> list[str]:
        return [group.name for group in self.live.settings.groups]

    def _standings(self, now: float) -> list[Standing]:
        return [
            Standing(
                provider=name,
                score=m.score(now),
                up=m.transport is not None and m.breaker.name(now) != "open",
                in_flight=len(m.leases),
                waiting=m.waiting,
                limit=m.concurrency.limit,
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
            self._listener("admin", self.sockets.admin.listener, lambda: admin.app(self.actions())),
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
            refused=self.gateway.load.turned_away,
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


def compose(
    memory: configuration.Memory,
    sockets: Sockets,
    simulation: Simulation | None = None,
    *,
    allow_faults: bool = False,
    watch: bool = False,
    set_log_level: Callable[[str], None] = lambda _: None,
) -> Composition:
    """Make what the tree is made of; nothing runs yet. ``memory`` holds the settings, and where they come from."""
    live, registry, phase, bus = memory.live, Registry(), Phase(), Bus()
    memories = {p.name: ProviderMemory(settings=p, breaker=Breaker.new(p.breaker)) for p in live.settings.providers}
    lag = LoopLag()
    metrics = Metrics(lambda: phase.in_flight, lambda: lag.worst, lambda: load.refused)
    load = Load(lag, random.random)
    gateway = Gateway.over(registry, live, phase, load, bus)
    node = Node(
        live=live,
        registry=registry,
        memories=memories,
        bus=bus,
        metrics=metrics,
        gateway=gateway,
        lag=lag,
        listeners=sockets.addresses(),
        allow_faults=allow_faults,
        set_simulated_fault=simulation.set_fault if simulation else None,
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
        set_log_level=set_log_level,
        gateway=gateway,
        lag=lag,
        watch=watch,
        node=node,
    )


async def launch(
    sources: Sources,
    read: Callable[[], Sources],
    *,
    demo: bool = False,
    allow_faults: bool = False,
    watch: bool = False,
    set_log_level: Callable[[str], None] = lambda _: None,
) -> Running:
    """Start a node with the settings of ``sources``; ``read`` gives them again for a reload. ``demo``: with simulated providers;
    ``watch``: a change of the file is a reload.

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
    sockets = bind(loaded.settings)
    try:
        composition = compose(
            memory,
            sockets,
            simulation,
            allow_faults=allow_faults or demo,
            watch=watch,
            set_log_level=set_log_level,
        )
        return await composition.start()
    except StartError:
        sockets.close()
        raise
