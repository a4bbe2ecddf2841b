"""A supervisor of children that come and go, and of tasks that were made elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context, copy_context
from typing import Any

from supervisors.errors import ActorError
from supervisors.exit import ExitReason
from supervisors.gen_server import NO_REPLY, GenServer
from supervisors.messages import Call, ChildExit, Info
from supervisors.process import Process
from supervisors.ref import ActorRef, Caller
from supervisors.registry import Registry
from supervisors.supervisor import Child, StartChild, spawn, stop_process


class DynamicSupervisor(GenServer[Any]):
    """Children are temporary; they are stopped all at once, each within its time."""

    strategy = "dynamic"

    def __init__(self, *, registry: Registry | None = None, adopted_shutdown: float = 1.0) -> None:
        self._registry = registry
        self._children: dict[Process, Child] = {}
        self._adopted: dict[Process, None] = {}
        self._adopted_shutdown = adopted_shutdown
        self._context: Context | None = None

    def init(self) -> None:
        """Nothing to start."""
        self._context = copy_context()

    def children(self) -> Sequence[Child]:
        """Those started here."""
        return list(self._children.values())

    @property
    def adopted(self) -> int:
        """How many tasks are adopted now."""
        return len(self._adopted)

    def register(self, process: Process) -> None:
        """Adopt ``process``."""
        self._adopted[process] = None
        process.on_exit(self._left)

    def _left(self, process: Process, _: ExitReason) -> None:
        self._adopted.pop(process, None)

    async def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
        """Start a child."""
        if not isinstance(message, StartChild):
            raise TypeError(message)
        spec = message.spec
        path = f"{self.process.path}/{spec.id}"
        try:
            process = await spawn(spec, path, 1, self._registry, self._context, self.process)
        except ActorError as error:
            caller.fail(error)
            return NO_REPLY
        self._children[process] = Child(spec, process, "running", 1)
        return ActorRef(process)

    def handle_info(self, message: Info) -> None:
        """A child has ended."""
        if isinstance(message, ChildExit):
            self._children.pop(message.process, None)

    async def terminate(self, reason: ExitReason) -> None:
        """Stop everything that lives here, at once."""
        stops = [asyncio.ensure_future(stop_process(p, c.spec.shutdown)) for p, c in self._children.items()]
        if stops:
            await asyncio.wait(stops)
        adopted = list(self._adopted)
        for process in adopted:
            if process.task is not None:
                process.task.cancel()
        if adopted:
            async with asyncio.timeout(self._adopted_shutdown):
                for process in adopted:
                    await process.wait()
