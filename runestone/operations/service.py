"""What an operator does to single providers: take them out of service and back, restart, try, and overrule their breakers."""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase
from typing import Any, Final

from attrs import frozen

from runestone.operations import ceilings, given, trial
from runestone.operations.errors import OperationError
from runestone.operations.given import Body
from runestone.operations.node import Node
from runestone.operations.operation import Operation
from runestone.providers import names
from runestone.providers.memory import ProviderMemory
from runestone.providers.messages import AdminState
from runestone.providers.provider import AutoBreaker, DisableBreaker, Drained, SetAdminState
from supervisors import ActorError, CallTimeout

Answer = dict[str, Any]
_AGAIN_SECONDS: Final = 0.05  # to ask a provider's actor that is being restarted
_PATTERN: Final = frozenset("*?[")


@frozen
class ServiceActions:
    """The acts on the providers of ``node``. Each returns when the new state is in force."""

    node: Node

    def table(self) -> list[Operation]:
        """All of them."""
        return [
            Operation("POST", "/v1/providers/{name}/drain", self.drain),
            Operation("POST", "/v1/providers/{name}/maint", self.maint),
            Operation("POST", "/v1/providers/{name}/ready", self.ready),
            Operation("POST", "/v1/providers/{name}/restart", self.restart),
            Operation("POST", "/v1/providers/{name}/test", self.test),
            Operation("POST", "/v1/breakers/{name}/auto", self.auto),
            Operation("POST", "/v1/breakers/{name}/disable", self.disable),
        ]

    # -- in service, and out of it -------------------------------------------------------------------------------------

    async def drain(self, name: str, body: Body) -> Answer:
        """Nothing new goes there, what runs ends whole. With ``wait`` until nothing runs, ``seconds`` at most."""
        return await self._taken_out(name, "draining", body)

    async def maint(self, name: str, body: Body) -> Answer:
        """As :meth:`drain`; and it is not probed, and nothing that is wrong with it is an alert."""
        return await self._taken_out(name, "maintenance", body)

    async def ready(self, name: str, _: Body) -> Answer:
        """Take requests again."""
        return await self._set(name, "ready")

    async def _taken_out(self, name: str, state: AdminState, body: Body) -> Answer:
        wait, seconds = given.flag(body, "wait"), given.seconds(body, ceilings.DRAIN_SECONDS)
        told = await self._set(name, state)
        if not wait:
            return told
        await self._idle(name, self.node.settings.server.drain_timeout_seconds if seconds is None else seconds)
        return {**told, "in_flight": 0}

    async def _set(self, name: str, state: AdminState) -> Answer:
        memory = self._memory(name)
        if memory.leaving:
            raise OperationError("conflict", f"{name} is being removed; `provider add` brings it back")
        before = memory.admin_state
        await self.node.call(names.provider(name), SetAdminState(state))
        return {"provider": name, "state": state, "before": before, "in_flight": len(memory.leases)}

    async def _idle(self, name: str, seconds: float) -> None:
        """Wait until no call is out. An actor that crashes meanwhile has lost who waits, and not what is out."""
        loop = asyncio.get_running_loop()
        end, via = loop.time() + seconds, self.node.registry.via(names.provider(name))
        while True:
            try:
                if await via.call(Drained(), timeout=max(end - loop.time(), 0.0)):
                    return
                raise OperationError("conflict", f"{name} was made ready again meanwhile")
            except CallTimeout:
                out = len(self._memory(name).leases)
                message = (
                    f"{name} has {out} calls out still after {seconds:g} s; it stays {self._memory(name).admin_state}"
                )
                raise OperationError("timeout", message) from None
            except ActorError:
                self._memory(name)
                await asyncio.sleep(_AGAIN_SECONDS)

    # -- restart -------------------------------------------------------------------------------------------------------

    async def restart(self, name: str, body: Body) -> Answer:
        """A clean slate for one; or, one after the other, for ``all`` or those whose names match (``openai-*``)."""
        hard, there = given.flag(body, "hard"), sorted(self.node.memories)
        if name in there or (name != "all" and not _PATTERN.intersection(name)):
            return await self.node.restart_provider(name, hard=hard)
        chosen = [one for one in there if name == "all" or fnmatchcase(one, name)]
        if not chosen:
            raise OperationError("not_found", f"no provider is called {name}; there are {', '.join(there) or 'none'}")
        return {"restarted": [await self._restarted(one, hard=hard) for one in chosen]}

    async def _restarted(self, name: str, *, hard: bool) -> Answer:
        try:
            return {**await self.node.restart_provider(name, hard=hard), "error": None}
        except OperationError as error:
            return {"provider": name, "hard": hard, "error": {"code": error.reason, "message": str(error)}}

    # -- a try ---------------------------------------------------------------------------------------------------------

    async def test(self, name: str, body: Body) -> Answer:
        """One real, tiny call to that provider alone, also while it is out of service."""
        stream, model, prompt = given.flag(body, "stream"), given.text(body, "model"), given.text(body, "prompt")
        return {"test": await trial.made(self.node, self._memory(name), model=model, prompt=prompt, stream=stream)}

    # -- breakers ------------------------------------------------------------------------------------------------------

    async def auto(self, name: str, _: Body) -> Answer:
        """Let a breaker decide again that was forced open or disabled; what was counted stays."""
        self._memory(name)
        await self.node.call(names.provider(name), AutoBreaker())
        return {"breaker": self.node.breaker(name)}

    async def disable(self, name: str, _: Body) -> Answer:
        """Let a breaker measure and refuse nothing."""
        self._memory(name)
        await self.node.call(names.provider(name), DisableBreaker())
        return {"breaker": self.node.breaker(name)}

    def _memory(self, name: str) -> ProviderMemory:
        if (memory := self.node.memories.get(name)) is None:
            raise OperationError("not_found", f"there is no provider {name!r}")
        return memory
