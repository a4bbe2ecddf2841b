"""The roster: fills ``providers`` from the settings, restarts one on request, and brings one that is down back with patience."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import frozen
from loguru import logger

from runestone.providers import names, subtree
from runestone.providers.memory import ProviderMemory
from runestone.telemetry.bus import Bus
from supervisors import (
    NO_REPLY,
    ActorError,
    ActorRef,
    Address,
    Call,
    Caller,
    Cast,
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
class Restarted(Cast):
    """A restart, or an attempt at a return, is over: the next one in the line may begin."""

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
        memories: Mapping[str, ProviderMemory],
        registry: Registry,
        bus: Bus,
        chance: Callable[[], float],
        connect_timeout_seconds: float,
    ) -> None:
        self._memories = memories
        self._names = registry
        self._providers = registry.via(names.PROVIDERS)
        self._specs = {n: subtree.spec(m, registry, bus, chance, connect_timeout_seconds) for n, m in memories.items()}
        self._watched: dict[Monitor, str] = {}
        self._waits: dict[str, float] = {}  # seconds before the next return of one that was down of late
        self._came: dict[str, float] = {}
        self._lines: dict[str, deque[tuple[RestartProvider, Caller[Any] | None]]] = {}  # the first of each is under way

    async def init(self) -> None:
        """Start a subtree per provider; one that is there already (this actor crashed, they did not) is left alone."""
        for name, spec in self._specs.items():
            await self._providers.start_child(spec)
            self._settle(name)

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> object:
        """Restart a provider, beside this actor's loop; of several at once each has its turn."""
        assert isinstance(message, RestartProvider)
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
            case Look(name, due) if name not in self._lines and not self._whole(name):
                if due:
                    self._line_up(RestartProvider(name, hard=True), None)
                else:
                    self.send_after(_LOOK_SECONDS, Look(name))

    # -- one provider --------------------------------------------------------------------------------------------------

    def _settle(self, name: str) -> None:
        """It was started, or found: watch it, or see to its return."""
        if not self._whole(name):
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

    def _line_up(self, message: RestartProvider, caller: Caller[Any] | None) -> None:
        line = self._lines.setdefault(message.name, deque())
        line.append((message, caller))
        if len(line) == 1:
            self._begin(message, caller)

    def _begin(self, message: RestartProvider, caller: Caller[Any] | None) -> None:
        self.spawn(self._restart(message, caller, self.ref), name=f"restart:{message.name}")

    async def _restart(self, message: RestartProvider, caller: Caller[Any] | None, roster: Address) -> None:
        try:
            outcome = await self._renew(message)
        except ActorError as error:  # `providers` itself is being restarted, and this actor after it
            logger.warning("provider {} could not be restarted: {}", message.name, error)
            if caller is not None:
                caller.fail(error)
        else:
            if caller is not None:
                caller.reply(outcome)
            if isinstance(outcome, StartFailed):
                logger.warning("provider {} stays down: {}", message.name, outcome.reason)
        roster.cast(Restarted(message.name))

    async def _renew(self, message: RestartProvider) -> Done | StartFailed:
        memory, tree = self._memories[message.name], self._names.lookup(names.subtree(message.name))
        if tree is None:
            memory.forget()
            outcome = await self._providers.restart_child(message.name)
            if isinstance(outcome, NotFound):  # its first start has failed
                started = await self._providers.start_child(self._specs[message.name])
                return started if isinstance(started, StartFailed) else Done()
            return outcome if isinstance(outcome, StartFailed) else Done()
        children = (subtree.TRANSPORT, subtree.ACTOR) if message.hard else (subtree.ACTOR,)
        for child in reversed(children):
            await tree.terminate_child(child)
        memory.forget()
        for child in children:
            if not isinstance(outcome := await tree.restart_child(child), ActorRef):
                return outcome if isinstance(outcome, StartFailed) else Done()
        return Done()
