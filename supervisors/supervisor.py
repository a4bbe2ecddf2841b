"""Supervisors: they start, stop and restart children, one request or exit at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context, copy_context
from typing import Any, Literal

from attrs import define, frozen

from supervisors.child_spec import ChildSpec
from supervisors.child_spec import Shutdown as ShutdownPolicy
from supervisors.errors import ActorError, AlreadyStarted, NotFound, StartFailed
from supervisors.exit import Crashed, ExitReason, Killed, Shutdown
from supervisors.gen_server import NO_REPLY, GenServer, StopServer
from supervisors.messages import Call, ChildExit, Info
from supervisors.process import Process
from supervisors.ref import ActorRef, Caller, Stop
from supervisors.registry import Registry
from supervisors.restart import Intensity, restarts
from supervisors.strategy import Strategy, affected

State = Literal["running", "restarting", "stopping", "stopped", "starting"]


@frozen
class StartChild(Call[ActorRef]):
    """Start one more child."""

    spec: ChildSpec


@frozen
class TerminateChild(Call[None]):
    """Stop a child, keep its spec."""

    id: str


@frozen
class RestartChild(Call[ActorRef]):
    """Start a stopped child."""

    id: str


@frozen
class DeleteChild(Call[None]):
    """Forget a stopped child."""

    id: str


@frozen
class TryAgain(Info):
    """To itself: a restart has failed, try it once more."""

    child: Child


@define(eq=False, slots=True)
class Child:
    """A child spec and its present life."""

    spec: ChildSpec
    process: Process | None = None
    state: State = "stopped"
    lives: int = 0
    restarts: int = 0
    last_exit: ExitReason | None = None

    @property
    def id(self) -> str:
        """The spec's id."""
        return self.spec.id


async def spawn(
    spec: ChildSpec,
    path: str,
    incarnation: int,
    registry: Registry | None,
    context: Context | None,
    parent: Process | None,
) -> Process:
    """Start a process from ``spec``; return once its ``init`` has. Raises :class:`StartFailed`."""
    process = Process(spec.name, path, incarnation)
    try:
        behaviour: GenServer[Any] = spec.start()
        behaviour._attach(process)
        if registry is not None and spec.name is not None:
            registry.register(spec.name, ActorRef(process))
    except Exception as error:
        process.exited(Crashed(error))
        raise StartFailed(spec.id, Crashed(error)) from error
    started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    process.on_exit(lambda _, reason: None if started.done() else started.set_exception(StartFailed(spec.id, reason)))
    process.run(behaviour._run(started), context)
    try:
        async with asyncio.timeout(spec.start_timeout):
            await asyncio.shield(started)
    except asyncio.CancelledError:
        await process.kill()
        raise
    except TimeoutError as error:
        await process.kill()
        raise StartFailed(spec.id, Killed()) from error
    except Exception as error:
        await process.wait()
        reason = error.reason if isinstance(error, StartFailed) else Crashed(error)
        raise StartFailed(spec.id, reason) from error
    if parent is not None and parent.mailbox is not None:
        mailbox = parent.mailbox
        process.on_exit(lambda p, reason: mailbox.put_unbounded(ChildExit(p, reason)))
    return process


async def stop_process(process: Process, policy: ShutdownPolicy) -> ExitReason:
    """Stop ``process`` by its shutdown policy and return how it ended."""
    if process.reason is None:
        if policy == "brutal_kill" or process.mailbox is None:
            await process.kill()
        else:
            process.mailbox.put_system(Stop(Shutdown()))
            if not await process.wait_for(None if policy == "infinity" else policy):
                await process.kill()
    return await process.wait()


class Supervisor(GenServer[Any]):
    """Static children in an order, and a strategy."""

    def __init__(
        self,
        children: Sequence[ChildSpec],
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        registry: Registry | None = None,
    ) -> None:
        ids = [spec.id for spec in children]
        if len(set(ids)) < len(ids):
            raise ValueError(f"two children have the same id: {ids}")
        self.strategy: Strategy = strategy
        self.intensity = Intensity(max_restarts, max_seconds)
        self._registry = registry
        self._children = [Child(spec) for spec in children]
        self._context: Context | None = None

    def children(self) -> Sequence[Child]:
        """The children in start order."""
        return self._children

    async def init(self) -> None:
        """Start all children in order; if one fails, stop those before it in reverse."""
        self._context = copy_context()
        for index, child in enumerate(self._children):
            try:
                await self._start(child)
            except StartFailed:
                await self._stop_all(self._children[:index])
                raise
            except asyncio.CancelledError:
                await self._stop_all(self._children[: index + 1])
                raise

    async def terminate(self, reason: ExitReason) -> None:
        """Stop the children in reverse start order, each by its own policy, one after the other."""
        await self._stop_all(self._children)

    async def handle_call(self, message: Call[Any], caller: Caller[Any]) -> Any:
        """The operator's requests; a refusal reaches the caller as an exception."""
        try:
            match message:
                case StartChild(spec):
                    return await self._add(spec)
                case TerminateChild(id_):
                    await self._terminate(self._find(id_))
                case RestartChild(id_):
                    return await self._revive(self._find(id_))
                case DeleteChild(id_):
                    self._delete(self._find(id_))
                case _:
                    raise TypeError(message)
        except ActorError as error:
            caller.fail(error)
            return NO_REPLY

    async def handle_info(self, message: Info) -> StopServer | None:
        """A child has ended, or a restart is due once more."""
        match message:
            case ChildExit(process, reason):
                child = next((c for c in self._children if c.process is process), None)
                return None if child is None else await self._exited(child, reason)
            case TryAgain(child) if child.state == "restarting":
                return await self._restart(child)
        return None

    # -- requests ------------------------------------------------------------------------------------------------------

    def _find(self, id_: str) -> Child:
        child = next((c for c in self._children if c.id == id_), None)
        if child is None:
            raise NotFound(id_)
        return child

    async def _add(self, spec: ChildSpec) -> ActorRef:
        if any(c.id == spec.id for c in self._children):
            raise AlreadyStarted(spec.id)
        child = Child(spec)
        self._children.append(child)
        try:
            return await self._start(child)
        except BaseException:
            self._children.remove(child)
            raise

    async def _terminate(self, child: Child) -> None:
        await self._stop(child)
        if child.spec.restart == "temporary" and child in self._children:
            self._children.remove(child)

    async def _revive(self, child: Child) -> ActorRef:
        if child.state != "stopped":
            raise AlreadyStarted(child.id)
        return await self._start(child)

    def _delete(self, child: Child) -> None:
        if child.state != "stopped":
            raise AlreadyStarted(child.id)
        self._children.remove(child)

    # -- exits ---------------------------------------------------------------------------------------------------------

    async def _exited(self, child: Child, reason: ExitReason) -> StopServer | None:
        child.process, child.last_exit = None, reason
        if restarts(child.spec.restart, reason):
            return await self._restart(child)
        child.state = "stopped"
        if child.spec.restart == "temporary":
            self._children.remove(child)
        return None

    async def _restart(self, child: Child) -> StopServer | None:
        child.state = "restarting"
        if not self.intensity.add(self.now()):
            child.state = "stopped"
            return StopServer(Shutdown("restart intensity exceeded"))
        group = affected(self.strategy, self._children, child)
        await self._stop_all([c for c in group if c is not child])
        for one in group:
            if one.spec.restart == "temporary" and one is not child:
                self._children.remove(one)
                continue
            try:
                await self._start(one)
            except StartFailed as failed:
                one.last_exit = failed.reason
                if self.strategy == "one_for_all":
                    await self._stop_all(group)
                one.state = "restarting"
                self._mailbox.put_unbounded(TryAgain(one))
                await asyncio.sleep(0)
                return None
            one.restarts += 1
        return None

    async def _start(self, child: Child) -> ActorRef:
        if child.state != "restarting":
            child.state = "starting"
        child.lives += 1
        path = f"{self.process.path}/{child.id}"
        try:
            child.process = await spawn(child.spec, path, child.lives, self._registry, self._context, self.process)
        except BaseException:
            child.process, child.state = None, "stopped"
            raise
        child.state = "running"
        return ActorRef(child.process)

    async def _stop(self, child: Child) -> None:
        if child.process is not None:
            child.state = "stopping"
            process = child.process
            child.last_exit = await stop_process(process, child.spec.shutdown)
            child.process = None  # its exit, still in the queue, is now of nobody
        child.state = "stopped"

    async def _stop_all(self, children: Sequence[Child]) -> None:
        for child in reversed(list(children)):
            await self._stop(child)


async def start(supervisor: Supervisor, *, name: str = "root", registry: Registry | None = None) -> ActorRef:
    """Start ``supervisor`` outside any other; stop it with ``await ref.stop()``."""
    spec = ChildSpec(id=name, start=lambda: supervisor, type="supervisor", name=name)
    process = await spawn(spec, name, 1, registry, None, None)
    return ActorRef(process)
