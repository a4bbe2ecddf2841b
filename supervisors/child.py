"""One child of a supervisor: its spec and its present life."""

from __future__ import annotations

import asyncio
import random
from contextvars import Context
from typing import Any

from attrs import define

from supervisors.child_spec import ChildSpec
from supervisors.errors import AlreadyRegistered
from supervisors.exit import Crashed, ExitReason
from supervisors.gen_server import GenServer
from supervisors.process import Process
from supervisors.receive import Server, TaskServer
from supervisors.ref import ActorRef
from supervisors.results import ChildInfo, ChildState, Ignored, StartFailed
from supervisors.system import System


@define(eq=False, slots=True)
class Child:
    """What a supervisor knows of one child. ``restarts`` counts the completed ones."""

    spec: ChildSpec
    process: Process | None = None
    former: Process | None = None  # of a dynamic child that is being restarted
    state: ChildState = "stopped"
    lives: int = 0
    restarts: int = 0
    last_exit: ExitReason | None = None
    failures: int = 0  # in a row, for the backoff
    started_at: float = 0.0
    timer: asyncio.TimerHandle | None = None

    @property
    def id(self) -> str:
        """The id of its spec."""
        return self.spec.id

    def info(self) -> ChildInfo:
        """What ``which_children`` tells of it."""
        return ChildInfo(
            id=self.spec.id,
            ref=None if self.process is None else ActorRef(self.process),
            state=self.state,
            type=self.spec.type,
            restarts=self.restarts,
            last_exit=self.last_exit,
        )

    async def start(
        self, parent: Process, context: Context, arguments: tuple[Any, ...] = ()
    ) -> ActorRef | Ignored | StartFailed:
        """Start a new incarnation under ``parent``, and return once its ``init`` has."""
        if self.state != "restarting":
            self.state = "starting"
        self.lives += 1
        outcome = await self._launch(parent, context, arguments)
        if isinstance(outcome, ActorRef):
            self.state = "running"
            self.started_at = asyncio.get_running_loop().time()
            return outcome
        self.process, self.state = None, "stopped"
        if isinstance(outcome, StartFailed):
            self.last_exit = outcome.reason
        return outcome

    async def _launch(
        self, parent: Process, context: Context, arguments: tuple[Any, ...]
    ) -> ActorRef | Ignored | StartFailed:
        spec = self.spec
        process = Process(parent.system, spec.id, parent=parent, name=spec.name, incarnation=self.lives)
        try:
            server = prepare(process, spec, arguments)
        except Exception as error:  # noqa: BLE001 - a factory that fails is a child that does not start
            reason = Crashed(error)
            if not isinstance(error, AlreadyRegistered):
                process.report(reason)
            process.exited(reason)
            return StartFailed(reason)
        self.process = process
        assert parent.children is not None
        parent.children[process] = spec.shutdown
        parent.attends = process
        try:
            outcome = await process.launch(server.run, context, spec.start_timeout)
        finally:
            parent.attends = None
        if outcome is not None:
            return outcome
        process.report_exit()
        return ActorRef(process)

    async def stop(self, parent: Process) -> None:
        """Stop it by its shutdown policy; what is to come of its exit is then of nobody."""
        self.cancel_timer()
        process = self.process
        if process is not None:
            self.state = "stopping"
            parent.attends = process
            process.shutdown(self.spec.shutdown)
            try:
                self.last_exit = await process.wait()
            finally:
                parent.attends = None
            self.process = None
        self.state = "stopped"

    def ended(self, reason: ExitReason) -> None:
        """Its process has ended."""
        self.process, self.last_exit = None, reason

    def backoff(self, now: float) -> float:
        """Seconds to wait before the restart that its failure at ``now`` calls for."""
        backoff = self.spec.backoff
        if backoff is None:
            return 0.0
        if self.started_at and now - self.started_at >= backoff.reset_after_seconds:
            self.failures = 0
        self.started_at = 0.0  # a failed attempt after this one has run for no time at all
        self.failures += 1
        return backoff.delay(self.failures, random.random())

    def cancel_timer(self) -> None:
        """Wait for no restart any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def prepare(process: Process, spec: ChildSpec, arguments: tuple[Any, ...] = ()) -> Server | TaskServer:
    """Give ``process`` its name and its behaviour; nothing runs yet. Raises what the factory raises, and AlreadyRegistered."""
    system: System = process.system
    if spec.name is not None:
        system.registry.register(spec.name, ActorRef(process))
    behaviour = spec.start(*arguments)
    if not isinstance(behaviour, GenServer):
        raise TypeError(f"start of {spec.id!r} must make a GenServer, not {type(behaviour).__name__}")
    return behaviour.server(process)
