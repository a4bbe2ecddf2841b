"""A supervisor of children that come and go, and of tasks that were made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from supervisors.adoption import Adopter
from supervisors.child import Child
from supervisors.child_spec import ChildSpec
from supervisors.ending import interrupt_in
from supervisors.exit import ExitReason
from supervisors.keeper import ChildKeeper, Due, TryAgain, count, start_failure
from supervisors.messages import Call, ChildExit, Info
from supervisors.process import Process
from supervisors.ref import ActorRef
from supervisors.requests import (
    CountChildren,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from supervisors.restart import Intensity, restarts
from supervisors.results import AlreadyStarted, Done, Ignored, MaxChildren, NotFound, StartFailed
from supervisors.returns import NO_REPLY, Stop


class DynamicSupervisor(ChildKeeper, Adopter):
    """Children on demand, each for itself, and tasks that it adopts.

    >>> import asyncio
    >>> from supervisors import ChildSpec, DynamicSupervisor, GenServer, current_process, start
    >>> class Session(GenServer[object]):
    ...     pass
    >>> async def main() -> tuple[int, str]:
    ...     sessions = await start(DynamicSupervisor)
    ...     await sessions.start_child(ChildSpec(id="session", start=Session, restart="temporary"))
    ...     async with sessions.adopt(name="request-1") as process:  # the present task is a process of the tree now
    ...         active = (await sessions.count_children()).active
    ...     await sessions.stop()
    ...     return active, str(process.reason)
    >>> asyncio.run(main())
    (2, 'normal')

    **Options**

    * ``max_children`` - ``start_child`` beyond it answers ``MaxChildren()``; one that is being restarted counts. Adopted tasks do not.
    * ``extra_arguments`` - are given to ``start`` of each spec, at each start.
    * ``max_restarts``, ``max_seconds`` - as for :class:`Supervisor`, over all children together.
    * ``adopted_shutdown`` - seconds that an adopted task has to leave in once it is cancelled; then it counts as unkillable.

    Ids need not be unique: ``terminate_child`` takes the reference. A child that has ended and is not restarted is forgotten, and all are
    when the supervisor itself is restarted. To stop, it tells all at once and waits for the slowest, each within its own ``shutdown``.
    """

    strategy: Final = "one_for_one"

    def __init__(
        self,
        *,
        max_children: int | None = None,
        extra_arguments: Sequence[Any] = (),
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        adopted_shutdown: float = 5.0,
    ) -> None:
        if max_children is not None and max_children < 0:
            raise ValueError(f"max_children must be at least 0, not {max_children}")
        if adopted_shutdown < 0:
            raise ValueError(f"adopted_shutdown must be at least 0, not {adopted_shutdown}")
        self.adopted_shutdown = adopted_shutdown
        self.adopted_count = 0
        self._max_children = max_children
        self._extra_arguments = tuple(extra_arguments)
        self._intensity = Intensity(max_restarts, max_seconds)
        self._children: dict[Child, None] = {}
        self._by_process: dict[Process, Child] = {}

    def children(self) -> Sequence[Child]:
        """The children in start order, for a snapshot."""
        return list(self._children)

    def status(self) -> Mapping[str, object]:
        """How many there are."""
        return {"children": len(self._children), "adopted": self.adopted_count}

    def init(self) -> None:
        """Nothing to start yet."""
        self._prepare()

    async def stop_children(self) -> None:
        """Tell everybody at once, and wait for all; each has its own time."""
        for child in self._children:
            child.cancel_timer()
            child.state = "stopped" if child.process is None else "stopping"
        processes = dict(self.process.children or {})
        for process, policy in processes.items():
            process.shutdown(policy)
        for process in processes:
            await process.wait()
        self._children.clear()
        self._by_process.clear()

    # -- requests ------------------------------------------------------------------------------------------------------

    async def handle_call(self, message: Call[Any], caller: Any) -> Any:
        """Serve a request of :mod:`supervisors.requests`."""
        match message:
            case StartChild(spec):
                return await self._add(spec, caller)
            case TerminateChild(target):
                return await self._terminate(target, caller)
            case RestartChild() | DeleteChild() | GetChildSpec():
                return NotFound()
            case WhichChildren():
                return [child.info() for child in self._children]
            case CountChildren():
                return count(list(self._children), self.adopted_count)
            case _:
                caller.fail(TypeError(f"a supervisor does not answer {type(message).__name__}"))
                return NO_REPLY

    def handle_cast(self, message: object) -> None:
        """Nothing is cast to a supervisor; a stranger's message does not crash it."""

    async def _add(self, spec: ChildSpec, caller: Any) -> Any:
        if spec.significant:
            caller.fail(ValueError(f"significant: child {spec.id!r} of a dynamic supervisor cannot be"))
            return NO_REPLY
        if self._max_children is not None and len(self._children) >= self._max_children:
            return MaxChildren()
        return await self._start_new(Child(spec))

    async def _start_new(self, child: Child) -> ActorRef | Ignored | AlreadyStarted | StartFailed:
        self._children[child] = None
        outcome = await self._start(child, self._extra_arguments)
        if isinstance(outcome, ActorRef):
            self._by_process[outcome.process] = child
            return outcome
        del self._children[child]
        return start_failure(outcome) if isinstance(outcome, StartFailed) else outcome

    async def _terminate(self, target: str | ActorRef, caller: Any) -> Any:
        if isinstance(target, ActorRef):
            child = self._by_process.get(target.process)
        else:
            child = next((c for c in self._children if c.spec.id == target), None)
        process = child.process if child is not None else target.process if isinstance(target, ActorRef) else None
        if child is None and (process is None or process not in (self.process.children or {})):
            return NotFound()
        if self._refuse_circular(caller, process):
            return NO_REPLY
        if child is not None:
            if process is not None:
                self._by_process.pop(process, None)
            await child.stop(self.process)
            self._forget(child)
        else:
            assert process is not None
            process.shutdown(self.adopted_shutdown)
            await process.wait()
        return Done()

    # -- exits ---------------------------------------------------------------------------------------------------------

    async def handle_info(self, message: Info) -> Stop | None:
        """A child has ended, or a restart is due."""
        match message:
            case ChildExit(process, reason):
                child = self._by_process.get(process)
                return None if child is None else await self._exited(child, reason)
            case TryAgain(child) if child.state == "restarting":
                return await self._restart(child)
            case Due(child) if child.state == "restarting":
                await self._attempt(child)
        return None

    async def _exited(self, child: Child, reason: ExitReason) -> Stop | None:
        child.former = child.process  # by which it is known until it runs again
        child.ended(reason)
        if interrupt_in(reason) is not None:
            return Stop(reason)
        if restarts(child.spec.restart, reason):
            return await self._restart(child)
        self._forget(child)
        return None

    async def _restart(self, child: Child) -> Stop | None:
        child.state = "restarting"
        if not self._intensity.add(self.now()):
            self._forget(child)
            return self._give_up(child, self._intensity)
        delay = self._delay(child)
        if delay > 0:
            self._wait(child, delay)
        else:
            await self._attempt(child)
        return None

    async def _attempt(self, child: Child) -> None:
        child.cancel_timer()
        outcome = await self._start(child, self._extra_arguments)
        if isinstance(outcome, ActorRef):
            child.restarts += 1
            self._forget_former(child)
            self._by_process[outcome.process] = child
        elif isinstance(outcome, StartFailed):
            child.state = "restarting"
            self._post(TryAgain(child))
        else:
            self._forget(child)

    def _forget(self, child: Child) -> None:
        child.state = "stopped"
        self._children.pop(child, None)
        self._forget_former(child)

    def _forget_former(self, child: Child) -> None:
        if child.former is not None:
            del self._by_process[child.former]
            child.former = None
