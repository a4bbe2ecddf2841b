"""The roster: fills ``providers`` from the settings, restarts one on request, and brings one that is down back with patience."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from loguru import logger

from runestone.providers import names, subtree
from runestone.providers.memory import ProviderMemory
from runestone.telemetry.bus import Bus
from supervisors import NO_REPLY, ActorError, Call, Caller, GenServer, Info, Registry

_FIRST_RETURN_SECONDS = 5.0
_LAST_RETURN_SECONDS = 300.0
_LOOK_SECONDS = 1.0


@frozen
class RestartProvider(Call[None]):
    """A clean slate for one provider; ``hard`` replaces its transport too."""

    name: str
    hard: bool = False


@frozen
class LookAround(Info):
    """Time to look for providers that are down."""


class Roster(GenServer[object]):
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
        self._registry = registry
        self._specs = {
            name: subtree.spec(memory, registry, bus, chance, connect_timeout_seconds)
            for name, memory in memories.items()
        }
        self._returns: dict[
            str, tuple[float, float]
        ] = {}  # of those that are down: when to try again, and the wait after that

    async def init(self) -> None:
        """Start a subtree per provider; one that is there already (this actor crashed, they did not) is left alone."""
        providers = self._registry.lookup(names.PROVIDERS)
        assert providers is not None
        there = {child.id for child in await providers.which_children()}
        for name, spec in self._specs.items():
            if name not in there:
                await providers.start_child(spec)
        self.send_after(_LOOK_SECONDS, LookAround())

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> object:
        """Restart a provider, beside this actor's loop."""
        assert isinstance(message, RestartProvider)
        self.spawn(self._restart(message, caller))
        return NO_REPLY

    def handle_info(self, message: Info) -> None:
        """Bring back what is down and due."""
        if isinstance(message, LookAround):
            self.send_after(_LOOK_SECONDS, LookAround())
            now = self.now()
            for name in self._memories:
                if self._registry.lookup(names.subtree(name)) is not None:
                    self._returns.pop(name, None)
                    continue
                due, wait = self._returns.setdefault(name, (now + _FIRST_RETURN_SECONDS, _FIRST_RETURN_SECONDS))
                if now >= due:
                    wait = min(wait * 2, _LAST_RETURN_SECONDS)
                    self._returns[name] = now + wait, wait
                    self.spawn(self._bring_back(name))

    async def _restart(self, message: RestartProvider, caller: Caller[Any]) -> None:
        tree = self._registry.lookup(names.subtree(message.name))
        if tree is None:
            await self._bring_back(message.name)
        else:
            children = (subtree.TRANSPORT, subtree.ACTOR) if message.hard else (subtree.ACTOR,)
            for child in reversed(children):
                await tree.terminate_child(child)
            self._memories[message.name].forget()
            for child in children:
                await tree.restart_child(child)
        caller.reply(None)

    async def _bring_back(self, name: str) -> None:
        providers = self._registry.lookup(names.PROVIDERS)
        if providers is None:
            return
        self._memories[name].forget()
        try:
            await providers.restart_child(name)
        except ActorError as error:
            logger.warning("provider {} stays down: {}", name, error)
