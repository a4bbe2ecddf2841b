"""How others reach a process: by a reference to one incarnation, or by a name that is looked up at each send."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from supervisors.adoption import Adoption
from supervisors.caller import Caller, Envelope
from supervisors.deadlock import chain_to, check_call
from supervisors.errors import ActorExited, CallTimeout, CircularCall, NoProcess
from supervisors.exit import ExitReason, NoProc, Normal
from supervisors.mailbox import Mailbox
from supervisors.messages import Call, Info
from supervisors.process import Process, current_process
from supervisors.requests import SupervisorRequests
from supervisors.signals import StopRequest

if TYPE_CHECKING:
    from supervisors.registry import Registry

R = TypeVar("R")


class Address(SupervisorRequests, ABC):
    """What an :class:`ActorRef` and a :class:`Via` have in common. It holds no state of the actor and may be shared freely."""

    __slots__ = ()

    @abstractmethod
    def resolve(self) -> Process | None:
        """The process meant at this moment; it may have ended. ``None`` if the name is unknown."""

    @abstractmethod
    def _nobody(self) -> None:
        """Count a message to an unknown name."""

    def _alive(self) -> Process | None:
        process = self.resolve()
        return None if process is None or process.reason is not None else process

    async def call(self, message: Call[R], *, timeout: float | None = 5.0) -> R:
        """Send ``message`` and wait for the reply, whose type the message carries.

        * ``timeout`` - seconds until :class:`CallTimeout`; the actor knows nothing of it. ``None`` waits for ever.

        Raises :class:`NoProcess` at once if nobody is there, :class:`ActorExited` with the exit reason as soon as the process that owes
        the reply ends, :class:`MailboxFull` where the mailbox refuses, and what the actor fails the call with. If the caller is
        cancelled, a reply that nobody will see goes to ``message.abandon``.
        """
        process = self.resolve()
        if process is None or process.reason is not None or process.mailbox is None:
            raise NoProcess
        mailbox = process.mailbox
        me = current_process()
        if me is not None and me.mailbox is not None:
            check_call(me, process)
        loop = mailbox.loop
        future: asyncio.Future[R] = loop.create_future()
        if timeout is None:
            timer, caller = None, Caller(future, message, process, None, me)
        else:
            deadline = loop.time() + timeout
            caller = Caller(future, message, process, deadline, me)
            timer = loop.call_at(deadline, caller.expire)
        try:
            process.callers[caller] = None
            mailbox.put(Envelope(message, caller), caller)
            if me is not None and me.system.fail_circular_calls and asyncio.current_task() is me.task:
                me.calling = caller
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                caller.abandon(future.result())
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if me is not None and me.calling is caller:
                me.calling = None
            caller.leave()

    def cast(self, message: Any) -> None:
        """Send ``message`` and go on. If nobody is there, nothing happens (a dead letter is counted).

        Raises :class:`MailboxFull` where the mailbox is full and its policy is ``reject`` or ``block``.
        """
        process = self.resolve()
        if process is None:
            self._nobody()
        elif process.reason is not None or process.mailbox is None:
            process.system.dead_letters["noproc"] += 1
        else:
            process.mailbox.put(message)

    def send(self, info: Info) -> None:
        """Send a message that arrives in ``handle_info``; otherwise as :meth:`cast`."""
        self.cast(info)

    async def cast_wait(self, message: Any, *, timeout: float | None = 5.0) -> None:
        """As :meth:`cast`, but wait for room where the mailbox is full and its policy is ``block``.

        * ``timeout`` - seconds until :class:`CallTimeout`; ``None`` waits for ever.

        Senders are let in in their order. If the actor ends meanwhile, the message is a dead letter, and this returns.
        """
        process = self._alive()
        mailbox = None if process is None else process.mailbox
        if mailbox is None or mailbox.policy != "block" or not (mailbox.full or mailbox.blocked):
            self.cast(message)
            return
        await _wait_for_room(mailbox, message, timeout)

    def forward(self, caller: Caller[R], message: Call[R]) -> bool:
        """Hand ``caller`` over to this actor, which sees ``message`` and owes the reply from now on.

        If it ends before it has answered, the caller learns that at once. False, and nothing has moved, if nobody is there or the
        mailbox refuses.
        """
        process = self.resolve()
        if process is None or process.reason is not None or process.mailbox is None:
            return False
        mailbox = process.mailbox
        if mailbox.full and mailbox.policy in {"reject", "drop_new"}:
            return False
        caller.move(process, message)
        waiter = caller.process
        if waiter is not None and waiter.calling is caller and (chain := chain_to(waiter, process)) is not None:
            caller.fail(CircularCall([waiter.path, *chain]))
        else:
            mailbox.put(Envelope(message, caller), caller)
        return True

    async def stop(self, reason: ExitReason | None = None, timeout: float | None = None) -> None:
        """Stop the process after what is queued, and wait until it has ended.

        * ``reason`` - what it ends with, ``Normal()`` by default; ``terminate`` is told.
        * ``timeout`` - seconds until :class:`CallTimeout`; the process goes on stopping.

        Raises :class:`ActorExited` with the real reason if it ended with another one, :class:`NoProcess` if nobody is there.
        """
        process = self._alive()
        if process is None:
            raise NoProcess
        if process is current_process() and process.task is asyncio.current_task():
            raise CircularCall([process.path, process.path])
        wanted = Normal() if reason is None else reason
        mailbox = process.mailbox
        if mailbox is None:
            process.shutdown("infinity", wanted)
        elif mailbox.suspended:
            mailbox.put_system(StopRequest(wanted))
        else:
            mailbox.put_unbounded(StopRequest(wanted))
        if timeout is None:
            await process.wait()
        elif not await process.wait_for(timeout):
            raise CallTimeout
        if process.reason != wanted:
            assert process.reason is not None
            raise ActorExited(process.reason)

    def exit(self, reason: ExitReason) -> None:
        """Send an exit signal; see :meth:`supervisors.Process.exit`."""
        process = self.resolve()
        if process is not None:
            process.exit(reason)

    async def wait(self) -> ExitReason:
        """Its exit reason, once it has ended; ``NoProc()`` at once for an unknown name."""
        process = self.resolve()
        return NoProc() if process is None else await process.wait()

    def adopt(self, *, name: str | None = None) -> Adoption:
        """Make the current task a process under this :class:`~supervisors.DynamicSupervisor`.

            async with requests.adopt() as process:
                ...

        It registers and never wraps: the task stays what it is. The exit record is set on leaving: ``Normal()``, ``Killed()`` for a
        cancellation, ``Crashed(exception)``, which is raised on. To kill it is to cancel the task.

        Raises :class:`NoProcess` on entering if the supervisor is not there, has not started yet, or is stopping.
        """
        return Adoption(self.resolve(), name)


class ActorRef(Address):
    """One incarnation of a process. Equal to another reference to the same one; after a restart it is a reference to the dead."""

    __slots__ = ("process",)

    def __init__(self, process: Process) -> None:
        self.process = process

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and other.process is self.process

    def __hash__(self) -> int:
        return hash(self.process)

    def __repr__(self) -> str:
        return f"<ActorRef {self.process!r}>"

    @property
    def alive(self) -> bool:
        """Whether that incarnation still runs."""
        return self.process.reason is None

    @property
    def path(self) -> str:
        """Its place in the tree."""
        return self.process.path

    @property
    def incarnation(self) -> int:
        """Which life of its child spec it is, from 1."""
        return self.process.incarnation

    @property
    def name(self) -> str | None:
        """Its registered name."""
        return self.process.name

    def resolve(self) -> Process | None:
        """The process itself."""
        return self.process

    def _nobody(self) -> None:
        raise AssertionError  # it always resolves


class Via(Address):
    """A name in a registry, looked up at each send: it outlives restarts. Made by ``registry.via(name)``."""

    __slots__ = ("name", "registry")

    def __init__(self, registry: Registry, name: str) -> None:
        self.registry = registry
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Via) and other.registry is self.registry and other.name == self.name

    def __hash__(self) -> int:
        return hash((id(self.registry), self.name))

    def __repr__(self) -> str:
        return f"<Via {self.name}>"

    def resolve(self) -> Process | None:
        """Whoever has the name now."""
        ref = self.registry.lookup(self.name)
        return None if ref is None else ref.process

    def _nobody(self) -> None:
        self.registry.dead_letters["noproc"] += 1


async def _wait_for_room(mailbox: Mailbox, message: Any, timeout: float | None) -> None:
    loop = mailbox.loop
    admitted: asyncio.Future[None] = loop.create_future()
    mailbox.block(admitted, message, admitted)
    timer = None if timeout is None else loop.call_later(timeout, _expire, admitted)
    try:
        await admitted
    finally:
        mailbox.withdraw(admitted)
        if timer is not None:
            timer.cancel()


def _expire(admitted: asyncio.Future[None]) -> None:
    if not admitted.done():  # pragma: no branch - there may be room since this turn
        admitted.set_exception(CallTimeout())
