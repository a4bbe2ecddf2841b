"""The roster: fills ``providers``, adds, changes, removes and restarts one on request, and brings one that is down back with patience."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final, assert_never

from attrs import frozen
from loguru import logger

from runestone.config.live import Live
from runestone.config.settings import ProviderSettings
from runestone.providers import names, subtree
from runestone.providers.memory import ProviderMemory
from runestone.providers.provider import Leave
from runestone.resilience.breaker import Breaker
from runestone.telemetry.bus import Bus
from supervisors import (
    NO_REPLY,
    ActorError,
    ActorRef,
    Address,
    Call,
    Caller,
    Cast,
    ChildSpec,
    Done,
    Down,
    GenServer,
    Info,
    Monitor,
    NotFound,
    Registry,
    Shutdown,
    StartFailed,
)

_FIRST_RETURN_SECONDS: Final = 5.0
_LAST_RETURN_SECONDS: Final = 300.0
_STEADY_SECONDS: Final = 60.0  # a provider that has lived for so long returns as quickly as the first time
_LOOK_SECONDS: Final = 0.1  # between two looks for one that its supervisor is restarting


@frozen
class RestartProvider(Call[Done | StartFailed]):
    """A clean slate for one provider; ``hard`` replaces its transport too."""

    name: str
    hard: bool = False


@frozen
class SetProvider(Call[Done | StartFailed]):
    """Start a provider with these settings, or restart the actor of one that is there, with them in force.

    Its transport is replaced where it leads elsewhere now, or if ``hard``. Streams run on.
    """

    settings: ProviderSettings
    hard: bool = False

    @property
    def name(self) -> str:
        """Whose turn it is."""
        return self.settings.name


@frozen
class RemoveProvider(Call[Done | StartFailed]):
    """Take a provider out: nothing new goes there, and it is stopped when its streams have ended, or after ``drain_seconds``.

    A stream that lasts longer runs on; nothing is learned from it any more.
    """

    name: str
    drain_seconds: float


Job = RestartProvider | SetProvider | RemoveProvider


@frozen
class Restarted(Cast):
    """A job, or an attempt at a return, is over: the next one in the line may begin."""

    name: str


@frozen
class Look(Info):
    """Time to look for a provider that is not there or not whole, and to bring it back if it is ``due``."""

    name: str
    due: bool = False


class Roster(GenServer[Restarted]):
    """One for the whole node, beside the supervisor ``providers``."""

    def __init__(
        self,
        memories: MutableMapping[str, ProviderMemory],
        registry: Registry,
        bus: Bus,
        chance: Callable[[], float],
        live: Live,
    ) -> None:
        self._memories = memories
        self._names = registry
        self._bus = bus
        self._chance = chance
        self._live = live
        self._providers = registry.via(names.PROVIDERS)
        self._watched: dict[Monitor, str] = {}
        self._waits: dict[str, float] = {}  # seconds before the next return of one that was down of late
        self._came: dict[str, float] = {}
        self._lines: dict[str, deque[tuple[Job, Caller[Any] | None]]] = {}  # the first of each is under way

    async def init(self) -> None:
        """Start a subtree per provider; one that is there already (this actor crashed, they did not) is left alone."""
        for name, memory in self._memories.items():
            await self._providers.start_child(self._spec(memory))
            self._settle(name)

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> object:
        """Do a job, beside this actor's loop; of several for one provider each has its turn."""
        assert isinstance(message, RestartProvider | SetProvider | RemoveProvider)
        self._line_up(message, caller)
        return NO_REPLY

    def handle_cast(self, message: Restarted) -> None:
        """Serve the next in the line."""
        line = self._lines[message.name]
        line.popleft()
        if line:
            self._begin(*line[0])
        else:
            del self._lines[message.name]
            self._settle(message.name)

    def handle_info(self, message: Info) -> None:
        """A provider's supervisor has ended: one that gave up is brought back later, another one its own supervisor restarts."""
        match message:
            case Down(monitor, _, reason) if (name := self._watched.pop(monitor, None)) is not None:
                if isinstance(reason, Shutdown):
                    self._return_later(name)
                else:
                    self.send_after(_LOOK_SECONDS, Look(name))
            case Look(name, due) if name in self._memories and name not in self._lines and not self._whole(name):
                if due:
                    self._line_up(RestartProvider(name, hard=True), None)
                else:
                    self.send_after(_LOOK_SECONDS, Look(name))

    # -- one provider --------------------------------------------------------------------------------------------------

    def _settle(self, name: str) -> None:
        """It was started, or found: watch it, or see to its return."""
        if name not in self._memories:
            self._waits.pop(name, None)
            self._came.pop(name, None)
        elif not self._whole(name):
            self._return_later(name)

    def _whole(self, name: str) -> bool:
        """Whether all its processes are there. Its subtree is watched from now on."""
        lookup = self._names.lookup
        tree, children = lookup(names.subtree(name)), (lookup(names.transport(name)), lookup(names.provider(name)))
        if tree is not None and name not in self._watched.values():
            self._watched[self.monitor(tree)] = name
        if tree is None or any(child is None or child.process.parent is not tree.process for child in children):
            return False
        self._came.setdefault(name, self.now())
        return True

    def _return_later(self, name: str) -> None:
        """Bring it back with patience: doubling, unless it has been there for a while."""
        came = self._came.pop(name, None)
        steady = came is not None and self.now() - came > _STEADY_SECONDS
        wait = _FIRST_RETURN_SECONDS if steady else self._waits.get(name, _FIRST_RETURN_SECONDS)
        self._waits[name] = min(wait * 2, _LAST_RETURN_SECONDS)
        self.send_after(wait, Look(name, due=True))

    def _spec(self, memory: ProviderMemory) -> ChildSpec:
        return subtree.spec(memory, self._names, self._bus, self._chance, self._live)

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def _line_up(self, job: Job, caller: Caller[Any] | None) -> None:
        line = self._lines.setdefault(job.name, deque())
        line.append((job, caller))
        if len(line) == 1:
            self._begin(job, caller)

    def _begin(self, job: Job, caller: Caller[Any] | None) -> None:
        verb = {RestartProvider: "restart", SetProvider: "set", RemoveProvider: "remove"}[type(job)]
        self.spawn(self._do(job, caller, self.ref), name=f"{verb}:{job.name}")

    async def _do(self, job: Job, caller: Caller[Any] | None, roster: Address) -> None:
        try:
            match job:
                case RestartProvider(name, hard):
                    outcome = await self._renew(name, None, hard=hard)
                case SetProvider(settings, hard):
                    outcome = await self._set(settings, hard=hard)
                case RemoveProvider(name, drain_seconds):
                    outcome = await self._remove(name, drain_seconds)
                case _:
                    assert_never(job)
        except ActorError as error:  # `providers` itself is being restarted, and this actor after it
            logger.warning("provider {} could not be restarted: {}", job.name, error)
            if caller is not None:
                caller.fail(error)
        else:
            if caller is not None:
                caller.reply(outcome)
            if isinstance(outcome, StartFailed):
                logger.warning("provider {} stays down: {}", job.name, outcome.reason)
        roster.cast(Restarted(job.name))

    async def _set(self, settings: ProviderSettings, *, hard: bool) -> Done | StartFailed:
        if (memory := self._memories.get(settings.name)) is not None:
            elsewhere = settings.reaches_elsewhere_than(memory.settings)
            return await self._renew(settings.name, settings, hard=hard or elsewhere)
        memory = self._memories[settings.name] = ProviderMemory(
            settings=settings, breaker=Breaker.new(settings.breaker)
        )
        started = await self._providers.start_child(self._spec(memory))
        return started if isinstance(started, StartFailed) else Done()

    async def _renew(self, name: str, settings: ProviderSettings | None, *, hard: bool) -> Done | StartFailed:
        """A new incarnation: with other settings, or without any a clean slate."""
        memory = self._memories.get(name)
        if memory is None:
            return Done()  # it was removed by whoever was before in the line
        tree = self._names.lookup(names.subtree(name))
        if tree is None:
            _renew_memory(memory, settings, self.now())
            memory.forget(self.now())
            outcome = await self._providers.restart_child(name)
            if isinstance(outcome, NotFound):  # its first start has failed
                started = await self._providers.start_child(self._spec(memory))
                return started if isinstance(started, StartFailed) else Done()
            return outcome if isinstance(outcome, StartFailed) else Done()
        children = (*((subtree.TRANSPORT,) if hard else ()), subtree.ACTOR, subtree.PROBER)
        for child in reversed(children):
            await tree.terminate_child(child)
        _renew_memory(memory, settings, self.now())
        for child in children:
            if not isinstance(outcome := await tree.restart_child(child), ActorRef):
                return outcome if isinstance(outcome, StartFailed) else Done()
        return Done()

    async def _remove(self, name: str, drain_seconds: float) -> Done | StartFailed:
        with suppress(ActorError):  # it is down, or its streams take longer
            await self._names.via(names.provider(name)).call(Leave(), timeout=drain_seconds)
        await self._providers.terminate_child(name)
        await self._providers.delete_child(name)
        self._memories.pop(name, None)
        return Done()


def _renew_memory(memory: ProviderMemory, settings: ProviderSettings | None, now: float) -> None:
    if settings is None:
        memory.forget(now)
    else:
        memory.change(settings, now)
