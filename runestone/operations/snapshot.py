"""All that the doctor looks at, as plain values of one moment: nothing here is asked of an upstream, and nothing is changed by looking."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from attrs import field, frozen

from runestone.config.settings import Settings
from runestone.operations.fleet import Fleet
from runestone.operations.node import Node
from runestone.providers import names
from runestone.providers.memory import ProviderMemory
from runestone.resilience.breaker import ForcedOpen
from runestone.telemetry import process
from runestone.telemetry.alerts import Alert
from runestone.telemetry.clock import Jump
from runestone.telemetry.events import AdminActed, AttemptFinished, CallBooked, ProcessRestarted
from runestone.telemetry.recorder import Recorded
from runestone.telemetry.windows import LONGEST_SECONDS
from supervisors import TreeNode

LATELY_SECONDS = 600.0  # in which what happens again and again is counted
_RESTARTS = ("POST /v1/providers/{name}/restart", "POST /v1/actors/{name}/restart")
_QUIET_SECONDS = 120.0  # after which a process that was restarted runs again


@frozen(kw_only=True)
class ProviderSight:
    """One provider. ``forced_for_seconds`` is how long its breaker stays forced open (``None``: until `breaker auto` or `reset`)."""

    name: str
    status: str = "up"
    mode: str = "auto"  # of its breaker
    forced_for_seconds: float | None = None
    circuit_breaker: bool = True
    base_url: str = "https://api.openai.com/v1"
    timeout_seconds: float = 120.0
    attempts: int = 3
    limit: int | None = None  # calls that may be out at once
    first_content_p95_seconds: float | None = None  # of the last five minutes
    streams: int = 0  # that this is made of


@frozen(kw_only=True)
class ActorSight:
    """One process of the tree with a mailbox."""

    path: str
    state: str = "running"
    depth: int = 0
    age_seconds: float = 0.0  # for how long its oldest message has waited


@frozen(kw_only=True)
class Snapshot:
    """One moment. Times are seconds, ``now`` since the epoch.

    ``restarted`` counts, by path, the restarts of processes that were restarted of late and may not be well yet. ``unsaved`` are the keys
    that were changed at run time and are nowhere else; ``unpriced`` the models whose last call has used tokens and has no cost.
    """

    now: float
    settings: Settings
    alerts: tuple[Alert, ...] = ()
    providers: tuple[ProviderSight, ...] = ()
    actors: tuple[ActorSight, ...] = ()
    restarted: Mapping[str, int] = field(factory=dict)
    in_flight: int = 0
    connections: tuple[int, int] | None = None  # of clients: open, and how many may be
    descriptors: tuple[int, int, int] | None = None  # open, how many may be, and to how many that may be raised
    pid: int = 0
    config_file: Path | None = None
    unsaved: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    log_level_origin: str = "default"
    unpriced: tuple[str, ...] = ()
    jump: Jump | None = None  # the last one of the system's clock
    reach_seconds: float | None = None  # how far back the recorder reaches, once it has forgotten something
    allow_faults: bool = False
    demo: bool = False


def take(node: Node, fleet: Fleet) -> Snapshot:
    """How things are now. Raises :class:`OperationError` ``unavailable`` while the tree starts."""
    node.watch()
    now, kept, settings, tree = time.time(), node.recorder.kept(), node.settings, node.tree()
    opened = process.open_descriptors()
    origins = {entry.key: entry.origin for entry in fleet.memory.loaded.entries if entry.key == "log.level"}
    return Snapshot(
        now=now,
        settings=settings,
        alerts=node.seen.alerts,
        providers=tuple(_provider(node, memory) for _, memory in sorted(node.memories.items())),
        actors=tuple(_actors(tree)),
        connections=connections(tree),
        restarted=_restarted(kept, now),
        in_flight=node.in_flight(),
        descriptors=None if opened is None else (opened, process.most_descriptors(), process.allowed_descriptors()),
        pid=os.getpid(),
        config_file=fleet.memory.sources.file,
        unsaved=tuple(fleet.unsaved()),
        needs_restart=fleet.memory.needs_restart,
        log_level_origin=origins.get("log.level", "default"),
        unpriced=_unpriced(kept),
        jump=node.clock.last,
        reach_seconds=now - kept[0].at if node.recorder.full else None,
        allow_faults=node.allow_faults,
        demo=node.set_simulated_fault is not None,
    )


def _provider(node: Node, memory: ProviderMemory) -> ProviderSight:
    now, settings, state = asyncio.get_running_loop().time(), memory.settings, memory.breaker.state
    until = state.until if isinstance(state, ForcedOpen) else None
    windows, clock = node.metrics.windows.get(memory.name), node.metrics.clock()
    p95 = None if windows is None else windows.first_contents.quantiles(clock, LONGEST_SECONDS, wanted=[0.95])[0]
    return ProviderSight(
        name=memory.name,
        status=node.status_of(memory),
        mode=memory.breaker.mode,
        forced_for_seconds=None if until is None else max(0.0, until - now),
        circuit_breaker=settings.circuit_breaker,
        base_url=settings.base_url,
        timeout_seconds=settings.timeout_seconds,
        attempts=settings.retry.max_attempts,
        limit=memory.concurrency.limit,
        first_content_p95_seconds=p95,
        streams=0 if windows is None else windows.first_contents.count(clock, LONGEST_SECONDS),
    )


def _actors(node: TreeNode) -> Iterator[ActorSight]:
    if node.kind != "task":
        yield ActorSight(
            path=node.path,
            state=node.state,
            depth=int(node.mailbox["depth"]),
            age_seconds=node.mailbox["age_seconds"],
        )
    for child in node.children:
        yield from _actors(child)


def connections(node: TreeNode) -> tuple[int, int] | None:
    """Those of clients: open, and how many may be, as the listener of the public port tells."""
    opened, most = node.status.get("connections"), node.status.get("most connections")
    if node.name == names.PUBLIC and isinstance(opened, int) and isinstance(most, int):
        return opened, most
    found = (connections(child) for child in node.children)
    return next((pair for pair in found if pair is not None), None)


def _restarted(kept: list[Recorded], now: float) -> dict[str, int]:
    """What an operator has restarted since begins anew."""
    counts, last, anew = Counter[str](), dict[str, float](), set[str]()
    for recorded in reversed(kept):
        if recorded.at < now - LATELY_SECONDS:
            break
        event = recorded.event
        if isinstance(event, AdminActed) and event.outcome == "ok" and event.route in _RESTARTS:
            anew.add(unquote(event.action.split("/")[3]))
        elif isinstance(event, ProcessRestarted) and anew.isdisjoint((event.process, *event.process.split("/"))):
            counts[event.process] += 1
            last.setdefault(event.process, recorded.at)
    return {path: count for path, count in counts.items() if last[path] > now - _QUIET_SECONDS}


def _unpriced(kept: list[Recorded]) -> tuple[str, ...]:
    """A call that broke off has no cost whatever its price is: those that ended well tell."""
    well, priced = set[tuple[str, str, str]](), dict[str, bool]()
    for recorded in kept:
        event = recorded.event
        if isinstance(event, AttemptFinished) and event.outcome == "ok":
            well.add((event.request_id, event.provider, event.model))
        elif (
            isinstance(event, CallBooked)
            and event.usage is not None
            and (event.request_id, event.provider, event.model) in well
        ):
            priced[event.model] = event.cost_usd is not None
    return tuple(sorted(model for model, known in priced.items() if not known))
