"""What static and dynamic supervisors have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Context, copy_context
from typing import Any

from attrs import frozen

from supervisors.child import Child
from supervisors.errors import AlreadyRegistered, CircularCall
from supervisors.events import GaveUp, Restarting
from supervisors.exit import Crashed, ExitReason, Normal, Shutdown
from supervisors.gen_server import GenServer
from supervisors.messages import Info
from supervisors.process import Process
from supervisors.ref import ActorRef
from supervisors.restart import Intensity
from supervisors.results import AlreadyStarted, ChildCounts, Ignored, StartFailed
from supervisors.returns import Stop


@frozen(eq=False)
class TryAgain(Info):
    """To itself: a restart has failed, try it once more. So requests and exits that wait get their turn before."""

    child: Child


@frozen(eq=False)
class Due(Info):
    """To itself: the wait before a restart is over."""

    child: Child


class ChildKeeper(GenServer[Any]):
    """What static and dynamic supervisors have in common."""

    trap_exit = True  # as in OTP: an exit signal of a stranger is nothing to a supervisor

    _context: Context

    def children(self) -> Sequence[Child]:
        """The children in start order, for a snapshot."""
        raise NotImplementedError

    async def stop_children(self) -> None:
        """Stop all of them, in the order of this kind of supervisor. May be called again when it was cut short."""
        raise NotImplementedError

    async def terminate(self, reason: ExitReason) -> None:
        """Stop the children."""
        await self.stop_children()

    async def cancelled(self) -> None:
        """A stranger has cancelled its task, or its start was given up: stop the children in order all the same.

        No further cancellation cuts that short; a kill does, and then the process takes its children along.
        """
        process = self.process
        if process.killed:
            return
        process.closing = True
        helper = Process(process.system, "stop", parent=process)
        helper.run(self._stop_orderly)
        while helper.alive:
            try:
                await helper.wait()
            except asyncio.CancelledError:
                self._pass_kill_on(helper)

    def _pass_kill_on(self, helper: Process) -> None:
        if self.process.killed:
            helper.kill()

    async def _stop_orderly(self) -> ExitReason:
        await self.stop_children()
        return Normal()

    def _prepare(self) -> None:
        self._context = copy_context()  # a restart must not inherit the context of whoever caused it
        if self.process.children is None:  # pragma: no branch - its ``init`` may have spawned
            self.process.children = {}

    async def _start(self, child: Child, arguments: tuple[Any, ...] = ()) -> ActorRef | Ignored | StartFailed:
        return await child.start(self.process, self._context, arguments)

    def _post(self, info: Info) -> None:
        mailbox = self.process.mailbox
        assert mailbox is not None
        mailbox.put_unbounded(info)

    def _give_up(self, child: Child, intensity: Intensity) -> Stop:
        self.process.system.emit(
            GaveUp(
                supervisor=self.process,
                id=child.id,
                reason=child.last_exit,
                max_restarts=intensity.max_restarts,
                max_seconds=intensity.max_seconds,
            )
        )
        return Stop(Shutdown())

    def _delay(self, child: Child) -> float:
        """Seconds that the restart of ``child`` waits; what observers are told of."""
        delay = child.backoff(self.now())
        self.process.system.emit(
            Restarting(supervisor=self.process, id=child.id, reason=child.last_exit, delay_seconds=delay)
        )
        return delay

    def _wait(self, child: Child, delay: float) -> None:
        child.cancel_timer()
        child.timer = asyncio.get_running_loop().call_later(delay, self._post, Due(child))

    def _refuse_circular(self, caller: Any, target: Process | None) -> bool:
        """Whether ``caller`` asks for the end of a process that waits for this very supervisor."""
        asker = caller.process
        if (
            not self.process.system.fail_circular_calls
            or asker is None
            or target is None
            or asker.calling is not caller
        ):
            return False
        if asker is not target and not asker.path.startswith(f"{target.path}/"):
            return False
        caller.fail(CircularCall([asker.path, self.process.path, target.path]))
        return True


def count(children: Sequence[Child], adopted: int = 0) -> ChildCounts:
    """Count ``children``, and tasks that are adopted beside them."""
    supervisors = sum(child.spec.type == "supervisor" for child in children)
    return ChildCounts(
        specs=len(children),
        active=sum(child.process is not None and child.process.alive for child in children) + adopted,
        supervisors=supervisors,
        workers=len(children) - supervisors + adopted,
    )


def start_failure(failed: StartFailed) -> AlreadyStarted | StartFailed:
    """What ``start_child`` answers: a taken name is no failure."""
    match failed.reason:
        case Crashed(AlreadyRegistered() as taken):
            return AlreadyStarted(taken.holder)
        case _:
            return failed
