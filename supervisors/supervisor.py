"""Supervisors: they start, stop and restart children, one request or exit at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, get_args

from supervisors.child import Child
from supervisors.child_spec import ChildSpec
from supervisors.ending import interrupt_in
from supervisors.exit import ExitReason, Shutdown
from supervisors.keeper import ChildKeeper, Due, TryAgain, count, start_failure
from supervisors.messages import Call, ChildExit, Info
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
from supervisors.results import (
    AlreadyPresent,
    AlreadyStarted,
    Done,
    FailedToStartChild,
    Ignored,
    NotFound,
    Running,
    StartFailed,
)
from supervisors.results import Restarting as StillRestarting
from supervisors.returns import NO_REPLY, Stop
from supervisors.strategy import AutoShutdown, Strategy, affected


class Supervisor(ChildKeeper):
    """Children in an order, and a strategy.

    >>> from supervisors import ChildSpec, GenServer, Registry, Supervisor, start
    >>> class Database(GenServer[object]):
    ...     pass
    >>> class Cache(GenServer[object]):
    ...     pass
    >>> async def main() -> list[str]:
    ...     children = [ChildSpec(id="database", start=Database), ChildSpec(id="cache", start=Cache, restart="transient")]
    ...     root = await start(lambda: Supervisor(children, strategy="rest_for_one"))
    ...     ids = [child.id for child in await root.which_children()]
    ...     await root.stop()
    ...     return ids
    >>> asyncio.run(main())
    ['database', 'cache']

    **Start and stop.** Children start from left to right; each must have returned from ``init`` before the next one starts. They stop
    from right to left, each by its own ``shutdown``, one after the other. If one fails to start, those before it are stopped again and
    the supervisor does not start: its reason is ``Shutdown(FailedToStartChild(id, reason))``.

    **Options**

    * ``strategy`` - who goes with a child that is restarted. ``"one_for_one"``: nobody. ``"one_for_all"``: all others stop, then all
      start. ``"rest_for_one"``: those after it stop, then it and they start.
    * ``max_restarts``, ``max_seconds`` - one restart more than 3 within 5 s, and it gives up: all children stop, and it exits
      ``Shutdown()``, so that its own supervisor decides. The restart of a group counts once, each failed attempt once. With 0 the first
      failure is too many.
    * ``auto_shutdown`` - ``"any_significant"``: when a significant child ends for good, the others stop and it exits ``Shutdown()``;
      ``"all_significant"``: when the last of them has; ``"never"`` is the default.

    A wrong value raises ``ValueError``, which names the option, before anything starts.

    **Exit reasons and restarts.** A permanent child is always restarted, also after ``Normal()`` and ``Shutdown()``. A transient one is
    after ``Crashed`` and ``Killed()`` only; otherwise it stays, stopped, and ``restart_child`` may start it again. A temporary one is
    never, and its spec goes with it. Mind that a *transient* supervisor that gives up exits ``Shutdown()`` and so stays down: make it
    permanent, unless "this part is out, the rest goes on" is what you want.

    **One thing at a time.** Requests and exits wait in one queue. While a child starts or stops, the supervisor does nothing else; between
    two attempts of a restart it does. :func:`supervisors.tree` shows what it is at without asking it.

    **If it is killed** its children are told so, with ``terminate(Killed())``, and its exit is seen when all of them are gone.
    """

    def __init__(
        self,
        children: Sequence[ChildSpec],
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
    ) -> None:
        if strategy not in get_args(Strategy):
            raise ValueError(f"strategy must be one of {', '.join(get_args(Strategy))}, not {strategy!r}")
        if auto_shutdown not in get_args(AutoShutdown):
            raise ValueError(f"auto_shutdown must be one of {', '.join(get_args(AutoShutdown))}, not {auto_shutdown!r}")
        self.strategy: Strategy = strategy
        self._auto_shutdown: AutoShutdown = auto_shutdown
        self._intensity = Intensity(max_restarts, max_seconds)
        self._children: list[Child] = []
        for spec in children:
            self._check(spec)
            if self._find(spec.id) is not None:
                raise ValueError(f"id: two children have the same, {spec.id!r}")
            self._children.append(Child(spec))

    def children(self) -> Sequence[Child]:
        """The children in start order, for a snapshot."""
        return self._children

    async def init(self) -> Stop | None:
        """Start all children in order; if one fails, stop those before it in reverse."""
        self._prepare()
        for child in list(self._children):
            outcome = await self._start(child)
            if isinstance(outcome, StartFailed):
                await self.stop_children()
                return Stop(Shutdown(FailedToStartChild(child.id, outcome.reason)))
            if isinstance(outcome, Ignored):
                self._drop_temporary(child)
        return None

    async def stop_children(self) -> None:
        """Stop the children in reverse start order, each by its own policy, one after the other."""
        await self._stop(self._children)

    # -- requests ------------------------------------------------------------------------------------------------------

    async def handle_call(self, message: Call[Any], caller: Any) -> Any:  # noqa: PLR0911 - one arm per request
        """Serve a request of :mod:`supervisors.requests`."""
        match message:
            case StartChild(spec):
                return await self._add(spec, caller)
            case TerminateChild(target):
                return await self._terminate(target, caller)
            case RestartChild(id_, stop):
                return await (self._renew(id_, caller) if stop else self._revive(id_))
            case DeleteChild(id_):
                return self._delete(id_)
            case WhichChildren():
                return [child.info() for child in self._children]
            case CountChildren():
                return count(self._children)
            case GetChildSpec(id_):
                return NotFound() if (child := self._find(id_)) is None else child.spec
            case _:
                caller.fail(TypeError(f"a supervisor does not answer {type(message).__name__}"))
                return NO_REPLY

    def handle_cast(self, message: object) -> None:
        """Nothing is cast to a supervisor; a stranger's message does not crash it."""

    def _check(self, spec: ChildSpec) -> None:
        if spec.significant and self._auto_shutdown == "never":
            raise ValueError(f"significant: child {spec.id!r} needs an auto_shutdown other than never")

    def _find(self, key: str | ActorRef) -> Child | None:
        if isinstance(key, ActorRef):
            return next((c for c in self._children if c.process is key.process), None)
        return next((c for c in self._children if c.spec.id == key), None)

    async def _add(self, spec: ChildSpec, caller: Any) -> Any:
        try:
            self._check(spec)
        except ValueError as error:
            caller.fail(error)
            return NO_REPLY
        if (child := self._find(spec.id)) is not None:
            return AlreadyPresent() if child.process is None else AlreadyStarted(ActorRef(child.process))
        child = Child(spec)
        self._children.append(child)
        outcome = await self._start(child)
        if isinstance(outcome, StartFailed):
            self._children.remove(child)
            return start_failure(outcome)
        if isinstance(outcome, Ignored):
            self._drop_temporary(child)
        return outcome

    async def _terminate(self, target: str | ActorRef, caller: Any) -> Any:
        child = self._find(target)
        if child is None:
            return NotFound()
        if self._refuse_circular(caller, child.process):
            return NO_REPLY
        await child.stop(self.process)
        self._drop_temporary(child)
        return Done()

    async def _revive(self, id_: str) -> ActorRef | Ignored | Running | StillRestarting | NotFound | StartFailed:
        child = self._find(id_)
        if child is None:
            return NotFound()
        if child.state == "restarting":
            return StillRestarting()
        return Running() if child.process is not None else await self._start(child)

    async def _renew(self, id_: str, caller: Any) -> Any:
        """Restart a child that runs, as after a crash that nobody has to answer for."""
        child = self._find(id_)
        if child is None or child.process is None:
            return await self._revive(id_)
        if self._refuse_circular(caller, child.process):
            return NO_REPLY
        temporary = child.spec.restart == "temporary"
        group = [child] if temporary else affected(self.strategy, self._children, child)
        for one in group:
            if one.process is not None:
                one.state = "stopping"
        await self._stop(group)
        if temporary:
            outcome = await self._start(child)
            if not isinstance(outcome, ActorRef):
                self._drop_temporary(child)
            return outcome
        await self._start_group(child)
        return _came_up(child)

    def _delete(self, id_: str) -> Done | Running | StillRestarting | NotFound:
        child = self._find(id_)
        if child is None:
            return NotFound()
        if child.state == "restarting":
            return StillRestarting()
        if child.process is not None:
            return Running()
        self._children.remove(child)
        return Done()

    # -- exits ---------------------------------------------------------------------------------------------------------

    async def handle_info(self, message: Info) -> Stop | None:
        """A child has ended, or a restart is due."""
        match message:
            case ChildExit(process, reason):
                child = next((c for c in self._children if c.process is process), None)
                return None if child is None else await self._exited(child, reason)
            case TryAgain(child) if child.state == "restarting":
                return await self._restart(child)
            case Due(child) if child.state == "restarting":
                await self._start_group(child)
        return None

    async def _exited(self, child: Child, reason: ExitReason) -> Stop | None:
        child.ended(reason)
        if interrupt_in(reason) is not None:
            return Stop(reason)
        if restarts(child.spec.restart, reason):
            return await self._restart(child)
        child.state = "stopped"
        self._drop_temporary(child)
        return Stop(Shutdown()) if child.spec.significant and self._ends_with(child) else None

    def _ends_with(self, child: Child) -> bool:
        if self._auto_shutdown == "all_significant":
            return not any(c.spec.significant and c.state != "stopped" for c in self._children if c is not child)
        return self._auto_shutdown == "any_significant"

    async def _restart(self, child: Child) -> Stop | None:
        """Count the failure, stop what goes with it, and start again, at once or after the backoff."""
        child.state = "restarting"
        if not self._intensity.add(self.now()):
            child.state = "stopped"
            return self._give_up(child, self._intensity)
        delay = self._delay(child)
        if delay > 0:
            await self._stop_group(child)
            self._wait(child, delay)
        else:
            await self._start_group(child)
        return None

    async def _stop_group(self, child: Child) -> list[Child]:
        """Stop the siblings that go with ``child``; return who is to start, in order. Temporary ones are gone for good."""
        group = affected(self.strategy, self._children, child)
        siblings = [c for c in group if c is not child]
        for sibling in siblings:
            if sibling.process is not None:
                sibling.state = "stopping"
        await self._stop(siblings)
        for sibling in siblings:
            self._drop_temporary(sibling)
        return [c for c in group if c is child or c.spec.restart != "temporary"]

    async def _start_group(self, child: Child) -> None:
        """Start ``child`` and its siblings. A failure is counted and tried again in its turn, not here."""
        child.cancel_timer()
        group = await self._stop_group(child)
        started: list[Child] = []
        for one in group:
            one.state = "restarting"
        for index, one in enumerate(group):
            outcome = await self._start(one)
            if isinstance(outcome, StartFailed):
                for other in group[index + 1 :]:
                    other.state = "stopped"
                one.state = "restarting"
                self._post(TryAgain(one))
                break
            if not isinstance(outcome, Ignored):
                started.append(one)
        for one in started:
            one.restarts += 1
        await asyncio.sleep(0)  # a storm of restarts leaves the loop to others in between

    async def _stop(self, children: Sequence[Child]) -> None:
        for child in reversed(list(children)):
            await child.stop(self.process)

    def _drop_temporary(self, child: Child) -> None:
        if child.spec.restart == "temporary" and child in self._children:
            self._children.remove(child)


def _came_up(child: Child) -> ActorRef | Ignored | StartFailed:
    """How a start has ended that was not awaited for itself."""
    if child.process is not None:
        return ActorRef(child.process)
    if child.state == "stopped":
        return Ignored()
    assert child.last_exit is not None
    return StartFailed(child.last_exit)
